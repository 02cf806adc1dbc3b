"""Block-scaled formats: elements and scales against ml_dtypes, a slow reference in fractions, and the specification.

The sentences of the specification that the hand-computed cases follow (OCP MX 1.0, section 6.3): the scale is the
largest power of two that is not above the largest magnitude of the block, divided by the largest power of two of the
element format; elements are the values over the scale, rounded to nearest even, and those beyond the largest element
become that. The specification gives no block with its scale and elements: the blocks here are worked out by hand.
"""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import arrays, registry
from hwsim.errors import ConfigError
from hwsim.formats import number_format
from hwsim.ledger import Ledger
from hwsim.microscaling import Microscaling, NvidiaScaling, block_scaled, per_block
from hwsim.precision import Policy, policy
from hwsim.testing import Outcome, run
from hwsim.testing.bench import Bench

ELEMENTS = {
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
}
BITS = {"fp8_e4m3": 8, "fp8_e5m2": 8, "fp6_e2m3": 6, "fp6_e3m2": 6, "fp4_e2m1": 4}
MX, NV = Microscaling(), NvidiaScaling()
POLICIES = ("mxfp8", "mxfp6", "mxfp4", "nvfp4")


def values_of(name):
    """Every finite value of an element format, rising, one zero, as ml_dtypes decodes the codes."""
    with np.errstate(invalid="ignore"):
        values = np.arange(2 ** BITS[name], dtype=np.uint8).view(ELEMENTS[name]).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def saturated(x, name):
    """x in an element format, overflow to its largest value, as the reference library rounds."""
    largest = values_of(name)[-1]
    return np.clip(x, -largest, largest).astype(ELEMENTS[name]).astype(np.float32)


def random_patterns(shape, seed=1):
    """float32 values with every bit random, without NaN and infinity."""
    x = np.random.default_rng(seed).integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
    return np.where(np.isfinite(x), x, np.float32(0))


def same_bits(a, b):
    """Equal bit for bit; any NaN equals any NaN."""
    nan = np.isnan(b)
    return np.array_equal(np.isnan(a), nan) and np.array_equal(a.view(np.uint32)[~nan], b.view(np.uint32)[~nan])


# Elements


@pytest.mark.parametrize("name", ELEMENTS)
def test_elements_are_those_of_the_reference_library(name):
    format, values = number_format(name), values_of(name)
    midpoints = (values[1:] + values[:-1]) / 2
    beyond = [values[-1] * factor for factor in (1.01, 1.05, 1.2, 1e6)]
    x = np.concatenate([values, midpoints, beyond]).astype(np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(1e9)), np.nextafter(x, np.float32(-1e9))])
    x = np.concatenate(
        [x, -x, random_patterns(200_000), np.random.default_rng(2).normal(0, 2, 200_000)], dtype=np.float32
    )
    assert same_bits(format.round(np, x), saturated(x, name))
    assert np.array_equal(format.round(np, values), values)
    edge = format.round(np, np.float32([np.inf, -np.inf, np.nan]))
    assert np.array_equal(edge, [values[-1], -values[-1], np.nan], equal_nan=True)


@pytest.mark.parametrize("name", ELEMENTS)
def test_constants_of_elements(name):
    format, info, values = number_format(name), ml_dtypes.finfo(ELEMENTS[name]), values_of(name)
    assert (format.bits, format.max, format.max) == (BITS[name], float(info.max), values[-1])
    assert format.smallest_subnormal == values[values > 0][0]
    assert (format.smallest_normal, format.epsilon) == (float(info.smallest_normal), float(info.eps))
    powers = values[values > 0][np.frexp(values[values > 0])[0] == 0.5]
    assert 2.0**format.max_exponent == powers[-1]


def test_the_eight_magnitudes_of_fp4():
    # OCP MX 1.0, table 5: bias 1, largest 6, least normal 1, the one subnormal 0.5
    x = np.linspace(0, 8, 100_001, dtype=np.float32)
    assert np.array_equal(np.unique(number_format("fp4_e2m1").round(np, x)), [0, 0.5, 1, 1.5, 2, 3, 4, 6])


# MX by hand


def test_a_block_of_mxfp4_by_hand():
    # The largest magnitude is 7: floor(log2 7) = 2, and 4 = 2^2 is the largest power of two of E2M1: scale 1.
    # 7 -> 6 (saturates); midway, to even: -5 between 4 and 6 -> -4, 2.5 -> 2, 3.5 -> 4, 0.25 -> 0, 0.75 and 1.25 -> 1,
    # 1.75 -> 2; and -0.2 -> -0.
    x = np.float32([7, -5, 2.5, 3.5, 0.25, 0.75, -0.2, 1.25, 1.75])
    codes, scales = block_scaled(np, x, number_format("fp4_e2m1"), MX, -1)
    assert scales.ravel() == [1]
    assert same_bits(codes.ravel(), np.float32([6, -4, 2, 4, 0, 1, -0.0, 1, 2]))


