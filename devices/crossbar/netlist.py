"""The same crossbar circuit for ngspice: an independent solution of the network, for tests and for trust.

Source: ngspice user's manual, version 39, chapters 3 (resistors), 4 (sources), 11 (options) and 12 (batch mode).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.devices.crossbar.grid import Wires, checked
from hwsim.errors import ConfigError, ShapeError

LARGEST = 64  # lines on a side: ngspice needs seconds at 64 x 64, and its sparse matrix grows fast
TIMEOUT_S = 300.0


def netlist(g: np.ndarray[Any, Any], v: np.ndarray[Any, Any], wires: Wires) -> str:
    """The netlist of cells g [m, n] [S] driven by v [m] [V]; prints the current of every output [A].

    A resistance of zero becomes one node, a conductance of zero no element. Outputs are ideal 0 V sources.
    Raises ShapeError where v does not match g or a side exceeds 64 lines; ConfigError as the grid does.
    """
    g = checked(g)
    m, n = g.shape
    v = np.asarray(v, dtype=np.float64)
    if v.shape != (m,):
        raise ShapeError(f"voltages have shape {v.shape}; the word lines need ({m},)")
    if max(m, n) > LARGEST:
        raise ShapeError(f"a netlist of {m} x {n} cells is too large for ngspice; at most {LARGEST} lines on a side")
    columns = range(n) if wires.drive_side == "left" else range(n - 1, -1, -1)
    rows = range(m - 1, -1, -1) if wires.sense_side == "bottom" else range(m)
    lines = ["crossbar with wire resistance"]
    word: dict[tuple[int, int], str] = {}
    bit: dict[tuple[int, int], str] = {}
    for i in range(m):
        lines.append(f"Vin{i} in{i} 0 DC {float(v[i])!r}")
        node = f"in{i}"
        for step, j in enumerate(columns):
            ohm = wires.word_line_ohm + (0 if step else wires.driver_ohm)
            node = _segment(lines, f"Rw{i}_{j}", node, f"w{i}_{j}", ohm)
            word[i, j] = node
    for j in range(n):
        lines.append(f"Vout{j} out{j} 0 DC 0")
        node = f"out{j}"
        for step, i in enumerate(rows):
            ohm = wires.bit_line_ohm + (0 if step else wires.sense_ohm)
            node = _segment(lines, f"Rb{i}_{j}", node, f"b{i}_{j}", ohm)
            bit[i, j] = node
    for i, j in np.argwhere(g > 0).tolist():
        lines.append(f"Rc{i}_{j} {word[i, j]} {bit[i, j]} {1 / float(g[i, j])!r}")
    lines.append(".options reltol=1e-12 abstol=1e-18 vntol=1e-15 gmin=1e-24 numdgt=16")
    lines += [".control", "op", "set numdgt=15"]
    lines += [f"print i(Vout{j})" for j in range(n)]
    lines += [".endc", ".end"]
    return "\n".join(lines) + "\n"


def _segment(lines: list[str], name: str, start: str, end: str, ohm: float) -> str:
    """Append a resistor and return its far node, or the near one where it is a short."""
    if ohm == 0:
        return start
    lines.append(f"{name} {start} {end} {float(ohm)!r}")
    return end


def installed() -> bool:
    """Whether the program ngspice is on the path."""
    return shutil.which("ngspice") is not None


def spice_currents(g: np.ndarray[Any, Any], v: np.ndarray[Any, Any], wires: Wires) -> np.ndarray[Any, Any]:
    """Output currents [n] [A] of the crossbar g [m, n] [S] for inputs v [m] [V], solved by ngspice in batch mode.

    Raises ConfigError where ngspice is not installed or gives no answer; else as `netlist`.
    """
    program = shutil.which("ngspice")
    if program is None:
        raise ConfigError("ngspice is not installed; on Debian and Ubuntu: apt-get install ngspice")
    text = netlist(g, v, wires)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crossbar.cir"
        path.write_text(text, encoding="ascii")
        result = subprocess.run(
            [program, "-b", str(path)], capture_output=True, text=True, timeout=TIMEOUT_S, cwd=folder
        )
    currents = np.full(np.shape(g)[1], np.nan)
    for line in result.stdout.splitlines():
        name, _, value = line.partition("=")
        name = name.strip().lower()
        if name.startswith("i(vout") and name.endswith(")"):
            currents[int(name[6:-1])] = float(value)
    if not np.isfinite(currents).all():
        told = (result.stderr or result.stdout).strip().splitlines()
        raise ConfigError(f"ngspice gave no current for every output: {told[-1] if told else 'no message'}")
    return currents
