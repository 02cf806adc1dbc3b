"""The digital processor: energies and times by hand, what streams from dynamic RAM, and what it refuses."""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest

from hwsim import library
from hwsim.arrays import Shape
from hwsim.cost import Component, Elementwise, Kind, Product, Role, Use
from hwsim.device import Device
from hwsim.devices.digital import Digital
from hwsim.errors import DeviceError
from hwsim.ledger import Ledger

PRODUCTS = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT, Kind.PRODUCT)
MOVES = (Kind.PROGRAM, Kind.READ, Kind.UPDATE)


def digital(preset: str | None = None, **parameters: object) -> Digital:
    return Digital.create(preset, parameters)


def energy_j(device: Digital, op: Product | Elementwise) -> float:
    uses = device.uses(op) or {}
    return sum(use.actions * device.components[name].quantity("energy_j").nominal for name, use in uses.items())


def time_s(device: Digital, op: Product | Elementwise) -> float:
    uses = device.uses(op) or {}
    times = [u.actions / u.units * device.components[c].quantity("time_s").nominal for c, u in uses.items()]
    return max(times, default=0.0)


# -- by hand


def test_an_int8_layer_by_hand() -> None:
    device = digital("int8")  # 28 nm, 16 x 16 lanes, 700 MHz, 256 KB
    m, k, n = 64, 512, 256  # x 32 KB + w 128 KB + y (fp32) 64 KB = 224 KB: fits in 256 KB
    uses = device.uses(Product(Kind.FORWARD, m, k, n))
    assert uses is not None
    macs = m * k * n  # 8,388,608
    actions = {name: use.actions for name, use in uses.items()}
    assert actions == {
        "mac": macs,
        "register": macs * (8 + 8 + 32),  # both operands and an int32 sum
        # x once per 16 columns of y, w once per 16 rows of y: 1 bit a MAC; x in fp32 to make its codes: 1/8 bit a MAC
        "sram_read": 8 * (m * k * 16 + k * n * 4) + 32 * m * k,
        "sram_write": 32 * m * n + 8 * m * k,  # results 1/16 bit a MAC, codes 1/32
        "alu": m * k + m * n,  # a scale off each input and onto each result
    }
    # 64 / 16 x 256 / 16 = 64 blocks of 512 cycles, and 16 + 16 to fill: 32,800 cycles at 700 MHz
    assert time_s(device, Product(Kind.FORWARD, m, k, n)) == pytest.approx(32_800 / 7e8)
    assert uses["mac"].units == pytest.approx(macs / 32_800)  # 255.75 of 256 lanes are busy

    picojoule = {name: 1e12 * device.components[name].quantity("energy_j").nominal for name in actions}
    assert picojoule["mac"] == pytest.approx(0.3 * 0.5132, rel=1e-3)  # Horowitz 0.2 + 0.1, x Stillmaker-Baas
    factor = 0.5132 / 0.6593 ** (math.log(45 / 40) / math.log(45 / 32))  # 40 to 28 nm: 0.5926
    assert picojoule["register"] == pytest.approx(0.009 * factor, rel=1e-3)  # 0.00533 pJ/bit
    # CACTI law at 1 KB: 0.0191 at 32 nm, 0.00833 at 22 nm; at 28 nm 0.01421; x 256^0.517 = 17.58: 0.2498 pJ/bit
    at_28nm = 0.0191 * (0.00833 / 0.0191) ** (math.log(32 / 28) / math.log(32 / 22))
    assert picojoule["sram_read"] == pytest.approx(at_28nm * 256**0.517, rel=1e-3)
    assert picojoule["alu"] == pytest.approx(4.6 * 0.5132 / 2, rel=1e-3)  # half a fp32 MAC

    # 0.154 + 48 x 0.00533 + 1.125 x 0.2498 + 0.09375 x 0.2248 + 0.00586 x 1.18
    # = 0.154 + 0.256 + 0.281 + 0.021 + 0.007
    per_mac = energy_j(device, Product(Kind.FORWARD, m, k, n)) / macs * 1e12
    assert per_mac == pytest.approx(0.719, rel=0.005)
    assert 0.2 < per_mac < 2