@pytest.mark.parametrize(
    ("largest", "scale", "kept"),
    [
        (3.0, 0.5, 3.0),  # 3 / 0.5 = 6, the largest element
        (3.5, 0.5, 3.0),  # 7 saturates
        (3.9999, 0.5, 3.0),
        (4.0, 1.0, 4.0),  # a power of two: the next scale
        (0.75, 0.125, 0.75),  # 6
        (-96.0, 16.0, -96.0),  # -6
    ],
)
def test_the_scale_of_mxfp4_follows_the_largest_magnitude(largest, scale, kept):
    x = np.float32([0.01, largest, 0])
    codes, scales = block_scaled(np, x, number_format("fp4_e2m1"), MX, 0)
    assert scales.ravel() == [scale]
    assert (codes * scales).ravel()[1] == kept


@pytest.mark.parametrize(
    ("name", "largest", "scale", "kept"),
    [
        ("fp8_e4m3", 500.0, 1.0, 448.0),  # floor(log2 500) = 8, as of 448; saturates
        ("fp8_e4m3", 1.0, 2.0**-8, 1.0),  # 256 x 2^-8
        ("fp8_e5m2", 1.99, 2.0**-15, 1.75),  # 1.99 x 2^15 = 65208 saturates to 57344 = 1.75 x 2^15
        ("fp6_e2m3", 1.99, 0.25, 1.875),  # 7.96 saturates to 7.5
        ("fp6_e3m2", 1.99, 2.0**-4, 1.75),  # 31.84 saturates to 28
    ],
)
def test_largest_magnitudes_of_the_other_elements(name, largest, scale, kept):
    codes, scales = block_scaled(np, np.float32([largest]), number_format(name), MX, 0)
    assert scales.ravel() == [scale]
    assert (codes * scales).ravel() == [kept]


def test_the_ends_of_the_range_of_e8m0():
    # E8M0 holds 2^-127 to 2^127. 2^-126: exponent -126 - 2 is cut off at -127, and 2^-126 is 2 x 2^-127.
    codes, scales = block_scaled(np, np.float32([2.0**-126, 2.0**-128]), number_format("fp4_e2m1"), MX, 0)
    assert scales.ravel() == [2.0**-127]
    assert codes.ravel().tolist() == [2, 0.5]
    # Below 2^-129 = 0.25 x 2^-127 everything is zero; float32 goes down to 2^-149.
    assert not per_block(np, np.float32([2.0**-129, 2.0**-149]), number_format("fp4_e2m1"), MX, 0).any()
    # The largest float32 is 1.99 x 2^127: scale 2^125 in E2M1, where 7.99 saturates.
    largest = np.float32([np.finfo(np.float32).max])
    codes, scales = block_scaled(np, largest, number_format("fp4_e2m1"), MX, 0)
    assert (codes.item(), scales.item()) == (6, 2.0**125)


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("scaling", [MX, NV], ids=["mx", "nvfp4"])
def test_blocks_of_zeros_and_blocks_that_are_not_finite(name, scaling):
    format, size = number_format(name), scaling.size
    assert not per_block(np, np.zeros((3, 40), np.float32), format, scaling, -1).any()
    for bad in (np.nan, np.inf, -np.inf):
        x = np.ones((2, 3 * size), np.float32)
        x[1, size + 5] = bad
        rounded = per_block(np, x, format, scaling, -1)
        assert np.isnan(rounded[1, size : 2 * size]).all()
        rounded[1, size : 2 * size] = 1
        assert np.isfinite(rounded).all()


# Against slow references


def microscaled_in_fractions(x, name):
    """One block of mx values by the text of the specification, in exact arithmetic: scale and values."""
    values = [Fraction(float(value)) for value in values_of(name)]
    exponent = max(math.frexp(float(value))[1] - 1 for value in values if value > 0)
    largest = max(abs(Fraction(float(each))) for each in x)
    scale = Fraction(2) ** -127
    if largest:
        while scale * 2 * Fraction(2) ** exponent <= largest:
            scale *= 2
    rounded = []
    for each in x:
        ratio = Fraction(float(each)) / scale
        distance = min(abs(ratio - value) for value in values)
        nearest = [i for i, value in enumerate(values) if abs(ratio - value) == distance]
        # Codes rise with magnitude: counted from zero, those of even index have an even last bit.
        zero = values.index(0)
        rounded.append(values[next((i for i in nearest if (i - zero) % 2 == 0), nearest[0])])
    return scale, [float(value * scale) for value in rounded]


