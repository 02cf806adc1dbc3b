"""GPUs: published points, hand-computed energies, and what must hold of any card."""

import dataclasses
import math
import pickle
import time
from itertools import pairwise

import numpy as np
import pytest

from hwsim.arrays import Shape
from hwsim.cost import Certainty, Elementwise, Kind, Part, Product, Quantity, op_cost
from hwsim.devices.gpu import PRECISIONS, PRODUCTS, Gpu
from hwsim.devices.gpu.gemm import CANDIDATES, SPLITS, TILES, Gemm, fastest, kernel, least_traffic, time_s, traffic
from hwsim.errors import DeviceError
from hwsim.ledger import Ledger

CARDS = ("gtx580", "p100", "v100", "a100-40", "a100-80", "rtx4090", "h100", "h200", "b200")
BLOCKED = ("mxfp8", "mxfp6", "mxfp4", "nvfp4")
UNBLOCKED = tuple(precision for precision in PRECISIONS if precision not in BLOCKED)
HAS = {
    "gtx580": {"fp64", "fp32"},
    "p100": {"fp64", "fp32", "fp16"},
    "v100": {"fp64", "fp32", "fp16", "int8"},
    "a100-40": {"fp64", "fp32", "tf32", "bf16", "fp16", "int8"},
    "a100-80": {"fp64", "fp32", "tf32", "bf16", "fp16", "int8"},
    "rtx4090": set(UNBLOCKED),
    "h100": set(UNBLOCKED),
    "h200": set(UNBLOCKED),
    "b200": set(PRECISIONS),
}
ALL = [(card, precision) for card in CARDS for precision in PRECISIONS if precision in HAS[card]]


def gpu(card, precision="fp32", **parameters):
    return Gpu.create(card, {"precision": precision, **parameters})


def charged(device, *ops):
    """A ledger in which `device` did each of `ops` once."""
    ledger = Ledger()
    for op in ops:
        ledger.charge(device, op)
    return ledger


def cube(n):
    return Product(Kind.FORWARD, n, n, n)


def seconds(device, op):
    return charged(device, op).time_s


def rate(device, op):
    """Useful FLOP/s of one product."""
    return 2 * op.macs / seconds(device, op)


# -- presets ---------------------------------------------------------------------------------------------


def test_presets_are_these():
    assert set(Gpu.presets()) == set(CARDS)
    assert Gpu.create(None, {}).sms == 132  # H100 is the default


@pytest.mark.parametrize("card", CARDS)
def test_every_value_has_a_source_a_certainty_and_a_range(card):
    def quantities(value):
        if isinstance(value, dict):
            return [each for inner in value.values() for each in quantities(inner)]
        return [value] if isinstance(value, Quantity) else []

    preset = Gpu.presets()[card]
    assert preset["doc"]
    found = quantities(preset)
    assert len(found) == 13 + 2 * len(HAS[card])
    for quantity in found:
        assert len(quantity.source) > 3, quantity
        assert quantity.key, quantity
        if quantity.certainty is Certainty.ASSUMED:
            assert quantity.low < quantity.high, f"{quantity.key}: an assumption needs a range"
    assert set(preset["flop_per_s"]) == set(preset["flop_j"]) == HAS[card]


@pytest.mark.parametrize("card", CARDS)
def test_a_precision_that_the_card_lacks_is_refused_with_what_it_has(card):
    for precision in (*PRECISIONS, "fp4"):
        if precision in HAS[card]:
            assert gpu(card, precision).policy.name == precision
        else:
            with pytest.raises(DeviceError, match=f"precision='{precision}': this card has fp64, fp32"):
                gpu(card, precision)


def test_v100_says_what_it_has():
    with pytest.raises(DeviceError, match="this card has fp64, fp32, fp16, int8; take one of these"):
        gpu("v100", "fp8")


def test_unknown_presets_and_parameters_are_refused():
    with pytest.raises(DeviceError, match="h100"):
        Gpu.create("h1000", {})
    with pytest.raises(DeviceError, match=r"no parameter 'tdp'.*power_cap_w \[W\]"):
        Gpu.create("h100", {"tdp": "400"})
    with pytest.raises(DeviceError, match="set by presets"):
        Gpu.create("h100", {"flop_j": "1"})


