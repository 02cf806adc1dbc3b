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
    integrated = device.input_slices > 1 and device.input_coding == "integrated"
    for i in range(stack):
        for start in range(0, k, size):
            rows = slice(start, start + size)
            block = xp.ascontiguousarray(inputs[i, :, rows])
            scale = converters.scales(xp, block, periphery) if device.input_slices > 1 else None
            digits = _digits(device, block, scale)
            for digit, matrix in enumerate(flat):
                noise, common = noises[digit], offsets[digit] if offsets else None
                noise = None if noise is None else noise[i, rows]
                common = None if common is None else common.reshape(stack, k, -1)[i, rows]
                multiply, variance = _noisy(device, rng, matrix[i, rows], noise, common)
                # Slices lie in arrays of their own, and `lines` is that of all: one of them tells what is driven.
                counted = Driving(device, multiply) if digit == 0 and not integrated else None
                if scale is not None and not integrated:
                    out = _read_digits(device, rng, digits, counted or multiply, variance, periphery, backward)
                    out *= scale[:, None]
                else:
                    doing = counted or multiply
                    out = converters.read(xp, block, doing, periphery, rng, variance=variance, backward=backward)
                if digit == 0:
                    squares = counted.squares if counted else _integrated_squares(device, digits)
                    squared, weighted = squared + squares.sum(), weighted + squares @ lines[i, rows]
                y[i] += out if digit == 0 else out * xp.float32(2 ** (digit * device.slice_bits))
    return y.reshape(*leading, m, n), Driven(squared, weighted)


class Driving:
    """What an array does to its lines, and the squared inputs (1: full scale) summed over vectors and reads, [k].

    Reads that bound management repeats are counted too.
    """

    def __init__(self, device: Arrays, multiply: Multiply) -> None:
        self.device, self.multiply = device, multiply
        self.squares: Any = 0.0

    def __call__(self, line: Array) -> Array:
        driven = line if self.device.input_bound == 1 else line / self.device.input_bound
        self.squares = self.squares + self.device.xp.ones(len(line), dtype=line.dtype) @ (driven * driven)
        return self.multiply(line)


def _digits(device: Arrays, x: Array, scale: Array | None) -> list[Array]:
    """What x [m, k] is driven as, one array [m, k] a digit from the lowest, 1 at full scale; []: not in digits."""
    if scale is None:
        return []
    xp, bits, count, bound = device.xp, device.dac_bits, device.input_slices, device.input_bound
    whole = xp.rint(xp.clip(x / scale[:, None], -bound, bound) * ((2 ** (bits * count) - 1) / bound))
    sign, largest = xp.sign(whole), 2**bits - 1
    return [(sign * part / largest).astype(xp.float32) for part in converters.digits(xp, abs(whole), bits, count)]


def _integrated_squares(device: Arrays, digits: list[Array]) -> Array:
    """Squared inputs of integrated digits, of which each is sampled twice as often as the one before, [k]."""
    return sum(device.xp.square(line).sum(axis=0) * 2**place for place, line in enumerate(digits))


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
            serial = device.input_slices > 1 and device.input_coding == "serial"
            driven = _digits(device, block, scale if serial else None)
            for line in driven or [block / scale[:, None]]:
                for matrix in matrices:
                    y = line @ matrix.reshape(stack, k, n)[i, rows]
                    if bool((y != 0).any()):
                        bounds.append(converters.calibrated_bound(xp, y, device.output_percentile))
    return max(bounds, default=None)


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