@pytest.mark.parametrize("name", ELEMENTS)
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=32))
def test_a_block_against_fractions(name, values):
    x = np.float32(values)
    scale, expected = microscaled_in_fractions(x, name)
    codes, scales = block_scaled(np, x, number_format(name), MX, 0)
    assert scales.item() == scale
    assert np.array_equal((codes * scales).ravel(), expected)


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("length", [1, 31, 32, 33, 96, 100])
def test_mx_against_ml_dtypes(name, length):
    """Scales rounded down to E8M0 and elements by ml_dtypes, block by block; over all magnitudes and near 1."""
    near_one = np.random.default_rng(3).standard_normal((200, length)).astype(np.float32)
    for x in (random_patterns((200, length)), near_one):
        result = per_block(np, x, number_format(name), MX, -1)
        largest_power = 2.0 ** np.floor(np.log2(values_of(name)[-1]))
        for start in range(0, length, 32):
            block = x[:, start : start + 32]
            peak = np.abs(block).max(axis=1, keepdims=True).astype(np.float64)
            ideal = np.ldexp(0.5, np.frexp(peak)[1]) / largest_power  # 2^floor(log2 peak), exact in float64
            scale = np.maximum(ideal, 2.0**-127).astype(ml_dtypes.float8_e8m0fnu).astype(np.float64)
            assert np.array_equal(scale, np.maximum(ideal, 2.0**-127))  # E8M0 holds it
            expected = saturated((block / scale).astype(np.float32), name) * scale
            assert same_bits(result[:, start : start + 32], expected.astype(np.float32))


def nvfp4_of_a_block(block, largest):
    """Elements and scale of one block as in arXiv 2509.25149, appendix B, in float32 throughout; by ml_dtypes."""
    f = np.float32
    encode = f(6 * 448) / f(largest)
    decode = f(1) / encode
    scale = f(f(np.abs(block).max() / f(6)) * encode).astype(ml_dtypes.float8_e4m3fn).astype(f)
    if scale == 0:
        return np.zeros_like(block), scale
    return saturated(block * (f(1) / (scale * decode)), "fp4_e2m1"), scale * decode


@pytest.mark.parametrize("length", [1, 15, 16, 17, 48, 50])
@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_nvfp4_against_its_definition(length, spread):
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((60, length)) * np.exp(spread * rng.standard_normal((60, 1)))).astype(np.float32)
    result = per_block(np, x, number_format("fp4_e2m1"), NV, -1)
    for i in range(60):
        for start in range(0, length, 16):
            codes, scale = nvfp4_of_a_block(x[i, start : start + 16], np.abs(x).max())
            assert np.array_equal(result[i, start : start + 16], codes * scale)


def test_nvfp4_by_hand():
    # Tensor: largest 12, scale 12 / 2688 = 1 / 224. First block: largest 12, its scale 12 / 6 over that is 448.
    # Elements over 2: 6, 1.5, 0.25 -> 0 (even), 2.5 -> 2 (even); times 2 again.
    # Second block: largest 3, scale 0.5 over the tensor's is 112 in E4M3; elements over 0.5: 6, 1.4 -> 1.5, -2.6 -> -3.
    x = np.zeros((1, 32), np.float32)
    x[0, :4] = [12, 3, 0.5, 5]
    x[0, 16:19] = [3, 0.7, -1.3]
    codes, scales = block_scaled(np, x, number_format("fp4_e2m1"), NV, -1)
    assert np.allclose(scales.ravel(), [2, 0.5], rtol=1e-6)
    assert codes.reshape(32)[:4].tolist() == [6, 1.5, 0, 2]
    assert codes.reshape(32)[16:19].tolist() == [6, 1.5, -3]


@pytest.mark.parametrize("peak", [1e-45, 1e-40, 1e-37, 1e-30, 1e30, 3.4e38])
def test_nvfp4_at_the_ends_of_float32(peak):
    x = np.float32([[peak] * 16 + [-peak / 2] * 16 + [peak / 1e6] * 16])
    rounded = per_block(np, x, number_format("fp4_e2m1"), NV, -1)
    assert np.isfinite(rounded).all()
    assert not rounded[0, 32:].any()  # its scale over the tensor's is 448e-6, below half of the least E4M3, 2^-9
    if peak >= 1e-37:
        assert np.allclose(rounded[0, :32], x[0, :32], rtol=1e-5)


