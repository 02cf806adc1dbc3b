"""One network on many substrates, under one set of rules, with its controls and its bill."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from hwsim import registry
from hwsim.bill import filled_card, joined, ranked, shape_step, step_bill, to_target
from hwsim.boundary import Boundary, standard_boundary
from hwsim.cost import STEP_PHASES, Phase, Value, nominal
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.errors import ConfigError, TrainingError
from hwsim.ledger import DRAWS, Interval, Ledger
from hwsim.nn import Model, Network
from hwsim.optim import optimizer as make_optimizer
from hwsim.pipeline import steps_of
from hwsim.progress import progress_bar
from hwsim.report.comparison import Comparison
from hwsim.report.units import plural
from hwsim.run import Run, made_with
from hwsim.schedule import Shared
from hwsim.train import (
    check_settings,
    fit,
    loss_for,
    model_text,
    most_frequent_class_share,
    one_device,
    require_fit,
    require_objects,
)

FORMAT = 1  # of the JSON
LEARNING_RATES = (0.1, 0.3, 1.0, 3.0)  # tried on the validation split for every row alike
MARGIN = 0.02  # the target lies so far below what exact arithmetic reaches
DEFAULT_DEVICES = (
    "ideal",
    "digital:int8",
    "gpu:h100",
    "gpu:h100:precision=bf16",
    "gpu:h100:precision=fp8",
    "gpu:gtx580",
    "crossbar:ecram",
    "optical:homodyne",
    "reversible:adiabatic_cmos",
)
NOT_REACHED = "not reached"
PIPELINED = "pipelined"

Devices = Device | str | Mapping[str, Device | str] | Sequence[Device | str]


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


def compare(
    model: Model,
    data: Dataset,
    devices: Devices = DEFAULT_DEVICES,
    *,
    epochs: int = 10,
    batch: int = 32,
    seeds: int = 3,
    first_seed: int = 0,
    optimizer: str = "sgd",
    learning_rates: Sequence[float] = LEARNING_RATES,
    target: float | None = None,
    boundary: Boundary | None = None,
    schedule: str | None = None,
    shared: Shared | None = None,
    progress: bool | None = False,
) -> Comparison:
    """Train `model` on `data` with each device and account for every joule, under the rules of a fair comparison.

    Same network, initial values, split, mini-batches and rule for all; the learning rate is chosen per device on the
    validation split, with the first seed and equal trials. `target`: the validation accuracy that the headline
    counts joules to; None: what exact arithmetic reaches at its last epoch, mean over the seeds, less two points.
    Each row is trained a second time with only its last layer trained, as a control, with trials of its own. Where
    training diverges, the row says so. `schedule`: "pipelined" to schedule a step of each device too, in micro-batches
    that go through tiles and host side by side (None: operations one after the other), in which the tiles of each share
    units of the components in `shared` (see hwsim.schedule.schedule); steps do not overlap. `progress`: whether to show
    a bar (None: on a terminal, and elsewhere a line on standard error that says how much there is to do).

    Raises ConfigError or ShapeError before any training where a setting is out of range or shapes do not fit, and
    TrainingError where exact arithmetic diverges at every learning rate, so that there is no target.
    """
    require_objects(model, data)
    settings = Settings(
        epochs, min(batch, len(data.x_train)), seeds, first_seed, optimizer, tuple(learning_rates), target
    )
    named = placed(devices)
    check(settings)
    for device in named.values():
        require_fit(model, data, device, loss_for(data))
    if schedule not in (None, PIPELINED):
        raise ConfigError(f"no schedule {schedule!r}; known: {PIPELINED}, or none for one operation after the other")
    if shared and schedule is None:
        raise ConfigError(f"tiles share {', '.join(shared)} in a schedule only; ask for schedule={PIPELINED}")
    to_schedule = steps_of(  # before training: what it refuses costs no more than that
        model, data, named if schedule is not None else {}, batch=settings.batch, optimizer=optimizer, shared=shared
    )
    boundary = boundary or standard_boundary()
    exact_name = next((name for name, device in named.items() if device.spec == "ideal"), None)
    jobs = (len(named) + (exact_name is None)) * 2 * (len(settings.learning_rates) + seeds - 1)
    if progress is None and not sys.stderr.isatty():
        print(plural(jobs, "training"), file=sys.stderr, flush=True)
    with progress_bar("compare", jobs, shown=progress) as tick:
        reference = named[exact_name] if exact_name is not None else registry.device("ideal")
        exact = train_row(model, data, reference, settings, tick)
        goal = target if target is not None else usual_target(exact)
        trained = {
            name: exact if name == exact_name else train_row(model, data, device, settings, tick)
            for name, device in named.items()
        }
    rows, summary, walls = [], [], {}
    for name, row in trained.items():
        bills = Bills(model, data, row.device, settings, boundary)
        rows += [seed_row(name, row, i, exact, goal, bills) for i in range(seeds)]
        entry, wall = device_summary(name, row, exact, goal, bills)
        summary.append(entry)
        if wall is not None:
            walls[name] = wall
    ranks = ranked(walls)
    for entry in summary:
        entry |= ranks.get(entry["device"], {"ratio_to_best": None, "rank": None})
    card = next(((name, device) for name, device in named.items() if type(device).name == "gpu"), None)
    return Comparison(
        {
            "hwsim_comparison": FORMAT,
            "version": version("hwsim"),
            "made_with": made_with(),
            "model": model_text(model),
            "layers": len(exact.layers),
            "data": {
                "name": data.name,
                "sha256": data.sha256,
                "test_images": len(data.x_test),
                "classes": data.classes,
                "most_frequent_class_share": most_frequent_class_share(data),
            },
            "settings": {**vars(settings), "learning_rates": list(settings.learning_rates)},
            "target_validation_accuracy": goal,
            "exact_validation_accuracy": spread([run.validation_accuracy for run in exact.full.trained])["mean"],
            "boundary": boundary.as_dict(),
            "policies": {name: device.policy.describe() for name, device in named.items()},
            "excluded": {name: list(type(device).excluded) for name, device in named.items()},
            "rows": rows,
            "summary": summary,
            "schedule": {
                name: step.quickest(ledger_of(trained[name].full.trained)).as_dict()
                for name, step in to_schedule.items()
            },
            "filled": [] if card is None else [filled_card(model, data, *card, optimizer, boundary)],
        }
    )


def placed(devices: Devices) -> dict[str, Device]:
    """Devices by name, made from their strings where they are strings; the name of a device in a list is its string.

    Raises ConfigError for none, or one twice.
    """
    if isinstance(devices, Device | str):
        devices = [devices]
    if not devices:
        raise ConfigError("compare needs at least one device")
    if isinstance(devices, Mapping):
        return {name: one_device(device) for name, device in devices.items()}
    names = [each if isinstance(each, str) else one_device(each).spec for each in devices]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"compare got {', '.join(twice)} twice; name each device once, or give a dictionary of names")
    return {name: one_device(device) for name, device in zip(names, devices, strict=True)}


def check(settings: Settings) -> None:
    """Refuse settings out of range before anything is trained."""
    check_settings(epochs=settings.epochs, batch=settings.batch, seed=settings.first_seed)
    if settings.seeds < 1:
        raise ConfigError(f"seeds {settings.seeds}: needs a whole number from 1")
    if not settings.learning_rates:
        raise ConfigError("compare needs at least one learning rate to try")
    if len(set(settings.learning_rates)) < len(settings.learning_rates):
        raise ConfigError(f"learning rates {settings.learning_rates}: name each once")
    if settings.target is not None and not 0 < settings.target <= 1:
        raise ConfigError(f"target {settings.target:g}: needs a validation accuracy above 0 and up to 1")
    for rate in settings.learning_rates:
        make_optimizer(settings.optimizer, rate)


# -- training ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuned:
    """The runs of one network on one device, one per seed, at its best learning rate; the error where it diverged."""

    trials: dict[float, Run | TrainingError]  # by learning rate, with the first seed
    learning_rate: float | None  # None: all trials diverged
    runs: list[Run | TrainingError]

    @property
    def trained(self) -> list[Run]:
        """The runs that did not diverge."""
        return [run for run in self.runs if isinstance(run, Run)]


@dataclass(frozen=True)
class Row:
    """One device, and the same with only the last layer trained (None: there is no other layer)."""

    device: Device
    layers: tuple[str, ...]
    full: Tuned
    last_layer: Tuned | None


def train_row(model: Model, data: Dataset, device: Device, settings: Settings, tick: Callable[[str], None]) -> Row:
    """Train every seed, and every seed's control."""

    def train(rate: float, seed: int, frozen: Sequence[str]) -> Run | TrainingError:
        result: Run | TrainingError
        try:
            result = fit(
                model, data, device, epochs=settings.epochs, batch=settings.batch, learning_rate=rate,
                optimizer=settings.optimizer, seed=seed, frozen=frozen,
            )  # fmt: skip
        except TrainingError as error:
            result = error
        tick(device.spec)
        return result

    def tuned(frozen: Sequence[str]) -> Tuned:
        first = settings.first_seed
        trials = {rate: train(rate, first, frozen) for rate in settings.learning_rates}
        reached = {rate: run.validation_accuracy for rate, run in trials.items() if isinstance(run, Run)}
        if not reached:
            return Tuned(trials, None, [next(iter(trials.values()))] * settings.seeds)
        rate = max(reached, key=lambda each: reached[each])
        others = [train(rate, first + i, frozen) for i in range(1, settings.seeds)]
        return Tuned(trials, rate, [trials[rate], *others])

    layers = Network(model, device, shape_only=True).layers
    return Row(device, layers, tuned(()), tuned(layers[:-1]) if len(layers) > 1 else None)


