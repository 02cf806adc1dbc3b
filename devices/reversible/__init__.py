"""Reversible logic: netlists whose every gate can be undone, their counts, a simulator that runs them, and a device."""

from hwsim.devices.reversible.device import Reversible

__all__ = ["Reversible"]
