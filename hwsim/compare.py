"""One network on many substrates, under one set of rules, with its controls and its bill."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwsim import registry
from hwsim.arrays import Shape
from hwsim.boundary import Boundary, standard_boundary
from hwsim.checkpoint import require_writable
from hwsim.cost import STEP_PHASES, Part, Phase, Value, nominal
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.ledger import DRAWS, Interval, Ledger
from hwsim.library import node_scale
from hwsim.losses import loss as loss_function
from hwsim.nn import Model, Network
from hwsim.optim import optimizer as make_optimizer
from hwsim.progress import progress_bar
from hwsim.report import figure, html, table
from hwsim.train import TRAINING_PHASES, Run, fit

VERSION = 1  # of the JSON
LEARNING_RATES = (0.1, 0.3, 1.0)  # tried on the validation split for every row alike
MARGIN = 0.02  # the target lies so far below what exact arithmetic reaches
COMMON_NODE_NM = 7.0
FULL = 0.1  # a card counts as filled where launching takes less than this share of the time
LARGEST_BATCH = 2**24
DEFAULT_DEVICES = (
    "ideal",
    "digital:int8",
    "gpu:h100",
    "gpu:h100:precision=bf16",
    "gpu:h100:precision=fp8",
    "gpu:gtx580",
)


@dataclass(frozen=True)
class Settings:
    """What all rows of a comparison share."""

    epochs: int
    batch: int
    seeds: int
    first_seed: int
    optimizer: str
    learning_rates: tuple[float, ...]
    target: float | None


class Comparison:
    """The result: plain data, which tables and figures are drawn from. `print(comparison)` shows the table."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __str__(self) -> str:
        return table.text(self.data)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per device and seed."""
        return list(self.data["rows"])

    @property
    def summary(self) -> list[dict[str, Any]]:
        """One entry per device: means, spreads, intervals and ratios."""
        return list(self.data["summary"])

    def to_json(self, path: str | Path) -> None:
        """Write everything; equal seeds give equal files."""
        require_writable(path).write_text(self.json())

    def json(self) -> str:
        """Everything, as JSON text."""
        return json.dumps(self.data, indent=1) + "\n"

    def to_csv(self, path: str | Path) -> None:
        """Write one line per device and seed; nested values are joined by dots."""
        flat = [flattened(row) for row in self.rows]
        names = list(dict.fromkeys(name for row in flat for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        require_writable(path).write_text(text.getvalue())

    def to_html(self, path: str | Path) -> None:
        """Write table and figure as one file."""
        require_writable(path).write_text(html.page(self.data))

    def to_figure(self, path: str | Path) -> None:
        """Draw accuracy against energy, and the bill of a step, into an image file."""
        figure.draw(self.data, require_writable(path))


def compare(
    model: Model,
    data: Dataset,
    devices: Mapping[str, Device] | Sequence[str] = DEFAULT_DEVICES,
    *,
    epochs: int = 10,
    batch: int = 32,
    seeds: int = 3,
    first_seed: int = 0,
    optimizer: str = "sgd",
    learning_rates: Sequence[float] = LEARNING_RATES,
    target: float | None = None,
    boundary: Boundary | None = None,
    progress: bool | None = False,
) -> Comparison:
    """Train `model` on `data` with each device and account for every joule, under the rules of a fair comparison.

    Same network, initial values, split, mini-batches and rule for all; the learning rate is chosen per device on the
    validation split, with the first seed and equal trials. `target`: the validation accuracy that the headline
    counts joules to; None: what exact arithmetic reaches at its last epoch, mean over the seeds, less two points.
    Each row is trained a second time with only its last layer trained, as a control.

    Raises ConfigError before any training where a setting is out of range.
    """
    settings = Settings(epochs, batch, seeds, first_seed, optimizer, tuple(learning_rates), target)
    named = placed(devices)
    check(settings, data)
    boundary = boundary or standard_boundary()
    jobs = (len(named) + ("ideal" not in named)) * (len(settings.learning_rates) + 2 * seeds - 1)
    with progress_bar("compare", jobs, shown=progress) as tick:
        trained = {name: train_row(model, data, device, settings, tick) for name, device in named.items()}
        exact = trained.get("ideal")
        if exact is None:
            exact = train_row(model, data, registry.device("ideal"), settings, tick)
    goal = target if target is not None else mean([run.validation_accuracy for run in exact.runs]) - MARGIN
    rows, summary = [], []
    for name, row in trained.items():
        rows += [seed_row(name, row, i, exact, goal, boundary) for i in range(seeds)]
        summary.append(device_summary(name, row, exact, goal, boundary))
    compare_targets(summary)
    filled = [full_card_row(model, name, d, boundary) for name, d in list(named.items()) if type(d).name == "gpu"][:1]
    policies = {name: device.policy.describe() for name, device in named.items()}
    excluded = {name: list(type(device).excluded) for name, device in named.items()}
    return Comparison(
        {
            "hwsim_comparison": VERSION,
            "model": repr(model),
            "data": {"name": data.name, "sha256": data.sha256, "test_images": len(data.x_test)},
            "settings": {**vars(settings), "learning_rates": list(settings.learning_rates)},
            "target_validation_accuracy": goal,
            "boundary": boundary.as_dict(),
            "policies": policies,
            "excluded": excluded,
            "rows": rows,
            "summary": strip_draws(summary),
            "filled": filled,
        }
    )


def placed(devices: Mapping[str, Device] | Sequence[str]) -> dict[str, Device]:
    """Devices by name, made from their strings where they are strings."""
    if not devices:
        raise ConfigError("compare needs at least one device")
    if isinstance(devices, Mapping):
        return {name: registry.device(d) if isinstance(d, str) else d for name, d in devices.items()}
    return {name: registry.device(name) for name in devices}


def check(settings: Settings, data: Dataset) -> None:
    """Refuse settings out of range before anything is trained."""
    if settings.seeds < 1:
        raise ConfigError(f"seeds {settings.seeds}: needs a whole number from 1")
    if not settings.learning_rates:
        raise ConfigError("compare needs at least one learning rate to try")
    if settings.target is not None and not 0 < settings.target <= 1:
        raise ConfigError(f"target {settings.target:g}: needs a validation accuracy above 0 and up to 1")
    for rate in settings.learning_rates:
        make_optimizer(settings.optimizer, rate)


# -- training ----------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """One device's runs, one per seed, and the same with only the last layer trained."""

    device: Device
    learning_rate: float
    trials: dict[float, float]  # validation accuracy by learning rate, seed 0; nan: diverged
    runs: list[Run]
    last_layer: list[Run]