def usual_target(exact: Row) -> float:
    """What exact arithmetic reaches, less the margin. Raises TrainingError where it never got that far."""
    found = [run.validation_accuracy for run in exact.full.trained]
    if not found:
        raise TrainingError(
            f"exact arithmetic, which sets the target, diverged at every learning rate: {exact.full.runs[0]}; "
            "try lower rates, or give a target"
        )
    if mean(found) <= MARGIN:
        raise TrainingError(
            f"exact arithmetic, which sets the target, reaches only {mean(found):.1%} validation accuracy; "
            "train longer, try other learning rates, or give a target"
        )
    return mean(found) - MARGIN


# -- deriving ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bills:
    """The bills of one device: of a seed, or of all."""

    model: Model
    data: Dataset
    device: Device
    settings: Settings
    boundary: Boundary

    def of(self, runs: Iterable[Run | TrainingError]) -> dict[str, Any]:
        """The mean step of `runs`; of a step costed from shapes where all of them diverged."""
        ledger, steps = merged([run for run in runs if isinstance(run, Run)])
        if not steps:
            steps = 1
            ledger = shape_step(self.model, self.data, self.device, self.settings.batch, self.settings.optimizer)
        values = math.prod(self.model.input_shape)
        return step_bill(ledger, steps, self.settings.batch, self.device, self.boundary, values)


