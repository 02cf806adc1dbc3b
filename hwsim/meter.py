"""Joules of this machine around a block of code: from the counters of processors (RAPL) and cards (NVML), or a reason.

    with hwsim.measure() as m:
        work()
    print(m)

A counter that cannot be read is named with its reason and its remedy; it never counts as 0 J, so that there is no sum.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

from hwsim.errors import ConfigError, HwsimError

POWERCAP = Path("/sys/class/powercap")  # Linux, Documentation/power/powercap/powercap.rst
CARDS = Path("/proc/driver/nvidia/gpus")  # a folder for every card: NVIDIA's README of the Linux driver (recalled)
RAPL_PERIOD_S = 1e-3  # between two updates: Intel SDM vol. 3, "Platform Specific Power Management Support" (recalled)
RAPL_STEP_J = 2.0**-14  # energy status unit of most processors, 61 uJ: Intel SDM vol. 3 (recalled); others 15.3 uJ
NVML_PERIOD_S = 0.1  # the slow end of the 20-100 ms in PETSc's manual page PetscLogGpuEnergyMeter (read)
NVML_STEP_J = 1e-3  # nvmlDeviceGetTotalEnergyConsumption counts millijoules: NVML API reference (read)
WATCH_S = 30.0  # between two readings of a long window: a range of 65 kJ then wraps once at most, below 2 kW

ZONES = "intel-rapl:*"  # AMD's counters bear this name too; intel-rapl-mmio repeats the package, and is left out
NO_ZONES = "load the driver (modprobe intel_rapl_msr), or measure outside the virtual machine or container"
READABLE = f"sudo chmod a+r {POWERCAP}/{ZONES}/energy_uj (until the next start), or run as root"
LONGER = "measure for longer: repeat the work inside the block"


class NotMeasured(HwsimError):
    """No counter answered, or the block that is measured has not ended."""


class Reading(NamedTuple):
    """What one counter counted."""

    source: str  # RAPL or NVML
    name: str
    energy_j: float
    error_j: float  # at most, at constant power: the counter lags at either end of the block

    def __str__(self) -> str:
        return f"{self.name}: {self.energy_j:.4g} J +- {self.error_j:.2g} J ({self.source})"


class Unavailable(NamedTuple):
    """Why a counter says nothing, and what to do."""

    source: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.source}: unavailable: {self.reason}; {self.remedy}"


@dataclass
class Counter:
    """A counter that only grows, or starts again from 0 after `range_j`, and what it has counted since `start`."""

    source: str
    name: str
    read_j: Callable[[], float]
    period_s: float
    step_j: float
    range_j: float | None = None  # None: it never wraps
    energy_j: float = 0.0
    last_j: float = 0.0
    failure: Unavailable | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Count from now on."""
        self.last_j = self._read() or 0.0

    def sample(self) -> None:
        """Add what was counted since the last reading."""
        with self.lock:
            now = self._read()
            if now is None:
                return
            difference = now - self.last_j
            if difference < 0 and self.range_j is None:
                self.failure = Unavailable(self.source, f"{self.name} went back: its driver was loaded anew", "again")
                return
            self.energy_j += difference if difference >= 0 else difference + (self.range_j or 0.0)
            self.last_j = now

    def _read(self) -> float | None:
        if self.failure is not None:
            return None
        try:
            return self.read_j()
        except PermissionError:
            self.failure = Unavailable(self.source, f"{self.name} may not be read by this user", READABLE)
        except Exception as error:  # files and drivers fail in ways of their own, and the work must go on
            self.failure = Unavailable(self.source, f"{self.name} cannot be read ({error})", "see its driver")
        return None

    def result(self, time_s: float) -> Reading | Unavailable:
        """What was counted in `time_s` [s], with the most that the counter's period and step leave open.

        A counter with period T shows, after a time t at constant power P, an energy E between P (t - T) and P (t + T),
        in whole periods. So |E - P t| <= E T / (t - T) for t >= 2 T, and <= E for shorter blocks that show anything.
        """
        if self.failure is not None:
            return self.failure
        if self.energy_j == 0.0:
            seen = f"{self.name} did not move in {time_s:.3g} s; it does about every {1e3 * self.period_s:g} ms"
            return Unavailable(self.source, seen, LONGER)
        share = self.period_s / max(time_s - self.period_s, self.period_s)
        return Reading(self.source, self.name, self.energy_j, self.energy_j * share + self.step_j)


# -- counters of this machine ------------------------------------------------------------------------------


