"""Number formats against ml_dtypes, exact arithmetic and statistics; training policies against what they promise."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats as formats_module
from hwsim import microscaling, precision
from hwsim.errors import ConfigError
from hwsim.formats import FixedFormat, FloatFormat, IntegerFormat, formats, number_format
from hwsim.precision import per_tensor, policies, policy

# e3m4 is no named format: it shows that FloatFormat is general.
REFERENCES = [
    pytest.param(number_format("bf16"), ml_dtypes.bfloat16, id="bf16"),
    pytest.param(number_format("fp16"), np.float16, id="fp16"),
    pytest.param(number_format("fp8_e4m3"), ml_dtypes.float8_e4m3fn, id="fp8_e4m3"),
    pytest.param(number_format("fp8_e5m2"), ml_dtypes.float8_e5m2, id="fp8_e5m2"),
    pytest.param(FloatFormat("e3m4", 3, 4, 8), ml_dtypes.float8_e3m4, id="e3m4"),
]
NARROW = ("fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2", "fp4_e2m1")
ROUNDING = ("tf32", "bf16", "fp16", *NARROW, "int8", "fixed4.12", "fixed1.7")
BLOCKED = ("mxfp8", "mxfp6", "mxfp4", "nvfp4")
FIXED = ("int8", "fixed4.12", "fixed1.7", "fixed8.0", "fixed1.24", "fixed25.0")


def random_patterns(n, seed=1):
    """n float32 values with every bit random: all exponents alike, and 1 in 128 infinite or NaN."""
    return np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32).view(np.float32)


def cast(x, dtype):
    """x through `dtype` and back, as the reference library does it."""
    with np.errstate(all="ignore"):
        return x.astype(dtype).astype(np.float32)


def finite_values(dtype):
    """Every finite value of `dtype`, rising, one zero."""
    size = np.dtype(dtype).itemsize
    with np.errstate(all="ignore"):
        values = np.arange(256**size, dtype=f"u{size}").view(dtype).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def assert_same_bits(result, expected):
    """Equal bit for bit, so that -0 is not +0; any NaN equals any NaN."""
    assert result.dtype == expected.dtype == np.float32
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(result), nan)
    assert np.array_equal(result.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


# Bit exactness


@pytest.mark.parametrize(("format", "dtype"), REFERENCES)
def test_every_value_every_midpoint_and_their_neighbours(format, dtype):
    values = finite_values(dtype)
    assert values[-1] == format.max
    half = (values[-1] - values[-2]) / 2
    midpoints = (values[1:] + values[:-1]) / 2
    points = np.concatenate([values, midpoints, [values[-1] + half, values[-1] + 1.5 * half]])  # beyond max as well
    x = points.astype(np.float32)
    assert np.array_equal(x, points)  # all exact in float32
    up, down, special = np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf)), [np.inf, np.nan]
    x = np.concatenate([x, up, down, np.float32(special)])
    x = np.concatenate([x, -x])
    assert_same_bits(format.round(np, x, saturate=False), cast(x, dtype))
    assert np.array_equal(format.round(np, values.astype(np.float32)), values)  # what is representable stays


@pytest.mark.parametrize(("format", "dtype"), REFERENCES)
def test_a_million_random_patterns(format, dtype):
    x = random_patterns(1_000_000)
    assert_same_bits(format.round(np, x, saturate=False), cast(x, dtype))
    near = (np.random.default_rng(2).standard_normal(200_000) * 10 * format.smallest_normal).astype(np.float32)
    assert_same_bits(format.round(np, near, saturate=False), cast(near, dtype))  # half of them subnormal or nearly so


@pytest.mark.parametrize(("format", "dtype"), REFERENCES)
def test_saturation_clamps_infinities_too_and_keeps_nan(format, dtype):
    x = random_patterns(300_000)
    expected = cast(np.clip(x, -format.max, format.max), dtype)
    assert_same_bits(format.round(np, x, saturate=True), expected)
    edge = np.float32([np.inf, -np.inf, np.nan, 3e38, -3e38])
    largest = np.float32(format.max)
    assert_same_bits(format.round(np, edge, saturate=True)[:2], np.float32([largest, -largest]))
    assert np.isnan(format.round(np, edge, saturate=True)[2])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tf32", np.inf), ("bf16", np.inf), ("fp16", np.inf), ("fp8_e4m3", 448), ("fp8_e5m2", 57344), ("int8", 127)],
)
def test_overflow_by_default(name, expected):
    x = np.float32([np.inf, -np.inf])
    assert np.array_equal(number_format(name).round(np, x), [expected, -expected])


def test_e4m3_overflows_to_nan_beyond_464():
    x = np.float32([464, np.nextafter(np.float32(464), np.float32(500)), np.inf])
    rounded = number_format("fp8_e4m3").round(np, x, saturate=False)
    assert rounded[0] == 448
    assert np.isnan(rounded[1:]).all()


def test_tf32_against_float64_arithmetic():
    """The gap at x is 2^(floor(log2 |x|) - 10), not below 2^(-126 - 10): exact in float64."""
    x = random_patterns(1_000_000)
    x = x[np.isfinite(x)]
    tiny = x[np.abs(x) < 1] * np.float32(2.0**-120)  # many of them subnormal
    x = np.concatenate([x, tiny, np.float32([1 + 2**-11, 1 + 3 * 2**-11, 0.0, -0.0])])
    wide = x.astype(np.float64)
    exponent = np.maximum(np.frexp(wide)[1] - 1, -126)
    gap = np.ldexp(1.0, exponent - 10)
    expected = np.rint(wide / gap) * gap
    with np.errstate(over="ignore"):
        expected = expected.astype(np.float32)
    format = number_format("tf32")
    assert_same_bits(format.round(np, x), expected)
    assert_same_bits(format.round(np, np.float32([np.inf, -np.inf, np.nan])), np.float32([np.inf, -np.inf, np.nan]))
    assert_same_bits(format.round(np, np.float32([3.4028235e38]), saturate=True), np.float32([format.max]))


@pytest.mark.parametrize("name", FIXED)
def test_fixed_point_and_integers_against_fractions(name):
    format = number_format(name)
    step, rng = Fraction(format.smallest_normal), np.random.default_rng(3)
    inside = rng.uniform(1.2 * format.min, 1.2 * format.max, 1500)
    ties = (rng.integers(round(format.min / step), round(format.max / step), 500) + 0.5) * float(step)
    x = np.concatenate([inside, ties, [format.max, format.min, 0.0, -0.0, -0.3 * float(step)]]).astype(np.float32)
    # round() of a Fraction is to even
    codes = [round(Fraction(float(value)) / step) for value in x]
    expected = [min(max(code * step, Fraction(format.min)), Fraction(format.max)) for code in codes]
    assert_same_bits(format.round(np, x), np.array([float(value) for value in expected], dtype=np.float32))
    assert np.array_equal(format.round(np, np.float32([np.inf, -np.inf])), np.float32([format.max, format.min]))
    assert np.isnan(format.round(np, np.float32([np.nan])))[0]


def test_fixed4_12_is_16_bits_from_minus_8():
    format = number_format("fixed4.12")
    assert (format.bits, format.min, format.max) == (16, -8.0, 8 - 2**-12)
    assert (number_format("int8").min, number_format("int8").max) == (-127, 127)


def test_fp64_and_fp32_are_identities():
    x = np.random.default_rng(0).standard_normal(10_000) / 3
    assert number_format("fp64").round(np, x) is x
    y = random_patterns(10_000)
    assert number_format("fp32").round(np, y) is y
    assert number_format("fp32").round(np, x).dtype == np.float32


# Stochastic rounding


@pytest.mark.parametrize("name", ROUNDING)
@pytest.mark.parametrize("fraction", [1 / 16, 0.25, 0.5, 0.9375])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_stochastic_rounding_is_unbiased(name, fraction, steps):
    """n = 40 000 roundings of one x between neighbours a and b, of both signs and in the subnormal range.

    Each is b with probability p = (x - a) / (b - a): the number of b is within 5 sigma of n p, with
    sigma = sqrt(n p (1 - p)). False alarms: 6e-7 a case, and the seed is fixed.
    """
    format, n = number_format(name), 40_000
    if isinstance(format, FloatFormat) and name not in ("tf32", "bf16"):
        gap = format.smallest_subnormal  # steps 0 and 1 are subnormal, and so is 5 for fp16
    elif isinstance(format, FloatFormat):
        gap = format.epsilon * 2  # from 2 to 4
    else:
        gap = format.smallest_normal
    lower = (2 if name in ("tf32", "bf16") else 0) + steps * gap
    if steps == 5 and name in NARROW:
        lower, gap = 2.0 + 2 * format.epsilon, 2 * format.epsilon  # a normal value
    sigma = np.sqrt(n * fraction * (1 - fraction))
    for sign in (1, -1):
        x = np.full(n, sign * (lower + fraction * gap), dtype=np.float32)
        rounded = sign * format.round(np, x, np.random.default_rng(4 + steps))
        up = rounded == lower + gap
        assert np.array_equal(up, rounded != lower)  # always one of the two neighbours
        away = np.count_nonzero(up)
        assert abs(away - n * fraction) < 5 * sigma


@pytest.mark.parametrize("name", ROUNDING)
def test_stochastic_rounding_gives_a_neighbour_and_leaves_what_is_representable(name):
    format, rng = number_format(name), np.random.default_rng(6)
    x = random_patterns(300_000)
    x = x[np.abs(x) < min(format.max, 1e38)]
    nearest, rounded = format.round(np, x), format.round(np, x, rng)
    assert_same_bits(format.round(np, nearest, rng), nearest)
    assert_same_bits(format.round(np, rounded), rounded)  # representable
    other = nearest != rounded
    assert 0.01 < np.count_nonzero(other) / x.size < 0.6
    assert np.all((nearest[other] > x[other]) != (rounded[other] > x[other]))  # on the other side of x ...
    middle = (nearest[other].astype(np.float64) + rounded[other]) / 2
    between = format.round(np, middle.astype(np.float32))  # ... and with nothing between them
    assert np.all((between == nearest[other]) | (between == rounded[other]))


def test_stochastic_rounding_of_a_gradient_keeps_its_mean():
    """n = 200 000 values of half a percent of an int8 step: nearest loses them all; sigma of the mean is
    sqrt(p (1 - p) / n) = 1.6e-4 steps with p = 0.005."""
    x = np.full(200_000, 0.005, dtype=np.float32)
    format = number_format("int8")
    assert not format.round(np, x).any()
    mean = format.round(np, x, np.random.default_rng(7)).mean(dtype=np.float64)
    assert abs(mean - 0.005) < 5 * np.sqrt(0.005 * 0.995 / x.size)


@pytest.mark.parametrize("name", ROUNDING)
@pytest.mark.parametrize("draw", [0.0, 1 - 2**-24])
def test_no_draw_moves_what_is_representable(name, draw):
    """0 and 1 - 2^-24 are the least and the largest float32 that a generator draws."""

    class Constant:
        def random(self, size, dtype):
            return np.full(size, draw, dtype)

    format = number_format(name)
    x = random_patterns(50_000)
    x = format.round(np, x[~np.isnan(x)], saturate=True)
    assert_same_bits(format.round(np, x, Constant(), saturate=True), x)


def test_stochastic_rounding_is_a_function_of_the_generator():
    x = np.random.default_rng(8).standard_normal(1000).astype(np.float32)
    for name in ROUNDING:
        format = number_format(name)
        first, again, other = (format.round(np, x, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


# Properties

float32s = st.floats(width=32, allow_nan=False)
rounding = settings(max_examples=300, deadline=None, database=None, derandomize=True)


@rounding
@given(st.sampled_from(ROUNDING), st.lists(float32s, min_size=1, max_size=8))
def test_idempotent(name, values):
    once = number_format(name).round(np, np.float32(values))
    assert_same_bits(number_format(name).round(np, once), once)


@rounding
@given(st.sampled_from(ROUNDING), float32s, float32s)
def test_monotone(name, a, b):
    low, high = number_format(name).round(np, np.float32(sorted([a, b])))
    assert low <= high


@rounding
@given(st.sampled_from(ROUNDING), float32s)
def test_odd(name, value):
    format = number_format(name)
    x = np.clip(np.float32([value]), -format.max, format.max)  # fixed point goes one step lower than -max
    assert np.array_equal(format.round(np, -x), -format.round(np, x))


@rounding
@given(st.sampled_from(ROUNDING), st.floats(min_value=0.25, max_value=1.0, width=32))
def test_moves_by_at_most_the_unit_roundoff(name, value):
    format = number_format(name)
    if isinstance(format, IntegerFormat):
        codes, scale = per_tensor(np, np.float32([value, 1.0]), format)
        assert abs(codes[0] * scale - value) <= format.unit_roundoff * (1 + 1e-6)
    elif value < format.max:
        relative = max(value, format.smallest_normal) if isinstance(format, FloatFormat) else 1.0
        assert abs(float(format.round(np, np.float32([value]))[0]) - value) <= format.unit_roundoff * relative


def test_unit_roundoff_is_reached():
    for name in ("bf16", "fp16", "tf32", "fp8_e4m3", "fixed4.12"):
        format = number_format(name)
        x = np.float32([1 + format.epsilon / 2])
        assert abs(format.round(np, x) - x)[0] == format.unit_roundoff


@pytest.mark.parametrize(("format", "dtype"), REFERENCES)
def test_constants(format, dtype):
    info = ml_dtypes.finfo(dtype)
    assert (format.bits, format.max) == (info.bits, float(info.max))
    assert (format.smallest_normal, format.epsilon) == (float(info.smallest_normal), float(info.eps))
    assert format.smallest_subnormal == float(info.smallest_subnormal)
    assert format.unit_roundoff == float(info.eps) / 2


def test_constants_of_the_wide_formats():
    for name, dtype in (("fp32", np.float32), ("fp64", np.float64)):
        format, info = number_format(name), np.finfo(dtype)
        assert (format.bits, format.max, format.epsilon) == (info.bits, float(info.max), float(info.eps))
        assert format.smallest_normal == float(info.smallest_normal)
    assert number_format("tf32").bits == 32
    assert number_format("tf32").epsilon == number_format("fp16").epsilon


@pytest.mark.parametrize("name", ROUNDING)
def test_any_shape_and_stride_and_the_input_is_left_alone(name):
    format = number_format(name)
    x = np.random.default_rng(9).standard_normal((6, 8)).astype(np.float32)
    kept = x.copy()
    expected = format.round(np, x)
    assert np.array_equal(x, kept)
    assert expected.shape == x.shape
    assert np.array_equal(format.round(np, x.T), expected.T)
    assert np.array_equal(format.round(np, x[::2, 1::3]), expected[::2, 1::3])
    assert format.round(np, x[0, 0]) == expected[0, 0]
    assert format.round(np, np.empty((0, 3), np.float32)).shape == (0, 3)
    assert format.round(np, x, np.random.default_rng(1)).shape == x.shape


# Names and errors


def test_every_name_is_found():
    assert set(formats()) == {"fp64", "fp32", "tf32", "bf16", "fp16", *NARROW, "int8"}
    assert [number_format(name).name for name in (*formats(), "fixed4.12")] == [*formats(), "fixed4.12"]
    assert [policy(name).name for name in (*policies(), "fixed8.8")] == [*policies(), "fixed8.8"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fp7", r"no number format 'fp7'; known: bf16, fp16, .*, and fixedI.F such as fixed4.12"),
        ("fixed4", "no number format 'fixed4'"),
        ("fixed-1.3", "no number format"),
        ("fixed0.0", "fixed0.0: needs at least 1 integer bit, the sign"),
        ("fixed0.8", "at least 1 integer bit"),
        ("fixed40.40", "fixed40.40: 80 bits in all, and float32 holds 25 exactly"),
    ],
)
def test_unknown_and_impossible_formats(name, message):
    with pytest.raises(ConfigError, match=message):
        number_format(name)
    with pytest.raises(ConfigError, match=message if name.startswith("fixed") else "no precision 'fp7'; known: bf16"):
        policy(name)


def test_a_format_is_not_a_policy():
    with pytest.raises(ConfigError, match=r"no precision 'fp8_e4m3'; known: bf16, .*, and fixedI.F"):
        policy("fp8_e4m3")


def test_formats_without_infinity_and_nan_always_saturate():
    for name in ("int8", "fixed4.12", "fp6_e2m3", "fp6_e3m2", "fp4_e2m1"):
        with pytest.raises(ConfigError, match=f"{name} always saturates"):
            number_format(name).round(np, np.float32([1]), saturate=False)


# Scales and policies


def test_int8_scale_takes_the_largest_magnitude_to_127():
    x = np.float32([0.1, -5.08, 2.54])
    codes, scale = per_tensor(np, x, number_format("int8"))
    assert scale == np.float32(5.08) / np.float32(127)
    assert np.array_equal(codes, [2, -127, 64])  # 2.5 and 63.5 in exact arithmetic; float32 has 2.4999998 and 63.5


def test_fp8_scale_is_the_smallest_power_of_two_without_overflow():
    rng = np.random.default_rng(10)
    for name in ("fp8_e4m3", "fp8_e5m2"):
        format = number_format(name)
        for exponent in range(-100, 100, 7):
            x = (rng.standard_normal(50) * 2.0**exponent).astype(np.float32)
            codes, scale = per_tensor(np, x, format)
            assert np.frexp(scale)[0] == 0.5
            assert format.max / 2 < np.abs(x / scale).max() <= format.max
            assert np.array_equal(codes, format.round(np, x / scale, saturate=False))
    exact = np.float32([448 * 2.0**5, 1])
    assert per_tensor(np, exact, number_format("fp8_e4m3"))[1] == 2.0**5


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2", "int8"])
def test_a_tensor_without_a_scale(name):
    format = number_format(name)
    for x in (np.zeros((3, 2), np.float32), np.empty((0, 2), np.float32)):
        codes, scale = per_tensor(np, x, format)
        assert codes.shape == x.shape
        assert not codes.any()
        assert scale == 1
        assert scale.dtype == np.float32
    for peak in (np.inf, -np.inf, np.nan):
        codes, scale = per_tensor(np, np.float32([peak, 1.0]), format)
        assert scale == 1
        assert codes[1] == 1
        assert np.array_equal(codes[:1], np.clip([peak], -format.max, format.max), equal_nan=True)
    codes, scale = per_tensor(np, np.float32([1e-45, 0.0]), format)  # the scale would be less than any float32
    assert np.isfinite(codes).all()
    assert scale > 0


def test_int8_product_is_the_integer_product():
    rng = np.random.default_rng(11)
    x, w = rng.standard_normal((5, 40)).astype(np.float32), rng.standard_normal((40, 7)).astype(np.float32)
    (a, s), (b, t) = (per_tensor(np, each, number_format("int8")) for each in (x, w))
    integers = a.astype(np.int32) @ b.astype(np.int32)
    assert np.array_equal(a @ b, integers)  # float32 sums of 40 products of 127 are exact
    step = policy("int8")
    product = step.quantize_values(np, x).astype(np.float64) @ step.quantize_values(np, w).astype(np.float64)
    assert np.allclose(product, integers * (np.float64(s) * np.float64(t)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["fp64", "fp32"])
def test_full_precision_does_nothing(name):
    step = policy(name)
    x = np.random.default_rng(12).standard_normal((4, 4)).astype(step.dtype(np))
    assert step.quantize_values(np, x) is x
    assert step.quantize_gradients(np, x) is x
    assert step.round_output(np, x) is x
    assert step.dtype(np) is (np.float64 if name == "fp64" else np.float32)


@pytest.mark.parametrize("name", [*(name for name in policies() if name not in BLOCKED), "fixed4.12"])
def test_operands_are_on_the_grid_of_the_format(name):
    step = policy(name)
    x = np.random.default_rng(13).standard_normal((30, 20)).astype(step.dtype(np))
    rng = np.random.default_rng(14) if step.stochastic else None
    for format, rounded in (
        (step.values, step.quantize_values(np, x)),
        (step.gradients, step.quantize_gradients(np, x, rng)),
        (step.output, step.round_output(np, x)),
    ):
        scale = per_tensor(np, x, format)[1] if step.scaling == "per-tensor" and format is not step.output else 1
        assert rounded.dtype == step.dtype(np)
        codes = np.rint(rounded / scale) if isinstance(format, IntegerFormat) else rounded / scale
        assert np.array_equal(format.round(np, codes), codes)
        assert np.array_equal(codes * scale, rounded)
        assert np.array_equal(rounded, x) == (format.name in ("fp32", "fp64"))


def test_which_formats():
    table = {
        name: (p.values.name, p.gradients.name, p.output.name, p.accumulate, p.master.name, p.value_bits, p.stochastic)
        for name in (*policies(), "fixed4.12")
        for p in [policy(name)]
    }
    assert table == {
        "fp64": ("fp64", "fp64", "fp64", "fp64", "fp64", 64, False),
        "fp32": ("fp32", "fp32", "fp32", "fp32", "fp32", 32, False),
        "tf32": ("tf32", "tf32", "fp32", "fp32", "fp32", 32, False),
        "bf16": ("bf16", "bf16", "bf16", "fp32", "fp32", 16, False),
        "fp16": ("fp16", "fp16", "fp16", "fp32", "fp32", 16, False),
        "fp8": ("fp8_e4m3", "fp8_e5m2", "bf16", "fp32", "fp32", 8, False),
        "int8": ("int8", "int8", "fp32", "int32", "fp32", 8, True),
        "mxfp8": ("fp8_e4m3", "fp8_e4m3", "bf16", "fp32", "fp32", 8, False),
        "mxfp6": ("fp6_e2m3", "fp6_e3m2", "bf16", "fp32", "fp32", 6, False),
        "mxfp4": ("fp4_e2m1", "fp4_e2m1", "bf16", "fp32", "fp32", 4, False),
        "nvfp4": ("fp4_e2m1", "fp4_e2m1", "bf16", "fp32", "fp32", 4, True),
        "fixed4.12": ("fixed4.12", "fixed4.12", "fixed4.12", "int64", "fixed4.12", 16, True),
    }


def test_stochastic_policies_ask_for_a_generator():
    x = np.float32([1.0, 0.3])
    for name in ("int8", "fixed4.12", "nvfp4"):
        with pytest.raises(ConfigError, match="needs an rng"):
            policy(name).quantize_gradients(np, x)
    mean = np.mean([policy("int8").quantize_gradients(np, x, np.random.default_rng(i))[1] for i in range(2000)])
    sigma = np.sqrt(0.1 * 0.9 / 2000) / 127  # 0.3 is 38.1 steps of 1/127: up with probability 0.1
    assert abs(mean - 0.3) < 5 * sigma


@pytest.mark.parametrize("name", [*policies(), "fixed4.12"])
@pytest.mark.parametrize("gradients", [False, True])
def test_relative_rms_bound(name, gradients):
    """64 x 256 x 64 products of normal operands, exact but for the rounding: within the bound, and not far below."""
    step, rng = policy(name), np.random.default_rng(15)
    dtype = step.dtype(np)
    x = np.clip(rng.standard_normal((64, 256)), -6, 6).astype(dtype)
    w = np.clip(rng.standard_normal((256, 64)), -6, 6).astype(dtype)
    quantize = step.quantize_gradients if gradients else step.quantize_values
    a = quantize(np, x, rng if gradients and step.stochastic else None, axis=-1)
    b = step.quantize_values(np, w, axis=-2)
    exact, product = x.astype(np.float64) @ w.astype(np.float64), a.astype(np.float64) @ b.astype(np.float64)
    if not isinstance(step.output, FixedFormat):  # which would saturate
        product = step.round_output(np, product.astype(dtype)).astype(np.float64)
    error = np.sqrt(np.mean((product - exact) ** 2) / np.mean(exact**2))
    bound = step.relative_rms_bound(gradients=gradients)
    assert error <= bound
    if name not in ("fp32", "fp64"):
        assert bound < 10 * error


def test_relative_rms_bound_of_fp8_counts_e4m3_twice_or_e5m2_once_and_bf16_once():
    assert 1 + policy("fp8").relative_rms_bound() == (1 + 2**-4) ** 2 * (1 + 2**-8)
    assert 1 + policy("fp8").relative_rms_bound(gradients=True) == (1 + 2**-4) * (1 + 2**-3) * (1 + 2**-8)


def test_fixed_point_output_saturates():
    assert np.array_equal(policy("fixed4.12").round_output(np, np.float32([100, -100])), np.float32([8 - 2**-12, -8]))
    assert np.array_equal(policy("fp16").round_output(np, np.float32([1e6])), [np.inf])


def test_describe():
    assert policy("fp8").describe() == (
        "fp8: e4m3 values, e5m2 gradients, per-tensor scales, accumulated in fp32, bf16 out, fp32 master weights"
    )
    assert policy("int8").describe() == (
        "int8: int8 values and gradients, stochastic rounding of gradients, per-tensor scales, accumulated in int32, "
        "fp32 out, fp32 master weights"
    )
    assert policy("mxfp6").describe() == (
        "mxfp6: fp6_e2m3 values, fp6_e3m2 gradients, a power-of-two scale to 32 values, accumulated in fp32, bf16 out, "
        "fp32 master weights"
    )
    assert policy("nvfp4").describe() == (
        "nvfp4: fp4_e2m1 values and gradients, stochastic rounding of gradients, an E4M3 scale to 16 values and an "
        "fp32 scale to the tensor, accumulated in fp32, bf16 out, fp32 master weights"
    )
    assert policy("fp32").describe() == (
        "fp32: fp32 values and gradients, accumulated in fp32, fp32 out, fp32 master weights"
    )


# Array libraries


def test_the_module_knows_no_array_library():
    for module in (precision, microscaling, formats_module):
        assert not {"np", "numpy", "cupy", "ml_dtypes"} & set(vars(module))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ROUNDING)
def test_cupy_rounds_as_numpy_does(name):
    cupy = pytest.importorskip("cupy")
    format, x = number_format(name), random_patterns(1_000_000)
    x = x[~np.isnan(x)]
    on_card = cupy.asarray(x)
    assert_same_bits(format.round(cupy, on_card).get(), format.round(np, x))
    tame = cupy.clip(on_card, -3, 3)
    rounded = format.round(cupy, tame, cupy.random.Generator(cupy.random.Philox4x3210(seed=1)))
    assert_same_bits(format.round(cupy, rounded).get(), rounded.get())
    codes, scale = per_tensor(cupy, tame, format)
    expected, expected_scale = per_tensor(np, tame.get(), format)
    assert_same_bits(codes.get(), expected)
    assert float(scale) == float(expected_scale)