def merged(runs: Sequence[Run]) -> tuple[Ledger, int]:
    """One ledger of all `runs`, and how many steps it holds."""
    ledger = Ledger()
    for run in runs:
        ledger.merge(run.ledger)
    return ledger, sum(run.steps for run in runs)


def ledger_of(runs: Sequence[Run]) -> Ledger | None:
    """One ledger of all `runs`; None for none."""
    return merged(runs)[0] if runs else None


def seed_row(name: str, row: Row, i: int, exact: Row, goal: float, bills: Bills) -> dict[str, Any]:
    """One device and seed: what it reached and what it cost."""
    run = row.full.runs[i]
    bill = bills.of([run])
    found = to_target(run, goal, bills.boundary) if isinstance(run, Run) else None
    costs = bill["energy_per_step_j"]["nominal"] > 0
    preset, parameters = origin_of(row.device)
    return {
        "device": name,
        "preset": preset,
        "parameters": parameters,
        "seed": bills.settings.first_seed + i,
        "steps": run.steps if isinstance(run, Run) else None,
        "learning_rate": row.full.learning_rate,
        "diverged": None if isinstance(run, Run) else str(run),
        "test_accuracy": accuracy_of(run),
        "validation_accuracy": run.validation_accuracy if isinstance(run, Run) else None,
        "exact_arithmetic_accuracy": accuracy_of(exact.full.runs[i]),
        "last_layer_only_accuracy": None if row.last_layer is None else accuracy_of(row.last_layer.runs[i]),
        **bill,
        "energy_to_target_j": NOT_REACHED if found is None else nominal(found[1]) if costs else 0.0,
        "device_energy_to_target_j": NOT_REACHED if found is None else nominal(found[0]),
        "version": version("hwsim"),
    }