def rapl() -> tuple[list[Counter], list[Unavailable]]:
    """The counters of processor packages, and of memory where it has its own; parts of a package are in it already."""
    counters: list[Counter] = []
    names = {zone.name: text(zone / "name") for zone in sorted(POWERCAP.glob(ZONES))}
    for zone, name in names.items():
        package = names.get(zone.rpartition(":")[0], "")
        if name.startswith("package") or name == "dram":
            path, title = POWERCAP / zone, f"{package} {name}".strip()
            counter = Counter("RAPL", title, partial(microjoules, path / "energy_uj"), RAPL_PERIOD_S, RAPL_STEP_J)
            try:
                counter.range_j = 1e-6 * int(text(path / "max_energy_range_uj"))
            except ValueError:
                counter.failure = Unavailable("RAPL", f"{title} has no max_energy_range_uj", "update the kernel")
            counters.append(counter)
    if counters:
        return counters, []
    what = "has no processor's energy counters" if POWERCAP.is_dir() else "does not exist"
    return [], [Unavailable("RAPL", f"{POWERCAP} {what}", NO_ZONES)]


def text(path: Path) -> str:
    """A file's content, empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def microjoules(path: Path) -> float:
    """A counter's state [J]."""
    return 1e-6 * int(path.read_text(encoding="ascii"))


def nvml() -> tuple[list[Counter], list[Unavailable], ModuleType | None]:
    """The counters of all NVIDIA cards, and the library, which wants to be shut down, where it was started."""

    def without(reason: str, remedy: str) -> tuple[list[Counter], list[Unavailable], None]:
        return [], [Unavailable("NVML", reason, remedy)], None

    try:
        import pynvml
    except ImportError:
        return without("nvidia-ml-py is not installed", "where there is an NVIDIA card: pip install 'hwsim[meter]'")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return without(f"no NVIDIA driver answers ({error})", "install it, or see: nvidia-smi")
    counters: list[Counter] = []
    missing: list[Unavailable] = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            card = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = pynvml.nvmlDeviceGetName(card)
            title = f"card {index}, {name.decode() if isinstance(name, bytes) else name}"
            counter = Counter("NVML", title, partial(millijoules, pynvml, card), NVML_PERIOD_S, NVML_STEP_J)
            try:
                counter.read_j()
            except pynvml.NVMLError as error:
                why = f"{title} has no energy counter ({error})"
                counter.failure = Unavailable("NVML", why, "cards count energy from Volta (2017) on")
            counters.append(counter)
    except pynvml.NVMLError as error:
        missing.append(Unavailable("NVML", f"the driver does not list its cards ({error})", "see: nvidia-smi"))
    if not counters and not missing:
        missing.append(Unavailable("NVML", "the driver finds no card", "see: nvidia-smi"))
    return counters, missing, pynvml


def millijoules(library: Any, card: Any) -> float:
    """A card's counter [J]."""
    return 1e-3 * float(library.nvmlDeviceGetTotalEnergyConsumption(card))


def synchronize(xp: Any) -> None:
    """Wait for work that an array library has queued on a card; nothing for libraries without one."""
    if hasattr(xp, "cuda"):
        xp.cuda.Device().synchronize()


def cards_of_cupy() -> int:
    """How many cards CuPy finds, if it is loaded; its errors are those of the driver."""
    cupy: Any = sys.modules.get("cupy")
    return int(cupy.cuda.runtime.getDeviceCount()) if hasattr(cupy, "cuda") else 0


def card_is_there() -> bool:
    """Whether the system or CuPy knows an NVIDIA card, NVML or not."""
    try:
        return any(CARDS.glob("*")) or cards_of_cupy() > 0
    except Exception:  # CuPy finds no driver, and so no card
        return False


def waited_for_cards() -> list[Unavailable]:
    """Wait for work that CuPy has queued, if it is loaded and has a card; why that could not be waited for."""
    try:
        if cards_of_cupy():  # without a card, to synchronize is an error
            synchronize(sys.modules["cupy"])
    except Exception as error:  # drivers fail in ways of their own, and the work must go on
        return [Unavailable("CuPy", f"what it has queued cannot be waited for ({error})", "see: nvidia-smi")]
    return []


# -- the meter ---------------------------------------------------------------------------------------------