def test_a_cap_that_leaves_nothing_for_work_is_refused():
    with pytest.raises(DeviceError, match="constant power of this card is 150 W"):
        gpu("h100", power_cap_w="200")
    assert gpu("h100", power_cap_w="400").power_cap_w.nominal == 400
    assert gpu("h100", power_cap_w="none").power_cap_w is None


@pytest.mark.parametrize("card", CARDS)
def test_pickle_keeps_everything(card):
    device = gpu(card, power_cap_w="380")
    copy = pickle.loads(pickle.dumps(device))
    assert copy.spec == device.spec == f"gpu:{card}:precision=fp32:power_cap_w=380"
    for field in dataclasses.fields(device):
        assert getattr(copy, field.name) == getattr(device, field.name)
    assert charged(copy, cube(100)).energy_j == charged(device, cube(100)).energy_j


# -- small products: launch and constant power ------------------------------------------------------------


@pytest.mark.parametrize(("card", "precision"), ALL)
def test_a_2x2x2_product_is_launch_and_constant_power(card, precision):
    ledger = charged(gpu(card, precision), cube(2))
    assert 4e-6 < ledger.time_s < 6.5e-6
    part = {group[0]: joules for group, joules in ledger.energy(by=["part"]).items()}
    total = ledger.energy_j
    assert (part[Part.LAUNCH] + part[Part.STATIC]) / total > 0.99
    assert part[Part.DYNAMIC] / total < 0.001


@pytest.mark.parametrize(("card", "expected_us"), [("h100", 5.0), ("gtx580", 6.0)])
def test_a_layer_of_the_digits_network_is_launch_and_fill(card, expected_us):
    device = gpu(card)
    assert device.launch_s.nominal + device.fill_s.nominal == pytest.approx(expected_us * 1e-6)
    # GTX 580: 16 tiles of 16 x 16 on 16 SMs, each as long as its operands: 32 x 32 (16 + 16) = 32,768 FLOP slots at
    # 0.70 x 1.581e12 / 16 = 6.92e10 a second: 0.47 us. The memory binds: 4 (64 64 + 64 32 + 64 32) = 32,768 B at
    # 0.88 x 192.4e9 = 1.69e11 B/s: 0.19 us; the L2 cache: 16 32 32 4 = 65,536 B at 2.6e11 B/s: 0.25 us.
    assert expected_us < seconds(device, Product(Kind.FORWARD, 64, 64, 32)) * 1e6 < 1.17 * expected_us


# -- large products ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "precision", "measured"),
    [
        ("h100", "bf16", 798e12),  # the point that the energy per FLOP was fitted to
        ("h200", "bf16", 788e12),  # the check: nothing was fitted to it
        ("a100-80", "bf16", 257e12),  # fitted
    ],
)
def test_8192_cubed_on_random_data(card, precision, measured):
    device = gpu(card, precision)
    assert rate(device, cube(8192)) == pytest.approx(measured, rel=0.10)
    assert list(charged(device, cube(8192)).time(by=["bound_by"]))[-1] == ("power cap",)


def test_8192_cubed_of_zeros_is_not_bound_by_power():
    # Measured on an H200 with zeros, which toggle nothing: 894 TFLOP/s; here a board without a cap.
    assert rate(gpu("h200", "bf16", power_cap_w="none"), cube(8192)) == pytest.approx(894e12, rel=0.03)


def test_gtx_580_cannot_run_at_full_rate_within_its_power():
    # Choi et al. 2013: 1.581e12 x 99.7e-12 = 158 W and 122 W make 280 W, over the 244 W of the board.
    device = gpu("gtx580", sustained_share=Quantity(1, 1, 1, "a perfect kernel", Certainty.ASSUMED))
    assert list(charged(device, cube(8192)).time(by=["bound_by"]))[-1] == ("power cap",)
    assert rate(device, cube(8192)) < 1.581e12 * (244 - 122) / 158


