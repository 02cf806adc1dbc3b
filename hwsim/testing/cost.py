"""Checks of the cost: pure, finite, monotone, adding up, equal for shapes and arrays, and paid by training alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from hwsim import losses, ops
from hwsim.arrays import Shape
from hwsim.cost import BOLTZMANN_J_PER_K, ROOM_TEMPERATURE_K, STEP_PHASES, Elementwise, Kind, Op, Product, Use, op_cost
from hwsim.device import Device
from hwsim.errors import DeviceError
from hwsim.ledger import Ledger, TileShape
from hwsim.testing.bench import (
    Bench,
    Check,
    Failed,
    Found,
    Skipped,
    activations_of,
    forward,
    normal,
    require,
    train,
    weights,
)

AGREEMENT = 1e-12  # between two ways of adding up the same floats
BATCHES = (*range(1, 301), *(2**i for i in range(9, 17)))
LANDAUER_J = BOLTZMANN_J_PER_K * ROOM_TEMPERATURE_K * math.log(2)  # least energy per erased bit, Landauer 1961
USUAL_J_PER_MAC = (1e-16, 1e-6)  # from optics at its most optimistic to a GPU that is almost idle
SIZES = ((1, 1, 1), (1, 7, 5), (64, 130, 70), (0, 4, 3))  # m, k, n
NEEDED = (Kind.PROGRAM, Kind.READ, Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE)  # of the device itself
OTHER_NAMES = ("mask", "scale", "stack", "embedding", "position_add", "layer_norm")  # made by functions of hwsim.ops
UNPAIRED_NAMES = ("move", "accumulate", "sgd", "momentum", "adam")  # without a derivative


def elementwise_names() -> Iterator[str]:
    """The names of all work on values that networks and optimizers ask for."""
    fixed = [*ops.ACTIVATIONS.values(), ops.add, ops.multiply, ops.bias_add, ops.softmax, *losses.LOSSES.values()]
    for name in [*(op.name for op in fixed), *OTHER_NAMES]:
        yield name
        yield name + "_backward"
    yield from UNPAIRED_NAMES


def operations(device: Device) -> dict[Op, Mapping[str, Use]]:
    """Operations of several sizes that the device does itself, and what each takes."""
    asked: list[Op] = []
    for kind in Kind:
        for m, k, n in SIZES:
            asked += [Product(kind, m, k, n, stack, x_values) for stack, x_values in ((1, 0), (3, 0), (1, m * k // 2))]
    asked += [Elementwise(name, 64, 192, 256, 256) for name in elementwise_names()]
    asked += [Elementwise(name, 64, 0, 0, 0) for name in ("device", "device_backward")]
    found = {op: device.activity(op) for op in asked}
    return {op: uses for op, uses in found.items() if uses is not None}


def answered(bench: Bench) -> None:
    """The device does every operation on a tile, and whatever it leaves out its host does."""
    device = bench.device
    for kind in NEEDED:
        op = Product(kind, 4, 7, 5)
        require(device.uses(op) is not None, f"the device does not answer {kind}, which no host can do in its place")
    asked: dict[str, Op] = {kind: Product(kind, 4, 7, 5) for kind in (Kind.GRADIENT, Kind.PRODUCT)}
    asked |= {name: Elementwise(name, 20, 60, 80, 80) for name in elementwise_names()}
    for name, operation in asked.items():
        try:
            device.who(operation)
        except DeviceError as error:
            raise Failed(f"nobody does {name}: {error}") from error


def cost_pure(bench: Bench) -> None:
    """`activity` and `held_bits` depend on the operation alone: not on how often they are asked, nor on what ran."""
    device = bench.make()
    first = operations(device)
    held = {op: device.held_bits(op) for op in first}
    require(operations(device) == first, "activity gave another answer when it was asked again")
    train(device)
    tile = device.program(10 * weights(device, 7, 5), name="pure")
    for scale in (1, 100):
        forward(tile, scale * normal(device, 64, 7))
    for op, uses in operations(device).items():
        require(first.get(op) == uses, f"activity of {op} was {first.get(op)} before training and is {uses} after it")
        require(device.held_bits(op) == held[op], f"held_bits of {op} changed with training")
    require(operations(bench.make()) == first, "two devices made alike give different activities")


def cost_sane(bench: Bench) -> None:
    """Actions are finite and not negative, units are above zero, bits are whole, and only components are named."""
    device = bench.device
    for op, uses in operations(device).items():
        stray = sorted(set(uses) - set(device.components))
        require(not stray, f"activity of {op} names {stray}; components: {', '.join(device.components) or 'none'}")
        for name, use in uses.items():
            fine = math.isfinite(use.actions) and use.actions >= 0 and math.isfinite(use.units) and use.units > 0
            require(fine, f"{op}: {name} has {use}; needs finite actions of 0 or more, and units above 0")
        bits = device.held_bits(op)
        require(isinstance(bits, int | np.integer), f"held_bits of {op} is {bits!r}; needs a whole number")


def installed(bench: Bench) -> None:
    """`installed` names components only, and powers a finite number of each that is not negative."""
    device = bench.device
    for tiles in ([], [TileShape(1, 4, 3)], [TileShape(3, 130, 70), TileShape(1, 0, 5)]):
        units = device.installed(tiles)
        stray = sorted(set(units) - set(device.components))
        require(not stray, f"installed() names {stray}; components: {', '.join(device.components) or 'none'}")
        for name, count in units.items():
            require(math.isfinite(count) and count >= 0, f"installed() powers {count} of {name} for {tiles}")


def by_batch(device: Device, kind: Kind, k: int, n: int) -> tuple[list[float], list[float]]:
    """Time [s] and energy [J] of one operation for all batch sizes; empty where the host does it."""
    ledger = Ledger()
    ledger.tiles[device, "tile"] = TileShape(1, k, n)
    rates = ledger.rates(device)
    power_w = sum(rates.static_power_w.values())
    times, energies = [], []
    for m in BATCHES:
        uses = device.activity(Product(kind, m, k, n))
        if uses is None:
            return [], []
        cost = op_cost(uses, rates)
        times.append(float(cost.time_s))
        energies.append(float(sum(cost.energy_j.values()) + power_w * cost.time_s))
    return times, energies


def require_monotone(what: str, unit: str, values: list[float]) -> None:
    """Require that a larger batch never takes less."""
    for i in range(1, len(values)):
        require(
            values[i] >= values[i - 1] * (1 - AGREEMENT),
            f"{what} takes {values[i - 1]:.4g} {unit} for m={BATCHES[i - 1]} and only {values[i]:.4g} {unit} for "
            f"m={BATCHES[i]}",
        )


def time_monotone(bench: Bench) -> None:
    """No product takes less time for a larger batch, from 1 row to 2^16."""
    for kind in (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT):
        for k, n in ((48, 80), (1024, 512)):
            times, _ = by_batch(bench.device, kind, k, n)
            require_monotone(f"{kind} of k={k}, n={n}", "s", times)


def energy_monotone(bench: Bench) -> None:
    """No product takes less energy for a larger batch, static energy included, from 1 row to 2^16."""
    for kind in (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT):
        for k, n in ((48, 80), (1024, 512)):
            _, energies = by_batch(bench.device, kind, k, n)
            require_monotone(f"{kind} of k={k}, n={n}", "J", energies)


def recomputed(ledger: Ledger) -> tuple[float, float]:
    """Energy [J] and serial time [s] of a run by the cost rule as the design states it, by run and not by row."""
    joules: list[float] = []
    busy: dict[Device, list[float]] = {device: [] for device in ledger.devices()}
    power = dict.fromkeys(busy, (0.0, 0.0))
    for device in busy:
        units = device.installed([shape for (owner, _), shape in ledger.tiles.items() if owner is device])
        for name, count in units.items():
            static, idle = (device.components[name].quantity(f"{p}_power_w").nominal for p in ("static", "idle"))
            power[device] = power[device][0] + count * static, power[device][1] + count * idle
    for (_, _, device, op), calls in ledger.calls.items():
        serial, others, dynamic = [0.0], [0.0], [0.0]
        for name, use in (device.uses(op) or {}).items():
            component = device.components[name]
            seconds = use.actions * component.quantity("time_s").nominal / use.units
            (serial if component.serial else others).append(seconds)
            dynamic.append(use.actions * component.quantity("energy_j").nominal)
        time = math.fsum(serial) + max(others)
        if device.power_cap_w is not None:
            time = max(time, math.fsum(dynamic) / (device.power_cap_w.nominal - power[device][0]))
        busy[device].append(calls * time)
        joules += [calls * energy for energy in dynamic]
    total = math.fsum(time for times in busy.values() for time in times)
    for device, times in busy.items():
        working = math.fsum(times)
        joules += [working * power[device][0], max(total - working, 0.0) * power[device][1]]
    return math.fsum(joules), total


def ledger_adds_up(bench: Bench) -> Found:
    """The ledger's joules and seconds are its calls times their costs, static and idle power included."""
    largest = 0.0
    for activation in activations_of(bench.device):
        ledger = train(bench.device, activation=activation, predict=5).ledger
        found = float(ledger.total_j(actual=False)), float(ledger.total_s(actual=False))
        for value, wanted, what in zip(found, recomputed(ledger), ("energy [J]", "time [s]"), strict=True):
            difference = abs(value - wanted) / wanted if wanted else abs(value)
            largest = max(largest, difference)
            require(difference <= AGREEMENT, f"{what} is {value!r} in the ledger and {wanted!r} by calls times costs")
    return Found(AGREEMENT, largest)


