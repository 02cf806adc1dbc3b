"""Bills: what a step, a run up to its target, or a filled card costs, derived from ledgers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hwsim.arrays import Shape
from hwsim.boundary import Boundary
from hwsim.cost import STEP_PHASES, Part, Phase, Value, nominal
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.learning.backprop import backprop
from hwsim.ledger import DRAWS, Interval, Ledger
from hwsim.library import node_scale
from hwsim.nn import Model, Network
from hwsim.optim import optimizer as make_optimizer
from hwsim.run import TRAINING_PHASES, Run
from hwsim.train import loss_for

COMMON_NODE_NM = 7.0
FULL = 0.1  # a card counts as filled where launching takes less than this share of the time
LARGEST_BATCH = 2**24
BYTES_PER_VALUE = 4.0  # of input data, which arrives in 32 bits

RESOLUTION = 1.05  # ratios nearer to 1 hang on what the models leave out (a fused kernel, a cast), and rank nobody

Totals = dict[tuple[str, ...], Value]


def step_bill(
    ledger: Ledger, steps: int, batch: int, device: Device, boundary: Boundary, values: int
) -> dict[str, Any]:
    """What one training step costs, and of what that consists; every breakdown sums to the nominal total.

    `ledger` holds `steps` steps of `batch` rows with `values` inputs each. Ratios are None where nothing is spent.
    """
    options: dict[str, Any] = {"phases": STEP_PHASES}
    own = ledger.devices().get(device, "")

    def per_step(by: Sequence[str], name: Callable[[tuple[str, ...]], str] = "/".join) -> dict[str, float]:
        parts: dict[str, list[float]] = {}
        for group, joules in ledger.energy(by, **options).items():
            parts.setdefault(name(group), []).append(joules / steps)
        return {key: math.fsum(each) for key, each in parts.items()}

    def component(group: tuple[str, ...]) -> str:
        label, part_of, part = group
        who = type(device).name if label == own else label
        return f"{who}.{part_of}" if part == Part.DYNAMIC else f"{who}.{part_of} ({part})"

    low, _, high = (value / steps for value in Interval.of(ledger.total_j(draws=DRAWS, **options)))
    joules = float(ledger.total_j(**options)) / steps
    seconds = float(ledger.total_s(**options)) / steps
    bounds = {group[0]: value / steps for group, value in ledger.time(("bound_by",), **options).items()}
    macs = sum(ledger.macs(phases=STEP_PHASES).values()) / steps
    wall_j, host_share = at_the_wall(joules, seconds, BYTES_PER_VALUE * batch * values, boundary)
    return {
        "energy_per_step_j": {"low": low, "nominal": joules, "high": high},
        "time_per_step_s": seconds,
        "energy_by_phase_j": per_step(("phase",)),
        "energy_by_component_j": per_step(("device", "component", "part"), component),
        "energy_by_role_j": per_step(("role", "part"), lambda g: g[0] if g[1] == Part.DYNAMIC else g[1]),
        "energy_by_part_j": per_step(("part",)),
        "host_energy_j": math.fsum(j for label, j in per_step(("device",)).items() if label != own),
        "evidence_shares": {name: j / joules for name, j in per_step(("certainty",)).items()} if joules else {},
        "time_by_bound_s": bounds,
        "bound_by": max(bounds, key=lambda name: bounds[name]) if bounds else "",
        "energy_per_step_at_common_node_j": at_common_node(ledger, steps),
        "wall_plug_per_step_j": wall_j if joules else 0.0,
        "wall_plug_host_share": host_share if joules else None,
        "macs_per_step": macs,
        "macs_per_j": macs / joules if joules else None,
        "samples_per_s": batch / seconds if seconds else None,
        "samples_per_j": batch / joules if joules else None,
        "energy_delay_js": joules * seconds,
        "area_mm2": area(ledger, device),
    }


def at_the_wall(device_j: float, time_s: float, input_bytes: float, boundary: Boundary) -> tuple[float, float]:
    """Joules at the wall plug, and the share of them that the boundary's host processor takes."""
    wall_j = float(boundary.wall_plug_j(device_j, time_s, input_bytes))
    rest_j = float(boundary.without_host().wall_plug_j(device_j, time_s, input_bytes))
    return wall_j, 1 - rest_j / wall_j if wall_j else 0.0


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


def area(ledger: Ledger, device: Device) -> float | None:
    """The area of what is installed, as far as its components state one [mm2]; None where none does."""
    installed = device.installed([shape for (owner, _), shape in ledger.tiles.items() if owner is device])
    known = {name: units for name, units in installed.items() if device.components[name].area_mm2 is not None}
    if not known:
        return None
    return math.fsum(units * device.components[name].quantity("area_mm2").nominal for name, units in known.items())


