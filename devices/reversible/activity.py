"""What a reversible machine does for every operation, from shapes alone.

Where things lie. A weight has a register, of which products take a window of `bits` wires; the sums of every row and
column of a matrix have registers too, as x is taken as unsigned and 2^(bits - 1) times such a sum has to come off each
result. A unit holds an accumulator while it takes one product after the other; x and weight are copied in and cleared
for each. Where weights are wired in, each has a netlist for either direction, and accumulators move from one to the
next. Operands and steps come from the host by copying, and are cleared by its copies; results go to it by copying.

Passes over a matrix, in multiply-accumulates (`macs` of the operation):

    garbage     forward  release  backward  gradient  product    erased
    discard        1        0        1         1         1       accumulators, operands; registers at an update
    bennett        1        1        2       1 or 2      2       by products and registers nothing

The sum of a gradient is not uncomputed where the copy that the host was sent can come back and clear it: where the
host's float32 holds every sum, 2 bits - 2 + ceil(log2 m) <= 24, with 8 bits up to m = 1024 rows, with 16 bits never.
Else the copy differs from the sum in its last bits, and the gradient is run backwards too. So training takes 5 passes
with `bennett`, or 6, instead of 3. Programming overwrites what was there, whatever the policy, and a wired-in weight
that changes erases what configured its netlists. Fewer results held, made anew as often as a pebbling schedule says,
are a matter of the network: hwsim.models.recompute.chained, and the model `checkpointed`.
"""

from __future__ import annotations

from hwsim.cost import Elementwise, Kind, Op, Product
from hwsim.devices.reversible import integers, work
from hwsim.devices.reversible.mac import WIRED_SCHEMES
from hwsim.devices.reversible.machine import Machine
from hwsim.devices.reversible.work import Block, Macs, Work

BY_WEIGHTS = (Kind.FORWARD, Kind.BACKWARD, Kind.RELEASE)  # products with a matrix that is programmed