def shape_only(bench: Bench) -> None:
    """A run on shapes alone asks for the same operations as the run on arrays, and so costs the same, exactly."""
    device = bench.device
    for activation in activations_of(device):
        for optimizer in ("sgd", "momentum", "adam"):
            run = train(device, optimizer=optimizer, activation=activation, predict=5).ledger
            traced = train(device, optimizer=optimizer, activation=activation, predict=5, shape_only=True).ledger
            differ = {key for key in run.calls.keys() | traced.calls.keys() if run.calls[key] != traced.calls[key]}
            require(not differ, f"{optimizer}: arrays and shapes differ in {sorted(map(str, differ))[:3]}")
            energies = run.total_j(actual=False), traced.total_j(actual=False)
            require(
                energies[0] == energies[1], f"{optimizer}: {energies[0]!r} J on arrays, {energies[1]!r} J on shapes"
            )
            require(run.peak_bits == traced.peak_bits, f"{optimizer}: peak held bits differ between arrays and shapes")


def recorded_counts(bench: Bench) -> Found:
    """Actual counts that hooks record are of components, finite and not negative."""
    ledger = train(bench.device).ledger
    if not ledger.actual:
        raise Skipped("nothing is recorded: counts do not depend on values")
    for cell, counts in ledger.actual.items():
        for name, count in counts.items():
            require(name in cell.device.components, f"{cell.op} records {name!r}, which is no component")
            fine = math.isfinite(float(count)) and float(count) >= 0
            require(fine, f"{cell.op} records {float(count):g} actions of {name}; needs a finite count of 0 or more")
    actual, expected = float(ledger.total_j()), float(ledger.total_j(actual=False))
    return Found(None, None, f"actual energy is {actual / expected:.2f} of the expected" if expected else "")


