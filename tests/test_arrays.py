"""What is said where CuPy is not there, or cannot be used: each case with its own remedy, before any work."""

import sys
from types import SimpleNamespace

import pytest
from fake_card import Card, install

import hwsim
from hwsim import cli
from hwsim.arrays import namespace, version
from hwsim.errors import ConfigError


def said(monkeypatch: pytest.MonkeyPatch, cupy: object) -> str:
    """The error of asking for CuPy where `cupy` is what is imported by that name."""
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(ConfigError) as error:
        namespace("cupy")
    return str(error.value)


def failing(text: str) -> object:
    """A function that fails as CuPy's do."""

    def fail(*arguments: object, **keywords: object) -> None:
        raise RuntimeError(text)

    return fail


def test_no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, None)
    assert text.startswith("CuPy is not installed: pip install 'hwsim[cuda12]' or 'hwsim[cuda13]'")


def test_no_driver_no_card_and_a_hidden_card(monkeypatch: pytest.MonkeyPatch) -> None:
    # CuPy 14.2 without a driver: driverGetVersion() is 0, and getDeviceCount() fails.
    assert said(monkeypatch, Card(driver=0)).startswith(
        "CuPy finds no usable GPU: no NVIDIA driver answers; install it"
    )
    assert said(monkeypatch, Card(cards=0)).startswith(
        "CuPy finds no usable GPU: the driver lists none; see nvidia-smi"
    )
    hidden = Card()
    hidden.cuda.runtime.getDeviceCount = failing("cudaErrorNoDevice: no CUDA-capable device is detected")
    text = said(monkeypatch, hidden)
    assert text.startswith(
        "CuPy finds no usable GPU: cudaErrorNoDevice: no CUDA-capable device is detected; see nvidia-smi"
    )
    assert "CUDA_VISIBLE_DEVICES" in text
    broken = Card()
    broken.cuda.runtime.driverGetVersion = failing("cudaErrorUnknown: unknown error")
    assert said(monkeypatch, broken).startswith(
        "CuPy finds no usable GPU: cudaErrorUnknown: unknown error; see: nvidia-smi"
    )


def test_cupy_of_another_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, Card(built=13000, driver=12040))
    assert text.startswith(
        "CuPy 14.2.0 is for CUDA 13, and the driver knows only CUDA 12.4: update the driver, or pip "
    )
    assert "pip uninstall cupy-cuda13x and install the extra of hwsim for the driver's CUDA" in text
    assert version(12040) == "12.4"
    # CUDA 12.9 on a driver of 12.4, or of 13.0: drivers run what is older, and minor versions go together.
    for driver in (12040, 13000):
        card = Card(built=12090, driver=driver)
        monkeypatch.setitem(sys.modules, "cupy", card)
        assert namespace("cupy") is card


def test_cupy_without_the_libraries_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card()
    card.ones = failing('Failure finding "libcublasLt.so.13 or libcublasLt.so.12": No such file\\n\\nmore')
    text = said(monkeypatch, card)
    assert text.startswith('CuPy 14.2.0 finds a GPU and cannot compute on it: Failure finding "libcublasLt.so.13')
    assert text.endswith("it needs the libraries of CUDA 12: pip install 'hwsim[cuda12]'")


def test_cupy_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise ImportError("\n====\nFailed to import CuPy.\n") from OSError("libnvrtc.so.12: cannot open")

    monkeypatch.setattr("hwsim.arrays.importlib", SimpleNamespace(import_module=load))
    with pytest.raises(
        ConfigError, match=r"^cupy is installed and does not load: libnvrtc\.so\.12: cannot open; uninstall"
    ):
        namespace("cupy")


def test_a_missing_module_of_another_library_is_not_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hwsim.arrays.LIBRARIES, "mine", "no_such_module")
    with pytest.raises(ConfigError, match=r"array library 'mine' cannot be imported .*no_such_module"):
        namespace("mine")


def test_a_card_that_is_good_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    card, counted = Card(), []
    install(monkeypatch, card)
    card.cuda.runtime.getDeviceCount = lambda: counted.append(1) or 1
    for _ in range(3):
        assert namespace("cupy") is card
    assert len(counted) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--devices", "gpu:h100:array=cupy"],
        ["calibrate", "--device", "gpu"],
        ["train", "xor", "--device", "gpu:h100:array=cupy"],
    ],
)
@pytest.mark.parametrize("cupy", [None, Card(cards=0)])
def test_commands_say_it_before_any_work(
    words: list[str], cupy: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(sys, "argv", ["hwsim", *words])
    monkeypatch.setattr(hwsim.Network, "forward", lambda *arguments, **keywords: pytest.fail("it worked first"))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hwsim: CuPy is not installed" if cupy is None else "hwsim: CuPy finds no usable GPU")
    assert err.count("\n") == 1


def test_a_device_says_it_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ConfigError, match="CuPy is not installed"):
        hwsim.device("gpu:h100", array="cupy")
