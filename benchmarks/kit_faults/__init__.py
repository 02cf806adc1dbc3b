"""Faults planted in the built-in devices: each a subclass that is wrong in one thing an author could get wrong.

The docstring of a class says what is wrong. `FAULTS` holds them, device by device; `Fault.make` returns a new device,
`Fault.sound` names one without it. All can be pickled, as they are classes of modules. `UNKNOWABLE` are those that
check_device lets pass, with the reason: what is wrong there is right for another device.
"""

from kit_faults import cpu, crossbar, digital, gpu, optical, reversible
from kit_faults.planting import FAULTS, Fault

UNKNOWABLE = {
    "OneNoiseForABatch": "a laser whose power wanders does the same to all rows of a batch",
    "MissingLeakage": "a wrong factor in a count is a better process",
    "WrongUnit": "a wrong value in a preset is a smaller chip",
    "RepeatedInputsWhole": "a device without a path for inputs that repeat reads them each time, as `cpu` does",
    "BackwardOnePass": "a machine that erases what is left over makes one pass, and half the count is its count",
}

__all__ = ["FAULTS", "UNKNOWABLE", "Fault", "cpu", "crossbar", "digital", "gpu", "optical", "reversible"]