def accuracy_of(run: Run | TrainingError) -> float | None:
    """What a run reached on the test split; None where it diverged."""
    return run.test_accuracy if isinstance(run, Run) else None


def origin_of(device: Device) -> tuple[str | None, dict[str, str]]:
    """The preset and the parameters that a device was asked for with."""
    return device.origin.preset, {key: str(value) for key, value in device.origin.parameters.items()}


def device_summary(name: str, row: Row, exact: Row, goal: float, bills: Bills) -> tuple[dict[str, Any], Value | None]:
    """One device over all seeds, and the draws of its joules to the target, where all seeds reached it at a cost."""
    full, control = row.full, row.last_layer
    bill = bills.of(full.runs)
    found = [to_target(run, goal, bills.boundary, DRAWS) for run in full.trained]
    reached = [each for each in found if each is not None]
    costs = bill["energy_per_step_j"]["nominal"] > 0
    wall: Value | None = None
    device_j: Value | None = None
    if len(reached) == bills.settings.seeds:
        device_j, wall = (joined(draws) if costs else 0.0 for draws in zip(*reached, strict=True))
    ledger, _ = merged(full.trained)
    setup_j, steps_j = (float(ledger.total_j(phases=phases)) for phases in ((Phase.SETUP,), STEP_PHASES))
    host = row.device.host_device
    entry = {
        "device": name,
        "kind": type(row.device).name,
        "host": None if host is None else host.spec,
        "learning_rate": full.learning_rate,
        "trials": trials(full),
        "seeds_diverged": bills.settings.seeds - len(full.trained),
        "test_accuracy": spread([run.test_accuracy for run in full.trained]),
        "validation_accuracy": spread([run.validation_accuracy for run in full.trained]),
        "exact_arithmetic_accuracy": spread([run.test_accuracy for run in exact.full.trained]),
        "last_layer_only_accuracy": None if control is None else spread([run.test_accuracy for run in control.trained]),
        "last_layer_only_learning_rate": None if control is None else control.learning_rate,
        "last_layer_only_seeds_reaching_target": 0 if control is None else reaching(control, goal),
        "seeds_reaching_target": len(reached),
        "has_cost": costs,
        "energy_to_target_j": NOT_REACHED if wall is None else Interval.of(wall)._asdict(),
        "device_energy_to_target_j": NOT_REACHED if device_j is None else Interval.of(device_j)._asdict(),
        "programming_j": setup_j / max(1, len(full.trained)),
        "programming_amortised_share": setup_j / (setup_j + steps_j) if setup_j + steps_j else None,
        "history": [[[e.energy_j, e.time_s, e.validation_accuracy] for e in run.epochs] for run in full.trained],
        **bill,
    }
    return entry, wall if costs else None


def trials(tuned: Tuned) -> dict[str, float | None]:
    """Validation accuracy by learning rate; None where it diverged."""
    return {
        f"{rate:g}": run.validation_accuracy if isinstance(run, Run) else None for rate, run in tuned.trials.items()
    }


def reaching(tuned: Tuned, goal: float) -> int:
    """How many runs reached the goal at some epoch."""
    return sum(run.first_epoch_at(goal) is not None for run in tuned.trained)


# -- small things ------------------------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation (n - 1) over the seeds; None where there are too few for it."""
    return {
        "mean": mean(values) if values else None,
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }
