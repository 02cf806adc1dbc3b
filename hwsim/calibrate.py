"""The roofline of the machine at hand: operations are timed, some fitted, the others predicted, and a preset written.

Half a dozen numbers stand against a hundred medians; what they miss shows in the operations that were held out, and
enters the ranges: those of a parameter are as wide as it takes for 90% of the fitted times to lie within what the
device predicts. Whole training steps are timed beside it, and are fitted to nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hwsim import ops, registry
from hwsim.arrays import Array, namespace
from hwsim.cost import STEP_PHASES, Z95, Certainty, Quantity
from hwsim.costing import Interval
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.files import require_writable, write_text
from hwsim.learning.backprop import backprop
from hwsim.ledger import DRAWS
from hwsim.library import times
from hwsim.losses import LOSSES
from hwsim.meter import Measurement, measure
from hwsim.nn import Network
from hwsim.optim import OPTIMIZERS, optimizer
from hwsim.parameters import LARGEST, LEAST, parameters_of
from hwsim.tape import HostOp
from hwsim.timing import (
    REPEATS,
    Error,
    Run,
    Shapes,
    Timing,
    changed,
    error,
    inside,
    library,
    moving,
    passes,
    predicted,
    processor,
    products,
    repeated,
    timings,
)

PRESET = "local"  # the name that a written preset bears
PRECISIONS = ("fp32", "fp64")
POWER_S = 1.0  # a thousand updates of a processor's counter
COVERED = 0.9  # of the times lie within what is predicted: what 5% and 95% promise together
HALVINGS = 20  # of a deviation of up to FURTHEST: to 1e-5
FURTHEST = 1e4  # times the start, up or down, that the fit may go
UNTOLD = 1e-6  # change of all logarithmic times together by which a parameter counts as not told by them
INTERPRETER = "Between the operations of a step the interpreter works, which is not modelled: most of a small step."
SKIPPED = ("seed", "array", "host", "precision")  # no property of a machine


class Passes(NamedTuple):
    """Host operations and optimizers by name, and the arrays [m, n] that each is timed on."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]


class Target(NamedTuple):
    """What is fitted of a device, and on which products [m, k, n]: cubes, thin layers, and some beyond any cache."""

    array: str
    free: tuple[str, ...]  # besides flop_per_s
    fitted: Shapes
    held_out: Shapes
    fixed: Mapping[str, Any] = {}
    capacity: str = ""  # a whole number of bytes, tried in powers of two
    free_of_passes: tuple[str, ...] = ()
    fitted_passes: tuple[Passes, ...] = ()
    held_out_passes: tuple[Passes, ...] = ()
    steps: tuple[tuple[tuple[int, ...], int], ...] = ()  # widths of an MLP, and rows


# What each host operation takes, from x [m, n].
PASSES: Mapping[str, tuple[HostOp, Callable[[Array], tuple[Array, ...]]]] = {
    **{name: (op, lambda x: (x,)) for name, op in {**ops.ACTIVATIONS, "softmax": ops.softmax}.items()},
    "bias_add": (ops.bias_add, lambda x: (x, x[0])),
    "layer_norm": (ops.layer_norm(), lambda x: (x, x[0], x[0])),
    "cross_entropy": (LOSSES["cross_entropy"], lambda x: (x, np.zeros(len(x), dtype=np.int64))),
}
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
        free_of_passes=("pass_call_s", "vector_flop_per_s", "pass_cache_bytes_per_s", "pass_memory_bytes_per_s"),
        fitted_passes=(
            Passes(
                ("relu", "tanh", "bias_add", "softmax", "layer_norm", "cross_entropy", "sgd", "adam"),
                ((1, 64), (32, 10), (32, 128), (64, 1024), (256, 1024), (1024, 1024)),
            ),
            Passes(("relu", "bias_add"), ((2560, 2048),)),
        ),
        held_out_passes=(
            Passes(
                (
                    "relu", "tanh", "bias_add", "softmax", "layer_norm", "cross_entropy", "sgd", "adam",
                    "sigmoid", "gelu", "momentum",
                ),
                ((10, 30), (64, 300), (784, 128), (1000, 1100)),
            ),
            Passes(("relu", "bias_add"), ((2000, 2800),)),
        ),
        steps=(((64, 32, 10), 32), ((64, 1024, 1024, 10), 128)),
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


class Step(NamedTuple):
    """A training step: how long it took [s], and what the device says, one operation after the other."""

    what: str
    time_s: float
    said: Interval

    def __str__(self) -> str:
        low, value, high = (f"{1e6 * each:.4g}" for each in self.said)
        return (
            f"A step of {self.what} took {1e6 * self.time_s:.4g} us, the model says {value} us, 90% {low} to {high} us "
            f"(ratio {self.said.nominal / self.time_s:.2f})"
        )


