"""The roofline of the machine at hand: products are timed, some fitted, the others predicted, and a preset written.

Half a dozen numbers stand against a hundred medians; what they miss shows in the products that were held out.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hwsim import registry
from hwsim.checkpoint import require_writable, write_text
from hwsim.cost import Z95, Certainty, Quantity, op_time
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.ledger import Ledger
from hwsim.library import times
from hwsim.meter import Measurement, measure
from hwsim.parameters import parameters_of
from hwsim.timing import REPEATS, Shapes, Timing, library, processor, products, require_card, timings

PRESET = "local"  # the name that a written preset bears
PRECISIONS = ("fp32", "fp64")
POWER_S = 1.0  # a thousand updates of a processor's counter
FURTHEST = 1e4  # times the start, up or down, that the fit may go
UNTOLD = 1e-6  # change of all logarithmic times together by which a parameter counts as not told by them
SKIPPED = ("seed", "array", "host", "precision")  # no property of a machine


class Target(NamedTuple):
    """What is fitted of a device, and on which products [m, k, n]: cubes, thin layers, and some beyond any cache."""

    array: str
    free: tuple[str, ...]  # besides flop_per_s
    fitted: Shapes
    held_out: Shapes
    fixed: Mapping[str, Any] = {}
    capacity: str = ""  # a whole number of bytes, tried in powers of two


ONE = Quantity(1.0, 1.0, 1.0, "within the measured rate", Certainty.MEASURED)
TARGETS = {
    "cpu": Target(
        array="numpy",
        free=("call_s", "pack_bytes_per_s", "cache_bytes_per_s", "memory_bytes_per_s"),
        fitted=(
            (8, 8, 8), (32, 32, 32), (64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512),
            (1024, 1024, 1024), (1, 64, 64), (1, 512, 512), (1, 2048, 2048), (1, 4096, 4096), (4, 2048, 512),
            (16, 64, 512), (16, 512, 64), (16, 1024, 1024), (32, 2048, 2048), (64, 256, 1024), (64, 1024, 10),
            (256, 64, 64), (256, 512, 256), (1024, 64, 256),
        ),
        held_out=(
            (6, 7, 5), (1, 300, 700), (1, 3000, 5000), (3, 1000, 100), (10, 784, 128), (32, 784, 300), (64, 300, 100),
            (100, 50, 30), (128, 96, 384), (200, 640, 160), (48, 1536, 768), (333, 333, 333), (700, 90, 1100),
        ),
        capacity="cache_bytes",
    ),
    "gpu": Target(
        array="cupy",
        free=("launch_s", "dram_bytes_per_s"),
        fitted=(
            (16, 16, 16), (128, 128, 128), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048),
            (4096, 4096, 4096), (1, 1024, 1024), (1, 8192, 8192), (64, 256, 1024), (64, 8192, 8192),
            (256, 1024, 1024), (16384, 64, 256),
        ),
        held_out=(
            (6, 7, 5), (1, 3000, 5000), (32, 784, 300), (100, 4000, 1000), (333, 333, 333), (700, 900, 1100),
            (1536, 768, 3072), (3000, 3000, 3000),
        ),
        fixed={"power_cap_w": None, "sustained_share": ONE, "dram_share": ONE},
    ),
}  # fmt: skip


class Error(NamedTuple):
    """How far predictions are from the medians of some products: predicted / measured - 1."""

    median: float  # of the magnitudes
    worst: float
    where: Timing
    products: int

    def __str__(self) -> str:
        return f"median {self.median:.0%}, worst {self.worst:+.0%} ({self.where}), of {self.products} products"


class Fit(NamedTuple):
    """Values of parameters with 5% and 95%, those that the timings do not tell, and a capacity."""

    quantities: dict[str, Quantity]
    untold: tuple[str, ...]
    capacity: dict[str, int]


@dataclass(frozen=True)
class Calibration:
    """A device fitted to this machine, and how well."""

    name: str
    device: Device
    machine: str
    fit: Fit
    fitted: Error
    held_out: Error
    spreads: tuple[float, ...]
    power: tuple[str, ...]  # what is to be said of it

    def __str__(self) -> str:
        rows = [(name, *(f"{v:.4g}" for v in (q.low, q.nominal, q.high))) for name, q in self.fit.quantities.items()]
        rows = [("parameter [SI]", "5%", "value", "95%"), *rows]
        lines = [f"{name:<24} {low:>12} {value:>12} {high:>12}" for name, low, value, high in rows]
        lines += [f"{name:<24} {'':>12} {size:>12}" for name, size in self.fit.capacity.items()]
        untold = ", ".join(self.fit.untold)
        return "\n".join(
            [
                f"{self.name} on {self.machine}",
                f"Spread of {REPEATS} repeats (interquartile range over median): median {np.median(self.spreads):.1%}, "
                f"worst {max(self.spreads):.0%}",
                *(["The machine is busy with other work: calibrate it while it rests."] if self.busy else []),
                *["", *lines, ""],
                *([f"Not told by these products, and kept as it was: {untold}"] if untold else []),
                f"Time error on products that were fitted: {self.fitted}",
                f"Time error on products held out:         {self.held_out}",
                *self.power,
            ]
        )

    @property
    def busy(self) -> bool:
        """Whether repeats differ as they do not on a machine at rest: a tenth is assumed."""
        return bool(np.median(self.spreads) > 0.1)

    def toml(self) -> str:
        """A preset of all that the device has: what was measured, and the rest as it was."""
        lines = [f"[{PRESET}]", f"doc = {written(f'Fitted by hwsim calibrate: {self.machine}')}"]
        tables: list[str] = []
        for name in parameters_of(type(self.device)):
            value = getattr(self.device, name)
            if name in SKIPPED:
                continue
            if isinstance(value, Mapping):
                tables += ["", f"[{PRESET}.{name}]", *(f"{key} = {written(each)}" for key, each in value.items())]
            else:
                lines.append(f"{name} = {written(value)}")
        return "\n".join([*lines, *tables, ""])


def written(value: Any) -> str:
    """A parameter as TOML."""
    if isinstance(value, Quantity):
        ends = f"low = {value.low!r}, high = {value.high!r}" if value.low < value.high else "exact = true"
        return (
            f"{{ nominal = {value.nominal!r}, {ends}, certainty = {written(value.certainty)}, "
            f"source = {written(value.source)} }}"
        )
    if value is None:
        return '"none"'
    return json.dumps(str(value), ensure_ascii=False) if isinstance(value, str) else repr(value)


# -- the whole ---------------------------------------------------------------------------------------------


def calibrate_to(name: str, path: Path | None) -> str:
    """Calibrate the device `name`, write the preset to `path`, and say how it went. Raises ConfigError as `calibrate`.

    A device takes the preset as NAME:PATH:local.
    """
    if path is not None and path.suffix != ".toml":
        raise ConfigError(f"{path}: a preset needs a file whose name ends in .toml")
    if path is not None:
        require_writable(path)
    found = calibrate(name)
    if path is None:
        return f"{found}\nNo preset is written; --out FILE.toml does"
    write_text(path, found.toml())
    return f"{found}\nPreset: {registry.parse_device(name).name}:{path}:{PRESET}"


def calibrate(name: str) -> Calibration:
    """Time, fit and check the device `name`: "cpu" or "gpu", with a preset for what is not fitted.

    Raises ConfigError for other devices, and where CuPy or a card is missing.
    """
    known = registry.parse_device(name).name
    if known not in TARGETS:
        raise ConfigError(f"device {name!r} cannot be calibrated; can be: {', '.join(TARGETS)}")
    target = TARGETS[known]
    if target.array == "cupy":
        require_card()
    device = registry.device(name, array=target.array)
    base = fixed(device, target)
    machine = f"{processor(base)}; {library(base)}"
    shapes = (*target.fitted, *target.held_out)
    timed = timings([changed(base, {"precision": precision}) for precision in PRECISIONS], shapes)
    fitted = [each for each in timed if (each.op.m, each.op.k, each.op.n) in target.fitted]
    held_out = [each for each in timed if (each.op.m, each.op.k, each.op.n) in target.held_out]
    found = fit(target, base, fitted, f"hwsim calibrate on {machine}")
    result = changed(base, parameters(base, found.quantities) | found.capacity)
    power, said = package_power(base) if target.array == "numpy" else ({}, ("Energy is not fitted, and is as it was.",))
    result = changed(result, {key: replace(q, source=f"{q.source} on {machine}") for key, q in power.items()})
    errors = error(result, fitted), error(result, held_out)
    return Calibration(name, result, machine, found, *errors, tuple(each.spread for each in timed), tuple(said))


def fixed(device: Any, target: Target) -> Device:
    """The device with what is fixed; a share that is fixed at 1 goes into its rates, measured later or not."""
    values = dict(target.fixed)
    if "sustained_share" in values:
        values["flop_per_s"] = {
            name: times(rate, device.sustained_share, rate.key) for name, rate in device.flop_per_s.items()
        }
    if "dram_share" in values:
        values["dram_bytes_per_s"] = times(device.dram_bytes_per_s, device.dram_share, device.dram_bytes_per_s.key)
    return changed(device, values)


def changed(device: Device, values: Mapping[str, Any]) -> Device:
    """The device with other parameters."""
    own = {name: getattr(device, name) for name in parameters_of(type(device))}
    return type(device)(**{**own, **values})


def parameters(base: Any, quantities: Mapping[str, Quantity]) -> dict[str, Any]:
    """Quantities by name as parameters: flop_per_s.fp32 is a part of one."""
    rates = {name.partition(".")[2]: q for name, q in quantities.items() if "." in name}
    plain = {name: q for name, q in quantities.items() if "." not in name}
    return {
        **plain,
        "flop_per_s": {**base.flop_per_s, **rates},
    }


# -- fitting -----------------------------------------------------------------------------------------------


def predicted_s(device: Device, timed: Sequence[Timing]) -> np.ndarray[Any, Any]:
    """What the device says that each product takes [s]."""
    variants = {precision: changed(device, {"precision": precision}) for precision in {t.precision for t in timed}}
    rates = {precision: Ledger().rates(variant) for precision, variant in variants.items()}
    return np.array([op_time(variants[t.precision].uses(t.op) or {}, rates[t.precision]).time_s for t in timed])


def error(device: Device, timed: Sequence[Timing]) -> Error:
    """The errors of predictions."""
    errors = predicted_s(device, timed) / np.array([t.time_s for t in timed]) - 1
    at = int(np.argmax(np.abs(errors)))
    return Error(float(np.median(np.abs(errors))), float(errors[at]), timed[at], len(timed))


def fit(target: Target, base: Device, timed: Sequence[Timing], source: str) -> Fit:
    """Least squares of logarithms of times over logarithms of parameters, at the capacity that leaves least.

    Ranges are those of the linearised fit; what is left over is taken for the scatter, misfit included.
    """
    capacities: list[dict[str, int]] = [{target.capacity: 2**i} for i in range(20, 31)] if target.capacity else [{}]
    names = (*target.free, *(f"flop_per_s.{precision}" for precision in PRECISIONS))
    tried = [solved(changed(base, capacity), names, timed) for capacity in capacities]
    best = min(range(len(tried)), key=lambda i: tried[i].cost)
    found, capacity = tried[best], capacities[best]
    told = np.linalg.norm(found.jac, axis=0) > UNTOLD
    j = found.jac[:, told]
    if np.linalg.matrix_rank(j) < j.shape[1]:
        raise ConfigError("the timings do not tell the parameters apart; calibrate while the machine rests")
    scatter = math.sqrt(2 * found.cost / (len(timed) - int(told.sum())))
    half = np.minimum(Z95 * scatter * np.sqrt(np.diag(np.linalg.inv(j.T @ j))), math.log(FURTHEST))
    quantities = {}
    for name, log, width in zip(
        [n for n, known in zip(names, told, strict=True) if known], found.x[told], half, strict=True
    ):
        low, nominal, high = (math.exp(log + sign * width) for sign in (-1, 0, 1))
        quantities[name] = Quantity(low, nominal, high, source, Certainty.MEASURED)
    return Fit(quantities, tuple(n for n, known in zip(names, told, strict=True) if not known), capacity)


def solved(base: Device, names: Sequence[str], timed: Sequence[Timing]) -> Any:
    """SciPy's result for one capacity."""
    from scipy.optimize import least_squares

    measured = np.log([t.time_s for t in timed])

    def residuals(logs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        tried = {name: Quantity.of(math.exp(log)) for name, log in zip(names, logs, strict=True)}
        return np.asarray(np.log(predicted_s(changed(base, parameters(base, tried)), timed)) - measured)

    start = np.array([math.log(nominal(base, name)) for name in names])
    reach = math.log(FURTHEST)
    return least_squares(residuals, start, bounds=(start - reach, start + reach), diff_step=1e-4)


def nominal(device: Any, name: str) -> float:
    """The value of flop_per_s.fp32 and the like."""
    name, _, part = name.partition(".")
    value = getattr(device, name)
    return float((value[part] if part else value).nominal)


# -- power -----------------------------------------------------------------------------------------------


def package_power(device: Device) -> tuple[dict[str, Quantity], tuple[str, ...]]:
    """The power of the package while it multiplies, and while it waits, where there is a counter; what to say of it."""
    (_, run), *_ = products(device, (1024, 1024, 1024))
    with measure() as waiting:
        time.sleep(POWER_S)
    with measure() as working:
        while time.perf_counter() - working.start_s < POWER_S:
            run()
    found = {name: watts(m) for name, m in (("package_power_w", working), ("idle_power_w", waiting))}
    powers = {name: power for name, power in found.items() if power is not None}
    if len(powers) < 2:
        reasons = dict.fromkeys(str(r) for m in (waiting, working) for r in m.unavailable if r.source == "RAPL")
        said = "; ".join(reasons) or "RAPL: the counters move too seldom for what they counted to tell a power"
        return {}, (f"Package power is as it was, not measured. {said}",)
    shown = [f"{name} {q.nominal:.3g} ({q.low:.3g} to {q.high:.3g}) W" for name, q in powers.items()]
    return powers, (f"Of all packages, by RAPL, over {POWER_S:g} s each: {', '.join(shown)}",)


def watts(measured: Measurement) -> Quantity | None:
    """The power of all packages [W], within what sampling leaves open; None where counters fail or tell too little."""
    packages = [r for r in measured.readings if r.source == "RAPL" and not r.name.endswith("dram")]
    if not packages or any(r.source == "RAPL" for r in measured.unavailable):
        return None
    energy_j, error_j = sum(r.energy_j for r in packages), sum(r.error_j for r in packages)
    low, nominal, high = ((energy_j + sign * error_j) / measured.time_s for sign in (-1, 0, 1))
    if low <= 0:
        return None
    return Quantity(low, nominal, high, "RAPL, other programs included,", Certainty.MEASURED)