def test_n_cubed_against_the_reference_model():
    # Not measurements: predictions of an earlier model of the H100 in bf16 with guessed tile efficiencies.
    reference_us = {2: 4.6, 128: 4.9, 256: 5.2, 512: 5.9, 1024: 8.3, 2048: 26.4, 4096: 183, 8192: 1423}
    device = gpu("h100", "bf16")
    print("\n     n  reference us  here us   ratio")
    for n, microseconds in reference_us.items():
        here = seconds(device, cube(n)) * 1e6
        print(f"{n:6d}  {microseconds:12.1f}  {here:7.1f}  {here / microseconds:6.2f}")
        assert here == pytest.approx(microseconds, rel=0.15)


def test_energy_of_8192_cubed_by_hand():
    # m = k = n = 8192 in bf16 on an H100, tiles of 256 x 128: 32 x 64 = 2048 tiles in ceil(2048 / 132) = 16 waves.
    #   arithmetic  2 x 8192^3 = 1.09951e12 FLOP x 0.58 pJ                              = 0.63772 J
    #   L2          a: 8192 x 8192 x 2 B x 64 columns / 2 = 4.29497e9 B, b: 8192 x 8192 x 2 B x 32 rows / 2
    #               = 2.14748e9 B; 6.44245e9 B x 15 pJ                                  = 0.09664 J
    #   memory      3 x 8192^2 x 2 B = 4.02653e8 B x 60 pJ                              = 0.02416 J
    #   sum 0.75851 J; at 700 - 150 = 550 W that takes 1.37912 ms, longer than 16 x 2 x 256 x 128 x 8192 FLOP of an SM
    #   at 0.93 x 989.4e12 / 132 = 6.97077e12 a second, 1.2322 ms, and launch and fill, 5 us.
    #   constant    1.37912 ms x 150 W                                                  = 0.20687 J
    device = gpu("h100", "bf16")
    ledger = charged(device, cube(8192))
    joules = {group[0]: value for group, value in ledger.energy(by=["component"]).items()}
    assert device.kernel(cube(8192))[:5] == (256, 128, 1, 2048, 16)
    assert joules["flop"] == pytest.approx(0.63772, rel=1e-4)
    assert joules["l2_byte"] == pytest.approx(0.09664, rel=1e-4)
    assert joules["dram_byte"] == pytest.approx(0.02416, rel=1e-4)
    assert joules["board"] == pytest.approx(0.20687, rel=1e-4)
    assert ledger.time_s == pytest.approx(1.37912e-3, rel=1e-4)
    assert ledger.energy_j / ledger.time_s == pytest.approx(700)


# -- power cap --------------------------------------------------------------------------------------------


def test_a_cap_stretches_time_and_leaves_dynamic_energy():
    full, half = gpu("h100", "bf16"), gpu("h100", "bf16", power_cap_w="350")
    at_full, at_half = charged(full, cube(8192)), charged(half, cube(8192))
    assert at_half.energy(by=["part"])[Part.DYNAMIC,] == at_full.energy(by=["part"])[Part.DYNAMIC,]
    # (700 - 150) / (350 - 150) = 2.75
    assert at_half.time_s == pytest.approx(2.75 * at_full.time_s, rel=1e-6)
    assert at_half.energy_j > at_full.energy_j  # the constant power burns longer
    assert at_half.energy_j / at_half.time_s == pytest.approx(350)


@pytest.mark.parametrize(("card", "half"), [("gtx580", "160"), ("v100", "150"), ("a100-80", "200"), ("h100", "350")])
def test_dynamic_energy_does_not_depend_on_the_cap(card, half):
    for n in (2, 65, 300, 1000, 3000):
        free, capped = charged(gpu(card), cube(n)), charged(gpu(card, power_cap_w=half), cube(n))
        assert capped.energy(by=["part"])[Part.DYNAMIC,] == free.energy(by=["part"])[Part.DYNAMIC,]
        assert capped.time_s >= free.time_s


