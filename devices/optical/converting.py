"""The same as detection.read for float32 matrices on the processor, in few passes: see kernels `send` and `receive`.

The noise of value i is number i of a stream whose key comes from the generator.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hwsim.arrays import Array, Namespace

if TYPE_CHECKING:
    from hwsim.devices.optical.device import Optics

MOST = 2**63


def fast(xp: Namespace, values: Array) -> bool:
    """Whether the kernels take these values."""
    return xp is np and values.ndim == 2 and values.dtype == np.float32 and values.flags.c_contiguous


def through(
    device: Optics, values: Array, product: Callable[[Array], Array], spread: Array, rng: Any, by: str
) -> tuple[Array, float, int, float]:
    """Results [m, n], how many were clipped, their count, and the sum of vectors' crests."""
    detection = importlib.import_module("hwsim.devices.optical.detection")  # which imports this module
    kernels, (m, k) = _kernels(), values.shape
    light, size = np.empty((m, k), np.float32), np.empty(m, np.float32)
    crest = kernels.send(values, light, size, np.float32(levels(device.dac_bits)), by in detection.FIELDS)
    found = product(light)
    noisy = device.shot_noise
    if noisy and device.level == "photon":
        found, noisy = detection.detected(device, found, spread, k, rng, by), False
    key = np.uint64(rng.integers(MOST)) if noisy else np.uint64(0)
    found = np.ascontiguousarray(found)
    spread = spread.astype(np.float32, copy=False)
    if noisy:
        kernels.disturb(found, spread, detection.own_noise(device, spread, by), key, by == "oscillator")
    clipped = kernels.receive(found, size, np.float32(levels(device.adc_bits)), np.float32(device.adc_crest))
    return found, float(clipped), found.size, float(crest)


def levels(bits: int) -> float:
    """Steps from 0 to full scale; 0: no rounding."""
    return 2.0 ** (bits - 1) - 1 if bits else 0.0


@cache
def _kernels() -> Any:
    """The module of Numba kernels, imported on first use."""
    return importlib.import_module("hwsim.devices.optical.noisy")
