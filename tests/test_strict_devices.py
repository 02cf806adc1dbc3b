"""Every built-in device, in every preset and level, on a library as strict as CuPy; and where it waits for the card."""

from collections import Counter

import numpy as np
import pytest
import strict_array

import hwsim
from hwsim import arrays, losses, registry
from hwsim.learning.backprop import backprop
from hwsim.models import mlp
from hwsim.nn import Network
from hwsim.optim import optimizer

X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1])
EXACT = ("ideal", "digital", "cpu", "gpu", "reversible")  # without noise: the same on every library
ALGORITHMS = ("sgd", "tiki-taka", "ttv2", "c-ttv2", "mixed", "verified")
FORMATS = ("fp64", "tf32", "bf16", "fp16", "fp8", "int8", "mxfp8", "mxfp6", "mxfp4", "nvfp4")
PARAMETERS = [
    *(f"optical:nitride:level={level}" for level in ("gemm", "mesh", "photon")),
    *(f"optical:{preset}:level=photon" for preset in ("mzi", "slm", "homodyne", "microring")),
    "optical:nitride:precision=fp64", "optical:homodyne:gradient_by=homodyne", "optical:mzi:mesh_kind=reck:level=mesh",
    *(f"crossbar:ecram:algorithm={algorithm}" for algorithm in ALGORITHMS),
    "crossbar:pcm:algorithm=mixed", "crossbar:pcm:algorithm=verified", "crossbar:pcm:compensation=global",
    *(f"crossbar:ecram:encoding={encoding}" for encoding in ("offset", "one-sided", "differential")),
    "crossbar:isaac:slice_bits=2", "crossbar:ecram:input_coding=integrated",
    *(f"gpu:b200:precision={name}" for name in FORMATS),
    "reversible:mode=gates", "reversible:checked=products", "reversible:scheme=naf:mode=gates",
]  # fmt: skip


def presets() -> list[str]:
    """Every device, with each of its presets."""
    names = {name: registry.device_class(name).presets() for name in registry.devices()}
    return [f"{name}:{preset}" for name, found in names.items() for preset in found] + [
        name for name, found in names.items() if not found
    ]


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second array library, as strict as CuPy."""
    monkeypatch.setitem(arrays.LIBRARIES, "strict", "strict_array")


def trained(device: str, array: str, steps: int = 2) -> tuple[list[float], Counter[str]]:
    """The losses of a tiny network, and where the last step waited."""
    net, mover = Network(mlp([6, 5, 3]), hwsim.device(device, array=array), seed=1), optimizer("sgd", 0.05)
    values = []
    for _ in range(steps):
        with strict_array.waits() as places:
            value = backprop(net, X, LABELS, losses.cross_entropy, mover)
        values.append(float(arrays.to_host(value)))
    return values, places


@pytest.mark.parametrize("device", [*presets(), *PARAMETERS])
def test_every_device_trains_on_another_library(device: str) -> None:
    values, _ = trained(device, "strict")
    assert np.isfinite(values).all()
    assert values[0] != values[1]  # the weights have moved
    stochastic = "int8" in device or "tpu" in device or "fp4" in device  # generators of libraries differ
    if device.partition(":")[0] in EXACT and not stochastic:
        assert values == pytest.approx(trained(device, "numpy")[0], rel=1e-6)


@pytest.mark.parametrize(
    "device", ["ideal", "digital:int8", "digital:fp8", "cpu", *(f"gpu:h100:precision={name}" for name in FORMATS[:6])]
)
def test_a_training_step_waits_for_nothing(device: str) -> None:
    assert not trained(device, "strict")[1]


@pytest.mark.parametrize("device", ["ideal", "digital:int8", "cpu", "gpu:h100:precision=fp8"])
def test_a_training_step_waits_for_the_finiteness_of_operands_alone(device: str) -> None:
    places = {place.partition(":")[0] for place in trained(device, "strict")[1]}
    assert places <= {"tile.py", "arrays.py"}


@pytest.mark.parametrize("device", ["crossbar:ecram", "crossbar:isaac", "crossbar:pcm"])
def test_keys_of_noise_are_drawn_on_the_processor(device: str) -> None:
    assert not {place for place in trained(device, "strict")[1] if "draw_key" in place}


# -- the stand-in itself -------------------------------------------------------------------------------------


def test_what_cupy_lacks_is_missing() -> None:
    for name in ("errstate", "frompyfunc", "nditer", "longdouble", "block", "cuda"):  # of NumPy, or of a card
        with pytest.raises(AttributeError, match=rf"CuPy 14\.2\.0 has no '{name}'"):
            getattr(strict_array, name)
    with pytest.raises(AttributeError, match=r"arrays of CuPy 14\.2\.0 have no 'setflags'"):
        _ = strict_array.zeros(2).setflags
    rng = arrays.generator(strict_array, 1)
    for name in ("normal", "choice", "permutation", "multinomial"):
        with pytest.raises(AttributeError, match=rf"the Generator of CuPy 14\.2\.0 has no '{name}'"):
            getattr(rng, name)
    with pytest.raises(TypeError, match=r"random of CuPy 14\.2\.0 has no argument shape"):
        rng.random(shape=3)
    with pytest.raises(TypeError, match=r"tri of CuPy 14\.2\.0 has no argument like"):
        strict_array.tri(3, like=None)
    with pytest.raises(AttributeError, match="no attribute 'svdvals'"):
        _ = strict_array.linalg.svdvals


def test_waits_are_seen() -> None:
    x = strict_array.asarray(np.array([1.0, 2.0]))
    looks = [
        lambda: float(x.sum()), lambda: bool(x.any()), lambda: int(x[0]), x.get, x.tolist, lambda: x[0].item(),
        lambda: x[x > 1], lambda: strict_array.nonzero(x),
    ]  # fmt: skip
    for look in looks:
        with strict_array.waits() as places:
            look()
        assert sum(places.values()) == 1, places
        assert next(iter(places)).startswith("test_strict_devices.py:")
    with strict_array.waits() as places:
        y = strict_array.where(x > 1, x @ x, 0.0)
        y[y > 1] = 3
        y += x.max()
    assert not places