class Fit(NamedTuple):
    """Values of parameters with 5% and 95%, those that the timings do not tell, a capacity, and the misfit.

    `misfit`: the deviation of a logarithmic time that is in every range beside what the timings leave open.
    """

    quantities: dict[str, Quantity]
    untold: tuple[str, ...]
    capacity: dict[str, int]
    misfit: float


@dataclass(frozen=True)
class Calibration:
    """A device fitted to this machine, and how well."""

    name: str
    device: Device
    machine: str
    fits: tuple[Fit, ...]
    errors: Mapping[str, Error]  # by what was timed
    steps: tuple[Step, ...]
    spreads: tuple[float, ...]
    power: tuple[str, ...]  # what is to be said of it

    def __str__(self) -> str:
        found = {name: q for fit in self.fits for name, q in fit.quantities.items()}
        rows = [(name, *(f"{v:.4g}" for v in (q.low, q.nominal, q.high))) for name, q in found.items()]
        rows = [("parameter [SI]", "5%", "value", "95%"), *rows]
        lines = [f"{name:<24} {low:>12} {value:>12} {high:>12}" for name, low, value, high in rows]
        lines += [f"{name:<24} {'':>12} {size:>12}" for fit in self.fits for name, size in fit.capacity.items()]
        untold = ", ".join(name for fit in self.fits for name in fit.untold)
        return "\n".join(
            [
                f"{self.name} on {self.machine}",
                f"Spread of {REPEATS} repeats (interquartile range over median): median {np.median(self.spreads):.1%}, "
                f"worst {max(self.spreads):.0%}",
                *(["The machine is busy with other work: calibrate it while it rests."] if self.busy else []),
                *["", *lines, ""],
                *([f"Not told by what was timed, and kept as it was: {untold}"] if untold else []),
                *(f"Time error on {what + ':':<25} {error}" for what, error in self.errors.items()),
                *map(str, self.steps),
                *([INTERPRETER] if self.steps else []),
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
    namespace(target.array)  # whether there is one, before any work
    device = registry.device(name, array=target.array)
    base = fixed(device, target)
    require_start(base, (*names_of(target), *target.free_of_passes))
    machine = f"{processor(base)}; {library(base)}"
    variants = [changed(base, {"precision": precision}) for precision in PRECISIONS]
    found = timings(
        {
            "products that were fitted": multiplying(variants, target.fitted),
            "products held out": multiplying(variants, target.held_out),
            "passes that were fitted": passing(variants, target.fitted_passes),
            "passes held out": passing(variants, target.held_out_passes),
        }
    )
    result, fits = base, []
    for what, names, capacity in (
        ("products that were fitted", names_of(target), target.capacity),
        ("passes that were fitted", target.free_of_passes, ""),
    ):
        if names:
            fits.append(fit(result, names, found[what], f"hwsim calibrate on {machine}", capacity))
            result = changed(result, parameters(result, fits[-1].quantities) | fits[-1].capacity)
    power, said = package_power(base) if target.array == "numpy" else ({}, ("Energy is not fitted, and is as it was.",))
    result = changed(result, {key: replace(q, source=f"{q.source} on {machine}") for key, q in power.items()})
    return Calibration(
        name,
        result,
        machine,
        tuple(fits),
        {what: error(result, group) for what, group in found.items()},
        tuple(step(result, *each) for each in target.steps),
        tuple(t.spread for group in found.values() for t in group),
        tuple(said),
    )


def multiplying(devices: Iterable[Device], shapes: Shapes) -> Iterator[Run]:
    """What is timed of products."""
    for device in devices:
        for shape in shapes:
            yield from products(device, shape)


def passing(devices: Iterable[Device], groups: Iterable[Passes]) -> Iterator[Run]:
    """What is timed of passes; those of one shape share their operand."""
    for device in devices:
        for names, shape in [(names, shape) for names, shapes in groups for shape in shapes]:
            x = device.asarray(np.random.default_rng(shape).standard_normal(shape))
            for name in names:
                if name in OPTIMIZERS:
                    yield moving(device, optimizer(name, 1.0), x)
                else:
                    op, operands = PASSES[name]
                    yield from passes(device, op, operands(x))


def step(device: Device, widths: tuple[int, ...], rows: int) -> Step:
    """A step of stochastic gradient descent, timed and costed; what it learns does not matter."""
    net, mover = Network(registry.model("mlp", widths), device), optimizer("sgd", 1e-3)
    generator = np.random.default_rng([*widths, rows])
    x, labels = device.asarray(generator.standard_normal((rows, widths[0]))), generator.integers(0, widths[-1], rows)

    def once() -> None:
        backprop(net, x, labels, LOSSES["cross_entropy"], mover)

    once()
    said = Interval.of(net.ledger.total_s(phases=STEP_PHASES, draws=DRAWS))
    medians, _ = repeated([(once, device.xp)])
    return Step(f"mlp {'-'.join(map(str, widths))} on {rows} rows", float(medians[0]), said)


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


def parameters(base: Any, quantities: Mapping[str, Quantity]) -> dict[str, Any]:
    """Quantities by name as parameters: flop_per_s.fp32 is a part of one."""
    rates = {name.partition(".")[2]: q for name, q in quantities.items() if "." in name}
    plain = {name: q for name, q in quantities.items() if "." not in name}
    return {
        **plain,
        "flop_per_s": {**base.flop_per_s, **rates},
    }


# -- fitting -----------------------------------------------------------------------------------------------


def fit(base: Device, names: Sequence[str], timed: Sequence[Timing], source: str, capacity: str = "") -> Fit:
    """Least squares of logarithms of times over logarithms of parameters, at the capacity that leaves least.

    Ranges are those of the linearised fit, and of the misfit: an operation differs from the model by more than the
    parameters, which are means over operations, leave open.
    """
    capacities: list[dict[str, int]] = [{capacity: 2**i} for i in range(20, 31)] if capacity else [{}]
    tried = [solved(changed(base, size), names, timed) for size in capacities]
    best = min(range(len(tried)), key=lambda i: tried[i].cost)
    found, size = tried[best], capacities[best]
    told = np.linalg.norm(found.jac, axis=0) > UNTOLD
    j = found.jac[:, told]
    if np.linalg.matrix_rank(j) < j.shape[1]:
        raise ConfigError("the timings do not tell the parameters apart; calibrate while the machine rests")
    scatter = math.sqrt(2 * found.cost / (len(timed) - int(told.sum())))
    deviations = scatter * np.sqrt(np.diag(np.linalg.inv(j.T @ j)))
    known = [name for name, yes in zip(names, told, strict=True) if yes]
    logs = dict(zip(known, zip(found.x[told], deviations, strict=True), strict=True))

    def quantities(misfit: float) -> dict[str, Quantity]:
        return {name: ranged(log, math.hypot(deviation, misfit), source) for name, (log, deviation) in logs.items()}

    def holds(misfit: float) -> int:
        return inside(changed(base, parameters(base, quantities(misfit)) | size), timed)

    misfit = least_misfit(holds, len(timed))
    return Fit(quantities(misfit), tuple(name for name in names if name not in logs), size, misfit)


def ranged(log: float, deviation: float, source: str) -> Quantity:
    """A lognormal quantity from the logarithm of its median, and the deviation of that."""
    half = min(Z95 * deviation, math.log(FURTHEST))
    low, nominal, high = (math.exp(log + sign * half) for sign in (-1, 0, 1))
    return Quantity(low, nominal, high, source, Certainty.MEASURED)


def least_misfit(holds: Callable[[float], int], count: int) -> float:
    """The least deviation with which COVERED of `count` times lie within their ranges, by halving.

    `holds`: how many do with a deviation. One time more than were fitted would be covered as often (split conformal
    prediction: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005), had nothing else been fitted.
    """
    needed = min(count, math.ceil(COVERED * (count + 1)))
    low, high = 0.0, math.log(FURTHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) >= needed else (middle, high)
    return high


def solved(base: Device, names: Sequence[str], timed: Sequence[Timing]) -> Any:
    """SciPy's result for one capacity."""
    from scipy.optimize import least_squares

    measured = np.log([t.time_s for t in timed])

    def residuals(logs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        tried = {name: Quantity.of(math.exp(log)) for name, log in zip(names, logs, strict=True)}
        return np.asarray(np.log(predicted(changed(base, parameters(base, tried)), timed)) - measured)

    start = np.array([math.log(nominal(base, name)) for name in names])
    reach = math.log(FURTHEST)
    return least_squares(residuals, start, bounds=(start - reach, start + reach), diff_step=1e-4)


def names_of(target: Target) -> tuple[str, ...]:
    """The names of all that is fitted."""
    return (*target.free, *(f"flop_per_s.{precision}" for precision in PRECISIONS))


def require_start(device: Device, names: Sequence[str]) -> None:
    """Refuse values that no fit can start from, and go as far from as it may, with a ConfigError."""
    low, high = LEAST * FURTHEST, LARGEST / FURTHEST
    for name in names:
        value = nominal(device, name)
        if not low <= value <= high:
            raise ConfigError(f"{name}={value:g} is no value to start a fit from; give one from {low:g} to {high:g}")


def nominal(device: Any, name: str) -> float:
    """The value of flop_per_s.fp32 and the like."""
    name, _, part = name.partition(".")
    value = getattr(device, name)
    return float((value[part] if part else value).nominal)


# -- power -----------------------------------------------------------------------------------------------


def package_power(device: Device) -> tuple[dict[str, Quantity], tuple[str, ...]]:
    """The power of the package while it multiplies, and while it waits, where there is a counter; what to say of it."""
    run, *_ = products(device, (1024, 1024, 1024))
    with measure() as waiting:
        time.sleep(POWER_S)
    with measure() as working:
        while time.perf_counter() - working.start_s < POWER_S:
            run.once()
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
