"""Ramps, leakage and threshold drops against ngspice: circuits whose heat is integrated in time."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hwsim.devices.reversible import adiabatic

pytestmark = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice is not installed (apt-get install ngspice)"
)

OHM, FARAD, VOLT = 10e3, 1e-15, 0.8
THRESHOLD_V, BETA = 0.25, 2e-4  # of square-law transistors, W = L = 1 um [V], [A/V^2]
SCALE = 1e15  # joules become volts on a capacitor of 1 F; in femtojoules, far above the tolerances

MODELS = [
    f".model nfet nmos (level=1 vto={THRESHOLD_V} kp={BETA} gamma=0 lambda=0)",
    f".model pfet pmos (level=1 vto=-{THRESHOLD_V} kp={BETA} gamma=0 lambda=0)",
]


def near(value: Any, rel: float = 1e-6) -> Any:
    """Within a relative error alone: the absolute tolerance that pytest adds, 1e-12, is above all energies here."""
    return pytest.approx(value, rel=rel, abs=0)


def transmission_gate_ohm() -> float:
    """The R of a long ramp through both transistors with square-law currents, gates at 0 and V [Ohm]: mean of 1 / g.

    g = beta (max(V - Vt - v, 0) + max(v - Vt, 0)) over the node's voltage v, for V > 2 Vt: derived by integration.
    """
    logarithm = math.log((VOLT - THRESHOLD_V) / (VOLT - 2 * THRESHOLD_V))
    return (1 + 2 * logarithm) / (BETA * VOLT)


def heat_j(tmp_path: Path, circuit: list[str], power: str, until_s: float, steps: int) -> float:
    """The integral of `power` [W] from 0 to `until_s` in a circuit whose capacitors start empty [J]."""
    lines = ["reversible logic", *circuit, f"Bpower 0 joules I = {SCALE} * ({power})", "Cjoules joules 0 1 ic=0"]
    lines += [".options reltol=1e-7 abstol=1e-18 vntol=1e-12 chgtol=1e-24 gmin=1e-18 method=trap"]
    step_s = until_s / steps
    lines += [
        f".tran {step_s!r} {until_s!r} 0 {step_s!r} uic",
        f".meas tran heat find v(joules) at={until_s * 0.99999!r}",
    ]
    path = tmp_path / "circuit.cir"
    path.write_text("\n".join([*lines, ".end", ""]), encoding="ascii")
    run = subprocess.run(["ngspice", "-b", str(path)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    found = [line.split("=")[1].split()[0] for line in run.stdout.splitlines() if line.startswith("heat ")]
    assert found, run.stdout + run.stderr
    return float(found[0]) / SCALE


def rail(shape: str, ramp_s: float) -> str:
    """A rail that rises and stays."""
    if shape == "linear":
        return f"Vrail rail 0 pwl(0 0 {ramp_s!r} {VOLT})"
    return (
        f"Brail rail 0 V = time < {ramp_s!r} ? {VOLT / 2} * (1 - cos({3.141592653589793 / ramp_s!r} * time)) : {VOLT}"
    )


@pytest.mark.parametrize("shape", ["linear", "sinusoidal"])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0, 100.0])
def test_one_ramp(tmp_path: Path, shape: str, ratio: float) -> None:
    """A ramp of `ratio` RC and 20 RC of hold: within 2e-5, the error of the time steps."""
    ramp_s = ratio * OHM * FARAD
    circuit = [rail(shape, ramp_s), f"R1 rail node {OHM}", f"C1 node 0 {FARAD} ic=0"]
    heat = heat_j(tmp_path, circuit, f"(v(rail) - v(node))^2 / {OHM}", ramp_s + 20 * OHM * FARAD, 4000)
    assert adiabatic.ramp_j(OHM, FARAD, VOLT, ramp_s, shape) == near(heat, rel=2e-5)


def trapezoid(ramp_s: float, hold_ramps: float) -> str:
    """A rail that rises, holds and falls."""
    top_s = (1 + hold_ramps) * ramp_s
    return f"Vrail rail 0 pwl(0 0 {ramp_s!r} {VOLT} {top_s!r} {VOLT} {top_s + ramp_s!r} 0)"


@pytest.mark.parametrize("ramps_rc", [100.0, 300.0])
def test_a_leaking_node_through_a_whole_cycle(tmp_path: Path, ramps_rc: float) -> None:
    """R, C and a leak of 1 nS, held for 3 ramps: the heat of both ramps and that of the leak add up, within 1e-4.

    They disturb each other little: the leak flows through R too, G R = 1e-5.
    """
    ramp_s, leak = ramps_rc * OHM * FARAD, 1e-9
    circuit = [trapezoid(ramp_s, 3), f"R1 rail node {OHM}", f"C1 node 0 {FARAD} ic=0", f"Rleak node 0 {1 / leak!r}"]
    power = f"(v(rail) - v(node))^2 / {OHM} + v(node)^2 * {leak}"
    heat = heat_j(tmp_path, circuit, power, 5 * ramp_s + 20 * OHM * FARAD, 8000)
    held_s = adiabatic.trapezoid_s(ramp_s, 3)
    expected = 2 * adiabatic.ramp_j(OHM, FARAD, VOLT, ramp_s) + adiabatic.leakage_j(leak, VOLT, held_s)
    assert expected == near(heat, rel=1e-4)


def test_a_transmission_gate_loses_less_the_slower_it_is(tmp_path: Path) -> None:
    """Both transistors on, a whole cycle: 2 C V^2 RC/T, R from the integral of 1/g; it goes on falling as 1/T."""
    ohm = transmission_gate_ohm()
    circuit = [*MODELS, f"Vtop top 0 {VOLT}", f"C1 node 0 {FARAD} ic=0"]
    circuit += ["Mn node top rail 0 nfet w=1u l=1u", "Mp node 0 rail top pfet w=1u l=1u"]
    heats = []
    for ramps_rc in (200, 2000):
        ramp_s = ramps_rc * ohm * FARAD
        power = "-(v(rail) - v(node)) * i(Vrail)"
        heats.append(heat_j(tmp_path, [*circuit, trapezoid(ramp_s, 1)], power, 3.2 * ramp_s, 8000))
        assert 2 * adiabatic.ramp_j(ohm, FARAD, VOLT, ramp_s) == near(heats[-1], rel=0.01)
    assert heats[0] / heats[1] == near(10, rel=0.01)


def test_one_polarity_leaves_a_floor(tmp_path: Path) -> None:
    """A pMOS that fills an empty node turns on abruptly at Vt: C Vt^2 / 2 remains, however slow the ramp.

    The catch-up after turning on is slow: the excess over the floor falls only about 2.3 times per tenfold ramp time.
    """
    ohm = transmission_gate_ohm()
    circuit = [*MODELS, f"Vtop top 0 {VOLT}", f"C1 node 0 {FARAD} ic=0", "Mp node 0 rail top pfet w=1u l=1u"]
    heats = []
    for ramps_rc in (2e4, 2e6):
        ramp_s = ramps_rc * ohm * FARAD
        power = "-(v(rail) - v(node)) * i(Vrail)"
        heats.append(heat_j(tmp_path, [*circuit, trapezoid(ramp_s, 1)], power, 3.2 * ramp_s, 8000))
    floor_j = adiabatic.threshold_floor_j(FARAD, THRESHOLD_V)
    assert floor_j < heats[1] < 1.05 * floor_j
    assert heats[0] < 1.2 * heats[1]