def train_row(model: Model, data: Dataset, device: Device, settings: Settings, tick: Any) -> Trained:
    """Choose the learning rate on the validation split, then train every seed, and every seed's control."""

    def train(rate: float, seed: int, frozen: Sequence[str] = ()) -> Run:
        run = fit(
            model, data, device, epochs=settings.epochs, batch=settings.batch, learning_rate=rate,
            optimizer=settings.optimizer, seed=seed, frozen=frozen,
        )  # fmt: skip
        tick(device.spec)
        return run

    first = settings.first_seed
    every = range(first, first + settings.seeds)
    trials = {rate: train(rate, first) for rate in settings.learning_rates}
    rate = max(trials, key=lambda r: trials[r].validation_accuracy)
    runs = [trials[rate], *(train(rate, seed) for seed in every[1:])]
    frozen = runs[0].network.layers[:-1]
    control = [train(rate, seed, frozen) for seed in every] if frozen else runs
    return Trained(device, rate, {r: run.validation_accuracy for r, run in trials.items()}, runs, control)


# -- deriving ----------------------------------------------------------------------------------------------


def input_bytes(run: Run, steps: int) -> float:
    """Bytes of training data that so many steps read, in 32-bit values."""
    return 4.0 * steps * run.batch * math.prod(run.network.model.input_shape)


