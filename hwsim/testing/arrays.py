"""Checks of the interface: shapes, refusals, what may be touched, where state lives, and array libraries."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import pickle
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

from hwsim.arrays import LIBRARIES, Array, namespace, to_host
from hwsim.contract import ACCUMULATION
from hwsim.cost import Elementwise
from hwsim.device import Device
from hwsim.errors import ShapeError
from hwsim.testing.bench import (
    STEP_RMS,
    Bench,
    Check,
    Failed,
    Found,
    HostArray,
    Skipped,
    activations_of,
    exact,
    normal,
    relative,
    require,
    same_bits,
    sequence,
    state_of,
    train,
    weights,
)
from hwsim.tile import Activation, Tile

HOUR_S, YEAR_S = 3600.0, 365 * 86400.0
DRIFTED = 4  # matrices that drift is tried on
MOST_DRIFT = 1.5  # of errors with an earlier drift over those without: four times five sigma of n = 1536 weights
LEAST_DRIFT = 1e-3  # RMS relative error below which no drift is told from rounding

# -- arrays in, arrays out ------------------------------------------------------------------------------


def shapes(bench: Bench) -> None:
    """Results have the shape and the working type that the interface says, for matrices of any size and for stacks."""
    device = bench.device
    dtype = np.dtype(device.policy.dtype(device.xp))
    for i, (stack, m, k, n) in enumerate([((), 1, 1, 1), ((), 4, 3, 5), ((), 2, 130, 70), ((3,), 2, 4, 6)]):
        tile = device.program(weights(device, *stack, k, n), name=f"shapes{i}")
        x, dy = normal(device, *stack, m, k), normal(device, *stack, m, n)
        results = {
            "forward": (tile.forward(x), (*stack, m, n)),
            "backward": (tile.backward(dy), (*stack, m, k)),
            "gradient": (tile.gradient(x, dy), (*stack, k, n)),
            "product": (device.multiply(x, tile.read(), ledger=tile.ledger), (*stack, m, n)),
        }
        tile.release(m)
        tile.update(normal(device, *stack, k, n, rms=STEP_RMS))
        if tile.updates_in_place:
            tile.update_outer(x, dy, STEP_RMS)
        results["read"] = tile.read(), (*stack, k, n)
        for name, (result, shape) in results.items():
            where = f"{name} of m={m}, w {[*stack, k, n]}"
            require(tuple(result.shape) == shape, f"{where}: shape {tuple(result.shape)}, needs {shape}")
            require(result.dtype == dtype, f"{where}: type {result.dtype}, needs {dtype}, the device's working type")
            require(bool(np.isfinite(to_host(result)).all()), f"{where}: NaN or infinite values")


def refused(tile: Tile, what: str, call: Callable[[], object]) -> None:
    """Require a ShapeError from `call`, before anything is charged or changed."""
    calls, state = dict(tile.ledger.calls), tile.save()
    try:
        call()
    except ShapeError:
        pass
    except Exception as error:
        raise Failed(f"{what}: {type(error).__name__} ({error}) where a ShapeError is needed") from error
    else:
        raise Failed(f"{what} was accepted")
    require(dict(tile.ledger.calls) == calls, f"{what} was charged before it was refused")
    require(not same_bits(state, tile.save()), f"{what} changed the tile before it was refused")


def wrong_shapes(bench: Bench) -> None:
    """Arrays of the wrong shape are refused with a ShapeError, before anything is charged."""
    device = bench.device
    tile = device.program(weights(device, 4, 3), name="wrong")
    x, dy = normal(device, 2, 4), normal(device, 2, 3)
    refused(tile, "forward of x with a column too many", lambda: tile.forward(normal(device, 2, 5)))
    refused(tile, "forward of a vector", lambda: tile.forward(x[0]))
    refused(tile, "forward of a stack on a single matrix", lambda: tile.forward(x.reshape(1, 2, 4)))
    refused(tile, "backward of dy with a column too few", lambda: tile.backward(dy[:, :2]))
    refused(tile, "gradient of x and dy with different rows", lambda: tile.gradient(x, dy[:1]))
    refused(tile, "update by a transposed step", lambda: tile.update(normal(device, 3, 4)))
    refused(tile, "update_outer of x and dy with different rows", lambda: tile.update_outer(x[:1], dy, 1.0))
    refused(tile, "programming a vector", lambda: device.program(x[0], name="vector", ledger=tile.ledger))


def not_finite(bench: Bench) -> None:
    """NaN and infinity are refused with a ShapeError in x, dy, w and steps, before anything is charged."""
    device = bench.device
    tile = device.program(weights(device, 4, 3), name="finite")
    x, dy, w = normal(device, 2, 4), normal(device, 2, 3), weights(device, 4, 3)
    for value in (math.nan, math.inf):
        bad_x, bad_dy, bad_w = x.copy(), dy.copy(), w.copy()
        for bad in (bad_x, bad_dy, bad_w):
            bad[-1, -1] = value
        refused(tile, f"{value} in x of forward", partial(tile.forward, bad_x))
        refused(tile, f"{value} in dy of backward", partial(tile.backward, bad_dy))
        refused(tile, f"{value} in x of gradient", partial(tile.gradient, bad_x, dy))
        refused(tile, f"{value} in dy of gradient", partial(tile.gradient, x, bad_dy))
        refused(tile, f"{value} in a step", partial(tile.update, bad_w))
        refused(tile, f"{value} in dy of update_outer", partial(tile.update_outer, x, bad_dy, 1.0))
        refused(tile, f"{value} in w", partial(device.program, bad_w, name="bad", ledger=tile.ledger))


def inputs_untouched(bench: Bench) -> None:
    """Operations leave their inputs as they were, keep no view of them, and hand out no view of the state."""
    device = bench.device
    given = {
        "w": weights(device, 4, 3),
        "x": normal(device, 2, 4),
        "dy": normal(device, 2, 3),
        "step": normal(device, 4, 3, rms=STEP_RMS),
    }
    tile = device.program(given["w"], name="untouched")
    operations: dict[str, Callable[[], Array | None]] = {
        "program": lambda: None,
        "forward": lambda: tile.forward(given["x"]),
        "backward": lambda: tile.backward(given["dy"]),
        "gradient": lambda: tile.gradient(given["x"], given["dy"]),
        "release": lambda: tile.release(2),
        "read": tile.read,
        "update": lambda: tile.update(given["step"]),
        "update_outer": lambda: tile.update_outer(given["x"], given["dy"], STEP_RMS),
        "product": lambda: device.multiply(given["x"], given["w"], ledger=tile.ledger),
    }
    before = {key: to_host(array).copy() for key, array in given.items()}
    for name, operation in operations.items():
        result = operation()
        changed = same_bits(before, given)
        require(not changed, f"{name} changed its input {changed}")
        state = tile.save()
        if result is not None:
            result += 1
            changed = same_bits(before, given)
            require(not changed, f"the result of {name} shares memory with its input {changed}")
            kept = same_bits(state, tile.save())
            require(not kept, f"the result of {name} shares memory with {kept}")
        for key, array in given.items():
            array += 1
            kept = same_bits(state, tile.save())
            require(not kept, f"after {name}, {kept} shares memory with the input {key}")
            array[...] = device.asarray(before[key])


def same_seed_same_bits(bench: Bench) -> None:
    """Two devices made alike give the same bits for the same sequence of operations."""
    differs = same_bits(sequence(bench.make()), sequence(bench.make()))
    require(not differs, f"{differs}: two devices made alike gave different bits")
    first, second = train(bench.make()).losses, train(bench.make()).losses
    require(first == second, f"two training runs alike had losses {first} and {second}")


def gradient_leaves_state(bench: Bench) -> None:
    """`gradient` does not touch the tile's state."""
    device = bench.device
    tile = device.program(weights(device, 4, 3), name="gradient")
    before = state_of(tile)
    tile.gradient(normal(device, 2, 4), normal(device, 2, 3))
    changed = same_bits(before, state_of(tile))
    require(not changed, f"gradient changed {changed}")