def test_a_first_generation_tpu_takes_about_what_was_measured() -> None:
    device = digital("tpu-v1")
    op = Product(Kind.FORWARD, 2048, 2048, 2048)  # 4 + 4 + 16 MB fit in 28 MB
    rate = op.macs / time_s(device, op)
    assert rate == pytest.approx(256 * 256 * 7e8, rel=0.01)  # 45.9e12 MAC/s: its 92 TOPS
    installed = device.installed(())
    static_w = sum(
        count * device.components[name].quantity("static_power_w").nominal for name, count in installed.items()
    )
    watts = energy_j(device, op) / time_s(device, op) + static_w
    assert 20 < watts < 80  # 40 W busy is reported (recalled); the model says 29 W


def test_static_power_by_hand() -> None:
    device = digital("int8")
    lane = device.components["mac"].quantity("static_power_w")
    assert lane.nominal == pytest.approx(0.15 * 0.154e-12 * 7e8, rel=1e-3)  # 16 uW
    assert lane.low < lane.nominal / 3
    assert lane.high > lane.nominal * 2.5
    assert device.installed(())["mac"] == 256
    assert device.components["sram_read"].quantity("static_power_w").nominal == pytest.approx(
        library.sram(256, 28).leakage.nominal
    )


def test_idle_power_by_hand() -> None:
    device = digital("int8")
    lane, memory = (device.components[name] for name in ("mac", "sram_read"))
    # Twenty times less than 16 uW (Tschanz et al.): 0.8 uW; a quarter of the memory's leakage (ReGate).
    assert lane.quantity("idle_power_w").nominal == pytest.approx(0.15 * 0.154e-12 * 7e8 / 20, rel=1e-3)
    assert memory.quantity("idle_power_w").nominal == pytest.approx(library.sram(256, 28).leakage.nominal / 4)
    for component in device.components.values():
        static, idle = component.quantity("static_power_w"), component.quantity("idle_power_w")
        assert idle.key == static.key, "drawn together"
        assert idle.low <= static.low
        assert idle.high <= static.high
    for quantity in (device.gated_fraction, device.retention_fraction):
        assert quantity.source
        assert 0 < quantity.low < quantity.nominal < quantity.high < 1


def test_a_host_that_waits_is_gated_and_keeps_its_memory() -> None:
    class Slow(Device):
        name = "slow"

        @property
        def components(self) -> Mapping[str, Component]:
            return {"array": Component(time_s=1e-3)}

        def activity(self, op: Product | Elementwise) -> Mapping[str, Use] | None:
            return {"array": Use(1)} if isinstance(op, Product) and op.kind is Kind.FORWARD else {}

    def idle_j(host: Digital) -> float:
        ledger = Ledger()
        Slow(host=host).program(Shape(4, 4), name="w", ledger=ledger).forward(Shape(2, 4))
        ledger.charge(host, Elementwise("relu", 8, 8, 32, 32))
        return float(ledger.energy(by=["device", "part"])[host.spec, "idle"])

    host = digital("int8")
    lane, memory = (host.components[name].quantity("static_power_w").nominal for name in ("mac", "sram_read"))
    ungated = idle_j(digital("int8", gated_fraction=1, retention_fraction=1))
    assert ungated == pytest.approx(1e-3 * (256 * lane + memory), rel=1e-9)  # 1 ms of all lanes and the memory
    assert idle_j(host) == pytest.approx(1e-3 * (256 * lane / 20 + memory / 4), rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "blocks", "inner", "left", "right"),
    [
        (Kind.FORWARD, 4 * 3, 80, 64 * 80 * 3, 80 * 40 * 4),  # y [64, 40] = x [64, 80] w [80, 40]
        (Kind.PRODUCT, 4 * 3, 80, 64 * 80 * 3, 80 * 40 * 4),
        (Kind.BACKWARD, 4 * 5, 40, 64 * 40 * 5, 40 * 80 * 4),  # dx [64, 80] = dy [64, 40] w' [40, 80]
        (Kind.GRADIENT, 5 * 3, 64, 80 * 64 * 3, 64 * 40 * 5),  # dw [80, 40] = x' [80, 64] dy [64, 40]
    ],
)
@pytest.mark.parametrize("stack", [1, 3])
def test_cycles_and_operand_reads_of_each_product(
    kind: Kind, blocks: int, inner: int, left: int, right: int, stack: int
) -> None:
    device = digital("fp32", sram_kb=4096)
    op = Product(kind, 64, 80, 40, stack)
    uses = device.uses(op)
    assert uses is not None
    assert uses["mac"].actions == op.macs
    cycles = uses["mac"].actions / uses["mac"].units
    assert cycles == pytest.approx(stack * blocks * inner + 32)
    assert uses["sram_read"].actions == stack * 32 * (left + right)
    assert set(uses) == {"mac", "register", "sram_read", "sram_write"}, "fp32 needs no scales, and all of it fits"