@pytest.mark.parametrize("card", CARDS)
def test_no_operation_draws_more_than_the_cap(card):
    device = gpu(card)
    copy = Elementwise("copy", 10**8, 0, 4 * 10**8, 4 * 10**8)
    heavy = Elementwise("gelu", 10**8, 10**11, 4 * 10**8, 4 * 10**8)
    for op in (cube(64), cube(1000), cube(8192), Product(Kind.UPDATE, 0, 4096, 4096), copy, heavy):
        ledger = charged(device, op)
        assert ledger.energy_j / ledger.time_s <= device.power_cap_w.nominal * (1 + 1e-12)


# -- memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("card", "measured"), [("h100", 3.0e12), ("h200", 4.3e12)])
def test_a_copy_runs_at_the_measured_bandwidth(card, measured):
    op = Elementwise("copy", 10**9, 0, 4 * 10**9, 4 * 10**9)
    assert 8e9 / seconds(gpu(card), op) == pytest.approx(measured, rel=0.10)


def test_elementwise_energy_by_hand():
    # 1e6 values with 5 FLOP each, 8 MB moved, on an H100: 5e6 x 8 pJ = 40 uJ; 8e6 x 60 pJ = 480 uJ;
    # 4 us + 8e6 B / (0.896 x 3.35e12 B/s) = 4 + 2.665 us at 150 W = 999.8 uJ.
    ledger = charged(gpu("h100"), Elementwise("gelu", 10**6, 5 * 10**6, 4 * 10**6, 4 * 10**6))
    joules = {group[0]: value for group, value in ledger.energy(by=["component"]).items()}
    assert joules["vector_flop"] == pytest.approx(40e-6)
    assert joules["dram_byte"] == pytest.approx(480e-6)
    assert joules["board"] == pytest.approx(999.8e-6, rel=1e-4)


def test_a_bias_is_added_while_the_product_is_written():
    uses = gpu("h100").activity(Elementwise("bias_add", 64 * 32, 64 * 32, 4 * (64 * 32 + 32), 4 * 64 * 32))
    assert {name: use.actions for name, use in uses.items()} == {"vector_flop": 2048, "dram_byte": 128}
    assert "launch" in gpu("h100").activity(Elementwise("bias_add_backward", 32, 64 * 32, 4 * 64 * 32, 4 * 32))


def test_vector_work_is_fp64_only_where_products_are():
    work = Elementwise("gelu", 10**8, 10**11, 0, 0)
    at = {precision: seconds(gpu("h100", precision), work) for precision in UNBLOCKED}
    assert len({at[precision] for precision in UNBLOCKED if precision != "fp64"}) == 1
    assert at["fp64"] > 1.9 * at["fp32"]


def bytes_of(device, kind, m, k, n, **more):
    return device.uses(Product(kind, m, k, n, **more))["dram_byte"].actions


def test_memory_traffic_is_every_operand_once():
    m, k, n = 7, 11, 13
    fp32, bf16, fp8 = (gpu("h100", precision) for precision in ("fp32", "bf16", "fp8"))
    for kind in PRODUCTS:
        assert bytes_of(fp32, kind, m, k, n) == 4 * (m * k + k * n + m * n)
    assert bytes_of(bf16, Kind.FORWARD, m, k, n) == 2 * (m * k + k * n + m * n)
    assert bytes_of(bf16, Kind.GRADIENT, m, k, n) == 2 * (m * k + m * n) + 4 * k * n  # into fp32 master gradients
    # fp8: dy is read in bf16 to be cast, written and read in fp8, for the gradient product, as of a first layer too;
    # x was cast before, as both operands of the backward product are, whose results leave in bf16.
    assert bytes_of(fp8, Kind.GRADIENT, m, k, n) == m * k + (2 + 1 + 1) * m * n + 4 * k * n
    assert bytes_of(fp8, Kind.BACKWARD, m, k, n) == m * n + k * n + 2 * m * k
    assert bytes_of(fp32, Kind.FORWARD, m, k, n, x_values=20) == 4 * (20 + k * n + m * n)
    assert bytes_of(fp32, Kind.FORWARD, m, k, n, stack=3) == 3 * 4 * (m * k + k * n + m * n)