def evaluation(bench: Bench) -> None:
    """Evaluating, before training and between steps, changes neither the losses of steps nor their energy."""
    device = bench.device
    for activation in activations_of(device):
        quiet, watched = (train(device, activation=activation, predict=rows) for rows in (0, 5))
        require(
            quiet.losses == watched.losses,
            f"evaluation changed training: losses {watched.losses} with it, {quiet.losses} without; draw from "
            "tile.rng, and change no state in a forward",
        )
        spent = [float(run.ledger.total_j(phases=STEP_PHASES)) for run in (quiet, watched)]
        require(
            spent[0] == spent[1], f"evaluation changed the energy of the steps from {spent[0]!r} J to {spent[1]!r} J"
        )


def held_bits(bench: Bench) -> None:
    """What a forward holds is freed by its release: never below zero, and zero at the end."""
    device = bench.device
    for shape_alone in (False, True):
        tile = device.program(Shape(4, 3) if shape_alone else weights(device, 4, 3), name="held")
        for m in (2, 5, 3):
            tile.forward(Shape(m, 4) if shape_alone else normal(device, m, 4), x_values=m % 2)
        tile.backward(Shape(3, 3) if shape_alone else normal(device, 3, 3))
        for m in (3, 5, 2):
            tile.release(m)
            for owner, bits in tile.ledger.live_bits.items():
                require(bits >= 0, f"{owner.spec} holds {bits} bits after the release of {m} rows")
        for owner, bits in tile.ledger.live_bits.items():
            require(bits == 0, f"{owner.spec} still holds {bits} bits when every forward has been released")
    for activation in activations_of(device):
        for owner, bits in train(device, activation=activation, predict=5).ledger.live_bits.items():
            require(bits == 0, f"{owner.spec} still holds {bits} bits after training")


def joules_per_mac(bench: Bench) -> Found:
    """A note where a multiply-accumulate costs less than erasing a bit, or is far from every known substrate."""
    m, k, n = 64, 256, 256
    op = Product(Kind.FORWARD, m, k, n)
    uses, components = bench.device.uses(op) or {}, bench.device.components
    energy = math.fsum(use.actions * components[name].quantity("energy_j").nominal for name, use in uses.items())
    per_mac, (low, high) = energy / op.macs, USUAL_J_PER_MAC
    if energy == 0:
        return Found(None, 0.0, "note: a product takes no dynamic energy at all")
    if per_mac < LANDAUER_J:
        return Found(
            LANDAUER_J, per_mac, f"note: {per_mac:.2g} J/MAC is below kT ln 2 = {LANDAUER_J:.2g} J per erased bit"
        )
    if not low <= per_mac <= high:
        return Found(
            None, per_mac, f"note: {per_mac:.2g} J/MAC lies outside {low:.0e} to {high:.0e}, where substrates lie"
        )
    return Found(None, per_mac, f"J/MAC, dynamic, at m={m}, k={k}, n={n}")


CHECKS: tuple[Check, ...] = (
    answered,
    cost_pure,
    cost_sane,
    installed,
    time_monotone,
    energy_monotone,
    ledger_adds_up,
    shape_only,
    recorded_counts,
    evaluation,
    held_bits,
    joules_per_mac,
)