def to_target(run: Run, goal: float, boundary: Boundary, draws: int = 0) -> tuple[Value, Value] | None:
    """Joules of the device and at the wall plug until the goal, programming included; None: not reached."""
    reached = run.first_epoch_at(goal)
    if reached is None:
        return None
    # What a run spent by an epoch was noted at nominal values; the draws of its whole training are scaled to it.
    total_j, total_s = (f(phases=TRAINING_PHASES, draws=draws) for f in (run.ledger.total_j, run.ledger.total_s))
    device_j = total_j * (reached.energy_j / nominal(total_j)) if nominal(total_j) else total_j
    time_s = total_s * (reached.time_s / nominal(total_s)) if nominal(total_s) else total_s
    return device_j, boundary.wall_plug_j(device_j, time_s, input_bytes(run, reached.steps), draws=draws)


def seed_row(name: str, row: Trained, i: int, exact: Trained, goal: float, boundary: Boundary) -> dict[str, Any]:
    """One device and seed: what it reached and what it cost."""
    run = row.runs[i]
    found = to_target(run, goal, boundary)
    step = step_bill(run.ledger, run.steps, row.device)
    return {
        "device": name,
        "preset": origin_of(row.device)[0],
        "parameters": origin_of(row.device)[1],
        "seed": run.seed,
        "steps": run.steps,
        "learning_rate": row.learning_rate,
        "test_accuracy": run.test_accuracy,
        "validation_accuracy": run.validation_accuracy,
        "exact_arithmetic_accuracy": exact.runs[i].test_accuracy,
        "last_layer_only_accuracy": row.last_layer[i].test_accuracy,
        **step,
        "energy_to_target_j": nominal(found[1]) if found else "not reached",
        "device_energy_to_target_j": nominal(found[0]) if found else "not reached",
        "version": VERSION,
    }


def origin_of(device: Device) -> tuple[str | None, dict[str, Any]]:
    """The preset and the parameters that a device was asked for with."""
    _, preset, changed = device.__dict__.get("_origin", (None, None, {}))
    return preset, {key: str(value) for key, value in changed.items()}


def step_bill(ledger: Ledger, steps: int, device: Device, draws: int = DRAWS) -> dict[str, Any]:
    """What one training step costs, and of what that consists; every breakdown sums to the nominal total."""
    options: dict[str, Any] = {"phases": STEP_PHASES}
    own = ledger.devices().get(device, "")

    def per_step(by: Sequence[str], name: Any = "/".join) -> dict[str, float]:
        parts: dict[str, list[float]] = {}
        for group, joules in ledger.energy(by, **options).items():
            parts.setdefault(name(group), []).append(joules / steps)
        return {key: math.fsum(values) for key, values in parts.items()}

    def component(group: tuple[str, ...]) -> str:
        label, component, part = group
        who = type(device).name if label == own else label
        return f"{who}.{component}" if part == Part.DYNAMIC else f"{who}.{component} ({part})"

    interval = Interval.of(ledger.total_j(draws=draws, **options))
    low, middle, high = (value / steps for value in interval)
    time_s = float(ledger.total_s(**options)) / steps
    bounds = {group[0]: s / steps for group, s in ledger.time(("bound_by",), **options).items()}
    by_device = per_step(("device",))
    return {
        "energy_per_step_j": {"low": low, "nominal": middle, "high": high},
        "time_per_step_s": time_s,
        "energy_by_phase_j": per_step(("phase",)),
        "energy_by_component_j": per_step(("device", "component", "part"), component),
        "energy_by_role_j": per_step(("role", "part"), lambda g: g[0] if g[1] == Part.DYNAMIC else g[1]),
        "energy_by_part_j": per_step(("part",)),
        "host_energy_j": math.fsum(j for label, j in by_device.items() if label != own),
        "evidence_j": per_step(("certainty",)),
        "time_by_bound_s": bounds,
        "bound_by": max(bounds, key=lambda name: bounds[name]) if bounds else "",
        "energy_per_step_at_common_node_j": at_common_node(ledger, steps),
        "macs_per_step": sum(ledger.macs(phases=STEP_PHASES).values()) / steps,
    }


