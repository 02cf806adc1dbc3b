"""The device `reversible`: integer products whose every gate can be undone, at the price of adiabatic circuits."""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar

import numpy as np

from hwsim.arrays import Array, generator, key_of, to_host
from hwsim.contract import ACCUMULATION, Contract
from hwsim.cost import Product
from hwsim.devices.reversible import gates, integers, work
from hwsim.devices.reversible.activity import terms_of
from hwsim.devices.reversible.cost import Costs
from hwsim.devices.reversible.energy import Schedule
from hwsim.devices.reversible.integers import Codes
from hwsim.devices.reversible.work import Macs
from hwsim.errors import TrainingError
from hwsim.precision import Policy, policy
from hwsim.tile import Tile

OPERAND_ERROR = 0.04  # RMS relative error of a product of 8-bit operands of the conformance kit, x 1.5 (measured)
UPDATE_ERROR = 1e-4  # the same of a step, in registers of which 20 bits hold the weights programmed


class Integers(Policy):
    """A policy that only has a name: the device rounds by itself, to integers."""

    def describe(self) -> str:
        """The name."""
        return self.name


class Reversible(Costs):
    """Fixed-point products on a machine that can run backwards.

    A weight is an integer in a register whose unit is fixed when it is programmed, so that a step, rounded to whole
    units, is undone exactly by its negative. A product takes the window of `bits` wires in which the largest weight of
    its tile fits, and its other operand in units of a power of two that follows from the largest value of that call:
    both follow from the values alone, so that a run backwards finds every operand again. Sums of integers are exact in
    any order: equal values give equal bits on every machine, BLAS and array library.
    """

    exact_updates: ClassVar[bool] = True  # an update by -step takes back that by step, bit for bit

    @property
    def contract(self) -> Contract:
        """Rounding of operands to `bits`, and of steps to units of a register."""
        products = OPERAND_ERROR * 2.0 ** (8 - self.bits) + ACCUMULATION
        update = UPDATE_ERROR * 2.0 ** (20 - self.register_bits + self.headroom_bits)
        return Contract(forward=products, backward=products, gradient=products, update=update, bias=products)

    @cached_property
    def policy(self) -> Policy:
        """float32 for what the host sees; integers within."""
        plain = policy("fp32")
        name = f"int{self.bits} operands in units of a power of two, exact sums, weights of {self.register_bits} bits"
        return Integers(name, plain.values, plain.gradients, plain.output)

    # -- weights -----------------------------------------------------------------------------------------

    def write(self, tile: Tile, w: Array) -> None:
        """Whole units: a power of two, so that the largest weight has `headroom_bits` above it."""
        top = integers.power_of_two(integers.largest(w))
        tile.state["unit"] = math.ldexp(top, self.headroom_bits + 1 - self.register_bits)
        self._take(tile, self._units(tile, w))
        if self.checked != "none":
            self._check_weights(tile, "forward", "backward")
            self._check_gradient(tile)

    def read(self, tile: Tile) -> Array:
        """What the registers hold; exact, as float32 holds 24 bits."""
        return self._values(tile.state["register"], tile.state["unit"])

    def update(self, tile: Tile, step: Array) -> None:
        """Add whole units. Raises TrainingError where a weight would leave its register; then nothing has moved."""
        before = tile.state["codes"]
        self._take(tile, tile.state["register"] + self._units(tile, step))
        if self.checked != "none" and self._is_sampled(tile):
            self._check_weights(tile, "forward")
        if self.wires_weights_in:
            op = operation_of(tile)
            done = self.work(op)
            assert done is not None  # it is answered, or the tile would not have called
            changed = float((before != tile.state["codes"]).sum())
            tile.record(**self.actual(op, done._replace(rewired=changed)))

    def _units(self, tile: Tile, values: Array) -> Array:
        """Values in whole units of a tile's registers, ties to even, so that -x becomes minus what x becomes."""
        found = self.xp.rint(values.astype(self.xp.float64) / tile.state["unit"])
        if integers.largest(found) >= 2 ** (self.register_bits - 1):
            raise self._left(tile)
        return found.astype(self.xp.int32)

    def _take(self, tile: Tile, register: Array) -> None:
        """Take these registers; find the window of the weights in them, its integers, and the netlists they make."""
        most, most_terms = int(integers.largest(register)), max(tile.k, tile.n)
        if most >= 2 ** (self.register_bits - 1):
            raise self._left(tile)
        shift = integers.window(most, self.bits)
        found = integers.rounded(register, shift).astype(integers.float_type(self.xp, self.bits, most_terms))
        tile.state["register"] = register
        tile.state["codes"] = found
        tile.state["code_unit"] = math.ldexp(tile.state["unit"], shift)
        if self.wires_weights_in:
            counted = work.histogram(self.xp, found, self.bits)
            for way, terms in (("forward", tile.k), ("backward", tile.n)):
                mean, deepest = work.wired(counted, self.bits, self.accumulator(terms))
                tile.state |= {f"{way}_{field}": float(value) for field, value in mean._asdict().items()}
                tile.state[f"{way}_deepest"] = deepest

    def _left(self, tile: Tile) -> TrainingError:
        reach = 2 ** (self.register_bits - 1) * tile.state["unit"]
        return TrainingError(
            f"{tile.name}: a weight leaves its register of {self.register_bits} bits, which reaches {reach:g}; "
            f"take smaller steps, or headroom_bits above {self.headroom_bits}"
        )

    # -- products ----------------------------------------------------------------------------------------

    def forward(self, tile: Tile, x: Array) -> Array:
        """x in integers, by the integers in the window of the weights."""
        self._record(tile, "forward")
        w = Codes(tile.state["codes"], tile.state["code_unit"])
        return self._product(self.scheme, self._codes(x, tile.k), w)

    def backward(self, tile: Tile, dy: Array) -> Array:
        """dy in integers, by the same ones as forward."""
        self._record(tile, "backward")
        w = Codes(tile.state["codes"].swapaxes(-1, -2), tile.state["code_unit"])
        return self._product(self.scheme, self._codes(dy, tile.n), w)

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        """Both in integers, summed over m."""
        a, b = (self._codes(each, x.shape[-2]) for each in (x, dy))
        a = Codes(a.integers.swapaxes(-1, -2), a.unit)
        return self._product(self.register_scheme, a, b, sampled=self.checked != "none" and self._is_sampled(tile))

    def product(self, a: Array, b: Array) -> Array:
        """Both in integers."""
        return self._product(self.register_scheme, self._codes(a, a.shape[-1]), self._codes(b, a.shape[-1]))

    def release(self, tile: Tile) -> None:
        """The netlists of the forward once more, backwards."""
        if self.keeps:
            self._record(tile, "forward")

    def _codes(self, x: Array, terms: int) -> Codes:
        return integers.codes(self.xp, x, self.bits, terms)

    def _values(self, sums: Array, unit: float) -> Array:
        """Integers as values of the working type."""
        values = sums * unit
        values += 0.0  # a sum of no more than -0 is 0, as an integer is
        return values.astype(self.xp.float32, copy=False)

    def _product(self, scheme: str, a: Codes, b: Codes, *, sampled: bool = False) -> Array:
        """a [..., m, k] @ b [..., k, n], by integer arithmetic or gate by gate; values."""
        if self.mode == "gates" and a.integers.size:
            sums = self._by_gates(scheme, a.integers, b.integers)
        else:
            sums = integers.product(self.xp, a.integers, b.integers, self.bits)
        if (sampled or self.checked == "products") and a.integers.size and sums.size:
            self._check(scheme, a.integers, b.integers, sums, "product", *sums.shape, float(sums.sum()))
        return self._values(sums, a.unit * b.unit)

    def _by_gates(self, scheme: str, a: Array, b: Array) -> Array:
        x, w = (to_host(each).astype(np.int64).reshape(-1, *each.shape[-2:]) for each in (a, b))
        wide = self.accumulator(a.shape[-1])
        sums = np.stack([gates.product(scheme, *pair, self.bits, wide) for pair in zip(x, w, strict=True)])
        return self.xp.asarray(sums.reshape(*a.shape[:-1], b.shape[-1]).astype(np.float64))

    # -- what is checked ---------------------------------------------------------------------------------

    def _is_sampled(self, tile: Tile) -> bool:
        """Whether this is the first, second, fourth, eighth ... call of its operation, by the ledger's count."""
        ledger = tile.ledger
        calls = ledger.calls[ledger.layer, ledger.phase, self, operation_of(tile)]  # type: ignore[index]
        return calls & (calls - 1) == 0

    def _check_weights(self, tile: Tile, *ways: str) -> None:
        """A multiply-accumulate with these weights in each of `ways`, of inputs drawn for it."""
        w = tile.state["codes"]
        for way in ways:
            side = w if way == "forward" else w.swapaxes(-1, -2)
            rng = generator(np, key_of("checked inputs", tile.name, way, float(w.sum())))
            x = self._drawn_codes(rng, *tile.shape[:-2], 1, side.shape[-2])
            self._check(self.scheme, x, side, integers.product(self.xp, x, side, self.bits), tile.name, way)

    def _check_gradient(self, tile: Tile) -> None:
        """One of a gradient of this shape, of a row of inputs and one of errors drawn for it."""
        rng = generator(np, key_of("checked inputs", tile.name, "gradient"))
        x, dy = (self._drawn_codes(rng, *tile.shape[:-2], *shape) for shape in ((tile.k, 1), (1, tile.n)))
        self._check(self.register_scheme, x, dy, integers.product(self.xp, x, dy, self.bits), tile.name, "gradient")

    def _drawn_codes(self, rng: np.random.Generator, *shape: int) -> Array:
        top = (1 << self.bits - 1) - 1
        return self.xp.asarray(rng.integers(-top, top, shape, endpoint=True))

    def _check(self, scheme: str, a: Array, b: Array, sums: Array, *key: object) -> None:
        """Compare one matrix of a stack of products with its netlists. Raises MismatchError where they differ."""
        rng, stack = generator(np, key_of("checked", *key)), sums.shape[:-2]
        place = tuple(int(rng.integers(count)) for count in stack)
        matrices = (self.xp.broadcast_to(each, (*stack, *each.shape[-2:]))[place] for each in (a, b, sums))
        x, w, found = (to_host(each).astype(np.int64) for each in matrices)
        gates.check(scheme, x, w, found, self.bits, self.accumulator(x.shape[-1]), rng)

    # -- what is recorded --------------------------------------------------------------------------------

    def _record(self, tile: Tile, way: str) -> None:
        """Where weights are wired in, the gates that these weights take."""
        if self.wires_weights_in:
            op = operation_of(tile)
            mean = Schedule(**{field: tile.state[f"{way}_{field}"] for field in Schedule._fields})
            macs, wide = Macs(mean, tile.state[f"{way}_deepest"]), self.accumulator(terms_of(op))
            done = self.work(op, work.with_operands(self.scheme, macs, self.bits, wide))
            assert done is not None  # it is answered, or the tile would not have called
            tile.record(**self.actual(op, done))


def operation_of(tile: Tile) -> Product:
    """The operation that a hook is called for."""
    assert tile._busy is not None  # inside a hook
    op = tile._busy[1]
    assert isinstance(op, Product)
    return op
