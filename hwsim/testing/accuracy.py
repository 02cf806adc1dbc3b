"""Checks of the accuracy: errors of every product and move that fit the contract, and the identities between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

from hwsim.arrays import Array, generator, key_of, to_host
from hwsim.contract import ACCUMULATION, Contract
from hwsim.cost import Kind, Product
from hwsim.device import Device
from hwsim.ledger import Ledger
from hwsim.testing.bench import (
    SIGMAS,
    STEP_RMS,
    Bench,
    Check,
    Failed,
    Found,
    HostArray,
    Skipped,
    exact,
    forward,
    normal,
    relative,
    weights,
)
from hwsim.testing.moves import moved, of_the_step
from hwsim.tile import Tile

LOOSEST = 10  # a claim may be this many times what is measured
CLAIM_SIZE = (16, 48, 32)  # m, k, n
CLAIM_TILES = 24  # sigma of a measured error comes from so many tiles
SLOPE_TILES = 12  # whose moves are compared with their steps
MOST_OF_THE_WAY = 0.75  # that a step of half the weights has to go
BIAS_SIZE = (4, 6, 5)
BIAS_TILES = 256


class Error(NamedTuple):
    """Mean square relative error over tiles, and the standard error of that mean."""

    mean: float
    sigma: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Error:
        """From one mean square error per tile."""
        array = np.asarray(values)
        return cls(float(array.mean()), float(array.std(ddof=1)) / math.sqrt(len(array)))

    def rms(self, sigmas: float = 0) -> float:
        """The RMS error, so many standard errors up or down."""
        return math.sqrt(max(self.mean + sigmas * self.sigma, 0.0))


def not_exceeded(what: str, error: Error, claim: float) -> Found:
    """Require a measured error that is not above its claim; the simulator's own rounding is free."""
    if not error.rms(-SIGMAS) <= claim + ACCUMULATION:  # NaN is not either
        raise Failed(
            f"{what}: RMS relative error {error.rms():.3g} exceeds the claimed {claim:.3g} "
            f"({SIGMAS} sigma of n = {CLAIM_TILES} tiles allowed)",
            claim,
            error.rms(),
        )
    return Found(claim, error.rms())


def judged(what: str, error: Error, contract: Contract, claim: float) -> Found:
    """Require a measured error that is neither above its claim nor, unless that is a rounding bound, far below it."""
    found = not_exceeded(what, error, claim)
    if not contract.rounding_bound and claim > LOOSEST * max(error.rms(SIGMAS), ACCUMULATION):
        raise Failed(
            f"{what}: the claimed {claim:.3g} is more than {LOOSEST} times the measured {error.rms():.3g} "
            f"({SIGMAS} sigma of n = {CLAIM_TILES} tiles allowed); claim what the device does, or say rounding_bound",
            claim,
            error.rms(),
        )
    return found


def problems(device: Device) -> Iterator[tuple[Tile, Array, Array, Array]]:
    """Tiles with their exact weights, x and dy, for measuring errors."""
    m, k, n = CLAIM_SIZE
    for i in range(CLAIM_TILES):
        w = weights(device, k, n, key=i)
        yield device.program(w, name=f"claim{i}"), w, normal(device, m, k, key=i), normal(device, m, n, key=i)


def claim_forward(bench: Bench) -> Found:
    """The measured error of `forward` fits the contract."""
    values = [relative(exact(forward(t, x)), exact(x) @ exact(w)) for t, w, x, _ in problems(bench.device)]
    return judged("forward", Error.of(values), bench.contract, bench.contract.forward)


def claim_backward(bench: Bench) -> Found:
    """The measured error of `backward` fits the contract."""
    values = [relative(exact(t.backward(dy)), exact(dy) @ exact(w).T) for t, w, _, dy in problems(bench.device)]
    return judged("backward", Error.of(values), bench.contract, bench.contract.backward)


def claim_gradient(bench: Bench) -> Found:
    """The measured error of `gradient` fits the contract of whoever does it: the device or its host."""
    contract = doer_of(bench.device, Kind.GRADIENT).contract
    values = [relative(exact(t.gradient(x, dy)), exact(x).T @ exact(dy)) for t, _, x, dy in problems(bench.device)]
    return judged("gradient", Error.of(values), contract, contract.gradient)


def claim_product(bench: Bench) -> Found:
    """The error of a product of two changing operands is not above the forward claim of whoever does it."""
    contract, device = doer_of(bench.device, Kind.PRODUCT).contract, bench.device
    m, k, n = CLAIM_SIZE
    values, ledger = [], Ledger()
    for i in range(CLAIM_TILES):
        w, x = weights(device, k, n, key=i), normal(device, m, k, key=i)
        values.append(relative(exact(device.multiply(x, w, ledger=ledger)), exact(x) @ exact(w)))
    return not_exceeded("product", Error.of(values), contract.forward)