def at_common_node(ledger: Ledger, steps: int) -> dict[str, float]:
    """Joules a step with only the digital dynamic energies scaled to the common node, with the scaling laws' band."""
    scaled: dict[str, list[float]] = {"low": [], "nominal": [], "high": []}
    nodes = {
        (label, name): component.node_nm
        for device, label in ledger.devices().items()
        for name, component in device.components.items()
    }
    for (label, name, part), joules in ledger.energy(("device", "component", "part"), phases=STEP_PHASES).items():
        node = nodes[label, name]
        factor = node_scale(node, COMMON_NODE_NM) if part == Part.DYNAMIC and node is not None else None
        for bound, parts in scaled.items():
            parts.append(joules / steps * (getattr(factor, bound) if factor is not None else 1.0))
    return {bound: math.fsum(parts) for bound, parts in scaled.items()}


def device_summary(name: str, row: Trained, exact: Trained, goal: float, boundary: Boundary) -> dict[str, Any]:
    """One device over all seeds."""
    found = [to_target(run, goal, boundary, DRAWS) for run in row.runs]
    reached = [each for each in found if each is not None]
    wall = joined([each[1] for each in reached]) if len(reached) == len(found) else None
    control = [run.validation_accuracy for run in row.last_layer]
    setup_j = float(row.runs[0].ledger.total_j(phases=(Phase.SETUP,)))
    run = row.runs[0]
    bill = step_bill(run.ledger, run.steps, row.device)
    costs = bill["energy_per_step_j"]["nominal"] > 0
    step_wall = boundary.wall_plug_j(bill["energy_per_step_j"]["nominal"], bill["time_per_step_s"], input_bytes(run, 1))
    return {
        "device": name,
        "learning_rate": row.learning_rate,
        "trials": {f"{rate:g}": value for rate, value in row.trials.items()},
        "test_accuracy": spread([r.test_accuracy for r in row.runs]),
        "validation_accuracy": spread([r.validation_accuracy for r in row.runs]),
        "exact_arithmetic_accuracy": spread([r.test_accuracy for r in exact.runs]),
        "last_layer_only_accuracy": spread([r.test_accuracy for r in row.last_layer]),
        "last_layer_only_reaches_target": mean(control) >= goal,
        "seeds_reaching_target": len(reached),
        "has_cost": costs,
        "energy_to_target_j": Interval.of(wall)._asdict() if wall is not None and costs else "not reached",
        "device_energy_to_target_j": Interval.of(joined([each[0] for each in reached]))._asdict()
        if wall is not None and costs
        else "not reached",
        "wall_plug_per_step_j": nominal(step_wall) if costs else 0.0,
        "programming_j": setup_j,
        "programming_amortised_share": setup_j / (setup_j + run.steps * bill["energy_per_step_j"]["nominal"])
        if costs
        else 0.0,
        "area_mm2": area(row.runs[0].ledger, row.device),
        "samples_per_s": run.batch / bill["time_per_step_s"] if bill["time_per_step_s"] else math.inf,
        "macs_per_j": bill["macs_per_step"] / bill["energy_per_step_j"]["nominal"] if costs else math.inf,
        "energy_delay_js": bill["energy_per_step_j"]["nominal"] * bill["time_per_step_s"],
        "history": [[[e.energy_j, e.time_s, e.validation_accuracy] for e in r.epochs] for r in row.runs],
        **bill,
        "_wall_draws": wall if costs else None,
    }