def test_blocks_bring_their_scales_along():
    # mxfp4 on a B200, forward of m = 7, k = 40, n = 13: 40 values are a block of 32 and one of 8, a byte of scale each.
    #   x: 7 x 40 values of 4 bits, 140 B, and 7 x 2 scales, 14 B = 154 B; w: 260 B and 13 x 2 scales = 286 B
    #   y: 7 x 13 in bf16 = 182 B; making x: 560 B of bf16 read, 154 B written
    mxfp4 = gpu("b200", "mxfp4")
    assert bytes_of(mxfp4, Kind.FORWARD, 7, 40, 13) == (154 + 286 + 182) + (560 + 154)
    # backward: dy 7 x 13 of 4 bits and a scale a row, ceil(45.5 + 7) = 53 B; w: 260 B and 40 scales = 300 B
    #   dx: 7 x 40 in bf16 = 560 B
    assert bytes_of(mxfp4, Kind.BACKWARD, 7, 40, 13) == 53 + 300 + 560
    # gradient: blocks of 7 rows: x 140 B and 40 scales = 180 B, dy ceil(45.5 + 13) = 59 B, both also written before it;
    #   making dy: 182 B of bf16 read, and also written as the backward product reads it
    assert bytes_of(mxfp4, Kind.GRADIENT, 7, 40, 13) == 2 * (180 + 59) + 4 * 40 * 13 + (182 + 53)
    # nvfp4 has blocks of 16, three of them in 40 values: x 140 B and 7 x 3 = 161 B, w 260 B and 13 x 3 = 299 B
    assert bytes_of(gpu("b200", "nvfp4"), Kind.FORWARD, 7, 40, 13) == (161 + 299 + 182) + (560 + 161)
    # mxfp6: x 7 x 40 x 6 bits = 210 B and 14 scales = 224 B, w 390 B and 26 scales = 416 B
    assert bytes_of(gpu("b200", "mxfp6"), Kind.FORWARD, 7, 40, 13) == (224 + 416 + 182) + (560 + 224)
    # an update reads and writes 4 B a weight, reads a step of 4 B, and writes weights blocked along k and along n
    assert bytes_of(mxfp4, Kind.UPDATE, 0, 40, 13) == 12 * 520 + 286 + 300
    assert bytes_of(mxfp4, Kind.PROGRAM, 0, 40, 13) == 4 * 520 + 286 + 300
    assert bytes_of(mxfp4, Kind.READ, 0, 40, 13) == 4 * 520
    # 17/32 B a value in blocks of 32, and 9/16 B in blocks of 16, on the way to the SMs
    assert mxfp4.gemm(cube(64)).operand_bytes == 17 / 32
    assert gpu("b200", "nvfp4").gemm(cube(64)).operand_bytes == 9 / 16


def test_weights_are_moved_in_the_master_format_with_a_copy_for_narrow_products():
    k, n = 11, 13
    for precision, update in (("fp32", 12), ("tf32", 12), ("bf16", 14), ("fp8", 13), ("fp64", 24)):
        device = gpu("h100", precision)
        assert bytes_of(device, Kind.UPDATE, 0, k, n) == update * k * n
        assert bytes_of(device, Kind.READ, 0, k, n) == (8 if precision == "fp64" else 4) * k * n
        assert device.uses(Product(Kind.UPDATE, 0, k, n))["launch"].actions == 1
    assert bytes_of(gpu("h100", "bf16"), Kind.PROGRAM, 0, k, n) == 6 * k * n


def test_what_it_does_not_do():
    device = gpu("h100")
    assert device.activity(Product(Kind.UPDATE_OUTER, 4, 4, 4)) is None
    assert device.activity(Product(Kind.RELEASE, 4, 4, 4)) is None
    assert device.activity(Elementwise("device", 4, 0, 0, 0)) is None
    assert device.activity(Elementwise("device_backward", 4, 0, 0, 0)) is None
    assert device.host_device is None


def test_no_rows_are_a_launch():
    device = gpu("h100")
    for kind in PRODUCTS:
        ledger = charged(device, Product(kind, 0, 64, 32))
        assert device.launch_s.nominal <= ledger.time_s < 1.01 * device.launch_s.nominal


