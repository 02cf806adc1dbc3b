"""The device `reversible`: exact values, every gate run, costs by hand, garbage policies, and training near float."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import hwsim
from hwsim import arrays, models, registry
from hwsim.cost import Kind, Part, Product, Role, op_cost
from hwsim.devices.reversible import Reversible, gates, integers, ramps, work
from hwsim.devices.reversible.mac import mac_netlist
from hwsim.devices.reversible.netlist import Kind as Gate
from hwsim.errors import DeviceError, HwsimError, TrainingError
from hwsim.ledger import Ledger, TileShape
from hwsim.testing import check_device

GARBAGE = ("discard", "bennett")
SCHEMES = ("ctrl", "naf", "mask", "product")
PRODUCTS = (Kind.FORWARD, Kind.RELEASE, Kind.BACKWARD, Kind.GRADIENT)


def reversible(preset: str | None = None, **parameters: Any) -> Reversible:
    return Reversible.create(preset, parameters)


def near(value: Any, rel: float = 1e-9) -> Any:
    """Within a relative error alone: the absolute tolerance that pytest adds, 1e-12, is above most energies here."""
    return pytest.approx(value, rel=rel, abs=0)


def actions(device: Reversible, op: Product) -> dict[str, float]:
    return {name: use.actions for name, use in (device.uses(op) or {}).items()}


def energies_j(device: Reversible, op: Product) -> dict[str, float]:
    found = actions(device, op)
    return {name: count * device.components[name].quantity("energy_j").nominal for name, count in found.items()}


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- integers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "terms", "dtype"),
    [  # 2^(2 bits - 2) terms: 2^14 x 1024 = 2^24, and one more; 2^30 x 2^23 = 2^53; 2^38 x 2^15 = 2^53; 2^38 x 2^16
        (8, 1024, np.float32), (8, 1025, np.float64), (16, 1 << 23, np.float64),
        (20, 1 << 15, np.float64), (20, 1 << 16, np.int64), (2, 1 << 22, np.float32),
    ],
)  # fmt: skip
def test_sums_are_made_in_the_narrowest_type_that_holds_them(bits: int, terms: int, dtype: Any) -> None:
    assert integers.exact_type(np, bits, terms) is dtype


@pytest.mark.parametrize(("bits", "terms"), [(8, 1024), (8, 1025), (12, 4), (12, 5), (16, 4096), (20, 1 << 16)])
def test_products_at_the_bound_are_exact(bits: int, terms: int) -> None:
    """Operands of the largest magnitude, and odd ones next to them, against int64."""
    low = -(1 << bits - 1)
    rng = np.random.default_rng(bits + terms)
    a = np.concatenate((np.full((1, terms), low), rng.integers(low, low + 4, (3, terms))))
    b = np.concatenate((np.full((terms, 1), low), rng.integers(low, low + 4, (terms, 3))), axis=1)
    found = integers.product(np, a.astype(np.float64), b.astype(np.float64), bits)
    assert np.array_equal(found.astype(np.int64), a @ b)
    assert int(found[0, 0]) == terms << (2 * bits - 2)


def test_operands_by_hand() -> None:
    """1 / 127 = 0.00787 lies above 2^-7 = 0.0078125: the unit is 2^-6, so that 1 is 64 and -0.3 is -19.2."""
    found = integers.codes(np, np.array([1.0, -0.3, 0.0078125, 0.0234375], np.float32), 8, 4)
    assert found.unit == 2.0**-6
    assert found.integers.tolist() == [64, -19, 0, 2]  # 0.5 and 1.5 go to the even ones
    # 0.992 = 127 x 0.0078125: now 2^-7 is just enough
    assert integers.codes(np, np.array([0.9921875], np.float32), 8, 4) == (np.array([127.0]), 2.0**-7)
    assert integers.codes(np, np.zeros(3, np.float32), 8, 4).unit == 1


@pytest.mark.parametrize(
    ("most", "shift"),
    # 127 fits in 8 bits; 128 needs one bit less, as 64; 254 / 2 = 127; 255 / 2 rounds to 128, so that two bits go
    [(0, 0), (127, 0), (128, 1), (254, 1), (255, 2), (256, 2)],
)
def test_the_window_of_a_register(most: int, shift: int) -> None:
    assert integers.window(most, 8) == shift
    assert abs(integers.rounded(np.array([most, -most]), shift)).max() <= 127


def test_weights_by_hand() -> None:
    """The largest, 0.75, has 6 bits above it: units of 2^(6 + 1 - 24) = 2^-17, of 8 bits the last is 2^-7."""
    tile = reversible().program(np.array([[0.75, -0.3]], np.float32), name="w")
    assert tile.state["unit"] == 2.0**-17
    assert tile.state["register"].tolist() == [[98304, -39322]]  # 0.75 x 131072; -39321.6
    assert tile.state["codes"].tolist() == [[96, -38]]  # / 2^10: 96; -38.4
    x = np.array([[0.5]], np.float32)
    assert tile.forward(x).tolist() == [[0.5 * 96 / 128, 0.5 * -38 / 128]]
    assert tile.read().tolist() == [[0.75, -39322 / 131072]]


# -- gates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_running_every_gate_gives_the_bits_of_integer_arithmetic(scheme: str, bits: int) -> None:
    m, k, n, stack = 3, 7, 4, 2
    w, x, dy = (normal(stack, *shape, seed=i) for i, shape in enumerate([(k, n), (m, k), (m, n)]))
    found = []
    for mode in ("gates", "closed"):
        device = reversible(scheme=scheme, bits=bits, mode=mode, checked="products")
        tile = device.program(w, name="w")
        results = [tile.forward(x), tile.backward(dy), tile.gradient(x, dy), device.multiply(x, w, ledger=tile.ledger)]
        found.append(b"".join(result.tobytes() for result in results))
    assert found[0] == found[1]


@pytest.mark.parametrize("parameters", [{"scheme": "naf", "mode": "gates"}, {"bits": 16}, {"bits": 20}])
def test_other_array_libraries_give_the_same_bits(parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(arrays.LIBRARIES, "strict", "strict_array")  # as strict as CuPy about whose an array is
    found = []
    for library in ("numpy", "strict"):
        device = reversible(array=library, checked="products", host=None, **parameters)
        xp = device.xp
        tile = device.program(xp.asarray(normal(6, 5)), name="w")
        x, dy = xp.asarray(normal(3, 6)), xp.asarray(normal(3, 5))
        results = [tile.forward(x), tile.backward(dy), tile.gradient(x, dy)]
        tile.release(3)
        tile.update(results[-1])
        found.append([arrays.to_host(result).tobytes() for result in [*results, tile.read(), tile.forward(x)]])
    assert found[0] == found[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_wrong_result_is_noticed(scheme: str) -> None:
    rng = np.random.default_rng(3)
    x, w = rng.integers(-127, 128, (1, 6)), rng.integers(-127, 128, (6, 1))
    gates.check(scheme, x, w, x @ w, 8, 19, rng)
    with pytest.raises(gates.MismatchError, match="by integers"):
        gates.check(scheme, x, w, x @ w + 1, 8, 19, rng)


def test_a_wrong_netlist_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = np.full((1, 3), 100), np.full((3, 1), -77)
    good = gates.netlist("ctrl", 8, 18)
    for gate, message in ((-1, "counted"), (2, "netlist|ancilla|operand")):
        program = good.program.copy()
        if gate < 0:
            program = program[:-1]
        else:
            places = np.flatnonzero(program[:, 0] == Gate.CNOT)
            program[places[gate], [1, 3]] = program[places[gate], [3, 1]]
        broken = type(good)(program, good.registers, good.ancillas)
        gates.netlist.cache_clear()
        monkeypatch.setattr(gates, "mac_netlist", lambda *_, made=broken: made)
        with pytest.raises(gates.MismatchError, match=message):
            gates.check("ctrl", x, w, x @ w, 8, 18, np.random.default_rng(0))
    gates.netlist.cache_clear()


def test_programming_runs_the_netlists_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(gates, "check", lambda scheme, *_: seen.append(scheme))
    programmed = ["naf", "naf", "ctrl"]  # both ways, and a gradient
    for checked, first in (("none", []), ("programmed", programmed), ("products", programmed)):
        seen.clear()
        tile = reversible(checked=checked, scheme="naf").program(normal(5, 4), name="w")
        assert seen == first
        tile.forward(normal(2, 5))
        assert len(seen) == len(first) + (checked == "products")


def test_new_weights_and_gradients_are_checked_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10 calls the first, second, fourth and eighth."""
    seen: list[str] = []
    monkeypatch.setattr(gates, "check", lambda scheme, *_: seen.append(scheme))
    for checked, times in (("none", 0), ("programmed", 4)):
        tile = reversible(checked=checked, scheme="naf").program(normal(5, 4), name="w")
        seen.clear()
        for i in range(10):
            tile.update(0.01 * normal(5, 4, seed=i))
        assert seen == ["naf"] * times
        for i in range(10):
            tile.gradient(normal(2, 5, seed=i), normal(2, 4))
        assert seen == ["naf"] * times + ["ctrl"] * times


