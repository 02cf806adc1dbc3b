"""What a device promises of its products, and what follows from a number format alone."""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.precision import Policy

ACCUMULATION = 1e-5  # RMS error of float32 sums relative to the result: sqrt(k) 2^-24 for k up to 2^14, and a margin


@dataclass(frozen=True)
class Contract:
    """What a device promises of its four products, as RMS relative error against exact arithmetic.

    `rounding_bound`: the claims are bounds that follow from a number format, and may be far from what is typical.
    `bias`: largest mean error, relative to the RMS of the result. `deterministic`: equal inputs, equal results.
    """

    forward: float = 0.0
    backward: float = 0.0
    gradient: float = 0.0
    update: float = 0.0
    update_outer: float | None = None  # of rank-m updates in place; None: as `update`
    bias: float = 0.0
    deterministic: bool = True
    rounding_bound: bool = False


def rounding_contract(formats: Policy) -> Contract:
    """The contract of products that are exact but for rounding their operands and results, for normal data."""
    forward = formats.relative_rms_bound() + ACCUMULATION
    mixed = formats.relative_rms_bound(gradients=True) + ACCUMULATION
    return Contract(
        forward=forward,
        backward=mixed,
        gradient=mixed,
        update=formats.master.unit_roundoff,
        bias=mixed,
        deterministic=not formats.stochastic,
        rounding_bound=True,
    )
