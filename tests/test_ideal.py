"""The ideal device: exact products, deterministic, and free."""

import pickle

import numpy as np
import pytest

from hwsim.arrays import Shape
from hwsim.cost import Elementwise, Kind, Product
from hwsim.devices.ideal import Ideal
from hwsim.errors import DeviceError
from hwsim.ledger import Ledger

FREE = (
    Kind.PROGRAM,
    Kind.READ,
    Kind.FORWARD,
    Kind.BACKWARD,
    Kind.GRADIENT,
    Kind.UPDATE,
    Kind.UPDATE_OUTER,
    Kind.PRODUCT,
)


def operands(dtype, m=5, k=7, n=3):
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((k, n), (m, k), (m, n), (k, n)))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", np.float32), ("fp64", np.float64)])
def test_products_are_numpys_bit_for_bit(precision, dtype):
    w, x, dy, step = operands(dtype)
    tile = Ideal(precision=precision).program(w, name="w")
    assert np.array_equal(tile.read(), w)
    assert np.array_equal(tile.forward(x), x @ w)
    assert np.array_equal(tile.backward(dy), dy @ w.T)
    assert np.array_equal(tile.gradient(x, dy), x.T @ dy)
    tile.update(step)
    assert tile.read().dtype == dtype
    assert np.array_equal(tile.read(), w + step)


@pytest.mark.parametrize("m", [1, 5])
def test_a_rank_m_update_is_gradient_and_update_in_one(m):
    w, x, dy, _ = operands(np.float64, m=m)
    tile = Ideal(precision="fp64").program(w, name="w")
    tile.update_outer(x, dy, -0.1)
    assert np.allclose(tile.read(), w - 0.1 * x.T @ dy, rtol=0, atol=1e-14)  # values of order 1: a few roundings


def test_a_training_step_costs_nothing():
    ledger = Ledger()
    tile = Ideal().program(Shape(8, 4), name="w", ledger=ledger)
    tile.forward(Shape(2, 8))
    tile.backward(Shape(2, 4))
    tile.update_outer(Shape(2, 8), Shape(2, 4), -0.1)
    ledger.charge(tile.device, Elementwise("relu", 8, 8, 32, 32))
    assert ledger.time_s == 0.0
    assert ledger.energy_j == 0.0
    assert ledger.macs()[Kind.FORWARD] == ledger.macs()[Kind.BACKWARD] == 2 * 8 * 4


@pytest.mark.parametrize("kind", Kind)
def test_it_does_everything_but_release(kind):
    assert Ideal().activity(Product(kind, 2, 3, 4)) == ({} if kind in FREE else None)


def test_it_has_no_activation_of_its_own():
    assert Ideal().activity(Elementwise("softmax", 4, 20, 16, 16)) == {}
    with pytest.raises(DeviceError, match="no activation of its own"):
        Ideal().activation(4, name="a")


def test_it_is_its_own_host_and_promises_rounding_alone():
    device = Ideal()
    assert device.host_device is None
    assert device.contract.deterministic
    assert device.contract.rounding_bound
    assert 0 < device.contract.forward < 2e-5
    assert Ideal(precision="fp64").contract.forward <= device.contract.forward


def test_parameters_and_pickle():
    with pytest.raises(DeviceError, match="fp32, fp64"):
        Ideal(precision="bf16")
    with pytest.raises(DeviceError, match="no parameter 'noise'"):
        Ideal.create(None, {"noise": "1"})
    device = Ideal.create(None, {"precision": "fp64"})
    copy = pickle.loads(pickle.dumps(device))
    assert copy.spec == device.spec == "ideal:precision=fp64"