def test_every_matrix_of_a_stack_is_checked_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three is wrong: that 40 draws all miss it has a probability of (2/3)^40 = 1e-7."""
    exact = integers.product

    def broken(xp: Any, a: Any, b: Any, bits: int) -> Any:
        found = exact(xp, a, b, bits).copy()
        found[2] += 1
        return found

    tile = reversible(checked="products", bits=4).program(normal(3, 3, 2), name="w")
    monkeypatch.setattr(integers, "product", broken)
    noticed = 0
    for i in range(40):
        try:
            tile.forward(normal(3, 1, 3, seed=i))
        except gates.MismatchError:
            noticed += 1
    assert 0 < noticed < 13.3 + 5 * 3.0  # 40 / 3, sigma sqrt(40 x 2 / 9)


def test_a_refused_step_leaves_the_weights_as_they_were() -> None:
    tile = reversible(headroom_bits=1, scheme="naf").program(np.ones((2, 2), np.float32), name="w")
    before = tile.save()
    with pytest.raises(TrainingError, match="leaves its register"):
        tile.update(np.full((2, 2), 1.5, np.float32))
    after = tile.save()
    assert all(np.array_equal(after[key], value) for key, value in before.items())


# -- costs by hand -----------------------------------------------------------------------------------------


def test_a_forward_by_hand() -> None:
    """2 x 4 by 4 x 3 in 8 bits, ctrl: accumulators of 8 + 8 + 2 = 18 bits; ramps of 1 ns."""
    device, op = reversible(ramp_s=1e-9), Product(Kind.FORWARD, 2, 4, 3)
    # Rows of the additions: 18 + 17 + ... + 11 = 116 wires. Toffolis 3 x 116 - 16 = 332, CNOTs 4 x 116 - 48 = 416, and
    # 4 x 8 to copy x and weight and clear them: 3 x 332 + 2 x 448 = 1892 nodes a product, of which there are 24.
    # CNOTs of copies: 6 results x 18 twice (offset, to the host), 8 inputs x 8: 280.
    nodes = 24 * 1892 + 2 * 280
    found = actions(device, op)
    for cause in ("switching", "leakage_active", "clock"):
        assert found[cause] == near(nodes)
    # Levels: 5 x 116 - 40 + 2, and 2 for the operands: 544, of 4 ramps each; wires: 8 + 8 + 18, and 10 ancillas: 44
    wires = 24 * 44 * 544 * 4 + (12 * 36 + 8 * 16) * 4  # a copy has one level, on twice its wires
    assert found["leakage_idle"] == near(wires)
    # A product takes 544 x 4 ramps, and hold and fall of the last: 2180 ns; 24 in four turns of 6, which is what has
    # no need to wait; three kinds of copies of 4 + 4 ns.
    ticks = 4 * 2180 + 3 * 8
    costs = op_cost(device.uses(op) or {}, Ledger().rates(device))
    assert float(costs.time_s) == near(ticks * 1e-9)
    # Meanwhile 8 inputs of 8 bits wait; the results are all in units.
    assert found["held"] == near(64 * ticks)
    assert "erasure" not in found
    assert device.held_bits(op) == 2 * (3 * 18 + 4 * 8)

    joules = energies_j(device, op)
    # RC / T = 10 kOhm x 1 fF / 1 ns = 0.01: two ramps of 0.01 x 0.99 x 0.64 fJ; e^-100 is nothing
    assert joules["switching"] == near(nodes * 2 * 0.01 * 0.99 * 0.64e-15)
    assert joules["clock"] == near(nodes * math.pi / 4 * 1.5 * 0.64e-15 / 100)
    assert joules["leakage_active"] == near(nodes * 0.64e-9 * (3 + 2 / 3) * 1e-9)
    assert joules["leakage_idle"] + joules["held"] == near((wires + 64 * ticks) * 0.64e-9 * 1e-9)


def test_the_same_netlist_switched_conventionally() -> None:
    """C V^2 for each of the 45,968 nodes of the forward above: 0.64 fJ each."""
    device, op = reversible("cmos_reference"), Product(Kind.FORWARD, 2, 4, 3)
    nodes = 24 * 1892 + 2 * 280
    assert energies_j(device, op)["switching"] == near(nodes * 0.64e-15)
    costs = op_cost(device.uses(op) or {}, Ledger().rates(device))
    assert float(costs.time_s) == near((4 * 544 + 3 * 1) * 50e-12)  # levels of 50 ps


def test_a_cold_machine_pays_for_its_cooler() -> None:
    """500 J for each joule of heat at 4.2 K, gates, buffers, held bits and erased ones alike; registers too."""
    device = reversible("aqfp", garbage="discard")
    found = energies_j(device, Product(Kind.BACKWARD, 2, 4, 3))
    cooler = found.pop("cooler")
    assert found.pop("convert") == near((6 + 8) * 0.9e-12 * 0.5132, rel=1e-3)  # at room temperature, 28 nm: 6 in, 8 out
    assert set(found) >= {"switching", "buffers", "held", "erasure"}
    assert cooler == near(500 * sum(found.values()))
    power = {name: device.components[name].quantity("static_power_w").nominal for name in ("register", "cooler")}
    assert power["cooler"] == near(500 * power["register"])
    assert device.components["cooler"].role is Role.COOLING
    # A ring of 4 phases of 4 junctions at 5 GHz and 1.4 zJ: 16 x 1.4e-21 x 5e9 W
    assert power["register"] == near(1.12e-10)
    assert device.installed([TileShape(1, 4, 3)])["register"] == 12 * 24


def test_what_is_installed() -> None:
    """4096 units of a product of 256 terms (A = 24), as 4 x 3 is narrower; a register of 24 bits a weight."""
    device = reversible()
    found = device.installed([TileShape(2, 256, 3), TileShape(1, 4, 3)])
    assert found["register"] == (2 * 256 * 3 + 4 * 3) * 24
    assert found["configuration"] == 0
    # 476 Toffolis and 608 + 32 CNOTs: 3 x 476 + 2 x 640 = 2708 nodes, on 8 + 8 + 24 + 16 = 56 wires
    assert found["unit"] == near(4096 * (2708 + 56))
    assert device.components["unit"].quantity("area_mm2").nominal == near(2e-6)
    ledger = Ledger()
    tile = device.program(normal(4, 3), name="w", ledger=ledger)
    with ledger.scope(phase=hwsim.cost.Phase.FORWARD):
        tile.forward(normal(2, 4))
    seconds = float(ledger.total_s())
    static = ledger.energy(("component", "part"))["register", str(Part.STATIC)]
    assert static == near(seconds * 12 * 24 * 0.64e-9)  # G V^2 a bit


def test_values_of_the_preset_can_be_replaced() -> None:
    op = Product(Kind.FORWARD, 2, 4, 3)
    before, after = energies_j(reversible(), op), energies_j(reversible(quality=20), op)
    assert after.pop("clock") == near(5 * before.pop("clock"))
    assert after == near(before)
    pipelined = actions(reversible(clocking="pipelined"), op)
    # Every wire is charged anew at each of 544 ramps (1 a level), instead of leaking for 4 x 544.
    copies = 12 * 36 + 8 * 16
    assert pipelined["switching"] == near(24 * (1892 + 44 * 544) + 2 * 280 + copies)
    assert "leakage_idle" not in pipelined


def test_ranges_hold_the_nominal_and_say_what_they_rest_on() -> None:
    for preset in Reversible.presets():
        for name, component in reversible(preset).components.items():
            for field in ("energy_j", "time_s", "static_power_w", "area_mm2"):
                quantity = component.quantity(field)
                if quantity.nominal:
                    assert quantity.low <= quantity.nominal <= quantity.high, (preset, name, field)
                    assert ": from" in quantity.source or name == "convert"
    clock = reversible().components["clock"].quantity("energy_j")
    assert "quality" in clock.source
    assert "resistance_ohm" not in clock.source
    assert clock.high / clock.low > 100  # Q alone is known to a factor of 100
    erased = reversible("landauer_ideal").components["erasure"].quantity("energy_j")
    assert erased.low == erased.high == near(2.870979e-21, rel=1e-6)  # kT ln 2 at 300 K


# -- weights in the wiring ---------------------------------------------------------------------------------


def test_wired_in_weights_are_counted_one_by_one() -> None:
    """Against the netlist of every single weight, gate by gate."""
    device = reversible(scheme="naf", bits=6)
    w = normal(5, 4)
    tile = device.program(w, name="w")
    tile.forward(normal(3, 5))
    tile.backward(normal(3, 4))
    tile.release(3)
    codes = tile.state["codes"].astype(int).reshape(-1).tolist()
    recorded = {cell.op.kind: counts for cell, counts in tile.ledger.actual.items()}
    copies = {
        # offsets and results, inputs: forward; the same for backward, each but the results' twice; release: no result
        Kind.FORWARD: 2 * 12 * 15 + 15 * 6,
        Kind.BACKWARD: 3 * 15 * 14 + 2 * 12 * 6,
        Kind.RELEASE: 12 * 15 + 15 * 6,
    }
    for kind, accumulator_bits, passes in ((Kind.FORWARD, 15, 1), (Kind.BACKWARD, 14, 2), (Kind.RELEASE, 15, 1)):
        nodes = 0
        for code in codes:
            counts = mac_netlist("naf", 6, accumulator_bits, code).counts
            nodes += 3 * counts[Gate.TOFFOLI] + 2 * counts[Gate.CNOT]
        brought = 12 + 2 * accumulator_bits  # CNOTs for x, and to move the accumulator here from the weight before
        wanted = passes * 3 * (nodes + 20 * 2 * brought) + 2 * copies[kind]  # 3 rows, 20 weights
        assert recorded[kind]["switching"] == near(wanted), kind


def test_expected_wired_in_weights_have_the_mean_number_of_digits() -> None:
    """All weights of 8 bits have 109 Toffolis and 270 CNOTs on average in netlists built elsewhere, into 24 bits."""
    mean = work.expected("naf", 8, 24).mean
    assert mean.toffolis == pytest.approx(109, abs=0.5)
    assert mean.cnots == pytest.approx(270, abs=0.5)
    assert mean.wires == 8 + 24 + 16


def test_only_weights_that_change_are_made_anew() -> None:
    device = reversible(scheme="naf")
    tile = device.program(np.array([[0.5, 0.25], [0.125, 1.0]], np.float32), name="w")
    step = np.zeros((2, 2), np.float32)
    step[0, 1] = 0.25  # 16 of the 64 units that 1.0 has
    tile.update(step)
    (recorded,) = (counts for cell, counts in tile.ledger.actual.items() if cell.op.kind is Kind.UPDATE)
    assert recorded["resynthesis"] == 400  # nodes of one weight
    assert actions(device, Product(Kind.UPDATE, 0, 2, 2))["resynthesis"] == 4 * 400
    tile.update(0 * step)
    assert recorded["resynthesis"] == 400
    assert "resynthesis" not in actions(reversible(), Product(Kind.UPDATE, 0, 2, 2))


def test_every_wired_in_weight_has_two_netlists() -> None:
    """5 x 4 of 8 bits: accumulators of 16 + 3 and 16 + 2 wires; 3 x Toffolis + 2 x CNOTs nodes, and the wires."""
    device = reversible(scheme="naf", ramp_s=1e-9)
    cells = 0.0
    for wide in (19, 18):
        mac = work.expected("naf", 8, wide).mean
        cells += 20 * (3 * mac.toffolis + 2 * (mac.cnots + 2 * 8 + 2 * wide) + mac.wires)
    # Units of ctrl, for gradients: rows of 19 + 18 + ... + 12 = 124 wires, 3 x 124 - 16 Toffolis, 4 x 124 - 48 CNOTs,
    # and 32 for operands; wires 8 + 8 + 19 and 11 ancillas
    units = 4096 * (3 * 356 + 2 * (448 + 32) + 46)
    found = device.installed([TileShape(1, 5, 4)])
    assert found["unit"] == near(units + cells)
    assert found["configuration"] == 20 * 400
    assert device.components["configuration"].quantity("static_power_w").nominal == near(0.64e-9)
    # Every netlist takes 7 rows, one after the other, and each output 5 netlists: that of most levels
    # decides, which is longer than the mean of 5; 2 levels for operands.
    mac = work.with_operands("naf", work.expected("naf", 8, 19), 8, 19)
    deepest = 2 + max(mac_netlist("naf", 8, 19, weight).depth for weight in range(-128, 128))
    assert mac.deepest == deepest
    uses = device.uses(Product(Kind.FORWARD, 7, 5, 4)) or {}
    copies = 3 * 8
    assert uses["tick"].actions / uses["tick"].units == near(7 * (4 * deepest + 4) + copies)
    few = device.uses(Product(Kind.FORWARD, 1, 5, 4)) or {}  # one row: 4 outputs, 5 products each
    assert few["tick"].actions / few["tick"].units == near(5 * (4 * mac.mean.depth + 4) + copies)


# -- garbage -----------------------------------------------------------------------------------------------


def passes(device: Reversible, kind: Kind) -> float:
    done = device.work(Product(kind, 2, 4, 3))
    assert done is not None
    return done.blocks[0].runs / 24 if done.blocks else 0.0


def test_passes_over_a_matrix() -> None:
    """3 products a step where garbage is erased, 5 where it is uncomputed; 6 where the host cannot clear a gradient."""
    found = {policy: [passes(reversible(garbage=policy), kind) for kind in PRODUCTS] for policy in GARBAGE}
    assert found == {"discard": [1, 0, 1, 1], "bennett": [1, 1, 2, 1]}
    assert [passes(reversible(bits=16), kind) for kind in PRODUCTS] == [1, 1, 2, 2]
    assert [passes(reversible("cmos_reference"), kind) for kind in PRODUCTS] == [1, 0, 1, 1]


def test_the_host_sends_back_what_clears_a_gradient() -> None:
    """2 rows by 4 x 3: 12 sums of 17 bits, 14 operands of 8. Cleared: both come twice, and are converted twice."""
    op = Product(Kind.GRADIENT, 2, 4, 3)
    found = {policy: actions(reversible(garbage=policy), op) for policy in GARBAGE}
    assert found["discard"]["convert"] == 12 + 14
    assert found["bennett"]["convert"] == 2 * (12 + 14)
    # Additions of dy to the sums of its columns: 6 into registers of 17 bits, once more to clear them
    added = work.add(17)
    more = 2 * (12 * 17 + 14 * 8) + 6 * (3 * added.toffolis + 2 * added.cnots)
    assert found["bennett"]["switching"] - found["discard"]["switching"] == near(more)


def test_what_is_erased() -> None:
    """Only `discard` erases while it trains; programming overwrites what was there."""
    keeps, discards = reversible(), reversible(garbage="discard")
    for kind in (*PRODUCTS, Kind.PRODUCT, Kind.UPDATE):
        assert "erasure" not in actions(keeps, Product(kind, 2, 4, 3))
    wanted = {
        Kind.FORWARD: 0,
        Kind.RELEASE: 2 * (3 * 18 + 4 * 8),  # 6 sums of 18 bits, 8 inputs of 8
        Kind.BACKWARD: 8 * 18 + 6 * 8,  # 8 sums of 3 terms, 16 + 2 bits; 6 inputs
        Kind.GRADIENT: 12 * 17 + (8 + 6) * 8 + 3 * 17,  # 12 sums of 2 terms, 16 + 1 bits; both inputs; 3 sums of dy
        Kind.UPDATE: 12 * 24,  # the step of every weight
    }
    for kind, bits in wanted.items():
        rows = 0 if kind is Kind.UPDATE else 2
        assert actions(discards, Product(kind, rows, 4, 3)).get("erasure", 0) == near(bits), kind
    for device in (keeps, discards):
        assert actions(device, Product(Kind.PROGRAM, 0, 4, 3))["erasure"] == near(12 * 24)
    # C V^2 / 2 a bit
    assert energies_j(discards, Product(Kind.UPDATE, 0, 4, 3))["erasure"] == near(12 * 24 * 0.32e-15)


@pytest.mark.parametrize(("scheme", "bits"), [("ctrl", 8), ("naf", 8), ("ctrl", 16)])
def test_steps_are_undone_bit_for_bit(scheme: str, bits: int) -> None:
    device = reversible(scheme=scheme, bits=bits)
    tile = device.program(normal(6, 5), name="w")
    before, x = tile.save(), normal(4, 6)
    y = tile.forward(x).tobytes()
    steps = [normal(6, 5, seed=i) * np.float32(10.0 ** -(i % 7)) for i in range(60)]
    for step in steps:
        tile.update(step)
    assert not np.array_equal(tile.save()["state/register"], before["state/register"])
    for step in reversed(steps):
        tile.update(-step)
    after = tile.save()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert np.asarray(value).tobytes() == np.asarray(after[key]).tobytes(), key
    assert tile.forward(x).tobytes() == y


# -- refusals ----------------------------------------------------------------------------------------------


def test_accumulators_that_are_too_narrow() -> None:
    """8 bits by 8 bits, 4 terms: 18 bits; 5 terms: 19."""
    device = reversible(accumulator_bits=18)
    tile = device.program(normal(4, 3), name="w")
    tile.gradient(normal(4, 4), normal(4, 3))
    with pytest.raises(DeviceError, match="accumulator_bits=18 for sums of 5 products of 8 by 8 bits: they need 19"):
        tile.gradient(normal(5, 4), normal(5, 3))
    with pytest.raises(DeviceError, match="they need 19"):
        device.program(normal(5, 3), name="wide")
    with pytest.raises(DeviceError, match="one product of bits=8 takes 16"):
        reversible(accumulator_bits=15)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bits": 16, "register_bits": 12}, "narrower than bits=16"),
        ({"register_bits": 8, "headroom_bits": 7}, "leaves no bit"),
        ({"law": "conventional"}, "needs .*delay_s"),
        ({"hold_ramps": 0.01}, "5.3e-12 s for a node to settle"),
        ({"ramp_s": 4e-11}, "needs 5 R C = 5e-11 s"),
        ({"garbage": "checkpoint"}, "needs one of bennett, discard"),
        ({"scheme": "const_x"}, "needs one of ctrl"),
        ({"shape": "square"}, "no waveform"),
    ],
)
def test_parameters_that_do_not_fit(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        reversible(**parameters)


def test_a_weight_that_leaves_its_register_is_no_silent_wrap() -> None:
    tile = reversible(headroom_bits=1).program(np.ones((2, 2), np.float32), name="w")
    tile.update(np.full((2, 2), 0.9, np.float32))
    with pytest.raises(TrainingError, match="leaves its register of 24 bits, which reaches 2"):
        tile.update(np.full((2, 2), 0.2, np.float32))


# -- whether it pays ---------------------------------------------------------------------------------------


def test_the_headline_is_an_ordinary_multiply_accumulate() -> None:
    """At 28 nm an int8 one takes 0.3 x 0.5132 pJ, the reversible netlist switched conventionally ten times that."""
    found = ramps.ramps(reversible())
    assert found.verdicts[ramps.ORDINARY].reference_j == near(0.3e-12 * 0.5132, rel=1e-3)
    # 476 Toffolis and 640 CNOTs: 2708 nodes at 0.64 fJ; and 56 + 2708 of them leak for 784 x 50 ps
    same = 2708 * 0.64e-15 + (56 + 2708) * 0.64e-9 * 784 * 50e-12
    assert found.verdicts[ramps.SAME_NETLIST].reference_j == near(same)
    total = np.sum(list(found.parts_j.values()), axis=0)
    assert found.energy_j <= total.min() * (1 + 1e-9)
    assert total.min() == near(found.energy_j, rel=1e-3)
    place = int(np.argmin(total))
    assert found.ramps_s[place - 1] < found.best_s < found.ramps_s[place + 1]
    for verdict in found.verdicts.values():
        assert verdict.pays is not None
        for edge in verdict.pays:
            if edge > found.ramps_s[0] * (1 + 1e-9):  # else it is where nodes just settle
                assert np.exp(np.interp(np.log(edge), np.log(found.ramps_s), np.log(total))) == near(
                    verdict.reference_j, rel=1e-2
                )
    assert np.all(np.diff(found.best_by_quality_j) < 0)
    text = ramps.report(found)
    assert "fJ at its best ramp time" in text
    assert text.count("pays from") == 2


def test_the_figure_of_ramp_times_and_what_has_none() -> None:
    assert ramps.drawn(ramps.ramps(reversible(scheme="naf")), "png").startswith(b"\x89PNG")
    assert ramps.ORDINARY not in ramps.ramps(reversible(bits=10)).verdicts  # the library has 8, 16 and 32 bits
    assert "at no ramp time" in ramps.report(ramps.ramps(reversible("quasi_adiabatic")))
    for preset, message in (("aqfp", "has no ramps"), ("landauer_ideal", "slower is always better")):
        with pytest.raises(DeviceError, match=message):
            ramps.ramps(reversible(preset))


# -- with the rest of hwsim --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "reversible",
        "reversible:scheme=naf",
        "reversible:bits=4:checked=none",
        "reversible:scheme=naf:bits=16:checked=none",
        "reversible:bits=16:garbage=discard:checked=none",
        "reversible:scheme=mask:checked=none",
        "reversible:scheme=product:bits=4:checked=none",
        "reversible:quasi_adiabatic:checked=none",
        "reversible:aqfp:checked=none",
        "reversible:aqfp:scheme=naf:checked=none",
        "reversible:landauer_ideal:checked=none",
        "reversible:cmos_reference:bits=16:checked=none",
    ],
)
def test_it_keeps_what_the_interface_promises(spec: str) -> None:
    check_device(lambda: registry.device(spec))


def test_digits_train_nearly_as_in_float() -> None:
    """360 test images: 2 points are 7 of them, about 2 sigma of two runs that differ by rounding alone."""
    digits, model = hwsim.data.load("digits"), models.mlp([64, 32, 10])
    accuracies = {
        spec: hwsim.fit(model, digits, spec, epochs=10, learning_rate=0.3).test_accuracy
        for spec in ("ideal", "reversible", "reversible:bits=16:scheme=naf", "reversible:bits=4")
    }
    exact = accuracies["ideal"]
    assert exact > 0.95
    assert accuracies["reversible"] > exact - 0.02
    assert accuracies["reversible:bits=16:scheme=naf"] > exact - 0.02
    assert accuracies["reversible:bits=4"] < exact - 0.02  # 15 values of an operand are not enough


def test_it_is_compared_with_itself_switched_conventionally() -> None:
    devices = {name: name for name in ("reversible", "reversible:cmos_reference")}
    table = hwsim.compare(
        models.mlp([64, 8, 10]), hwsim.data.load("digits"), devices, epochs=1, seeds=1, learning_rates=[0.3]
    )
    text = str(table)
    assert all(name in text for name in devices)
    assert "int8 operands in units of a power of two" in text
    assert "leakage of garbage between a" in text


def test_errors_of_gates_are_errors_of_hwsim() -> None:
    assert issubclass(gates.MismatchError, HwsimError)