# -- tiles and waves --------------------------------------------------------------------------------------


def test_a_wave_just_over_full_halves_the_efficiency():
    speeds = gpu("h100").speeds

    def share(tiles):
        gemm = Gemm(256 * tiles, 4096, 128, 1, 4, 0)
        found = kernel(gemm, speeds, 256, 128, 1)
        return 2 * gemm.m * gemm.k * gemm.n / found.slot_flops

    assert share(132) == 1.0
    assert share(133) == pytest.approx(133 / 264)
    assert share(264) == 1.0


def test_efficiency_is_not_monotone_in_size_even_with_the_best_tile():
    # 132 tiles of 128 x 128, then one row of the result more; without a cap, which would hide it.
    device = gpu("h100", power_cap_w="none")
    full, over = Product(Kind.FORWARD, 128 * 132, 8192, 128), Product(Kind.FORWARD, 128 * 132 + 1, 8192, 128)
    assert rate(device, full) > 0.91 * 66.9e12
    assert rate(device, over) < 0.85 * rate(device, full)
    rates = [rate(device, Product(Kind.FORWARD, m, 8192, 128)) for m in range(4096, 65536, 509)]
    falls = sum(later < earlier for earlier, later in pairwise(rates))
    assert falls > 10  # of 120: every wave begun is a step back


M_VALUES = sorted({*range(300), *range(300, 40000, 997), *(2**i + d for i in range(8, 22) for d in (-1, 0, 1))})
SHAPES = ((64, 32), (27, 64), (784, 300), (4096, 128), (2048, 8192))


@pytest.mark.parametrize(
    ("card", "precision", "cap"),
    [("h100", p, None) for p in UNBLOCKED]
    + [("b200", p, None) for p in BLOCKED]
    + [("h100", "bf16", "270"), ("h100", "bf16", "none"), ("v100", "fp16", None), ("v100", "fp32", "150")]
    + [("gtx580", "fp32", None), ("a100-80", "tf32", None), ("rtx4090", "fp8", None)],
)
def test_more_rows_never_take_less_time_or_energy(card, precision, cap):
    device = gpu(card, precision, **({"power_cap_w": cap} if cap else {}))
    rates = Ledger().rates(device)  # no tiles: the board is one unit all the same
    power = device.active_power_w.nominal
    for kind in PRODUCTS:
        for k, n in SHAPES[:3] if kind is Kind.PRODUCT else SHAPES:
            stack = 12 if kind is Kind.PRODUCT else 1
            costs = [op_cost(device.activity(Product(kind, m, k, n, stack)), rates) for m in M_VALUES]
            times = [cost.time_s for cost in costs]
            energies = [sum(cost.energy_j.values()) + power * cost.time_s for cost in costs]
            assert all(earlier <= later for earlier, later in pairwise(times)), (kind, k, n)
            assert all(earlier <= later for earlier, later in pairwise(energies)), (kind, k, n)


def test_the_kernel_is_chosen_by_what_the_ledger_charges():
    for card, precision in (("h100", "bf16"), ("gtx580", "fp32"), ("v100", "fp16")):
        device = gpu(card, precision, power_cap_w="none")
        for op in (cube(2), cube(300), cube(4096), Product(Kind.GRADIENT, 10**6, 27, 64)):
            chosen = time_s(device.gemm(op), device.kernel(op), device.speeds)
            assert chosen == op_cost(device.uses(op), Ledger().rates(device)).time_s


def test_the_kernel_is_the_best_of_all():
    rng = np.random.default_rng(3)
    speeds = gpu("h100", "bf16").speeds
    assert len(CANDIDATES) == len(TILES)
    for m, k, n in np.exp(rng.uniform(0, math.log(20000), (200, 3))).astype(int) + 1:
        gemm = Gemm(int(m), int(k), int(n), 1, 2, 2 * int(m * k + k * n + m * n))
        every = [kernel(gemm, speeds, *tile, split) for tile in TILES for split in SPLITS]
        allowed = [found for found in every if found.split == 1 or found.waves == 1]
        assert time_s(gemm, fastest(gemm, speeds), speeds) == min(time_s(gemm, each, speeds) for each in allowed)
        assert least_traffic(gemm, speeds.sharing) == min(traffic(gemm, speeds.sharing, *tile, 1) for tile in TILES)