class Activity(Machine):
    """The work of every operation."""

    @property
    def wires_weights_in(self) -> bool:
        """Whether each weight has a netlist of its own."""
        return self.scheme in WIRED_SCHEMES

    @property
    def register_scheme(self) -> str:
        """The netlist of products of which both operands come in: with wired-in weights, ctrl."""
        return "ctrl" if self.wires_weights_in else self.scheme

    @property
    def keeps(self) -> bool:
        """Whether products leave nothing to erase."""
        return self.garbage != "discard"

    def held_bits(self, op: Op) -> int:
        """Accumulators and inputs of a forward, until its release."""
        if isinstance(op, Elementwise) or op.kind not in (Kind.FORWARD, Kind.RELEASE):
            return 0
        bits = op.stack * op.m * (self.accumulator(op.k) * op.n + self.bits * op.k)
        return bits if op.kind is Kind.FORWARD else -bits

    def work(self, op: Op, macs: Macs | None = None) -> Work | None:
        """What `op` consists of; None: not this machine's. `macs`: its multiply-accumulates, where they are known."""
        if isinstance(op, Elementwise) or op.kind is Kind.UPDATE_OUTER:
            return None
        if op.kind in (Kind.PROGRAM, Kind.READ, Kind.UPDATE):
            return self._moved(op)
        if op.kind is Kind.RELEASE and not self.keeps:
            return Work(erased_bits=-self.held_bits(op))
        return self._multiplied(op, macs or self.macs(op))

    def macs(self, op: Product) -> Macs:
        """The multiply-accumulates of a product; where weights are wired in, of all weights alike."""
        scheme = self.scheme if self.by_wiring(op) else self.register_scheme
        return self.macs_of(scheme, terms_of(op))

    def macs_of(self, scheme: str, terms: int) -> Macs:
        """Multiply-accumulates of sums of `terms`, operands brought; wired in: of all weights alike."""
        wide = self.accumulator(terms)
        return work.with_operands(scheme, work.expected(scheme, self.bits, wide), self.bits, wide)

    def by_wiring(self, op: Product) -> bool:
        """Whether one operand of a product is in the wiring."""
        return self.wires_weights_in and op.kind in BY_WEIGHTS

    def passes(self, op: Product) -> float:
        """How often a product runs over its matrix: once there, and once more where it is undone at once."""
        done = self.work(op)
        return done.blocks[0].runs / op.macs if done is not None and done.blocks and op.macs else 0.0

    def _again(self, op: Product) -> bool:
        """Whether a product is run backwards as soon as its results are copied out."""
        if op.kind is Kind.GRADIENT:
            return self.keeps and not integers.host_holds(self.bits, op.m)
        return self.keeps and op.kind in (Kind.BACKWARD, Kind.PRODUCT)

    def _multiplied(self, op: Product, macs: Macs) -> Work:
        """Products, there and, where they are undone at once, back."""
        s, m, k, n, terms = op.stack, op.m, op.k, op.n, terms_of(op)
        results = {Kind.BACKWARD: s * m * k, Kind.GRADIENT: s * k * n}.get(op.kind, s * m * n)
        inputs = {Kind.BACKWARD: s * m * n, Kind.GRADIENT: s * m * (k + n)}.get(op.kind, s * m * k)
        summed = {Kind.GRADIENT: s * m * n, Kind.PRODUCT: s * k * n}.get(op.kind, 0)  # of weights that come in
        inputs += s * k * n if op.kind is Kind.PRODUCT else 0
        wide = self.accumulator(terms)
        again = self._again(op)
        by_copy = self.keeps and op.kind is Kind.GRADIENT and not again  # what the host was sent comes back
        cleared = self.keeps and op.kind is not Kind.FORWARD
        brought = inputs * (1 + (cleared and op.kind is not Kind.RELEASE))  # to be used, and to clear what was
        sent = 0 if op.kind is Kind.RELEASE else results * (1 + by_copy)
        passes = 1 + again
        stays = by_copy or op.kind in (Kind.FORWARD, Kind.RELEASE)  # others are undone, or erased, one by one
        netlists = s * k * n if self.by_wiring(op) else 0
        # A backward's inputs serve one row and go with it; others stay, or serve results that are formed later.
        waits = 0 if op.kind is Kind.BACKWARD else inputs * self.bits
        due = (inputs * self.bits - waits) / max(results, 1)
        blocks = (
            Block(passes * op.macs, macs.mean, results, netlists, macs.deepest, wide if stays else 0, due),
            self._copies(results * passes, wide),  # the offset into the accumulator, or out of it
            self._copies(brought, self.bits),
            Block(summed * (1 + cleared), work.add(wide), max(summed / max(terms, 1), 1)),
            self._copies(sent, wide),
        )
        erased = 0.0
        if not self.keeps:
            erased += summed / max(terms, 1) * wide
            if op.kind is not Kind.FORWARD:
                erased += results * wide + inputs * self.bits
        return Work(blocks, waits, erased, converted=brought + sent)

    def _moved(self, op: Product) -> Work:
        """Registers of weights written, read, or moved; the largest looked for, and sums of rows and columns formed."""
        weights = op.stack * op.k * op.n
        if op.kind is Kind.READ:
            return Work((self._copies(weights, self.register_bits),), converted=weights)
        moves = op.kind is Kind.UPDATE
        wide = max(self.accumulator(op.k), self.accumulator(op.n))
        brought = weights * (2 if moves and self.keeps else 1)
        blocks = [
            self._copies(brought, self.register_bits),
            Block(2 * weights, work.compare(self.register_bits), weights),
            Block(2 * (1 + moves) * weights, work.add(wide), op.stack * (op.k + op.n)),
        ]
        if moves:
            blocks.append(Block(weights, work.add(self.register_bits), weights))
        erased = 0 if moves and self.keeps else weights * self.register_bits
        return Work(
            tuple(blocks), erased_bits=erased, rewired=weights if self.wires_weights_in else 0, converted=brought
        )

    def _copies(self, count: float, wires: int) -> Block:
        return Block(count, work.copy(wires), max(count, 1))


def terms_of(op: Product) -> int:
    """Products in one result."""
    return {Kind.BACKWARD: op.n, Kind.GRADIENT: op.m}.get(op.kind, op.k)
