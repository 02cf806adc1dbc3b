"""One read of a tile: inputs cut into digits, rows cut into arrays, through DAC and ADC, and added up in digital."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from hwsim.arrays import Array
from hwsim.devices.crossbar import converters
from hwsim.devices.crossbar.counter import draw_key, normals
from hwsim.devices.crossbar.device import Arrays

Multiply = Callable[[Array], Array]


class Driven(NamedTuple):
    """What a read drove: the sums of squared inputs (1: full scale) over lines, and of those times conductance [S]."""

    lines: Array | float = 0.0
    siemens: Array | float = 0.0


def read(
    device: Arrays,
    rng: Any,
    x: Array,
    matrices: Sequence[Array],
    variances: Sequence[Array | None],
    siemens: Array,
    *,
    backward: bool,
) -> tuple[Array, Driven]:
    """x [..., m, k] through slices `matrices` [..., k, n]: y [..., m, n] in states of the lowest slice.

    `variances` [..., k, n], where not None, are those of the cells' read noise; `siemens` [.., k] is the conductance on
    every input line.
    """
    xp, (*leading, k, n) = device.xp, matrices[0].shape
    stack, m, size = math.prod(leading), x.shape[-2], device.columns if backward else device.rows
    y, squared, weighted = xp.zeros((stack, m, n), dtype=xp.float32), 0.0, 0.0
    inputs, lines = x.reshape(stack, m, k), siemens.reshape(stack, k)
    flat = [matrix.reshape(stack, k, n) for matrix in matrices]
    noises = [None if variance is None else variance.reshape(stack, k, n) for variance in variances]
    for i in range(stack):
        for start in range(0, k, size):
            rows = slice(start, start + size)
            block = xp.ascontiguousarray(inputs[i, :, rows])
            scale = converters.scales(xp, block, device.periphery)
            digits = _digits(device, block, scale)
            squares = _squares(device, block, scale, digits)
            squared, weighted = squared + squares.sum(), weighted + squares @ lines[i, rows]
            for digit, matrix in enumerate(flat):
                noise = noises[digit]
                noise = None if noise is None else noise[i, rows]
                out = _read_array(device, rng, block, scale, digits, matrix[i, rows], noise, backward)
                y[i] += out if digit == 0 else out * xp.float32(2 ** (digit * device.slice_bits))
    return y.reshape(*leading, m, n), Driven(squared, weighted)


def _digits(device: Arrays, x: Array, scale: Array) -> list[Array]:
    """What x [m, k] is driven as, one array [m, k] a digit from the lowest, 1 at full scale; []: not in digits."""
    if device.input_slices == 1:
        return []
    xp, bits, count, bound = device.xp, device.dac_bits, device.input_slices, device.input_bound
    whole = xp.rint(xp.clip(x / scale[:, None], -bound, bound) * ((2 ** (bits * count) - 1) / bound))
    sign, largest = xp.sign(whole), 2**bits - 1
    return [(sign * part / largest).astype(xp.float32) for part in converters.digits(xp, abs(whole), bits, count)]


def _squares(device: Arrays, x: Array, scale: Array, digits: list[Array]) -> Array:
    """Squared inputs as they are driven, summed over vectors and reads, [k]."""
    xp = device.xp
    if not digits:
        line = x * (1 / scale)[:, None]  # scaled first: the square of a small scale would underflow
        return xp.ones(len(x), dtype=xp.float32) @ (line * line)
    repeats = [2**place if device.input_coding == "integrated" else 1 for place in range(len(digits))]
    return sum(xp.square(line).sum(axis=0) * times for line, times in zip(digits, repeats, strict=True))


def _read_array(
    device: Arrays,
    rng: Any,
    x: Array,
    scale: Array,
    digits: list[Array],
    states: Array,
    variance: Array | None,
    backward: bool,
) -> Array:
    """One array: x [m, k] through `states` [k, n]. Each digit of the inputs is a read, converted and then shifted."""
    xp = device.xp
    multiply, noise = _noisy(device, rng, states, variance)
    if not digits or device.input_coding == "integrated":
        return converters.read(xp, x, multiply, device.periphery, rng, variance=noise, backward=backward)
    y = xp.zeros((len(x), states.shape[1]), dtype=xp.float32)
    for place, line in enumerate(digits):
        out = converters.read(xp, line, multiply, device.slice_periphery, rng, variance=noise, backward=backward)
        y += out * xp.float32(2 ** (place * device.dac_bits))
    unit = device.input_bound * (2**device.dac_bits - 1) / (2 ** (device.dac_bits * device.input_slices) - 1)
    return y * (scale[:, None] * xp.float32(unit))


def _noisy(device: Arrays, rng: Any, states: Array, variance: Array | None) -> tuple[Multiply, Multiply | None]:
    """What the array does to a line [m, k], and the variance of that; by how `read_noise` is shared among vectors.

    "vector": fresh for every vector, by its variance at the output, which is the same distribution. "batch": one draw
    for all vectors of a read, as slow (1/f) noise has it. "resampled": "vector", every cell drawn for every vector.
    """
    xp = device.xp
    if variance is None:
        return partial(times, states), None
    if device.read_noise == "vector":
        return partial(times, states), partial(converters.read_variance, sigma_squared=variance)
    sigma = xp.sqrt(variance)
    if device.read_noise == "batch":
        return partial(times, states + sigma * normals(xp, draw_key(rng), states.shape)), None
    return lambda line: converters.read_resampled(xp, line, states, sigma, rng), None


def times(states: Array, line: Array) -> Array:
    """What an array does: line [m, k] @ states [k, n]."""
    return line @ states