def test_a_block_that_is_not_filled_costs_what_a_full_one_does() -> None:
    device = digital()
    one, sixteen, seventeen = (time_s(device, Product(Kind.FORWARD, m, 64, 16)) for m in (1, 16, 17))
    assert one == sixteen < seventeen
    # few inner operands: a column needs 16 cycles to shift its results out
    assert time_s(device, Product(Kind.FORWARD, 16, 1, 16)) == pytest.approx((16 + 32) / 7e8)


# -- dynamic RAM


def test_what_fits_moves_nothing_off_the_chip_and_one_row_more_does() -> None:
    device = digital(sram_kb=64)  # 65,536 bytes
    k, n = 64, 64  # w: 16,384 bytes; each row of x and y: 512 bytes: (65,536 - 16,384) / 512 = 96 rows fit
    fits, spills = device.uses(Product(Kind.FORWARD, 96, k, n)), device.uses(Product(Kind.FORWARD, 97, k, n))
    assert fits is not None
    assert spills is not None
    assert "dram" not in fits
    assert spills["dram"].actions == 32 * (97 * k + k * n + 97 * n), "each operand and result once: w fills no half"


def test_weights_larger_than_static_ram_stream_from_dynamic_ram() -> None:
    device = digital("int8")  # 256 KB
    m, k, n = 16, 1024, 1024  # w: 1 MB in int8; x: 16 KB, which stays
    uses = device.uses(Product(Kind.FORWARD, m, k, n))
    assert uses is not None
    read, written = 8 * (m * k + k * n), 32 * m * n
    assert uses["dram"].actions == read + written
    resident = 8 * (m * k * 64 + k * n * 1)
    # To make codes of x, it is read in fp32 and written in int8.
    assert uses["sram_read"].actions == resident + written + 32 * m * k, "results leave through static RAM"
    assert uses["sram_write"].actions == written + read + 8 * m * k, "operands arrive through it"
    # memory: 1 MB + 16 KB + 64 KB at 22.5 GB/s = 50.2 us; array: 64 blocks of 1024 cycles and 32 = 93.7 us: it binds
    assert time_s(device, Product(Kind.FORWARD, m, k, n)) == pytest.approx(
        max((read + written) / 8 / 22.5e9, (64 * 1024 + 32) / 7e8)
    )
    streamed = energy_j(device, Product(Kind.FORWARD, m, k, n))
    assert streamed > energy_j(digital("int8", sram_kb=2048), Product(Kind.FORWARD, m, k, n))


def test_large_products_are_read_in_blocks() -> None:
    device = digital()
    size = 2048  # 16 MB each, half of 256 KB is 1,048,576 bits: blocks of 32,768 sums, 181 x 181
    uses = device.uses(Product(Kind.FORWARD, size, size, size))
    assert uses is not None
    assert math.ceil(size / math.sqrt(32_768)) == 12
    assert uses["dram"].actions == 32 * size * size * (12 + 12 + 1), "both operands 12 times, results once"


def test_a_convolution_fetches_its_distinct_inputs_alone() -> None:
    device = digital(sram_kb=16)
    plain = Product(Kind.FORWARD, 1024, 9, 8)
    lowered = Product(Kind.FORWARD, 1024, 9, 8, x_values=1156)  # 34 x 34 inputs, each in up to 9 windows
    bits = [uses["dram"].actions for uses in (device.uses(plain), device.uses(lowered)) if uses is not None]
    assert bits[0] - bits[1] == 32 * (1024 * 9 - 1156)