# Axes, shapes, randomness


@pytest.mark.parametrize("scaling", [MX, NV], ids=["mx", "nvfp4"])
@pytest.mark.parametrize("shape", [(70, 45), (3, 33, 40), (32,), (2, 1, 5), (1, 64)])
def test_blocks_lie_along_the_axis_that_is_asked_for(scaling, shape):
    format = number_format("fp4_e2m1")
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    kept = x.copy()
    for axis in range(-x.ndim, x.ndim):
        along = per_block(np, np.ascontiguousarray(np.moveaxis(x, axis, -1)), format, scaling, -1)
        assert same_bits(per_block(np, x, format, scaling, axis), np.ascontiguousarray(np.moveaxis(along, -1, axis)))
    assert same_bits(x, kept)
    assert same_bits(per_block(np, x.T, format, scaling, 0), per_block(np, x, format, scaling, -1).T)


def test_another_block_changes_nothing():
    x = np.random.default_rng(6).standard_normal((4, 96)).astype(np.float32)
    loud = x.copy()
    loud[:, 40] = 1e6
    quiet, changed = (per_block(np, each, number_format("fp8_e4m3"), MX, -1) for each in (x, loud))
    assert np.array_equal(quiet[:, :32], changed[:, :32])
    assert np.array_equal(quiet[:, 64:], changed[:, 64:])
    assert not np.array_equal(quiet[:, 32:64], changed[:, 32:64])


def test_what_is_representable_stays_and_empty_arrays_pass():
    for name in POLICIES:
        step = policy(name)
        x = np.random.default_rng(7).standard_normal((8, 40)).astype(np.float32)
        once = step.quantize_values(np, x, axis=-1)
        assert np.allclose(
            step.quantize_values(np, once, axis=-1), once, rtol=1e-6
        )  # fp32 scales are not powers of two
        assert name == "nvfp4" or same_bits(step.quantize_values(np, once, axis=-1), once)
        for shape in ((0, 5), (5, 0)):
            assert step.quantize_values(np, np.empty(shape, np.float32), axis=-1).shape == shape


def test_stochastic_rounding_keeps_the_mean_of_a_block():
    """n = 4000 roundings: an element of 0.3 between 0 and 0.5 is up with p = 0.6; sigma of the mean is
    0.5 sqrt(0.6 0.4 / n) = 3.9e-3."""
    x = np.float32([[6] + [0.3] * 15] * 4000)
    for scaling in (MX, NV):
        rounded = per_block(np, x, number_format("fp4_e2m1"), scaling, -1, np.random.default_rng(8))
        assert abs(rounded[:, 1].mean(dtype=np.float64) - 0.3) < 5 * 0.5 * math.sqrt(0.6 * 0.4 / 4000)
        assert np.allclose(rounded[:, 0], 6, rtol=1e-6)


def test_integers_share_no_scale_with_a_block():
    with pytest.raises(ConfigError, match="wrong: values that share a scale to a block are floating-point"):
        Policy("wrong", number_format("int8"), number_format("int8"), number_format("bf16"), scaling=MX)


# The error of normal values


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("scaling", [MX, NV], ids=["mx", "nvfp4"])
def test_the_bound_of_normal_values(name, scaling):
    """n = 2^17 normal values: the largest magnitudes of blocks, and the RMS error, are within the bounds."""
    x = np.random.default_rng(9).standard_normal((4096, 32)).astype(np.float32)
    peaks = np.abs(x[:, : scaling.size]).max(axis=1)
    assert (peaks**2).mean() < 2 * math.log(2 * scaling.size) + 1
    error = float(np.sqrt(((per_block(np, x, number_format(name), scaling, -1) - x) ** 2).mean()))
    bound = scaling.relative_rms_bound(number_format(name))
    assert error < bound < 6 * error


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("scaling", [MX, NV], ids=["mx", "nvfp4"])
def test_no_value_moves_further_than_the_bound_assumes(name, scaling):
    x = np.random.default_rng(10).standard_normal((4096, scaling.size)).astype(np.float32)
    moved = np.abs(per_block(np, x, number_format(name), scaling, -1) - x)
    of_value, of_peak = scaling.relative_errors(number_format(name))
    peaks = np.abs(x).max(axis=1, keepdims=True)
    assert (moved <= np.maximum(of_value * np.abs(x), of_peak * peaks) * (1 + 1e-5)).all()


# Products on a device


