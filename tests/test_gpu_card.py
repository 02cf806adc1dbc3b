"""Products as a real card does them: packing, what cuBLAS and cublasLt are asked for, refusals. No card is needed."""

import math

import fake_card
import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from hwsim.devices.gpu import Gpu, card
from hwsim.errors import DeviceError
from hwsim.formats import number_format
from hwsim.precision import per_tensor, policy

NARROW = ("fp16", "bf16", "fp8_e4m3", "fp8_e5m2")
STORED = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
}
PRECISIONS = ("tf32", "bf16", "fp16", "fp8", "int8")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gpu(precision, **parameters):
    return Gpu.create("h100", {"precision": precision, **parameters})


# -- packing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NARROW)
def test_packing_keeps_every_value_of_a_format(name):
    """Against ml_dtypes: every code there is, but the many that mean NaN."""
    bits = 16 if name in ("fp16", "bf16") else 8
    unsigned = np.uint16 if bits == 16 else np.uint8
    codes = np.arange(2**bits).astype(unsigned)
    values = codes.view(STORED[name]).astype(np.float32)
    found = card.narrow(np, values, name).view(unsigned)
    whole = ~np.isnan(values)
    assert whole.sum() >= 2**bits - 2 ** (bits - 2)
    assert_array_equal(found[whole], codes[whole])
    assert np.isnan(found[~whole].view(STORED[name]).astype(np.float32)).all()


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2"])
@pytest.mark.parametrize("size", [1e-20, 1.0, 3e20])
def test_packed_operands_stand_for_what_the_policy_rounds_to(name, size):
    x, format = normal(5, 7) * np.float32(size), number_format(name)
    found = card.packed(np, x, policy("fp8"), format)
    codes, scale = per_tensor(np, x, format)
    assert_array_equal(found.codes.view(STORED[name]).astype(np.float32) * found.scale, codes * scale)


def test_padding_is_zeros_up_to_whole_sixteens():
    found = card.padded(np, np.ones((2, 17, 5), np.uint8))
    assert found.shape == (2, 32, 16)
    assert found.sum() == 2 * 17 * 5
    assert found[:, :17, :5].all()
    whole = np.ones((16, 32), np.int8)
    assert card.padded(np, whole) is whole


# -- products, on a made-up card ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("stack", "m", "k", "n"), [((), 5, 7, 3), ((), 1, 33, 16), ((2, 3), 4, 16, 5), ((), 3, 1, 1)])
def test_a_card_multiplies_what_is_emulated(precision, stack, m, k, n, monkeypatch):
    """Operands are the same, so that sums differ by their order alone: k or m terms of float32, and one rounding."""
    lt = fake_card.install(monkeypatch)
    here, there = gpu(precision), gpu(precision, array="cupy")
    w, x, dy = (normal(*stack, *shape, seed=i) for i, shape in enumerate([(k, n), (m, k), (m, n)]))
    if precision == "int8":  # nearest, so that both round alike: generators of libraries differ
        for device in (here, there):
            monkeypatch.setattr(
                type(device), "_rounding", lambda self, tile, stream: np.random.Generator(np.random.Philox(1))
            )
    tiles = [device.program(w, name="w") for device in (here, there)]
    for run in ("forward", "backward", "gradient"):
        found = []
        for device, tile in zip((here, there), tiles, strict=True):
            operands = {"forward": (x,), "backward": (dy,), "gradient": (x, dy)}[run]
            found.append(np.asarray(getattr(tile, run)(*map(device.asarray, operands))))
        assert found[0].shape == found[1].shape
        assert found[0].dtype == found[1].dtype
        unit = 0 if run == "gradient" else here.policy.output.epsilon  # a sum that ends on the other side of a tie
        bound = unit * np.abs(found[0]).max() + 2.0**-23 * max(m, k, n) * np.abs(found[0]).max()
        assert np.abs(found[0] - found[1]).max() <= bound, run
    assert lt.products == (3 if precision == "fp8" else 0)
    assert not lt.made  # every layout and product is given back


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_of_two_changing_operands(precision, monkeypatch):
    fake_card.install(monkeypatch)
    here, there = gpu(precision), gpu(precision, array="cupy")
    from hwsim.ledger import Ledger

    a, b = normal(2, 4, 6), normal(2, 6, 5, seed=1)
    for error in ("", "a", "b"):
        found = [
            np.asarray(device.multiply(device.asarray(a), device.asarray(b), ledger=Ledger(), gradient=error))
            for device in (here, there)
        ]
        assert np.abs(found[0] - found[1]).max() <= (here.policy.output.epsilon + 2.0**-20) * np.abs(found[0]).max()