def empty_batch(bench: Bench) -> None:
    """A batch of no rows works: empty results, and a gradient of zeros."""
    device = bench.device
    tile = device.program(weights(device, 4, 3), name="empty")
    x, dy = normal(device, 0, 4), normal(device, 0, 3)
    results = {"forward": (tile.forward(x), (0, 3)), "backward": (tile.backward(dy), (0, 4))}
    results["gradient"] = gradient, _ = tile.gradient(x, dy), (4, 3)
    tile.release(0)
    for name, (result, shape) in results.items():
        require(tuple(result.shape) == shape, f"{name} of no rows: shape {tuple(result.shape)}, needs {shape}")
    require(not to_host(gradient).any(), "the gradient of no rows is not zero")


# -- a nonlinearity of its own --------------------------------------------------------------------------


def own_activation(device: Device, n: int) -> Activation:
    """The substrate's own nonlinearity, or Skipped."""
    if device.uses(Elementwise("device", n, 0, 0, 0)) is None:
        raise Skipped("the device has no activation of its own")
    return device.activation(n, name="own")


def own_activation_shapes(bench: Bench) -> None:
    """The device's own activation keeps shapes and inputs, and gives gradients of parameters it has."""
    activation = own_activation(bench.device, 6)
    x, dy = normal(bench.device, 4, 6), normal(bench.device, 4, 6, key="dy")
    given = {"x": to_host(x).copy(), "dy": to_host(dy).copy()}
    y, saved = activation.forward(x)
    dx, gradients = activation.backward(saved, dy)
    changed = same_bits(given, {"x": x, "dy": dy})
    require(not changed, f"the activation changed its input {changed}")
    for name, result in (("y", y), ("dx", dx)):
        require(tuple(result.shape) == (4, 6), f"{name} has shape {tuple(result.shape)}, needs (4, 6)")
    for name, gradient in gradients.items():
        require(name in activation.state, f"there is a gradient of {name!r}, which is not in activation.state")
        shape, needed = tuple(gradient.shape), tuple(activation.state[name].shape)
        require(shape == needed, f"the gradient of {name!r} has shape {shape}, needs {needed}")
    for kind in ("device", "device_backward"):
        who = bench.device.who(Elementwise(kind, 24, 0, 0, 0))
        require(who is bench.device, f"the device does not answer Elementwise({kind!r}) itself")


