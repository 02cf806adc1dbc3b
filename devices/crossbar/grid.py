"""Wire resistance, exactly: the effective conductance matrix of a crossbar as a resistive network.

Cells are linear and have no selector. Word line i (row, input) and bit line j (column, output) are ladders of equal
segments; the cell g[i, j] joins their nodes. Each input is an ideal source behind a driver resistance, each output a
virtual ground behind a sense resistance; the far end of every line is open. The network is then linear, so one matrix
holds all of it: output currents = v @ effective_conductance(g, wires), for every v, by a plain matrix product.

Method. With the word-line nodes of one column as unknowns the network is block tridiagonal. What lies beyond column j
is an admittance matrix A_j [m, m]; series resistance r and the next column give

    A_j = Y_j + A_(j+1) P_(j+1),   P_j = (1 + r A_j)^-1,   G_eff[:, j] = P_0 P_1 ... P_j a_j

where Y_j is the admittance of bit line j seen from the word lines, and a_j the share of each current that reaches its
output, both in closed form for a ladder. One Cholesky inverse and one product a column: about n m^3 + m^2 n^2
operations [flop], over the longer dimension, in blocks of the shorter.

Everything is written in resistances, never in their inverses: a zero resistance is an exact short, not a small number,
and a zero conductance an exact gap.

Source: Kirchhoff's laws; ladders and elimination as in block Gaussian elimination (Golub and Van Loan, Matrix
Computations, 4th ed., section 4.5). Reciprocity: Tellegen, Philips Research Reports 7, 259 (1952).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError, ShapeError

# Above this ratio of driver to segment resistance [1] the difference 1 - P is too small beside its rounding error,
# which the driver would magnify by the ratio: A P is then formed as a product, at three times the work. Below it the
# loss is at most 1e3 * 1.1e-16 (half the spacing of float64 at 1).
DRIVER_DOMINATES = 1e3


@dataclass(frozen=True)
class Wires:
    """The wires of a crossbar: resistance of one segment, of each driver and each sense input [ohm], and which ends.

    Every resistance may be zero, which is an exact short: all zero gives G_eff = g.
    Raises ConfigError where a resistance is negative, NaN or infinite, or a side is unknown.
    """

    word_line_ohm: float = 0.0  # one segment of a row, between neighbouring cells and from the driver to the first
    bit_line_ohm: float = 0.0  # one segment of a column, between neighbouring cells and from the last to the output
    driver_ohm: float = 0.0  # in series with the first segment of every word line
    sense_ohm: float = 0.0  # in series with the last segment of every bit line
    drive_side: Literal["left", "right"] = "left"  # left: the driver is next to column 0
    sense_side: Literal["bottom", "top"] = "bottom"  # bottom: the output is next to row m - 1

    def __post_init__(self) -> None:
        for name in ("word_line_ohm", "bit_line_ohm", "driver_ohm", "sense_ohm"):
            value = getattr(self, name)
            if not (isinstance(value, int | float | np.number) and math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is {value!r}; a wire resistance is a finite number of ohms, zero or more")
        for name, allowed in (("drive_side", ("left", "right")), ("sense_side", ("bottom", "top"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; allowed: {' or '.join(allowed)}")

    def reversed(self) -> Wires:
        """The same wires where driver and sense circuits have changed places: for the transposed read."""
        return replace(self, driver_ohm=self.sense_ohm, sense_ohm=self.driver_ohm)


def effective_conductance(g: Array, wires: Wires, *, xp: Namespace = np) -> Array:
    """The matrix [m, n] [S], float64, that the resistive network of cells g [m, n] [S] applies to its inputs.

    Output currents [A] = v [.., m] [V] @ the result. The transposed read, bit lines driven and word lines sensed, is
    dy [.., n] @ result.T exactly (reciprocity), as long as every terminal keeps its own series resistance; where
    driver and sense circuits change places with the role, see `effective_conductance_transposed`.

    Raises ShapeError where g is no matrix, ConfigError where it holds a negative, NaN or infinite conductance.
    """
    g = checked(g, xp)
    m, n = g.shape
    if wires.drive_side == "right":
        flipped = effective_conductance(g[:, ::-1], replace(wires, drive_side="left"), xp=xp)
        return xp.ascontiguousarray(flipped[:, ::-1])
    if wires.sense_side == "top":
        flipped = effective_conductance(g[::-1], replace(wires, sense_side="bottom"), xp=xp)
        return xp.ascontiguousarray(flipped[::-1])
    word = Line(float(wires.word_line_ohm), float(wires.driver_ohm))
    bit = Line(float(wires.bit_line_ohm), float(wires.sense_ohm))
    if not any((*word, *bit)):
        return g.copy()
    if m <= n:
        return xp.ascontiguousarray(_recursion(g, word, bit, xp))
    # Reciprocity: the same currents flow with drivers and outputs exchanged. Rows are reversed twice over, because the
    # recursion drives its lines at index 0 and senses them at the last: the bit lines' terminals are at the last row.
    return xp.ascontiguousarray(_recursion(g[::-1, ::-1].T, bit, word, xp)[::-1, ::-1].T)


def effective_conductance_transposed(g: Array, wires: Wires, *, xp: Namespace = np) -> Array:
    """The matrix [n, m] [S] of the read in which bit lines are driven and word lines sensed, in the same circuit.

    Driver and sense resistance change sides with the role: `driver_ohm` is in series with every bit line, `sense_ohm`
    with every word line, each at the end where that line has its terminal. Currents [A] = dy [.., n] [V] @ the result.
    It is effective_conductance(g, wires).T only where driver_ohm == sense_ohm.

    Raises as `effective_conductance`.
    """
    return xp.ascontiguousarray(effective_conductance(g, wires.reversed(), xp=xp).T)


def checked(g: Array, xp: Namespace = np) -> Array:
    """g as float64 [m, n] [S].

    Raises ShapeError where g is no matrix, ConfigError where a conductance is negative, NaN or infinite.
    """
    g = xp.asarray(g, dtype=xp.float64)
    if g.ndim != 2 or 0 in g.shape:
        raise ShapeError(f"conductances have shape {g.shape}; a crossbar is a matrix [m, n] with m and n at least 1")
    if not (bool(xp.isfinite(g).all()) and float(g.min()) >= 0):
        raise ConfigError("a conductance is negative, NaN or infinite; every cell is a finite number of siemens >= 0")
    return g


class Line(NamedTuple):
    """One kind of line: its segments, and what is in series with its terminal [ohm]."""

    segment_ohm: float
    terminal_ohm: float


class Ladder(NamedTuple):
    """Lines of k cells each, cells along the first axis, terminal after the last; each cell's far end held at 0 V.

    The voltage at cell a for a current injected at cell b is response[max(a, b)] * exp(growth[min] - growth[max]).
    """

    growth: Array  # [k, lines] logarithm of the voltage, relative to the open end, when driven from the terminal [1]
    response: Array  # [k, lines] voltage at a cell for a current injected there [ohm]
    share: Array  # [k, lines] part of that current that leaves through the terminal [1]


def ladder(g: Array, line: Line, xp: Namespace = np) -> Ladder:
    """Solve all lines of cells g [k, lines] [S] at once, without a difference or a division by zero."""
    k = g.shape[0]
    segment = line.segment_ohm
    upper = xp.empty_like(g)  # admittance of the cell and everything towards the open end [S]
    upper[0] = g[0]
    for a in range(1, k):
        upper[a] = g[a] + upper[a - 1] / (1 + segment * upper[a - 1])
    below = xp.empty_like(g)  # resistance from the cell's node through the terminal [ohm]
    passed = xp.empty_like(g)  # part of a current on its way to the terminal that passes this cell [1]
    below[-1] = segment + line.terminal_ohm
    for a in range(k - 1, 0, -1):
        passed[a] = 1 / (1 + g[a] * below[a])
        below[a - 1] = segment + below[a] * passed[a]
    growth = xp.zeros_like(g)
    xp.cumsum(xp.log1p(segment * upper[:-1]), axis=0, out=growth[1:])
    share = 1 / (1 + upper * below)
    response = below * share
    share[:-1] *= xp.cumprod(passed[:0:-1], axis=0)[::-1]
    return Ladder(growth, response, share)


def _recursion(g: Array, word: Line, bit: Line, xp: Namespace) -> Array:
    """G_eff [m, n] [S] of cells g [m, n], drivers next to column 0 and outputs next to row m - 1.

    Of every symmetric matrix [m, m] only the lower triangle counts.
    """
    m, n = g.shape
    inverse, product = _on(xp)
    growth, response, share = ladder(g, bit, xp)
    result = xp.array(g * share, order="F")  # column j: a_j
    admittance = xp.zeros((m, m), order="F")
    spread = xp.empty((m, m), order="F")
    diagonal = xp.arange(m)
    for j in range(n - 1, -1, -1):
        series = word.segment_ohm + (word.terminal_ohm if j == 0 else 0.0)
        # Y_j = g - g (voltage along the bit line per injected current) g; below the diagonal growth only falls
        xp.subtract(growth[:, j], growth[:, j, None], out=spread)
        xp.minimum(spread, 0.0, out=spread)
        xp.exp(spread, out=spread)
        spread *= (g[:, j] * response[:, j])[:, None]
        spread *= g[:, j]
        admittance -= spread
        admittance[diagonal, diagonal] += g[:, j]
        step = series * admittance
        step[diagonal, diagonal] += 1
        passed = inverse(step)
        result[:, j:] = product(passed, result[:, j:])
        if j and word.terminal_ohm >= DRIVER_DOMINATES * word.segment_ohm:
            admittance = product(admittance, _mirrored(passed, xp))
        elif j:
            passed[diagonal, diagonal] -= 1
            admittance = xp.multiply(passed, -1 / series, out=passed)
    return result


def _inverse_lapack(matrix: Any) -> Any:
    """Lower triangle of the inverse of a positive definite matrix [m, m], Fortran order, which is overwritten."""
    from scipy.linalg import lapack  # imported where it is used: `import hwsim` stays light

    factor, failed = lapack.dpotrf(matrix, lower=1, overwrite_a=1, clean=0)
    if not failed:
        inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ConfigError("the wire network is singular in float64: its conductances and resistances are too far apart")
    return inverse


def _product_blas(symmetric: Any, matrix: Any) -> Any:
    """symmetric @ matrix, reading the lower triangle of the first; both in Fortran order."""
    from scipy.linalg import blas

    return blas.dsymm(1.0, symmetric, matrix, lower=1)


def _on(xp: Namespace) -> tuple[Any, Any]:
    """The two products of the recursion on the library `xp`: inverse and product of lower triangles."""
    if xp is np:
        return _inverse_lapack, _product_blas
    return (lambda a: xp.linalg.inv(_mirrored(a, xp))), (lambda a, b: _mirrored(a, xp) @ b)


def _mirrored(lower: Array, xp: Namespace) -> Array:
    """The symmetric matrix [m, m] that has this lower triangle."""
    return xp.tril(lower) + xp.tril(lower, -1).T


MARGIN = 2.0  # an estimated error is trusted to this factor [1]: four probes miss a rank-one error by more in 1 of 11
GROWTH = 1.5  # the error is measured again when the cells have moved this much further than at the last time [1]
STEPS = 200  # a solve for the probes that needs more conjugate-gradient steps than this ends in an exact refresh


class EffectiveMatrix:
    """The effective conductance [m, n] [S] of a crossbar in training, kept within a relative tolerance.

    Between exact solves G_eff(g) is approximated by M(g) + (G_eff(g0) - M(g0)), with g0 the cells of the last one and

        M[i, j] = g[i, j] * (share that word line i delivers to j) * (share that bit line j passes on from i),

    the closed form in which each line sees its neighbours at 0 V: it moves with the cells nearly as the network does,
    and only the change of the difference is lost. How much, is measured: the network is solved for a few fixed random
    inputs of +1 and -1 V (conjugate gradients from the last voltages, ladders as preconditioner), and the mean square
    error of the currents estimates the square of the Frobenius error without bias. It is measured whenever M has moved
    GROWTH times as far from M(g0) as at the last measurement, and taken as proportional to that distance in between.
    Where MARGIN times the error would exceed the tolerance it is measured at once, and where it does, the matrix is
    solved exactly. So the tolerance holds for the relative Frobenius error as an estimate, not as a proven bound.

    `state` holds arrays and numbers only; a matrix with the same wires, tolerance and state continues bit for bit.

    Source: Hutchinson, Commun. Stat. Simul. Comput. 18, 1059 (1989), for the estimate.
    """

    KEPT: ClassVar = (
        *("probe", "voltage", "solves", "checks", "solved", "effective", "clamped", "error", "rate", "checked"),
    )  # the names in `state`

    def __init__(
        self, g: Array, wires: Wires, *, tolerance: float, rng: Any, probes: int = 4, xp: Namespace = np
    ) -> None:
        """Solve exactly for cells g [m, n] [S]; `tolerance` [1] is relative, `rng` draws the probes once.

        Raises ConfigError where the tolerance is not positive or there is no probe; else as `effective_conductance`.
        """
        if not 0 < tolerance < math.inf:
            raise ConfigError(f"tolerance is {tolerance!r}; a relative error above zero is needed")
        if probes < 1:
            raise ConfigError(f"{probes} probes estimate no error; at least one is needed")
        self.wires, self.tolerance, self.xp = wires, tolerance, xp
        g = checked(g, xp)
        m, n = g.shape
        signs = xp.where(rng.random((m, 1, probes)) < 0.5, -1.0, 1.0)
        self.state: dict[str, Any] = {"probe": signs, "voltage": signs * xp.ones((1, n, 1)), "solves": 0, "checks": 0}
        self._refresh(g, self._ladders(g))

    @classmethod
    def restored(cls, wires: Wires, tolerance: float, state: dict[str, Any], *, xp: Namespace = np) -> EffectiveMatrix:
        """The matrix that had this `state`, which it keeps as its own."""
        matrix = cls.__new__(cls)
        matrix.wires, matrix.tolerance, matrix.xp, matrix.state = wires, tolerance, xp, state
        return matrix

    @property
    def effective(self) -> Array:
        """The matrix [m, n] [S] of the last update."""
        return self.state["effective"]

    @property
    def error(self) -> float:
        """Estimated relative Frobenius error of `effective` [1]; zero after an exact solve."""
        return float(self.state["error"])

    def update(self, g: Array) -> Array:
        """Follow the cells to g [m, n] [S]; returns the matrix [m, n] [S]. Raises as `effective_conductance`."""
        g = checked(g, self.xp)
        if g.shape != self.effective.shape:
            raise ShapeError(f"conductances have shape {g.shape}; this crossbar has {self.effective.shape}")
        ladders, state, xp = self._ladders(g), self.state, self.xp
        clamped = self._clamped(g, ladders)
        moved = clamped - state["clamped"]
        distance = float(xp.linalg.norm(moved))
        effective = state["solved"] + moved
        error = state["rate"] * distance
        if distance > GROWTH * state["checked"] or MARGIN * error > self.tolerance:
            error = self._measured(g, ladders, effective)
            state.update(rate=error / distance if distance else 0.0, checked=distance, checks=state["checks"] + 1)
        if MARGIN * error <= self.tolerance:  # false for NaN too
            state.update(effective=effective, error=error)
        else:
            self._refresh(g, ladders)
        return self.effective

    def _refresh(self, g: Array, ladders: tuple[Ladder, Ladder]) -> None:
        exact = effective_conductance(g, self.wires, xp=self.xp)
        self.state.update(solved=exact, effective=exact, clamped=self._clamped(g, ladders), error=0.0)
        self.state.update(rate=0.0, checked=0.0, solves=self.state["solves"] + 1)

    def _measured(self, g: Array, ladders: tuple[Ladder, Ladder], effective: Array) -> float:
        """Relative error [1] of the currents that `effective` gives for the probes."""
        exact = self._probe_currents(g, ladders)
        estimated = self.xp.einsum("mop,mn->np", self.state["probe"], effective)
        size = float(self.xp.linalg.norm(exact))
        return float(self.xp.linalg.norm(exact - estimated)) / size if size else 0.0

    def _ladders(self, g: Array) -> tuple[Ladder, Ladder]:
        """Word lines (cells first: [n, m]) and bit lines ([m, n]) of the cells, terminal last."""
        g, wires = self._turned(g), self.wires
        word = ladder(self.xp.ascontiguousarray(g.T[::-1]), Line(wires.word_line_ohm, wires.driver_ohm), self.xp)
        return word, ladder(g, Line(wires.bit_line_ohm, wires.sense_ohm), self.xp)

    def _turned(self, g: Array) -> Array:
        """g [m, n, ..] with drivers next to column 0 and outputs next to row m - 1; its own inverse."""
        g = g if self.wires.drive_side == "left" else g[:, ::-1]
        return g if self.wires.sense_side == "bottom" else g[::-1]

    def _clamped(self, g: Array, ladders: tuple[Ladder, Ladder]) -> Array:
        """M [m, n] [S]."""
        word, bit = ladders
        return g * self._turned(bit.share * word.share[::-1].T)

    def _probe_currents(self, g: Array, ladders: tuple[Ladder, Ladder]) -> Array:
        """Output currents [n, probes] [A] of the network for the probes, far better than the tolerance asks."""
        xp, (word, bit) = self.xp, ladders
        cells = self._turned(g)[:, :, None]
        probe = self._turned(self.state["probe"])
        on_word, on_bit = _Response(word, xp), _Response(bit, xp)

        def word_voltage(current: Array) -> Array:  # [m, n, probes] [V] for currents into the word lines [A]
            return on_word(current.swapaxes(0, 1)[::-1])[::-1].swapaxes(0, 1)

        def returned(voltage: Array) -> Array:  # [m, n, probes] [A] that come back through the cells
            return cells * on_bit(cells * voltage)

        # The network is (T + D - D B D) voltage = source, T the word lines, D the cells, B the bit lines' response;
        # word_voltage is (T + D)^-1, the preconditioner, which exists for lines of no resistance as well.
        passed = (cells * bit.share[:, :, None]).swapaxes(0, 1)  # [n, m, 1] [S] current out per volt on a word line
        back = returned(self._turned(self.state["voltage"]))
        voltage = probe * word.share[::-1].T[:, :, None] + word_voltage(back)
        residual = returned(voltage) - back
        moved = word_voltage(residual)
        step, current = moved, residual
        squared = xp.sum(residual * moved, axis=(0, 1))
        total = (passed * voltage.swapaxes(0, 1)).sum(axis=1)
        for _ in range(STEPS):
            curvature = xp.sum(step * (current - returned(step)), axis=(0, 1))
            length = squared / xp.where(curvature > 0, curvature, 1.0)
            voltage = voltage + length * step
            change = length * (passed * step.swapaxes(0, 1)).sum(axis=1)
            total = total + change
            if not float(xp.linalg.norm(change)) > 0.02 * self.tolerance * float(xp.linalg.norm(total)):
                self.state["voltage"] = self._turned(voltage)
                return total if self.wires.drive_side == "left" else total[::-1]
            residual = residual - length * (current - returned(step))
            moved = word_voltage(residual)
            before, squared = squared, xp.sum(residual * moved, axis=(0, 1))
            ratio = squared / xp.where(before > 0, before, 1.0)
            step, current = moved + ratio * step, residual + ratio * current
        return xp.full_like(total, xp.nan)


class _Response:
    """Voltages [k, lines, probes] [V] on the lines of a ladder for currents into their cells [A]: two running sums."""

    def __init__(self, lines: Ladder, xp: Namespace) -> None:
        self.xp = xp
        self.grown = xp.exp(lines.growth)[:, :, None]
        self.fallen = lines.response[:, :, None] / self.grown

    def __call__(self, current: Array) -> Array:
        below = self.xp.cumsum(self.grown * current, axis=0)
        weighted = self.fallen * current
        above = self.xp.cumsum(weighted[::-1], axis=0)[::-1] - weighted
        return self.fallen * below + self.grown * above