def doer_of(device: Device, kind: Kind) -> Device:
    """Who does a product of this kind."""
    m, k, n = CLAIM_SIZE
    return device.who(Product(kind, m, k, n))


def claim_update(bench: Bench) -> Found:
    """The measured error of `update`, relative to the step, fits the contract."""
    values = []
    for i, (tile, w, _, _) in enumerate(problems(bench.device)):
        step = normal(bench.device, *w.shape, rms=STEP_RMS, key=("step", i))
        values.append(moved(tile, exact(step), partial(tile.update, step)))
    return judged("update", Error.of(values), bench.contract, of_the_step(bench.contract.update, bench.contract))


def claim_update_outer(bench: Bench) -> Found:
    """The measured error of `update_outer`, where the device has it, fits the contract (its own claim, or update's)."""
    contract, values = bench.contract, []
    for tile, _, x, dy in problems(bench.device):
        if not tile.updates_in_place:
            raise Skipped("the device has no update_outer")
        scale = STEP_RMS / math.sqrt(CLAIM_SIZE[0])
        step = scale * exact(x).T @ exact(dy)
        values.append(moved(tile, step, partial(tile.update_outer, x, dy, scale)))
    if contract.update_outer is None:
        return not_exceeded("update_outer", Error.of(values), of_the_step(contract.update, contract))
    return judged("update_outer", Error.of(values), contract, of_the_step(contract.update_outer, contract))


def moves_forward(bench: Bench) -> Found:
    """On average, moves do not go against their steps, however noisy they are, and long ones go most of the way."""
    device, scale = bench.device, STEP_RMS / math.sqrt(CLAIM_SIZE[0])
    slopes: dict[str, list[float]] = {"update": [], "a long update": [], "update_outer": []}
    for i, (tile, w, x, dy) in enumerate(islice(problems(device), SLOPE_TILES)):
        step = normal(device, *w.shape, rms=STEP_RMS, key=("step", i))
        slopes["update"].append(slope(tile, exact(step), partial(tile.update, step)))
        back = -exact(tile.read()) / 2  # half-way to zero, where all weights have room
        slopes["a long update"].append(slope(tile, back, partial(tile.update, device.asarray(back))))
        if tile.updates_in_place:
            outer = scale * exact(x).T @ exact(dy)
            slopes["update_outer"].append(slope(tile, outer, partial(tile.update_outer, x, dy, scale)))
    smallest = math.inf
    for way, found in slopes.items():
        if not found:
            continue
        least = MOST_OF_THE_WAY if way == "a long update" else 0.0
        mean, sigma = float(np.mean(found)), float(np.std(found, ddof=1)) / math.sqrt(len(found))
        smallest = min(smallest, mean)
        if not mean + SIGMAS * sigma >= least:
            raise Failed(
                f"{way}: weights move by {mean:.3g} of the step on average; needs {least:.2g} at least "
                f"({SIGMAS} sigma of n = {len(found)} tiles: {SIGMAS * sigma:.2g})",
                least,
                mean,
            )
    return Found(None, smallest)


def slope(tile: Tile, step: HostArray, move: Callable[[], None]) -> float:
    """How far a move went along the step that was asked for, over the length of that."""
    before = exact(tile.read())
    move()
    return float(((exact(tile.read()) - before) * step).sum() / (step**2).sum())


def adjoint(bench: Bench) -> Found:
    """`backward` is the transpose of `forward`: <x W, dy> = <x, dy W'> within the contract."""
    contract = bench.contract
    values: list[float] = []
    allowed: list[float] = []
    for tile, _, x, dy in problems(bench.device):
        y, dx = exact(forward(tile, x)), exact(tile.backward(dy))
        size = float(np.linalg.norm(y))
        difference = float((y * exact(dy)).sum() - (exact(x) * dx).sum()) / size
        # An error e of y enters as <e, dy>, whose standard deviation for dy of RMS 1 is |e|; likewise for dx.
        ratio = float(np.linalg.norm(dx)) / size
        expected = math.hypot(contract.forward, contract.backward * ratio) + ACCUMULATION * (1 + ratio)
        values.append(difference**2)
        allowed.append(expected**2)
    measured, claimed = math.sqrt(np.mean(values)), math.sqrt(np.mean(allowed))
    # The mean of n squares of standard normals is 1 with a standard deviation of sqrt(2 / n).
    limit = claimed * math.sqrt(1 + SIGMAS * math.sqrt(2 / CLAIM_TILES))
    if not measured <= limit:
        raise Failed(
            f"<x W, dy> and <x, dy W'> differ by {measured:.3g} of |x W|; the contract allows {claimed:.3g} "
            f"({SIGMAS} sigma of n = {CLAIM_TILES} tiles: {limit:.3g})",
            claimed,
            measured,
        )
    return Found(claimed, measured)