def rounded(x, step, axis):
    """x as it enters a product, by the reference above: each block along `axis` on its own."""
    name, size = step.values.name, step.scaling.size
    rows = np.moveaxis(x, axis, -1)
    result, largest = np.empty_like(rows), np.abs(x).max()
    for i, row in enumerate(rows):
        for start in range(0, len(row), size):
            block = row[start : start + size]
            if step.name == "nvfp4":
                codes, scale = nvfp4_of_a_block(block, largest)
            else:
                power = 2.0 ** (math.frexp(float(np.abs(block).max()))[1] - 1)
                scale = np.float32(power / 2.0 ** math.floor(math.log2(values_of(name)[-1])))
                codes = saturated(block / scale, name)
            result[i, start : start + size] = codes * scale
    return np.moveaxis(result, -1, axis)


def bf16(y):
    return y.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize("name", ["mxfp8", "mxfp4"])
def test_products_of_a_tile_block_along_what_they_sum_over(name):
    device, step = registry.device(f"gpu:b200:precision={name}"), policy(name)
    rng = np.random.default_rng(12)
    w, x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((40, 50), (70, 40), (70, 50)))
    tile = device.program(w, name="w")
    for moved in (w, w + np.float32(0.25)):  # as programmed, and as updated
        expected = {
            "forward": bf16(rounded(x, step, 1) @ rounded(moved, step, 0)),
            "backward": bf16(rounded(dy, step, 1) @ rounded(moved, step, 1).T),
            "gradient": rounded(x, step, 0).T @ rounded(dy, step, 0),
            "product": bf16(rounded(x, step, 1) @ rounded(moved, step, 0)),
        }
        found = {
            "forward": tile.forward(x),
            "backward": tile.backward(dy),
            "gradient": tile.gradient(x, dy),
            "product": device.multiply(x, moved, ledger=Ledger()),
        }
        for key, value in expected.items():
            assert np.allclose(found[key], value, rtol=2**-7, atol=1e-4), key  # sums in another order, one bf16 step
            assert np.mean(found[key] == value) > 0.9 or key == "gradient"
        tile.update(np.full((40, 50), 0.25, np.float32))


def test_nvfp4_forward_and_what_a_checkpoint_holds():
    device, step = registry.device("gpu:b200:precision=nvfp4"), policy("nvfp4")
    rng = np.random.default_rng(13)
    w, x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((40, 50), (70, 40), (70, 50)))
    tile, other = device.program(w, name="w"), device.program(np.zeros_like(w), name="w")
    assert np.allclose(tile.forward(x), bf16(rounded(x, step, 1) @ rounded(w, step, 0)), rtol=2**-7, atol=1e-4)
    other.load(tile.save())
    for found, again in ((tile.forward(x), other.forward(x)), (tile.backward(dy), other.backward(dy))):
        assert np.array_equal(found, again)


def test_stacks_are_blocked_matrix_by_matrix():
    device = registry.device("gpu:b200:precision=mxfp4")
    rng = np.random.default_rng(14)
    a, b = rng.standard_normal((3, 9, 40)).astype(np.float32), rng.standard_normal((3, 40, 7)).astype(np.float32)
    whole = device.multiply(a, b, ledger=Ledger())
    for i in range(3):
        assert np.allclose(whole[i], device.multiply(a[i], b[i], ledger=Ledger()), rtol=2**-7, atol=1e-5)


CLAIMS = (
    "claim_forward",
    "claim_backward",
    "claim_gradient",
    "claim_product",
    "adjoint",
    "gradient_differences",
    "bias",
)


@pytest.mark.parametrize("name", POLICIES)
def test_a_device_keeps_what_the_bound_promises(name, monkeypatch):
    monkeypatch.setitem(arrays.LIBRARIES, "strict", "strict_array")  # as strict as CuPy about whose an array is
    bench = Bench(lambda: registry.device(f"gpu:b200:precision={name}"), (1, 2))
    for check in (*CLAIMS, "array_libraries", "checkpoint"):
        result = run(check, bench)
        assert result.outcome is Outcome.PASSED, f"{check}: {result.message}"
        if check in CLAIMS:
            assert result.measured < result.claimed < 10 * result.measured


@pytest.mark.gpu
@pytest.mark.parametrize("name", POLICIES)
def test_cupy_rounds_blocks_as_numpy_does(name):
    cupy = pytest.importorskip("cupy")
    x = np.random.default_rng(15).standard_normal((500, 77)).astype(np.float32)
    for axis in (0, 1):
        found = policy(name).quantize_values(cupy, cupy.asarray(x), axis=axis)
        assert same_bits(found.get(), policy(name).quantize_values(np, x, axis=axis))