def area(ledger: Ledger, device: Device) -> float | None:
    """The area of what is installed, as far as its components state one [mm2]; None where none does."""
    installed = device.installed([shape for (owner, _), shape in ledger.tiles.items() if owner is device])
    known = {name: units for name, units in installed.items() if device.components[name].area_mm2 is not None}
    if not known:
        return None
    return math.fsum(units * device.components[name].quantity("area_mm2").nominal for name, units in known.items())


def compare_targets(summary: list[dict[str, Any]]) -> None:
    """Ratios of joules to the target against the best row, and ranks, by paired draws.

    A row's rank counts the rows that are better with the whole 90% interval of their ratio: rows that cannot be told
    apart share a rank.
    """
    ranked = [entry for entry in summary if entry["_wall_draws"] is not None]
    for entry in summary:
        entry["ratio_to_best"], entry["rank"] = None, None
    if not ranked:
        return
    best = min(ranked, key=lambda entry: float(entry["_wall_draws"][0]))
    for entry in ranked:
        low, middle, high = Interval.of(entry["_wall_draws"] / best["_wall_draws"])
        entry["ratio_to_best"] = {"low": low, "nominal": middle, "high": high, "separated": low > 1 or high < 1}
        better = [each for each in ranked if Interval.of(entry["_wall_draws"] / each["_wall_draws"]).low > 1]
        entry["rank"] = 1 + len(better)


def full_card_row(model: Model, name: str, device: Device, boundary: Boundary) -> dict[str, Any]:
    """The bill of one step at the smallest power-of-two batch that fills the card; costed from shapes, not trained."""
    batch = 1
    while True:
        ledger = shape_step(model, device, batch)
        times = ledger.time(("bound_by",), phases=STEP_PHASES)
        total = math.fsum(times.values())
        serial = {each for each, component in device.components.items() if component.serial}
        launching = math.fsum(value for group, value in times.items() if group[0] in serial)
        if launching < FULL * total or batch >= LARGEST_BATCH:
            break
        batch *= 2
    bill = step_bill(ledger, 1, device)
    values = 4.0 * batch * math.prod(model.input_shape)
    wall = boundary.wall_plug_j(bill["energy_per_step_j"]["nominal"], bill["time_per_step_s"], values)
    return {
        "device": name,
        "batch": batch,
        "launch_share_of_time": launching / total if total else 0.0,
        "wall_plug_per_step_j": nominal(wall),
        "energy_per_sample_j": bill["energy_per_step_j"]["nominal"] / batch,
        **bill,
    }


def shape_step(model: Model, device: Device, batch: int) -> Ledger:
    """The ledger of one step at `batch`, from shapes alone, with programming in the setup phase."""
    net = Network(model, device, shape_only=True)
    outputs = net.predict(Shape(batch, *model.input_shape)).shape
    backprop(net, Shape(batch, *model.input_shape), Shape(*outputs[:-1]), loss_function("cross_entropy"),
             make_optimizer("sgd", 1.0))  # fmt: skip
    return net.ledger


# -- small things ------------------------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation (n - 1) over the seeds; nan where one seed has no spread."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return {"mean": mean(values), "deviation": deviation}


def joined(draws: Sequence[Value]) -> Value:
    """Draws of several seeds as one sample: each takes its turn, so that the spread of seeds is in the interval."""
    if not all(isinstance(value, np.ndarray) for value in draws):
        draws = [np.broadcast_to(value, (1 + DRAWS,)) for value in draws]
    stacked = np.stack(draws)
    result = stacked[np.arange(stacked.shape[1]) % len(draws), np.arange(stacked.shape[1])]
    result[0] = stacked[:, 0].mean()
    return result


def strip_draws(summary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The summary without the draws that only ratios need."""
    return [{key: value for key, value in entry.items() if not key.startswith("_")} for entry in summary]


def flattened(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one level of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