def gradient_differences(bench: Bench) -> Found:
    """`gradient` is the slope of L = <dy, x W> along a random direction, by central differences in double precision."""
    contract = doer_of(bench.device, Kind.GRADIENT).contract
    values, h = [], 0.5  # L is linear in W: any step will do
    for i, (tile, w, x, dy) in enumerate(problems(bench.device)):
        direction = generator(np, key_of("check", "direction", i)).standard_normal(w.shape)
        up, down = ((exact(dy) * (exact(x) @ (exact(w) + s * h * direction))).sum() for s in (1, -1))
        slope, gradient = (up - down) / (2 * h), exact(tile.gradient(x, dy))
        values.append(float((gradient * direction).sum() - slope) ** 2 / float((gradient**2).sum()))
    measured, claimed = math.sqrt(np.mean(values)), contract.gradient
    limit = (claimed + ACCUMULATION) * math.sqrt(1 + SIGMAS * math.sqrt(2 / CLAIM_TILES))
    if not measured <= limit:
        raise Failed(
            f"the gradient misses the slope of <dy, x W> by {measured:.3g} of its size; the contract allows "
            f"{claimed:.3g} ({SIGMAS} sigma of n = {CLAIM_TILES} tiles: {limit:.3g})",
            claimed,
            measured,
        )
    return Found(claimed, measured)


def noise_free(bench: Bench) -> Found:
    """Without noise, `forward` is the NumPy product of the rounded operands, rounded to the output format."""
    contract, device = bench.contract, bench.device
    if not (contract.deterministic and contract.rounding_bound):
        raise Skipped("the contract is no rounding bound of a deterministic device")
    policy, values = device.policy, []
    for tile, w, x, _ in problems(device):
        rounded = policy.quantize_values(np, policy.master.round(np, to_host(w)), axis=-2)
        wanted = policy.quantize_values(np, to_host(x)) @ rounded
        wanted = policy.round_output(np, wanted)
        values.append(relative(exact(forward(tile, x)), wanted.astype(np.float64)))
    # Sums in another order may round another way where they are close to a tie: one result in ten at the very most.
    measured, limit = math.sqrt(np.mean(values)), ACCUMULATION + 0.1 * policy.output.unit_roundoff
    if not measured <= limit:
        raise Failed(
            f"forward differs from NumPy in {policy.name} by {measured:.3g} RMS, more than {limit:.3g}", limit, measured
        )
    return Found(limit, measured)


def bias(bench: Bench) -> Found:
    """The mean error of many tiles alike, an RMS over elements relative to the result's, fits the contract."""
    device, contract = bench.device, bench.contract
    m, k, n = BIAS_SIZE
    w, x, dy = weights(device, k, n, key="bias"), normal(device, m, k, key="bias"), normal(device, m, n, key="bias")
    step = normal(device, k, n, rms=STEP_RMS, key="bias")
    wanted = {
        "forward": exact(x) @ exact(w),
        "backward": exact(dy) @ exact(w).T,
        "gradient": exact(x).T @ exact(dy),
        "update": exact(step),
    }
    errors: dict[str, list[HostArray]] = {name: [] for name in wanted}
    for i in range(BIAS_TILES):
        tile = device.program(w, name=f"bias{i}")
        found = {"forward": forward(tile, x), "backward": tile.backward(dy), "gradient": tile.gradient(x, dy)}
        results = {name: exact(array) for name, array in found.items()}
        before = exact(tile.read())
        tile.update(step)
        results["update"] = exact(tile.read()) - before
        for name, result in results.items():
            errors[name].append((result - wanted[name]) / math.sqrt((wanted[name] ** 2).mean()))
    claims = dict.fromkeys(wanted, contract.bias)
    claims["gradient"] = max(contract.bias, doer_of(device, Kind.GRADIENT).contract.bias)
    if contract.rounding_bound:
        claims["update"] = max(contract.bias, of_the_step(contract.update, contract))
    largest = 0.0
    for name, by_tile in errors.items():
        mean = math.sqrt((np.mean(by_tile, axis=0) ** 2).mean())
        noise = math.sqrt(np.var(by_tile, axis=0, ddof=1).mean() / BIAS_TILES)  # what noise alone leaves of the mean
        value = math.sqrt(max(mean**2 - noise**2, 0.0))
        largest = max(largest, value)
        if not mean <= claims[name] + SIGMAS * noise + ACCUMULATION:
            raise Failed(
                f"{name}: mean error {value:.3g} of the result's RMS exceeds the claimed {claims[name]:.3g} "
                f"({SIGMAS} sigma of n = {BIAS_TILES} tiles: {SIGMAS * noise:.2g})",
                claims[name],
                value,
            )
    return Found(contract.bias, largest)


CHECKS: tuple[Check, ...] = (
    claim_forward,
    claim_backward,
    claim_gradient,
    claim_product,
    claim_update,
    claim_update_outer,
    moves_forward,
    adjoint,
    gradient_differences,
    noise_free,
    bias,
)
