"""The processor: times and joules by hand, presets of files, and the conformance kit."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import hwsim
from hwsim import data, models
from hwsim.cost import Certainty, Elementwise, Kind, Product, Quantity
from hwsim.devices.cpu import Cpu, sides
from hwsim.errors import ConfigError, DeviceError, HwsimError
from hwsim.ledger import Ledger
from hwsim.run import Run
from hwsim.testing import check_device

MINE = """
[mine]
doc = "made up"
call_s = { nominal = 2, exact = true, unit = "us", certainty = "measured", source = "this test" }
precision = "fp64"
"""


def cpu(**parameters: object) -> Cpu:
    return Cpu.create(None, parameters)


def charged(device: Cpu, op: Product | Elementwise) -> Ledger:
    ledger = Ledger()
    ledger.charge(device, op)
    return ledger


def joules(ledger: Ledger, by: str) -> dict[str, float]:
    return {group[0]: value for group, value in ledger.energy(by=[by]).items()}


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_conformance(precision: str) -> None:
    assert check_device(lambda: cpu(precision=precision)).ok


def test_every_assumption_has_a_source_and_a_range() -> None:
    values = Cpu.presets()["generic"]
    quantities = [value for value in (*values.values(), *values["flop_per_s"].values()) if isinstance(value, Quantity)]
    assert len(quantities) == 12
    for quantity in quantities:
        assert quantity.certainty is Certainty.ASSUMED
        assert quantity.source
        assert quantity.high / quantity.low >= 10  # from a laptop to a server


# -- by hand -----------------------------------------------------------------------------------------------


def test_a_product_within_the_cache() -> None:
    # 64 x 128 x 256 in fp32: 2 x 2,097,152 FLOP at 300 GFLOP/s                        13.981 us
    #   packing 4 (64 x 128 + 128 x 256) = 163,840 B at 30 GB/s                          5.461 us
    #   cache 163,840 B and twice 4 x 64 x 256 = 65,536 B of results at 100 GB/s: 2.949 us, hidden
    #   call 1 us: 20.442 us in all, at 65 W: 1.3288 mJ
    ledger = charged(cpu(), Product(Kind.FORWARD, 64, 128, 256))
    assert ledger.time_s == pytest.approx(20.442e-6, rel=1e-4)
    assert ledger.energy_j == pytest.approx(1.3288e-3, rel=1e-4)
    assert joules(ledger, "component") == {"package": pytest.approx(1.3288e-3, rel=1e-4)}


def test_a_row_beyond_the_cache() -> None:
    # 1 x 4096 x 4096 in fp32: 4 (4096^2 + 4096) B read and 4 x 4096 B fetched and written = 67,158,016 B, above 32 MiB,
    # at 30 GB/s: 2238.60 us; nothing is packed; call 1 us. Package: 2239.60 us x 65 W = 145.57 mJ; DDR4: 67,158,016 B x
    # 8 x 20.3 pJ = 10.906 mJ.
    ledger = charged(cpu(), Product(Kind.FORWARD, 1, 4096, 4096))
    assert ledger.time_s == pytest.approx(2239.60e-6, rel=1e-5)
    found = joules(ledger, "component")
    assert found["package"] == pytest.approx(145.574e-3, rel=1e-4)
    assert found["memory_byte"] == pytest.approx(10.9065e-3, rel=1e-4)


def test_twice_the_bytes_and_half_the_rate_in_fp64() -> None:
    single, double = (cpu(precision=p).uses(Product(Kind.FORWARD, 64, 128, 256)) for p in ("fp32", "fp64"))
    assert single is not None
    assert double is not None
    assert double["pack"].actions == 2 * single["pack"].actions
    assert double["flop"] == single["flop"]
    rates = [cpu(precision=p).components["flop"].quantity("time_s").nominal for p in ("fp32", "fp64")]
    assert rates == pytest.approx([1 / 300e9, 1 / 150e9])


def test_sides_are_those_of_the_matrices() -> None:
    x, w, dy = np.ones((3, 5)), np.ones((5, 7)), np.ones((3, 7))
    for kind, left, right in ((Kind.FORWARD, x, w), (Kind.BACKWARD, dy, w.T), (Kind.GRADIENT, x.T, dy)):
        assert sides(Product(kind, 3, 5, 7)) == (*left.shape, right.shape[1])
        uses = cpu(precision="fp64").uses(Product(kind, 3, 5, 7))
        assert uses is not None
        assert uses["pack"].actions == left.nbytes + right.nbytes
        assert uses["cache_byte"].actions == left.nbytes + right.nbytes + 2 * (left @ right).nbytes


@pytest.mark.parametrize("kind", [Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT])
def test_one_row_is_not_packed(kind: Kind) -> None:
    assert "pack" not in (cpu().uses(Product(kind, 1, 5, 7)) or {})


def test_overlapping_inputs_and_stacks() -> None:
    # The rows of x share their 50 values, but lie in memory as 3 x 10 x 9 of them.
    uses = cpu().uses(Product(Kind.FORWARD, 10, 9, 4, stack=3, x_values=50))
    assert uses is not None
    assert uses["pack"].actions == 4 * (3 * 10 * 9 + 3 * 9 * 4)
    assert uses == cpu().uses(Product(Kind.FORWARD, 10, 9, 4, stack=3))
    gradient = cpu().uses(Product(Kind.GRADIENT, 10, 9, 4, stack=3, x_values=50))
    assert gradient is not None
    assert gradient["pack"].actions == 4 * 3 * (10 * 9 + 10 * 4)
    assert uses["flop"].actions == 2 * 3 * 10 * 9 * 4
    assert uses["call"].actions == 1


@pytest.mark.parametrize("kind", [Kind.PROGRAM, Kind.READ, Kind.UPDATE])
def test_weights_and_what_they_come_from_must_fit_the_cache(kind: Kind) -> None:
    # Weights and a step, or a copy, are two arrays: of a cache of 1 MiB, 2^17 values of 4 B fill a half each.
    device = cpu(cache_bytes=2**20)
    assert "pass_memory_byte" not in (device.uses(Product(kind, 0, 2**17, 1)) or {})
    assert "pass_memory_byte" in (device.uses(Product(kind, 0, 2**17 + 1, 1)) or {})


def test_values_are_read_once_and_results_fetched_and_written() -> None:
    uses = cpu().uses(Elementwise("tanh", 1000, 10_000, 4000, 4000))
    assert uses is not None
    assert {name: use.actions for name, use in uses.items()} == {
        "pass_call": 1, "vector_flop": 10_000, "pass_cache_byte": 12_000,
    }  # fmt: skip
    moved = {
        kind: (cpu().uses(Product(kind, 0, 10, 20)) or {})["pass_cache_byte"].actions
        for kind in (Kind.PROGRAM, Kind.READ, Kind.UPDATE)
    }
    # 200 weights of 4 B: copied (read, fetched, written), or moved in place (step and weights read, weights written).
    assert moved == {Kind.PROGRAM: 2400, Kind.READ: 2400, Kind.UPDATE: 2400}


def test_a_pass_beyond_the_cache() -> None:
    # 2^24 values of 4 B read and written: 2 x 64 MiB, above 32 MiB. Read once and written twice: 201,326,592 B at
    # 15 GB/s: 13421.8 us, longer than 2^24 FLOP at 10 GFLOP/s: 1677.7 us; call 2 us. DDR4: 201,326,592 B x 8 x 20.3 pJ
    # = 32.695 mJ.
    size = 2**24
    device = cpu(pass_memory_bytes_per_s=15e9, pass_call_s=2e-6)
    ledger = charged(device, Elementwise("relu", size, size, 4 * size, 4 * size))
    assert ledger.time_s == pytest.approx(13423.8e-6, rel=1e-5)
    assert joules(ledger, "component")["pass_memory_byte"] == pytest.approx(32.695e-3, rel=1e-4)


def test_passes_have_a_call_and_rates_of_their_own() -> None:
    device = cpu(pass_call_s=1.0, vector_flop_per_s=1.0, pass_cache_bytes_per_s=1.0, pass_memory_bytes_per_s=1.0)
    for product in (Product(Kind.FORWARD, 64, 128, 256), Product(Kind.FORWARD, 1, 4096, 4096)):
        assert charged(device, product).time_s == charged(cpu(), product).time_s
    tanh, update = Elementwise("tanh", 1000, 10_000, 4000, 4000), Product(Kind.UPDATE, 0, 2**24, 1)
    device = cpu(pack_bytes_per_s=1.0, cache_bytes_per_s=1.0, memory_bytes_per_s=1.0)
    assert charged(device, update).time_s == charged(cpu(), update).time_s
    assert charged(cpu(call_s=1.0), tanh).time_s == charged(cpu(), tanh).time_s
    # A move of weights is a hook of the device, and starts as a product does: 1 s more than 1 us.
    assert charged(cpu(call_s=1.0), update).time_s - charged(cpu(), update).time_s == pytest.approx(1 - 1e-6)


def test_waiting_takes_idle_power() -> None:
    package = cpu().components["package"]
    assert package.quantity("static_power_w").nominal == 65
    assert package.quantity("idle_power_w").nominal == 10


# -- presets -----------------------------------------------------------------------------------------------


def test_a_preset_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "of mine.toml"
    path.write_text(MINE)
    device = Cpu.create(f"{path}:mine", {"dram": "lpddr4"})
    assert device.call_s.nominal == 2e-6
    assert device.call_s.certainty is Certainty.MEASURED
    assert device.precision == "fp64"
    assert device.cache_bytes_per_s == cpu().cache_bytes_per_s  # generic fills in the rest
    assert re.fullmatch(rf"cpu:{re.escape(str(path))}:mine@[0-9a-f]{{8}}:dram=lpddr4", device.spec)
    assert hwsim.device(device.spec).spec == device.spec
    copy = pickle.loads(pickle.dumps(device))
    assert (copy.spec, copy.call_s) == (device.spec, device.call_s)
    assert Cpu.create(f"{path}:mine", {"precision": "fp32"}).precision == "fp32"


def test_a_file_that_was_written_anew_is_another_machine(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    before = Cpu.create(f"{path}:mine", {}).spec
    path.write_text(f"# moved, and with a line of comment\n{MINE}")
    assert Cpu.create(f"{path}:mine", {}).spec == before
    path.write_text(f'{MINE}dram = "lpddr4"\n')
    assert Cpu.create(f"{path}:mine", {}).spec != before
    with pytest.raises(DeviceError, match="the values in this file are others by now"):
        hwsim.device(before)


def test_training_does_not_go_on_with_another_machine(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "mine.toml", tmp_path / "run.npz"
    path.write_text(MINE)

    def trained(epochs: int, *, resume: bool) -> Run:
        device = hwsim.device(f"cpu:{path}:mine")
        return hwsim.fit(
            models.xor(), data.load("xor"), device, epochs=epochs, batch=4, checkpoint=checkpoint, resume=resume
        )

    trained(1, resume=False)
    path.write_text(MINE.replace("nominal = 2", "nominal = 3"))
    with pytest.raises(HwsimError, match="devices"):
        trained(2, resume=True)
    path.write_text(MINE)
    assert trained(2, resume=True).steps == 2


def test_files_without_that_preset_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(ConfigError, match=r"mine.toml cannot be read"):
        Cpu.create(f"{path}:mine", {})
    path.write_text(MINE)
    with pytest.raises(DeviceError, match=r"no preset in .*mine.toml called 'mime'; installed: mine; did you mean"):
        Cpu.create(f"{path}:mime", {})
    path.write_text(f"{MINE}tdp_w = 65\n")
    with pytest.raises(DeviceError, match=r"names a file but no preset; write cpu:.*mine.toml:NAME"):
        Cpu.create(str(path), {})
    with pytest.raises(DeviceError, match="has no parameter 'tdp_w'"):
        Cpu.create(f"{path}:mine", {})


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(DeviceError, match="precision='bf16': needs one of fp64, fp32"):
        cpu(precision="bf16")
    rates = {"fp32": Quantity(1e9, 1e10, 1e11)}
    with pytest.raises(DeviceError, match="this preset has rates of fp32 alone"):
        cpu(precision="fp64", flop_per_s=rates)
    with pytest.raises(DeviceError, match="no preset of 'cpu' called 'epyc'"):
        Cpu.create("epyc", {})