def own_activation_differences(bench: Bench) -> Found:
    """The derivative of the device's own activation is its slope, by central differences with equal noise."""
    own_activation(bench.device, 6)
    device, h = bench.make(), 1 / 64
    x, dy = normal(device, 4, 6), normal(device, 4, 6, key="dy")

    def forward(shift: float) -> HostArray:
        # A new device made alike draws the same noise: only the shift differs.
        return exact(own_activation(bench.make(), 6).forward(x + shift)[0])

    activation = own_activation(device, 6)
    dx = exact(activation.backward(activation.forward(x)[1], dy)[0])
    measured = math.sqrt(relative(dx, (forward(h) - forward(-h)) / (2 * h) * exact(dy)))
    claimed = 0.02 + bench.contract.backward
    if not measured <= claimed:
        raise Failed(
            f"dx misses the slope of the activation by {measured:.3g} of its RMS, more than {claimed:.3g}",
            claimed,
            measured,
        )
    return Found(claimed, measured)


# -- state ----------------------------------------------------------------------------------------------


def state_on_tiles(bench: Bench) -> None:
    """Devices are immutable: operations and costing leave nothing on the instance but cached properties."""
    device = bench.make()
    before = attributes(device)
    sequence(device)
    for activation in activations_of(device):
        train(device, activation=activation)
    after = attributes(device)
    for name in sorted(before.keys() | after.keys()):
        require(name in before, f"operations left a new attribute {name!r} on the device; state belongs in tile.state")
        require(name in after and alike(before[name], after[name]), f"operations changed the device's {name!r}")


def attributes(device: Device) -> dict[str, Any]:
    """A deep copy of what is stored on the instance and is no cached property."""
    cached = {
        key for cls in type(device).__mro__ for key, value in vars(cls).items() if isinstance(value, cached_property)
    }
    kept = {key: value for key, value in vars(device).items() if key not in cached}
    return {key: value if isinstance(value, Device) else copy.deepcopy(value) for key, value in kept.items()}