class Measurement:
    """Seconds and joules of the block that it surrounds; it may be used again, and inside another one.

    Counters count the whole package or card, whoever uses it; a card that is there and is not read leaves the joules
    incomplete, as a counter that fails does. What CuPy has queued is waited for, at either end. The error of a reading
    is that of sampling alone: RAPL is an estimate on some processors and blurred where energy filtering is on
    (INTEL-SA-00389), and cards of 2020 to 2024 look at their power for a part of the time only (Yang et al., Part-time
    power measurements, SC 2024).
    """

    def __init__(self) -> None:
        self._counters: list[Counter] = []
        self._missing: list[Unavailable] = []
        self._unread: list[Unavailable] = []  # cards, where there are any
        self._library: ModuleType | None = None
        self._watch: threading.Thread | None = None
        self._stop = threading.Event()
        self.start_s = 0.0
        self._time_s: float | None = None
        self._counted: tuple[Reading | Unavailable, ...] = ()  # of every counter, and every card, that there is
        self._results: tuple[Reading | Unavailable, ...] = ()  # the same, and what there is no counter of

    def __enter__(self) -> Self:
        if self._watch is not None:
            raise ConfigError("this meter runs already; inside its block, take another: with hwsim.measure() as inner")
        processors, no_processors = rapl()
        cards, no_cards, self._library = nvml()
        self._counters, self._missing, self._unread = processors + cards, no_processors, no_cards
        self._time_s, self._results, self._stop = None, (), threading.Event()
        try:
            self._missing += waited_for_cards()
            for counter in self._counters:
                counter.start()
            watch = threading.Thread(target=self._keep_up, args=(self._stop,), daemon=True, name="hwsim meter")
            watch.start()
        except BaseException:  # an interrupt: __exit__ is not called then
            self._close()
            raise
        self._watch = watch
        self.start_s = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            late = [reason for reason in waited_for_cards() if reason not in self._missing]
            self._time_s = time.perf_counter() - self.start_s
            for counter in self._counters:
                counter.sample()
            self._counted = tuple(counter.result(self._time_s) for counter in self._counters)
            self._results = (*self._counted, *self._missing, *self._unread, *late)
            if card_is_there():
                self._counted += tuple(self._unread)
        finally:
            self._close()

    def _close(self) -> None:
        """Stop watching, and leave the library of cards as it was found."""
        self._stop.set()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.join()
        library, self._library = self._library, None
        if library is not None:
            library.nvmlShutdown()

    def _keep_up(self, stop: threading.Event) -> None:
        """Read counters now and then, so that none wraps twice unseen."""
        while not stop.wait(WATCH_S):
            for counter in self._counters:
                counter.sample()

    @property
    def time_s(self) -> float:
        """How long the block took [s]. Raises NotMeasured before its end."""
        if self._time_s is None:
            raise NotMeasured("the measured block has not ended; read the meter after it")
        return self._time_s

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What each counter counted, of those that answered."""
        return tuple(result for result in self._ended if isinstance(result, Reading))

    @property
    def unavailable(self) -> tuple[Unavailable, ...]:
        """What did not answer: no part of `energy_j`."""
        return tuple(result for result in self._ended if isinstance(result, Unavailable))

    @property
    def _ended(self) -> tuple[Reading | Unavailable, ...]:
        return self._results if self.time_s >= 0 else ()

    @property
    def energy_j(self) -> float:
        """The joules of all counters. Raises NotMeasured, with reasons and remedies, where one failed or none is."""
        return sum(reading.energy_j for reading in self._answers)

    @property
    def error_j(self) -> float:
        """The most that sampling leaves open of `energy_j` [J]. Raises NotMeasured where that does."""
        return sum(reading.error_j for reading in self._answers)

    @property
    def complete(self) -> bool:
        """Whether there is a counter, and each one answered, and each card: what some counted is not the whole."""
        return bool(self.readings) and not self._failed

    @property
    def _failed(self) -> tuple[Unavailable, ...]:
        return tuple(result for result in self._counted if isinstance(result, Unavailable))

    @property
    def _answers(self) -> tuple[Reading, ...]:
        if not self.readings:
            raise NotMeasured("energy is unavailable: " + "; ".join(map(str, self.unavailable)))
        if self._failed:
            raise NotMeasured(
                f"energy is incomplete: {'; '.join(map(str, self._failed))}; what the others counted is in readings"
            )
        return self.readings

    def __str__(self) -> str:
        if self._time_s is None:
            return "not measured yet"
        lines = [f"{self.time_s:.4g} s"]
        if self.complete:
            lines[0] += f", {self.energy_j:.4g} J +- {self.error_j:.2g} J"
        return "\n".join([*lines, *(f"  {result}" for result in self._results)])


def measure() -> Measurement:
    """A meter for `with hwsim.measure() as m`: m.time_s, m.energy_j +- m.error_j, m.complete, m.readings ..."""
    return Measurement()
