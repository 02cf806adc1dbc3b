"""What optics is asked for by has an effect, or is refused with what would read it. Run time: 10 s."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim.cost import Quantity
from hwsim.devices.optical import Optical
from hwsim.devices.optical.options import reader_of
from hwsim.errors import DeviceError
from hwsim.ledger import Ledger
from hwsim.parameters import parameters_of

RUBIDIUM: dict[str, Any] = {
    name: getattr(Optical.create("nitride", {}), name)
    for name in ("optical_depth", "lifetime_s", "saturation_w_per_mm2", "beam_area_mm2", "probe_photons")
}
CHANGED: dict[str, Any] = {
    "mesh_kind": "reck", "trained": "phases", "readings": 3, "gradient_by": "homodyne", "inputs": 4, "outputs": 4,
    "chip_seed": 5, "drift_seed": 5, "weight_bits": 5, "dac_bits": 5, "adc_bits": 5, "meter_bits": 4, "adc_crest": 1.5,
    "load_ohm": 50.0, "rin_db_per_hz": -60.0, "profile": "distributed", "encoding": "intensity",
    "absorber_backward": "exact", "probe_gain": 2.0, "lifetime_s": 1.0, "weight_scale": 50.0, "probe_ratio": 0.5,
    "amplifier_a_per_root_hz": 1e-10, "dark_current_a": 1e-3, "excess_factor": 3.0, "common_mode_rejection_db": 0.0,
    "internal_loss_depth": 0.5, "output_loss_depth": 0.5, "grating": 0.5, "absorber_crosstalk": 0.1,
    "heat_crosstalk": 0.05, "integrator_electrons": 100.0, "neurons": 16, "probe_photons": 100.0, "mean_phase": 0.9,
    "mzi_loss_db": 0.3,
}  # fmt: skip
BASES: list[tuple[str, dict[str, Any]]] = [
    ("mzi", {}),
    ("mzi", {"trained": "phases"}),
    ("mzi", {"shot_noise": False, "dac_bits": 0, "adc_bits": 0}),
    ("nitride", {"absorber_backward": "exact"}),
    ("slm", {"encoding": "intensity"}),
    ("slm", {"level": "photon", "detection": "intensity", "optical_depth": 0.0, "drift_sigma": 0.0}),
    ("homodyne", {}),
    ("homodyne", {**RUBIDIUM, "profile": "distributed"}),
    ("microring", {"weight_sigma": 0.0}),
    ("microring", {**RUBIDIUM, "probe_ratio": 0.3}),
]
MODES = ("seed", "array", "host", "power_cap_w", "precision", "optics", "level", "detection", "optical_depth")
BOUNDS = {"slm": ("remembered",)}  # a symbol of mirrors is longer than absorbers remember, whatever is allowed


def made(preset: str, parameters: dict[str, Any]) -> Optical:
    """A device, whether or not it reads all that it is asked for by."""
    values = {name: value for name, value in Optical.presets()[preset].items() if name != "doc"}
    return Optical(**values | parameters)


def seen(device: Optical) -> list[Any]:
    """Everything that a user sees of a step: results, weights, energies, areas, claims."""
    rng = np.random.default_rng(0)
    w, x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 7), (5, 9), (5, 7)))
    ledger = Ledger()
    tile = device.program(w, name="tile", ledger=ledger)
    found = [tile.forward(x), tile.backward(dy), tile.gradient(x, dy), tile.read()]
    tile.update(0.1 * w)
    tile.update_outer(x, dy, -1e-3)
    found.append(tile.read())
    if device.optical_depth:
        neurons = device.activation(7, name="neurons", ledger=ledger)
        y, saved = neurons.forward(2 * dy)
        found += [y, neurons.backward(saved, dy)[0]]
    installed = device.installed(list(ledger.tiles.values()))
    parts = [(installed.get(name, 0.0), part) for name, part in device.components.items()]
    found.append([units * (part.area_mm2.nominal if part.area_mm2 else 0.0) for units, part in parts])
    found.append([units * part.quantity("static_power_w").nominal for units, part in parts])
    found += [ledger.energy(["component"]), ledger.time_s, device.wear(tile), device.contract]
    return [each.tolist() if isinstance(each, np.ndarray) else each for each in found]


def changed(device: Optical, name: str) -> Any:
    """Another value of a parameter."""
    value = getattr(device, name)
    if name in CHANGED and CHANGED[name] != value:
        return CHANGED[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, Quantity):
        return 0.8 * value.nominal or 1e-3
    return value + 3 if isinstance(value, int) else 1.5 * value or 0.1 if isinstance(value, float) else None


@pytest.mark.parametrize(("preset", "parameters"), BASES, ids=lambda value: str(value)[:60])
def test_what_is_accepted_does_something(preset: str, parameters: dict[str, Any]) -> None:
    """Each parameter changed alone: something that a user sees changes if and only if it is said to be read."""
    base = made(preset, parameters)
    before, asked = seen(base), 0
    for name in parameters_of(Optical):
        value = None if name in MODES or name in BOUNDS.get(preset, ()) else changed(base, name)
        if value is None:
            continue
        try:
            device = made(preset, {**parameters, name: value})
        except DeviceError:
            continue  # it does not fit, which is said
        asked += 1
        assert (seen(device) != before) == (reader_of(device, name) is None), f"{name}={value}"
    assert asked > 70


@pytest.mark.parametrize("preset", Optical.presets())
def test_presets_hold_what_is_read_elsewhere(preset: str) -> None:
    """A preset alone, or with its own values given once more, is never refused."""
    device = Optical.create(preset, {})
    Optical.create(preset, {name: getattr(device, name) for name in parameters_of(Optical)})


@pytest.mark.parametrize(
    ("preset", "parameters", "words"),
    [
        ("homodyne", {"amplifier_a_per_root_hz": 1e-12}, "integrator_electrons"),
        ("homodyne", {"load_ohm": 50}, "optics=mesh, slm or microring"),
        ("slm", {"splitter_sigma": 0.1}, "optics=mesh"),
        ("mzi", {"weight_sigma": 0.1}, "optics=slm, homodyne or microring"),
        ("mzi", {"tap_fraction": 0.1}, "trained=phases"),
        ("mzi", {"probe_gain": 2}, "optical_depth above 0"),
        ("slm", {"absorber_backward": "exact", "probe_gain": 2}, "absorber_backward=probe"),
        ("nitride", {"probe_ratio": 0.5, "probe_photons": 400}, "probe_ratio=0"),
        ("microring", {"oscillator_photons": 1e6}, "detection=oscillator"),
        ("mzi", {"shot_noise": False, "dark_current_a": 1e-9}, "shot_noise=true"),
        ("slm", {"shifter_pi_power_w": 1}, "optics=mesh or microring"),
    ],
)
def test_what_has_no_effect_is_refused(preset: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=f"has no effect here; it is read with .*{words}"):
        Optical.create(preset, parameters)


def test_errors_of_meshes_are_none_of_other_optics() -> None:
    """A device without errors of its own is as deterministic as before."""
    exact = {"shot_noise": False, "drift_sigma": 0.0, "weight_sigma": 0.0, "splitter_sigma": 0.1}
    assert made("slm", exact).contract.deterministic
    assert not made("mzi", {**exact, "drift_sigma": 0.0}).contract.deterministic