def alike(a: Any, b: Any) -> bool:
    """Equality, of arrays, of containers, and of objects that only pickling can compare (generators, for one)."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if hasattr(a, "shape") or hasattr(b, "shape"):
        return not same_bits({"": a}, {"": b})
    plain = all(vars(cls).get("__eq__") is None for cls in type(a).__mro__[:-1])
    if plain and type(a) is type(b):
        return pickle.dumps(a) == pickle.dumps(b)
    return bool(a == b)


def pickling(bench: Bench) -> None:
    """A pickled device has the same parameters, the same costs and the same bits."""
    device = bench.make()
    copied = pickle.loads(pickle.dumps(device))
    require(type(copied) is type(device), f"a pickled {type(device).__name__} came back as {type(copied).__name__}")
    for field in dataclasses.fields(device):
        old, new = getattr(device, field.name), getattr(copied, field.name)
        same = old.spec == new.spec if isinstance(old, Device) and isinstance(new, Device) else alike(old, new)
        require(same, f"parameter {field.name} was {old!r} and came back as {new!r}")
    require(copied.spec == device.spec, f"{device.spec} came back as {copied.spec}")
    require(dict(copied.components) == dict(device.components), "the components differ after pickling")
    differs = same_bits(sequence(device), sequence(copied))
    require(not differs, f"{differs}: a pickled device gave other bits")


def checkpoint(bench: Bench) -> None:
    """A tile saves arrays and numbers, and a new tile on a new device that loads them goes on with the same bits."""
    device = bench.make()
    tile = device.program(weights(device, 7, 5), name="sequence")
    sequence(device, tile)
    tile.drift(HOUR_S)
    before = tile.save()
    for key, value in before.items():
        plain = isinstance(value, int | float | np.number) or (
            isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        )
        require(plain, f"{key} is {type(value).__name__}; state must be arrays and numbers, so that it can be saved")
    file = io.BytesIO()
    np.savez(file, **before)
    file.seek(0)
    saved = dict(np.load(file, allow_pickle=False))
    other = bench.make()
    loaded = other.program(weights(other, 7, 5, key="other"), name="sequence")
    loaded.load(saved)
    differs = same_bits(before, loaded.save())
    require(not differs, f"{differs} differs after loading what was saved")
    for each in (tile, loaded):
        each.drift(YEAR_S)  # which counts from the same programming
    differs = same_bits(tile.save(), loaded.save())
    require(not differs, f"{differs} differs after a year on a tile that was saved and loaded after an hour")
    differs = same_bits(sequence(device, tile), sequence(other, loaded))
    require(not differs, f"{differs} differs on a tile that was saved and loaded: something is kept outside tile.state")


def drift_from_programming(bench: Bench) -> None:
    """Drift counts from programming: weights stay finite, and those of time 0 do not know of a year before it."""
    device, errors = bench.device, {"no other": 0.0, "another": 0.0}
    for i in range(DRIFTED):
        w = weights(device, 24, 16, key=i)
        for before in errors:
            tile = device.program(w, name=f"drift{i}")  # one name, and so one programming, for both
            if before == "another":
                tile.drift(YEAR_S)
                require(bool(np.isfinite(to_host(tile.read())).all()), "after a year a weight is NaN or infinite")
            tile.drift(0)
            errors[before] += relative(exact(tile.read()), exact(w))
    once, again = (math.sqrt(error / DRIFTED) for error in errors.values())
    require(
        again <= max(MOST_DRIFT * once, LEAST_DRIFT),
        f"weights at time 0 are off by {once:.3g} of their RMS, and by {again:.3g} if drift to a year went before: "
        "keep the state as it was programmed apart, in tile.state, and start from it",
    )


# -- array libraries ------------------------------------------------------------------------------------


def array_libraries(bench: Bench) -> Found:
    """The device runs on every array library that works here, with the results that it has on NumPy."""
    reference = on_library(bench.make(), "numpy")
    wanted = sequence(reference) | {"losses": np.array(train(reference).losses)}
    compared, missing, largest = [], [], 0.0
    for name in LIBRARIES:
        if name == "numpy":
            continue
        if reason := unusable(name):
            missing.append(f"{name}: {reason}")
            continue
        device = on_library(bench.make(), name)
        found = sequence(device) | {"losses": np.array(train(device).losses)}
        compared.append(name)
        for key, value in found.items():
            require(
                value.shape == wanted[key].shape,
                f"{key}: shape {value.shape} with {name}, {wanted[key].shape} with numpy",
            )
            if not bench.contract.deterministic:
                continue  # other generators, other draws
            error = math.sqrt(relative(value.astype(float), wanted[key].astype(float)))
            largest = max(largest, error)
            limit = ACCUMULATION + 0.1 * reference.policy.output.unit_roundoff
            require(error <= limit, f"{key}: {name} and numpy differ by {error:.3g} RMS, more than {limit:.3g}")
    if not compared:
        raise Skipped("; ".join(missing) or "no other array library is known")
    return Found(None, largest if bench.contract.deterministic else None, f"numpy and {', '.join(compared)}")


def unusable(library: str) -> str:
    """Why an array library cannot be used here; empty where it can."""
    try:
        xp = namespace(library)
        xp.zeros(1).sum()
    except Exception as error:
        return str(error).partition(";")[0] or type(error).__name__
    return ""


def on_library(device: Device, library: str) -> Device:
    """The same device, and a host that is given as a device, on another array library."""
    host = device.host
    if isinstance(host, Device):
        host = on_library(host, library)
    return dataclasses.replace(device, array=library, host=host)


CHECKS: tuple[Check, ...] = (
    shapes,
    wrong_shapes,
    not_finite,
    inputs_untouched,
    same_seed_same_bits,
    gradient_leaves_state,
    empty_batch,
    own_activation_shapes,
    own_activation_differences,
    state_on_tiles,
    pickling,
    checkpoint,
    drift_from_programming,
    array_libraries,
)