def test_int8_sums_are_exact(monkeypatch):
    """127 x 127 x 4096 = 66064384 > 2^24: float32 sums of odd numbers beyond 2^24 would lose the last bit."""
    fake_card.install(monkeypatch)
    device = gpu("int8", array="cupy")
    x = np.full((1, 4097), 127, np.float32)
    w = np.full((4097, 1), 127, np.float32)
    x[0, 0] = w[0, 0] = 1  # 1 + 4096 x 16129
    left, right = (
        card.Packed(device.asarray(each).astype(np.int8), "int8", device.asarray(np.float32(1))) for each in (x, w)
    )
    sums = card.gemm(
        device.xp, card.padded(device.xp, left.codes), card.padded(device.xp, right.codes), "int8", np.int32
    )
    assert int(sums[0, 0]) == 1 + 4096 * 16129


@pytest.mark.parametrize("precision", PRECISIONS)
def test_updates_repack_the_weights_and_checkpoints_keep_them(precision, monkeypatch):
    fake_card.install(monkeypatch)
    device = gpu(precision, array="cupy")
    tile = device.program(normal(6, 4), name="w")
    before = np.asarray(tile.forward(device.asarray(normal(3, 6))))
    tile.update(device.asarray(np.full((6, 4), 0.5, np.float32)))
    after = np.asarray(tile.forward(device.asarray(normal(3, 6))))
    assert np.abs(before - after).max() > 0.01
    other = device.program(normal(6, 4, seed=5), name="v")
    other.load(tile.save())
    other.state = {key: value.view(fake_card.CardArray) for key, value in other.state.items()}
    assert_array_equal(np.asarray(other.forward(device.asarray(normal(3, 6)))), after)


def test_no_rows_are_no_product(monkeypatch):
    fake_card.install(monkeypatch)
    device = gpu("bf16", array="cupy")
    tile = device.program(normal(6, 4), name="w")
    nothing = device.asarray(np.zeros((0, 6), np.float32)), device.asarray(np.zeros((0, 4), np.float32))
    assert tile.forward(nothing[0]).shape == (0, 4)
    assert not np.asarray(tile.gradient(*nothing)).any()


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "capability", "refused"),
    [
        ("fp8", "80", r"\(compute capability 8\.0\) has fp64, fp32, fp16, int8, tf32, bf16; take one of these"),
        ("bf16", "70", r"\(compute capability 7\.0\) has fp64, fp32, fp16, int8; "),
        ("mxfp8", "100", "products of blocks that share a scale are not done on a card; take one of fp64, fp32,"),
    ],
)  # fmt: skip
def test_what_the_card_lacks_is_refused_and_never_emulated(precision, capability, refused, monkeypatch):
    fake_card.install(monkeypatch, fake_card.Card(capability=capability))
    preset = "b200" if precision == "mxfp8" else "h100"
    with pytest.raises(DeviceError, match=refused):
        Gpu.create(preset, {"precision": precision, "array": "cupy"})
    assert Gpu.create(preset, {"precision": precision}).policy.name == precision


def test_a_variable_that_turns_fp32_into_tf32_is_refused(monkeypatch):
    fake_card.install(monkeypatch)
    monkeypatch.setenv("CUPY_TF32", "1")
    with pytest.raises(DeviceError, match="CUPY_TF32 makes it tf32"):
        gpu("fp32", array="cupy")
    assert gpu("bf16", array="cupy").on_card
    monkeypatch.setenv("CUPY_TF32", "0")
    assert not gpu("fp32", array="cupy").on_card  # CuPy's own product is float32


def test_a_status_of_cublaslt_is_said(monkeypatch):
    lt = fake_card.install(monkeypatch)
    lt.cublasLtMatmul = lambda *arguments: fake_card.NOT_SUPPORTED
    tile = gpu("fp8", array="cupy").program(normal(6, 4), name="w")
    with pytest.raises(DeviceError, match=r"cublasLtMatmul answers status 15 .*; take precision=bf16 or array=numpy"):
        tile.forward(tile.device.asarray(normal(3, 6)))
    assert not lt.made


def test_who_multiplies_is_said(monkeypatch):
    fake_card.install(monkeypatch)
    assert gpu("bf16").policy.describe().endswith("; emulated: float32 products of rounded operands")
    assert (
        gpu("bf16", array="cupy").policy.describe().endswith("; multiplied by the card in this machine, through cuBLAS")
    )
    assert gpu("fp8", array="cupy").policy.describe().endswith("through cublasLt")
    assert gpu("fp32").policy.describe() == policy("fp32").describe()
    assert math.isclose(gpu("bf16").contract.forward, gpu("bf16", array="cupy").contract.forward)
