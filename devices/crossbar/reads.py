"""One read of a tile: inputs cut into digits, rows cut into arrays, through DAC and ADC, and added up in digital."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from hwsim.arrays import Array
from hwsim.devices.crossbar import converters
from hwsim.devices.crossbar.converters import Converter, Periphery
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
    offsets: Sequence[Array | None] = (),
    backward: bool,
    periphery: Periphery,
) -> tuple[Array, Driven]:
    """x [..., m, k] through slices `matrices` [..., k, n]: y [..., m, n] in states of the lowest slice.

    `variances` [..., k, n], where not None, are those of the cells' read noise, `offsets` [..., k, arrays] those of
    offset columns, whose noise all columns of an array share; `siemens` [.., k] is the conductance on every input line.
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
            scale = converters.scales(xp, block, periphery)
            digits = _digits(device, block, scale)
            squares = _squares(device, block, scale, digits)
            squared, weighted = squared + squares.sum(), weighted + squares @ lines[i, rows]
            for digit, matrix in enumerate(flat):
                noise = noises[digit]
                noise = None if noise is None else noise[i, rows]
                common = offsets[digit] if offsets else None
                common = None if common is None else common.reshape(stack, k, -1)[i, rows]
                multiply, variance = _noisy(device, rng, matrix[i, rows], noise, common)
                if digits and device.input_coding == "serial":
                    out = _read_digits(device, rng, digits, multiply, variance, periphery, backward) * scale[:, None]
                else:
                    out = converters.read(xp, block, multiply, periphery, rng, variance=variance, backward=backward)
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
        bound = device.input_bound
        line = xp.clip(x * (1 / scale)[:, None], -bound, bound) * xp.float32(
            1 / bound
        )  # scaled first: the square of a small scale would underflow
        return xp.ones(len(x), dtype=xp.float32) @ (line * line)
    repeats = [2**place if device.input_coding == "integrated" else 1 for place in range(len(digits))]
    return sum(xp.square(line).sum(axis=0) * times for line, times in zip(digits, repeats, strict=True))


def _read_digits(
    device: Arrays,
    rng: Any,
    digits: list[Array],
    multiply: Multiply,
    variance: Multiply | None,
    periphery: Periphery,
    backward: bool,
) -> Array:
    """Each digit of the inputs is a read of its own, converted, and then shifted and added; inputs 1 at full scale."""
    xp, total = device.xp, 0
    as_driven = replace(periphery, dac=Converter(), noise_management="none", bound_management="none")
    for place, line in enumerate(digits):
        out = converters.read(xp, line, multiply, as_driven, rng, variance=variance, backward=backward)
        total = total + out * xp.float32(2 ** (place * device.dac_bits))
    whole = 2 ** (device.dac_bits * device.input_slices) - 1
    return total * xp.float32(device.input_bound * (2**device.dac_bits - 1) / whole)


def range_of(device: Arrays, x: Array, matrices: Sequence[Array], *, backward: bool) -> float | None:
    """The range that holds `output_percentile` of the outputs of x, over all arrays and slices; None: all are 0."""
    xp, (*leading, k, n) = device.xp, matrices[0].shape
    stack, m, size = math.prod(leading), x.shape[-2], device.columns if backward else device.rows
    inputs, bounds = x.reshape(stack, m, k), []
    for i in range(stack):
        for start in range(0, k, size):
            rows = slice(start, start + size)
            block = xp.ascontiguousarray(inputs[i, :, rows])
            scale = converters.scales(xp, block, device.periphery)
            driven = _digits(device, block, scale) if device.input_coding == "serial" else []
            for line in driven or [block / scale[:, None]]:
                for matrix in matrices:
                    y = line @ matrix.reshape(stack, k, n)[i, rows]
                    if bool((y != 0).any()):
                        bounds.append(float(xp.percentile(xp.abs(y), device.output_percentile)))
    return max(bounds, default=0.0) or None


def _noisy(
    device: Arrays, rng: Any, states: Array, variance: Array | None, common: Array | None
) -> tuple[Multiply, Multiply | None]:
    """What the array does to a line [m, k], and the variance of that; by how `read_noise` is shared among vectors.

    "vector": fresh for every vector, by its variance at the output, which is the same distribution. "batch": one draw
    for all vectors of a read, as slow (1/f) noise has it. "resampled": "vector", every cell drawn for every vector.
    `common` [k, arrays] is the variance of offset columns.
    """
    xp, kind = device.xp, device.read_noise
    if variance is None or kind == "none":
        return partial(times, states), None
    sigma, width = xp.sqrt(variance), states.shape[1]
    if kind == "batch":
        drawn = states + sigma * normals(xp, draw_key(rng), states.shape)
        if common is not None:
            drawn = drawn - spread(device, xp.sqrt(common) * normals(xp, draw_key(rng), common.shape), width)
        return partial(times, drawn), None

    def multiply(line: Array) -> Array:
        y = line @ states if kind == "vector" else converters.read_resampled(xp, line, states, sigma, rng)
        if common is not None:
            of_arrays = xp.sqrt(converters.read_variance(line, common))
            y -= spread(device, of_arrays * normals(xp, draw_key(rng), of_arrays.shape), width)
        return y

    return multiply, partial(converters.read_variance, sigma_squared=variance) if kind == "vector" else None


def spread(device: Arrays, of_arrays: Array, width: int) -> Array:
    """What each array's column adds to all of its columns: [m, arrays] -> [m, width]."""
    return device.xp.repeat(of_arrays, device.columns, axis=-1)[:, :width]


def times(states: Array, line: Array) -> Array:
    """What an array does: line [m, k] @ states [k, n]."""
    return line @ states