def test_where_weights_live() -> None:
    device = digital("int8", sram_kb=16)
    small, large = 1000, 30_000  # masters and int8 copies: 5,000 and 150,000 bytes
    for kind in MOVES:
        near, far = device.uses(Product(kind, 0, small, 1)), device.uses(Product(kind, 0, large, 1))
        assert near is not None
        assert far is not None
        assert "dram" in far
        assert ("dram" in near) is (kind is Kind.PROGRAM), "weights come from off the chip once"
    update = device.uses(Product(Kind.UPDATE, 0, small, 1))
    assert update is not None
    assert update["alu"] == Use(2 * small, 16)  # add, and round to int8
    assert update["sram_read"].actions == 2 * 32 * small  # master and step
    assert update["sram_write"].actions == (32 + 8) * small  # master and int8 copy
    read = device.uses(Product(Kind.READ, 0, small, 1))
    assert read == {"sram_read": Use(32 * small, 32 * 32)}


# -- elementwise work


def test_elementwise_by_hand() -> None:
    device = digital()
    op = Elementwise("relu", 1000, 1000, 4000, 4000)
    assert device.uses(op) == {
        "alu": Use(1000, 16),
        "sram_read": Use(32_000, 32 * 32),
        "sram_write": Use(32_000, 32 * 16),
    }
    # 1000 x 1.18 pJ + 32,000 x 0.2498 pJ + 32,000 x 0.2248 pJ = 1.18 + 7.99 + 7.19 nJ
    assert energy_j(device, op) == pytest.approx(16.37e-9, rel=0.005)
    assert time_s(device, op) == pytest.approx(1000 / 16 / 7e8)


def test_elementwise_work_that_does_not_fit_streams_once() -> None:
    device = digital()
    half = 256 * 1024 // 2
    fits = device.uses(Elementwise("add", 1, 1, half, half))
    spills = device.uses(Elementwise("add", 1, 1, half, half + 1))
    assert fits is not None
    assert spills is not None
    assert "dram" not in fits
    assert spills["dram"].actions == 8 * (2 * half + 1)
    assert spills["sram_read"].actions == spills["sram_write"].actions == 8 * (2 * half + 1)


def test_moving_values_costs_memory_alone() -> None:
    device = digital()
    uses = device.uses(Elementwise("move", 10, 0, 40, 40))
    assert uses is not None
    assert uses["alu"].actions == 0
    assert energy_j(device, Elementwise("move", 10, 0, 40, 40)) > 0


# -- what it answers


def test_operations_refused() -> None:
    device = digital()
    for op in (
        Elementwise("device", 10, 0, 0, 0),
        Elementwise("device_backward", 10, 0, 0, 0),
        Product(Kind.UPDATE_OUTER, 8, 4, 4),
        Product(Kind.RELEASE, 8, 4, 4),
    ):
        assert device.uses(op) is None
    with pytest.raises(DeviceError):
        device.who(Elementwise("device", 10, 0, 0, 0))


@pytest.mark.parametrize("preset", sorted(Digital.presets()))
def test_every_preset_answers_every_operation(preset: str) -> None:
    device = digital(preset)
    for kind in (*PRODUCTS, *MOVES):
        uses = device.uses(Product(kind, 32, 64, 10, 2))
        assert uses is not None
        for name, use in uses.items():
            assert math.isfinite(use.actions)
            assert use.actions >= 0
            assert 0 < use.units < math.inf, name
    assert device.components["dram"].role is Role.OFF_CHIP_MEMORY
    assert device.components["sram_read"].role is Role.ON_CHIP_MEMORY
    for component in device.components.values():
        energy = component.quantity("energy_j")
        assert energy.source
        assert 0 < energy.low < energy.nominal < energy.high


@pytest.mark.parametrize("kind", PRODUCTS)
def test_no_rows_cost_nothing(kind: Kind) -> None:
    device = digital()
    assert device.uses(Product(kind, 0, 5000, 5000)) == {}
    assert energy_j(device, Elementwise("add", 0, 0, 0, 0)) == 0