def to_target(run: Run, goal: float, boundary: Boundary, draws: int = 0) -> tuple[Value, Value] | None:
    """Joules of the device and at the wall plug until the goal, programming included; None: not reached."""
    reached = run.first_epoch_at(goal)
    if reached is None:
        return None
    options: dict[str, Any] = {"phases": TRAINING_PHASES, "draws": draws}
    device_j = until(run.ledger.energy(("phase",), **options), reached.energy_j)
    time_s = until(run.ledger.time(("phase",), **options), reached.time_s)
    read = BYTES_PER_VALUE * reached.steps * run.batch * math.prod(run.network.model.input_shape)
    return device_j, boundary.wall_plug_j(device_j, time_s, read, draws=draws)


def until(by_phase: Totals, spent: float) -> Value:
    """The part of a run's joules or seconds, nominal or drawn, by the time that nominally `spent` were spent.

    Programming is in it whole, and of the steps as much as makes `spent`: what an epoch had spent was noted at
    nominal values, and its draws are in proportion to those of all steps.
    """
    setup = by_phase.get((Phase.SETUP,), 0.0)
    steps: Value = sum(by_phase[phase] for phase in sorted(by_phase) if phase != (Phase.SETUP,))
    whole = nominal(steps)
    return setup + steps * ((spent - nominal(setup)) / whole) if whole else setup


def joined(draws: Sequence[Value]) -> Value:
    """Draws of several seeds as one sample: each takes its turn, so that the spread of seeds is in the interval."""
    stacked = np.stack([np.broadcast_to(value, (1 + DRAWS,)) for value in draws])
    places = np.arange(1 + DRAWS)
    result = stacked[places % len(draws), places]
    result[0] = stacked[:, 0].mean()
    return result


def shape_step(model: Model, data: Dataset, device: Device, batch: int, optimizer: str) -> Ledger:
    """The ledger of one step at `batch`, from shapes alone, with programming in the setup phase."""
    net = Network(model, device, shape_only=True)
    x, y = Shape(batch, *model.input_shape), Shape(batch, *data.y_train.shape[1:])
    backprop(net, x, y, loss_for(data), make_optimizer(optimizer, 1.0))
    return net.ledger


def filled_card(
    model: Model, data: Dataset, name: str, device: Device, optimizer: str, boundary: Boundary
) -> dict[str, Any]:
    """The bill of one step at the smallest power-of-two batch that fills the card; costed from shapes, not trained."""
    serial = {each for each, component in device.components.items() if component.serial}
    batch = 1
    while True:
        ledger = shape_step(model, data, device, batch, optimizer)
        share = share_of_time(ledger, serial)
        if share < FULL or batch >= LARGEST_BATCH:
            break
        batch *= 2
    bill = step_bill(ledger, 1, batch, device, boundary, math.prod(model.input_shape))
    return {
        "device": name,
        "batch": batch,
        "filled": share < FULL,
        "launch_share_of_time": share,
        "energy_per_sample_j": bill["energy_per_step_j"]["nominal"] / batch,
        **bill,
    }


def share_of_time(ledger: Ledger, components: set[str]) -> float:
    """The share of a step's time that is spent waiting for `components`."""
    times = ledger.time(("bound_by",), phases=STEP_PHASES)
    total = math.fsum(times.values())
    return math.fsum(value for group, value in times.items() if group[0] in components) / total if total else 0.0


def ranked(found: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    """Ratios of joules to the best and ranks, by paired draws [1 + draws] per device.

    A rank is a range: rows that are better with the whole 90% interval of their ratio stand before, those that are
    worse with the whole of it behind. `separated`: the ratio to the best has 1 outside its interval.
    """
    ratios = {a: {b: Interval.of(found[a] / found[b]) for b in found if b != a} for a in found}
    best = min(found, key=lambda name: nominal(found[name]), default=None)
    result: dict[str, dict[str, Any]] = {}
    for name, others in ratios.items():
        ratio = others[best] if best is not None and name != best else Interval(1.0, 1.0, 1.0)
        result[name] = {
            "ratio_to_best": {
                **ratio._asdict(),
                "separated": ratio.low > RESOLUTION or ratio.high < 1 / RESOLUTION,
                "best": name == best,
            },
            "rank": {
                "first": 1 + sum(other.low > RESOLUTION for other in others.values()),
                "last": len(found) - sum(other.high < 1 / RESOLUTION for other in others.values()),
            },
        }
    return result
