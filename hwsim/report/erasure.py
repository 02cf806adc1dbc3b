"""What a training step takes of a device that uncomputes instead of erasing: passes, erased bits, joules, seconds."""

from __future__ import annotations

from typing import Any

from hwsim.cost import STEP_PHASES, Kind, Product
from hwsim.ledger import Cell, Ledger


def step_of(ledger: Ledger, device: Any, steps: int = 1) -> dict[str, float]:
    """One of all training steps of a ledger: passes, bits that a device erases, its joules and all [J], seconds [s]."""
    runs, erased_bits = 0.0, 0.0
    for (layer, phase, doer, op), calls in ledger.calls.items():
        if doer is not device or phase not in STEP_PHASES or not isinstance(op, Product):
            continue
        runs += calls * device.passes(op) * op.macs
        uses, recorded = device.uses(op), ledger.actual.get(Cell(layer, phase, doer, op), {})
        for name in device.erasing:
            expected = calls * uses[name].actions if name in uses else 0.0
            erased_bits += float(recorded.get(name, expected))
    label = ledger.devices()[device]
    energy_j = ledger.energy(by=("device", "component"), phases=STEP_PHASES)
    own_j = {component: float(joules) for (of, component), joules in energy_j.items() if of == label}
    return {
        "passes": runs / ledger.macs(phases=STEP_PHASES)[Kind.GRADIENT],
        "erased_bits": erased_bits / steps,
        "erasure_j": sum(own_j.get(name, 0.0) for name in device.erasing) / steps,
        "array_j": sum(own_j.values()) / steps,
        "step_j": float(ledger.total_j(phases=STEP_PHASES)) / steps,
        "step_s": float(ledger.total_s(phases=STEP_PHASES)) / steps,
    }