@pytest.mark.parametrize("kind", PRODUCTS)
@pytest.mark.parametrize("preset", ["fp32", "int8"])
def test_more_rows_never_cost_less(kind: Kind, preset: str) -> None:
    device = digital(preset, sram_kb=8)
    rows = [*range(40), 50, 64, 100, 128, 129, 200, 256, 500, 1000, 2000]
    for k, n, stack in [(1, 1, 1), (3, 700, 1), (64, 64, 4), (300, 10, 1), (1000, 700, 2)]:
        ops = [Product(kind, m, k, n, stack) for m in rows]
        for fewer, more in pairwise(ops):
            assert energy_j(device, fewer) <= energy_j(device, more)
            assert time_s(device, fewer) <= time_s(device, more) * (1 + 1e-12)
            less, greater = device.uses(fewer), device.uses(more)
            assert less is not None
            assert greater is not None
            assert all(use.actions <= greater[name].actions for name, use in less.items())


@pytest.mark.parametrize("preset", ["fp32", "int8"])
def test_a_run_is_charged_as_its_shapes_are(preset: str) -> None:
    device = digital(preset)
    w, x, dy = np.ones((6, 5)), np.ones((4, 6)), np.ones((4, 5))
    run, trace = Ledger(), Ledger()
    for ledger, arrays in ((run, (w, x, dy)), (trace, [Shape(*a.shape) for a in (w, x, dy)])):
        tile = device.program(arrays[0], name="fc", ledger=ledger)
        tile.forward(arrays[1])
        tile.backward(arrays[2])
        tile.update(tile.gradient(arrays[1], arrays[2]))
        tile.read()
    assert run.calls == trace.calls
    assert run.energy_j == trace.energy_j > 0
    low, nominal, high = run.interval(draws=200)[()]
    assert low < nominal < high


def test_fp32_is_exact_and_int8_is_close() -> None:
    generator = np.random.default_rng(0)
    w, x = generator.standard_normal((40, 30)), generator.standard_normal((20, 40))
    exact = x @ w
    for preset, error in (("fp32", 1e-6), ("int8", 0.03)):
        y = digital(preset).program(w, name="fc").forward(digital(preset).asarray(x))
        assert np.sqrt(np.mean((y - exact) ** 2) / np.mean(exact**2)) < error


# -- parameters


def test_better_nodes_and_narrower_formats_take_less() -> None:
    op = Product(Kind.FORWARD, 64, 256, 128)
    for a, b in pairwise([digital("int8", node_nm=node) for node in (7, 16, 28, 45, 65)]):
        assert energy_j(a, op) < energy_j(b, op)
    for x, y in pairwise([digital(precision=p) for p in ("int8", "fp8", "bf16", "fp16", "tf32", "fp32", "fp64")]):
        assert energy_j(x, op) < energy_j(y, op)


@pytest.mark.parametrize(
    ("precision", "units"), [("fixed4.4", "int8"), ("fixed4.12", "int16"), ("fixed8.12", "int32"), ("fp8", "fp8")]
)
def test_fixed_point_runs_on_integer_units(precision: str, units: str) -> None:
    device = digital(precision=precision)
    assert device.mac_format == units
    assert device.components["mac"].quantity("energy_j") == library.mac(units, 28)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"precision": "fp12"}, "fp12"),
        ({"node_nm": 3}, "from 5 to 130 nm"),
        ({"dram": "core"}, "needs one of ddr4"),
        ({"rows": 0}, "rows=0"),
        ({"gated_fraction": 1.1}, "needs a finite value from 0 to 1"),
        ({"retention_fraction": 2}, "needs a finite value from 0 to 1"),
        ({"lanes": 4}, "has no parameter 'lanes'"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, object], says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        digital(None, **parameters)


def test_another_memory_brings_its_own_bandwidth() -> None:
    slow, fast = digital(dram="lpddr4"), digital(dram="hbm3")
    assert slow.components["dram"].quantity("time_s").nominal == pytest.approx(1 / (8 * 22.5e9))
    assert fast.components["dram"].quantity("time_s").nominal == pytest.approx(1 / (8 * 721e9))
    assert fast.components["dram"].quantity("energy_j") == library.dram("hbm3")