def test_a_long_sum_is_split_over_the_chip():
    # The weight gradient of a first convolution, 27 x 64 summed over a million rows: at most 8 tiles, of 16 x 16, for
    # 132 SMs. Split, it is bound by memory: 2 B x 1e6 x (27 + 64) at 3.0 TB/s, 61 us.
    device = gpu("h100", "bf16")
    op = Product(Kind.GRADIENT, 10**6, 27, 64)
    found = device.kernel(op)
    assert (found.split, found.fills) == (64, 2)
    assert list(charged(device, op).time(by=["bound_by"]))[-1] == ("dram_byte",)
    gemm, speeds = device.gemm(op), device.speeds
    whole = min(time_s(gemm, kernel(gemm, speeds, *tile, 1), speeds) for tile in TILES)
    assert whole > 8 * seconds(device, op)


def test_a_lower_precision_is_never_slower_at_size():
    wide = ("fp64", "fp32", "tf32", "bf16")
    chains = [(card, (*wide, "fp8")) for card in ("h100", "h200", "a100-80", "rtx4090", "b200")]
    for card, chain in [*chains, ("b200", (*wide, "mxfp8", "mxfp6", "nvfp4", "mxfp4"))]:
        ordered = [precision for precision in chain if precision in HAS[card]]
        times = [seconds(gpu(card, precision), cube(4096)) for precision in ordered]
        assert times == sorted(times, reverse=True)


def test_activity_is_cheap():
    # Stated so that shape-only costing of a large network takes under a second; no benchmark, hence the margin.
    device = gpu("h100", "bf16")
    ops = [Product(Kind.FORWARD, m, 12288, 49152) for m in range(1, 1001)]
    start = time.perf_counter()
    for op in ops:
        device.activity(op)
    assert (time.perf_counter() - start) / len(ops) < 1e-3


# -- arithmetic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_keep_their_contract(precision):
    device = gpu("b200", precision)
    rng = np.random.default_rng(1)
    size = 512
    w, x, dy = (rng.standard_normal((size, size)) for _ in range(3))
    tile = device.program(w, name="w")
    contract = device.contract
    assert contract.rounding_bound
    for found, exact, claim in (
        (tile.forward(x), x @ w, contract.forward),
        (tile.backward(dy), dy @ w.T, contract.backward),
        (tile.gradient(x, dy), x.T @ dy, contract.gradient),
        (device.multiply(device.asarray(x), device.asarray(w), ledger=Ledger()), x @ w, contract.forward),
    ):
        error = np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))
        assert error < claim
        assert error > claim / 50 or precision in ("fp32", "fp64")  # a claim is no blank cheque


def test_a_run_costs_what_its_shapes_say():
    def step(w, x, dy):
        ledger = Ledger()
        tile = gpu("h100", "bf16").program(w, name="w", ledger=ledger)
        tile.forward(x)
        tile.backward(dy)
        tile.update_outer(x, dy, -0.1)
        tile.read()
        return ledger

    rng = np.random.default_rng(0)
    run = step(*(rng.standard_normal(shape) for shape in ((64, 32), (8, 64), (8, 32))))
    trace = step(Shape(64, 32), Shape(8, 64), Shape(8, 32))
    assert run.energy_j == trace.energy_j
    assert run.time_s == trace.time_s
    assert run.counts() == trace.counts()


@pytest.mark.parametrize("card", CARDS)
def test_totals_have_an_interval(card):
    ledger = charged(gpu(card), cube(2), cube(2048), Product(Kind.UPDATE, 0, 2048, 2048))
    low, nominal, high = ledger.interval()[()]
    assert 0.5 * nominal < low < nominal < high < 2.0 * nominal
    h100, h200 = (gpu(each, "bf16").components for each in ("h100", "h200"))
    assert h100["launch"].time_s.key == h200["launch"].time_s.key  # they vary together
