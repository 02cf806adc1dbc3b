"""What a crossbar does for every operation, from shapes alone: how often each of its components acts.

Where things lie. The cells of a pair are neighbours in one array: a row line drives both, and they have a column line
each; their currents are subtracted before the converter. The slices of a weight lie in arrays of their own, so that a
matrix takes `weight_slices` times its blocks of `rows` x `columns` weights. All arrays of a matrix work side by side.
A fast array (Tiki-Taka) is a second set of the same arrays.

What one action is, which is also the unit of what runs record:

- cell: one cell for one read, at the expected mean square of inputs and conductance. Recorded: the sum over cells and
  reads of x^2 G, x as the line is driven (digit by digit, where inputs are sliced; each of an integrated digit's 2^t
  samplings is a read), over (mean_square_input x conductance); references and offset columns included.
- cell_full: one cell for one read at full input (verified moves, transfers).
- gate: the selector of one cell, switched on and off, once for each digit of the inputs, and with every row that fires.
- line: one cell's length of an input line, charged to full scale. Recorded: the sum of x^2 over lines and reads, times
  the cells along a line (`row_line`, `column_line`).
- pulse: one pulse on one cell. reset: one cell put back to the bottom of its window.
- half_selected: a cell under half the pulse voltage for a pulse: all cells of every line that fires, less twice the
  pulses, as a pulsed cell lies on two lines. Counted alike with selectors, behind which such cells take nothing.
- pulse_line: one cell's length of a line, charged to half the pulse voltage (with selectors, to all of it): each firing
  times `row_line` or `column_line`; in moves row by row, a column's line is that of one array.
- slot: two pulses' time, one up and one down, on all arrays at once.
- adc: one conversion; of neurons, one step of one neuron: a sampling of a digit, or a bit decided.
- buffer_*, register, accumulator_*, bus, router, dram: one bit. Every value has VALUE_BITS, accumulators of mixed
  precision SUM_BITS. dac, sample_hold, shift_add, add, multiply, comparator: one value. settle: the time of a read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hwsim.cost import Elementwise, Kind, Op, Product, Use
from hwsim.devices.crossbar.device import WITH_FAST_ARRAY, Arrays

VALUE_BITS = 16  # of inputs, errors and results in the buffers: what a digital host of such a chip keeps (assumed)
SUM_BITS = 32  # of the accumulators of mixed precision (assumed)
KILOBYTE_BITS = 8192
BUSIEST = 7.0  # pulses of a row's busiest cell over the mean, in verified moves: 5 to 9 in runs on digits (measured)
SLOWEST = 3.0  # pulses of a row's slowest cell over the mean, in writing whole cells (assumed)
OF_CELLS = {"pulse", "sample_hold", "adc", "shift_add", "multiply", "buffer_write"}  # in writing; the rest: of rows
NOT_HERE = (Kind.GRADIENT, Kind.PRODUCT, Kind.RELEASE)

Uses = Mapping[str, Use]


class Way(NamedTuple):
    """One direction of reading: sizes of the matrix and of an array, and which converters it takes."""

    inputs: int
    outputs: int
    into: int  # inputs of one array
    out_of: int  # outputs of one array
    lines: int  # input lines per input
    length: int  # cells along an input line
    suffix: str  # of the names of its converters


class Firing(NamedTuple):
    """Lines of one kind that fire: how often, how many cells of the matrix lie on one, and how many in all."""

    times: float
    cells: float
    length: float


class Counts(Arrays):
    """The actions of every operation."""

    # -- where cells lie ---------------------------------------------------------------------------------

    @property
    def pair(self) -> int:
        """Cells that a weight has in one array, its reference included."""
        return 1 if self.encoding == "offset" else 2

    @property
    def moving(self) -> int:
        """Those of them that pulses move."""
        return 2 if self.paired else 1

    @property
    def pulsed_together(self) -> int:
        """Cells that a pulse of one weight goes to."""
        return 2 if self.encoding == "differential" else 1

    @property
    def reads_per_input(self) -> int:
        """Reads of a whole input: one a digit, or 2^t of digit t, which an integrator adds up."""
        return 2**self.input_slices - 1 if self.input_coding == "integrated" else self.input_slices

    def arrays(self, k: int, n: int) -> int:
        """Physical arrays that a matrix of k rows and n columns is cut into."""
        return -(-k // self.rows) * -(-n // self.columns) * self.weight_slices

    def row_line(self, n: int) -> int:
        """Cells along the lines that carry one row of a matrix of n columns, used or not."""
        return -(-n // self.columns) * self.columns * self.pair

    def column_line(self, k: int) -> int:
        """Cells along the lines that carry one cell's column of a matrix of k rows, used or not."""
        return -(-k // self.rows) * self.rows

    # -- operations --------------------------------------------------------------------------------------

    def activity(self, op: Op) -> Uses | None:
        """Reads both ways, programming, verified, accumulated and pulsed moves; gradients are the host's."""
        if isinstance(op, Elementwise) or op.kind in NOT_HERE:
            return None
        if op.kind is Kind.FORWARD:
            return self._vectors(op, Way(op.k, op.n, self.rows, self.columns, 1, self.columns * self.pair, ""))
        if op.kind is Kind.BACKWARD:
            return self._vectors(op, Way(op.n, op.k, self.columns, self.rows, self.pair, self.rows, "_back"))
        if op.kind is Kind.UPDATE_OUTER:
            return self._trained(op) if self.trains_in_place else None
        if op.kind is Kind.READ:
            return self._verified(op, 1)
        if op.kind is Kind.PROGRAM:
            return self._programmed(op)
        return self._accumulated(op) if self.algorithm == "mixed" else self._moved(op)

    # -- reads -------------------------------------------------------------------------------------------

    def _vectors(self, op: Product, way: Way) -> Uses:
        """m vectors through all arrays."""
        s, m, slices = op.stack, op.m, self.weight_slices
        in_blocks, out_blocks = -(-way.inputs // way.into), -(-way.outputs // way.out_of)
        digits, reads = self.input_slices, self.reads_per_input
        lines = s * way.inputs * way.lines * out_blocks * slices
        results = s * m * way.outputs * in_blocks
        conversions = results * slices * (1 if self.input_coding == "integrated" else digits)
        forward = op.kind is Kind.FORWARD
        values = op.x_values if forward and op.x_values else s * m * way.inputs
        offsets = self._offsets(out_blocks) if forward else 0
        # The transposed read of an offset encoding takes what weight 0 adds off in digital: a sum, and differences.
        corrected = s * m * (way.inputs + way.outputs) if self.encoding == "offset" and not forward else 0
        return {
            "cell": Use(s * m * way.inputs * (way.outputs * self.pair + offsets) * slices * reads),
            "gate": Use(s * m * op.k * op.n * self.pair * slices * digits),
            "line": Use(m * lines * way.length * reads * self.mean_square_input.nominal),
            f"dac{way.suffix}": Use(m * lines * digits, lines),
            f"sample_hold{way.suffix}": Use(conversions),
            f"adc{way.suffix}": self._converted(conversions, s * in_blocks * slices, way, digits, reads),
            "settle": Use(m * reads),
            "fill": Use(min(m, 1)),
            "shift_add": Use(conversions if conversions > results else 0),
            "add": Use(s * m * way.outputs * (in_blocks - 1) + corrected),
            "multiply": Use(results),  # by the vector's scale, or the weights'
            "comparator": Use(s * m * way.inputs),  # the largest input
            "register": Use(VALUE_BITS * (s * m * way.inputs * out_blocks * slices + results)),
            "bus": Use(VALUE_BITS * (s * m * way.inputs + results)),  # inputs reach all arrays at once
            "router": Use(VALUE_BITS * s * m * way.outputs),  # one hop to the next layer
            "buffer_read": Use(VALUE_BITS * values),
            "buffer_write": Use(VALUE_BITS * s * m * way.outputs),
        }

    def _offsets(self, arrays: int) -> int:
        """Cells of offset columns on a word line: one an array, where weights are counted from one."""
        return arrays if self.encoding == "offset" else 0

    def _converted(self, conversions: float, arrays: int, way: Way, digits: int, reads: int) -> Use:
        """Conversions by the ADCs of `arrays` rows of arrays; a converter takes the lines that share it in turn."""
        units = max(arrays * way.outputs, 1) / max(min(self.adc_share, way.outputs, way.out_of), 1)
        if self.adc_kind != "neuron":
            return Use(conversions, units)
        steps = digits + self.adc_bits  # that take energy; the time is that of every sampling, the bits, and a pause
        return Use(conversions * steps, units * steps / (reads + self.adc_bits + 1))

    def _verified(self, op: Product, times: float) -> dict[str, Use]:
        """All weights read `times`: a row of every array at once."""
        return self._rows_read(op, times * op.k, times * min(op.k, self.rows))

    def read_back(self, stack: int, k: int, n: int, times: int) -> dict[str, float]:
        """What it takes to read all weights of a tile so often, as a run records it."""
        uses = self._verified(Product(Kind.READ, 0, k, n, stack), times)
        return {name: use.actions for name, use in uses.items()}

    def refresh_reads(self, pairs: Any) -> dict[str, Any]:
        """What it takes to read pairs before they are reset, as a run records it."""
        steps = 1 + self.adc_bits if self.adc_kind == "neuron" else 1
        return {"cell_full": 2 * pairs, "dac": pairs, "sample_hold": pairs, "adc": steps * pairs}

    def _rows_read(self, op: Product, rows: float, turns: float) -> dict[str, Use]:
        """`rows` rows of a matrix read at full input, in `turns` turns."""
        s, n, slices, across = op.stack, op.n, self.weight_slices, -(-op.n // self.columns)
        together = max(rows / turns, 1) if turns else 1
        values, length = s * rows * n, self.columns * self.pair
        way = Way(1, n, self.rows, self.columns, 1, length, "")
        converted = self._converted(values * slices, s * slices, way, 1, 1)
        return {
            "cell_full": Use(s * rows * (n * self.pair + self._offsets(across)) * slices),
            "gate": Use(values * self.pair * slices),
            "line": Use(s * rows * across * slices * length),
            "dac": Use(s * rows * across * slices, s * together * across * slices),
            "sample_hold": Use(values * slices),
            "adc": converted._replace(units=converted.units * together),
            "settle": Use(turns),
            "fill": Use(min(turns, 1)),
            "shift_add": Use(values * slices if slices > 1 else 0),
            "multiply": Use(values),
            "buffer_write": Use(VALUE_BITS * values),
        }

    # -- pulses ------------------------------------------------------------------------------------------

    def _fired(self, pulses: float, firings: tuple[Firing, Firing], slots: float) -> dict[str, Use]:
        """Pulses where lines of two directions fire together, and what they do to all cells of these lines."""
        half = sum(firing.times * firing.cells for firing in firings) - 2 * pulses
        return {
            "pulse": Use(pulses),
            "gate": Use(firings[0].times * firings[0].cells),  # a row's selectors are on while it fires
            "half_selected": Use(max(half, 0.0)),
            "pulse_line": Use(sum(firing.times * firing.length for firing in firings)),
            "slot": Use(slots),
        }

    def _row_by_row(self, op: Product, mean: float, most: float) -> dict[str, Use]:
        """`mean` pulses a weight, row by row of every array; a row's line fires in the `most` slots that it takes."""
        s, k, n, slices, rows = op.stack, op.k, op.n, self.weight_slices, min(op.k, self.rows)
        pulses = mean * s * k * n * slices * self.pulsed_together
        row = Firing(s * k * most * slices, n * self.pair, self.row_line(n))
        return self._fired(pulses, (row, Firing(pulses, rows, self.rows)), most * rows)

    def _programmed(self, op: Product) -> Uses:
        """Rounds of pulses and reads from state 0; weights spread evenly up to the largest, which a row waits for."""
        if self.programmed:
            return self._written(op)
        most = self.weight_fill * self.window / self.mean_step
        return merged(self._verified(op, self.verify_rounds), self._row_by_row(op, most / 2, most))

    def _written(self, op: Product) -> Uses:
        """All cells written whole, row by row, each pulse read back; a row waits for its slowest cell."""
        mean, slowest = self.program_pulses, SLOWEST * self.program_pulses
        reads = self._verified(op, slowest)
        for name in OF_CELLS & reads.keys():  # cells that are done need no conversion
            reads[name] = reads[name]._replace(actions=reads[name].actions / SLOWEST)
        return merged(reads, self._row_by_row(op, mean * self.moving / self.pulsed_together, slowest))

    def rewritten(self, stack: int, k: int, n: int, cells: Any, rows: Any) -> dict[str, Any]:
        """What writing a share of the cells of a tile took, in a share of its rows, as a run records it."""
        uses = self._written(Product(Kind.UPDATE, 0, k, n, stack))
        return {name: use.actions * (cells if name in OF_CELLS else rows) for name, use in uses.items()}

    def _moved(self, op: Product) -> Uses:
        """Rounds of pulses and reads towards a step that the host worked out, and a read before.

        Where cells are written whole, their weights are kept in dynamic RAM, and moved there first.
        """
        values = op.stack * op.k * op.n
        if self.programmed:
            return merged(self._written(op), {"dram": Use(3 * VALUE_BITS * values), "add": Use(values)})
        mean = self.verify_rounds * self.pulses_per_round
        moved = self._row_by_row(op, mean, BUSIEST * mean)
        step = {"dram": Use(VALUE_BITS * values)}
        seen = self._verified(op, self.verify_rounds + 1)
        return merged(seen, moved, step, self._refreshed(op, moved["pulse"].actions))

    def _accumulated(self, op: Product) -> Uses:
        """The host's step added to digital sums; cells are pulsed by what exceeds a pulse's worth, and not read."""
        values, mean = op.stack * op.k * op.n, self.pulses_per_round
        moved = self._row_by_row(op, mean, BUSIEST * mean)
        sums = {
            "accumulator_read": Use(SUM_BITS * values),
            "accumulator_write": Use(SUM_BITS * values),
            "add": Use(values),
            "dram": Use(VALUE_BITS * values),
        }
        return merged(sums, moved, self._refreshed(op, moved["pulse"].actions))

    def _trained(self, op: Product) -> Uses:
        """Trains of `mean_slots` with `line_activity` on every line; runs record their own counts."""
        s, m, k, n, p = op.stack, op.m, op.k, op.n, self.line_activity
        slots = m * min(self.mean_slots, self.desired_bl)
        pulses = s * slots * k * n * p * p * self.pulsed_together
        row = Firing(s * slots * p * k, n * self.pair, self.row_line(n))
        column = Firing(s * slots * p * n * self.moving, k, self.column_line(k))
        digital = {
            "comparator": Use(s * m * (k + n)),
            "buffer_read": Use(VALUE_BITS * s * m * (k + n)),
            "dram": Use(2 * max(VALUE_BITS * ((op.x_values or s * m * k) + s * m * n) - self._buffered_bits(op), 0)),
        }
        moved = self._fired(pulses, (row, column), slots)
        if self.algorithm in WITH_FAST_ARRAY:
            return merged(moved, digital, self._transferred(op))
        return merged(moved, digital, self._refreshed(op, pulses))

    def _buffered_bits(self, op: Product) -> float:
        """What the buffers of a matrix hold until its update; more inputs and errors are written and read off chip."""
        return op.stack * self.arrays(op.k, op.n) * self.buffer_kb * KILOBYTE_BITS

    def _transferred(self, op: Product) -> Uses:
        """A row of the fast array every `transfer_every` samples: read, and moved onto the slow array.

        The row's line fires in all slots: as many as a train has (tiki-taka), or one (ttv2, c-ttv2), which pulses the
        cells whose buffered sums, read, added to and written, have passed the threshold.
        """
        s, n, turns = op.stack, op.n, op.m / self.transfer_every
        slots = turns * (self.desired_bl if self.algorithm == "tiki-taka" else 1)
        pulses = turns * s * n * self.transfer_pulses * self.pulsed_together
        row = Firing(s * slots, n * self.pair, self.row_line(n))
        moved = self._fired(pulses, (row, Firing(pulses, min(op.k, self.rows), self.rows)), slots)
        values = 0.0 if self.algorithm == "tiki-taka" else s * turns * n
        sums = {
            "accumulator_read": Use(VALUE_BITS * values),
            "accumulator_write": Use(VALUE_BITS * values),
            "add": Use(values),
        }
        return merged(self._rows_read(op, turns, turns), moved, sums)

    def _refreshed(self, op: Product, pulses: float) -> Uses:
        """One-sided pairs, which `pulses` bring to `refresh_at` of their window: read, reset, and programmed again.

        A cell gets there from rest in refresh_at x span / mean_step pulses. The difference, programmed again, is that
        of weights spread evenly. Rows are refreshed one after the other.
        """
        if self.encoding != "one-sided" or self.programmed:
            return {}
        refreshed = pulses * self.mean_step / (self.refresh_at * self.model.span)
        climb = self.weight_fill / 2 * self.window / self.mean_step
        arrays = op.stack * max(self.arrays(op.k, op.n), 1)
        turns = min(refreshed / arrays, float(min(op.k, self.rows)))
        again = Firing(refreshed * climb, min(op.k, self.rows), self.rows)
        row = Firing(refreshed * climb, min(op.n, self.columns) * 2, self.columns * 2)
        way = Way(1, op.n, self.rows, self.columns, 1, self.columns * 2, "")
        return {
            **self._fired(refreshed * climb, (row, again), turns * (climb + 1)),
            "reset": Use(2 * refreshed),
            "cell_full": Use(2 * refreshed),
            "dac": Use(refreshed, arrays),
            "sample_hold": Use(refreshed),
            "adc": self._converted(refreshed, arrays, way, 1, 1),
            "settle": Use(turns),
        }


def merged(*parts: Uses) -> dict[str, Use]:
    """What is done one after the other: actions add, and so do the times that a component is at work."""
    total: dict[str, Use] = {}
    for part in parts:
        for name, use in part.items():
            before = total.get(name, Use(0.0))
            actions, time = before.actions + use.actions, before.actions / before.units + use.actions / use.units
            total[name] = Use(actions, actions / time) if time else use
    return total
