"""The meter against a made-up machine: counters that wrap, refuse, stand still or go missing."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import hwsim
from hwsim import meter
from hwsim.calibrate import watts
from hwsim.errors import ConfigError
from hwsim.meter import NVML_PERIOD_S, RAPL_PERIOD_S, RAPL_STEP_J, Counter, NotMeasured, Reading, measure

RANGE_UJ = 262_143_328_850  # of most Intel processors: 2^32 energy units of 61 uJ


class Processor:
    """A folder like /sys/class/powercap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def zone(self, name: str, title: str, start_uj: int = 1_000_000) -> None:
        (self.folder / name).mkdir()
        (self.folder / name / "name").write_text(f"{title}\n")
        (self.folder / name / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        self.set(name, start_uj)

    def set(self, name: str, energy_uj: int) -> None:
        (self.folder / name / "energy_uj").write_text(f"{energy_uj}\n")


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processor:
    """One package, and neither a card nor NVML."""
    made = Processor(tmp_path / "powercap")
    made.zone("intel-rapl:0", "package-0")
    monkeypatch.setattr(meter, "POWERCAP", made.folder)
    monkeypatch.setattr(meter, "CARDS", tmp_path / "gpus")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return made


class Cards(ModuleType):
    """A library like pynvml; a card without counter has energy None."""

    class NVMLError(Exception):
        """As in pynvml."""

    def __init__(self, energies_mj: dict[str, int | None]) -> None:
        super().__init__("pynvml")
        self.energies_mj, self.names, self.started = energies_mj, list(energies_mj), 0

    def nvmlInit(self) -> None:
        self.started += 1

    def nvmlShutdown(self) -> None:
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self.names[index]

    def nvmlDeviceGetName(self, card: str) -> bytes:
        return card.encode()

    def nvmlDeviceGetTotalEnergyConsumption(self, card: str) -> int:
        energy_mj = self.energies_mj[card]
        if energy_mj is None:
            raise self.NVMLError("Not Supported")
        return energy_mj


@pytest.fixture
def no_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "POWERCAP", tmp_path / "nothing")
    monkeypatch.setattr(meter, "CARDS", tmp_path / "gpus")


# -- processors --------------------------------------------------------------------------------------------


def test_joules_and_seconds_of_a_package(processor: Processor) -> None:
    with hwsim.measure() as m:
        processor.set("intel-rapl:0", 6_000_000)  # 5 J more
    assert m.energy_j == pytest.approx(5, rel=1e-12)
    assert [(reading.source, reading.name) for reading in m.readings] == [("RAPL", "package-0")]
    assert m.time_s > 0
    # What sampling leaves open: E T / (t - T), and all of E in blocks below 2 T; and one step of the counter.
    period = RAPL_PERIOD_S
    assert m.error_j == pytest.approx(5 * period / max(m.time_s - period, period) + RAPL_STEP_J)
    assert "5 J +- " in str(m)
    assert "nvidia-ml-py is not installed" in str(m)  # the part that is left out is named


def test_a_counter_that_wraps(processor: Processor) -> None:
    processor.set("intel-rapl:0", RANGE_UJ - 1_000_000)
    with measure() as m:
        processor.set("intel-rapl:0", 2_000_000)
    assert m.energy_j == pytest.approx(3, rel=1e-9)


def test_a_long_window_in_which_a_counter_wraps_often() -> None:
    # Range 10 J; 9 J used between readings: 1, 10 = 0, 9, 18 - 10 = 8, 27 - 20 = 7, 36 - 30 = 6 J: 45 J in all.
    states = iter([1.0, 0.0, 9.0, 8.0, 7.0, 6.0])
    counter = Counter("RAPL", "package-0", lambda: next(states), 1e-3, 0.0, range_j=10.0)
    counter.start()
    for _ in range(5):
        counter.sample()
    assert counter.energy_j == pytest.approx(45)


def test_a_long_window_is_watched(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "WATCH_S", 1e-4)
    seen = threading.Event()
    monkeypatch.setattr(meter.Counter, "sample", lambda counter: seen.set())
    with measure():
        assert seen.wait(60)


def test_memory_is_added_and_nothing_is_counted_twice(processor: Processor) -> None:
    processor.zone("intel-rapl:1", "package-1")
    processor.zone("intel-rapl:0:0", "core")  # within the package
    processor.zone("intel-rapl:0:1", "dram")  # beside it
    processor.zone("intel-rapl:2", "psys")  # the whole platform, packages included
    processor.zone("intel-rapl-mmio:0", "package-0")  # the first package again, by another way
    with measure() as m:
        for zone in processor.folder.iterdir():
            processor.set(zone.name, 2_000_000)  # 1 J more, in each
    assert {reading.name: round(reading.energy_j, 9) for reading in m.readings} == {
        "package-0": 1, "package-0 dram": 1, "package-1": 1,
    }  # fmt: skip
    assert m.energy_j == pytest.approx(3)


def test_a_counter_that_this_user_may_not_read(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> float:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(meter, "microjoules", refuse)  # permissions do not stop root
    with measure() as m:
        pass
    assert m.readings == ()
    with pytest.raises(NotMeasured, match="package-0 may not be read by this user; sudo chmod a"):
        m.energy_j  # noqa: B018
    assert m.time_s > 0


def test_a_machine_without_counters_says_so(no_processor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with measure() as m:
        pass
    with pytest.raises(
        NotMeasured, match=r"unavailable.*does not exist; load the driver.*pip install 'hwsim\[meter\]'"
    ):
        m.energy_j  # noqa: B018
    with pytest.raises(NotMeasured):
        m.error_j  # noqa: B018
    assert "0 J" not in str(m)


def test_other_zones_are_no_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Processor(tmp_path / "powercap")
    folder.zone("dtpm", "dtpm")
    monkeypatch.setattr(meter, "POWERCAP", folder.folder)
    counters, (reason,) = meter.rapl()
    assert counters == []
    assert "has no processor's energy counters" in reason.reason


def test_a_counter_that_stands_still_is_not_0_joules(processor: Processor) -> None:
    with measure() as m:
        pass
    with pytest.raises(NotMeasured, match=r"package-0 did not move in .* about every 1 ms; measure for longer"):
        m.energy_j  # noqa: B018


def test_a_counter_that_vanishes(processor: Processor) -> None:
    with measure() as m:
        (processor.folder / "intel-rapl:0" / "energy_uj").unlink()
    assert "package-0 cannot be read" in m.unavailable[0].reason


def test_a_sum_that_lacks_a_package_is_none(processor: Processor) -> None:
    processor.zone("intel-rapl:1", "package-1")
    with measure() as m:
        processor.set("intel-rapl:0", 2_000_000)
        (processor.folder / "intel-rapl:1" / "energy_uj").unlink()
    assert not m.complete
    assert [(reading.name, reading.energy_j) for reading in m.readings] == [("package-0", pytest.approx(1))]
    for read in (lambda: m.energy_j, lambda: m.error_j):
        with pytest.raises(NotMeasured, match="energy is incomplete: RAPL: unavailable: package-1 cannot be read"):
            read()
    assert " J" not in str(m).split("\n")[0]
    assert watts(m) is None
    processor.set("intel-rapl:1", 1_000_000)
    (processor.folder / "intel-rapl:1" / "max_energy_range_uj").unlink()
    with m:
        processor.set("intel-rapl:0", 3_000_000)
    with pytest.raises(NotMeasured, match=r"incomplete.*package-1 has no max_energy_range_uj"):
        m.energy_j  # noqa: B018


def test_a_reading_that_sampling_leaves_open_tells_no_power(processor: Processor) -> None:
    with measure() as m:
        processor.set("intel-rapl:0", 2_000_000)
    # A block of under two periods: all of the 1 J may be of another time. One of 100 periods: 1 J within a 99th.
    m._time_s, m._results = RAPL_PERIOD_S, (m.readings[0]._replace(error_j=1.0),)
    assert watts(m) is None
    m._time_s, m._results = 100 * RAPL_PERIOD_S, (m.readings[0]._replace(error_j=1 / 99),)
    power = watts(m)
    assert power is not None
    assert (power.low, power.nominal) == pytest.approx((10 * 98 / 99, 10))


def test_the_error_covers_every_phase_of_the_counter() -> None:
    # A counter that shows P t in whole periods, at every phase: P = 3 W, T = 0.1 s, blocks from T/20 to 20 T.
    power_w, period_s, shown, largest = 3.0, 0.1, 0, 0.0
    for tick in range(1, 400):
        time_s = tick * period_s / 20
        for step in range(40):
            phase = (step + 0.5) / 40
            energy_j = power_w * period_s * int(phase + time_s / period_s + 1e-9)
            counter = Counter("RAPL", "x", lambda: 0.0, period_s, 0.0, energy_j=energy_j)
            result = counter.result(time_s)
            if isinstance(result, Reading):
                shown += 1
                miss = abs(energy_j - power_w * time_s)
                assert miss <= result.error_j * (1 + 1e-9)
                largest = max(largest, miss / result.error_j)
            else:
                assert time_s < period_s
    assert shown > 15_000
    assert largest > 0.9  # and is no wider than it must be


# -- cards -------------------------------------------------------------------------------------------------


def test_joules_of_cards(no_processor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Cards({"H100": 5_000, "A100": 100})
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with measure() as m:
        assert library.started == 1
        library.energies_mj |= {"H100": 12_500, "A100": 600}  # 7.5 J and 0.5 J more
    assert library.started == 0
    assert {reading.name: reading.energy_j for reading in m.readings} == pytest.approx(
        {"card 0, H100": 7.5, "card 1, A100": 0.5}
    )
    assert m.energy_j == pytest.approx(8)
    # In blocks of less than 2 periods nothing is sure but that it is there; and a step of 1 mJ a card.
    assert m.error_j == pytest.approx(8 * NVML_PERIOD_S / max(m.time_s - NVML_PERIOD_S, NVML_PERIOD_S) + 2e-3)


def test_a_card_without_a_counter_leaves_the_sum_open(no_processor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Cards({"H100": 5_000, "old": None})
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with measure() as m:
        library.energies_mj["H100"] = 12_500  # 7.5 J more
    assert not m.complete
    assert [(reading.name, reading.energy_j) for reading in m.readings] == [("card 0, H100", pytest.approx(7.5))]
    with pytest.raises(NotMeasured, match=r"incomplete: .*card 1, old has no energy counter \(Not Supported\)"):
        m.energy_j  # noqa: B018


@pytest.mark.parametrize("seen_by", ["system", "CuPy"])
def test_a_card_that_nobody_reads_leaves_the_sum_open(
    processor: Processor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen_by: str
) -> None:
    if seen_by == "system":
        (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    with measure() as m:
        processor.set("intel-rapl:0", 2_000_000)
        if seen_by == "CuPy":  # which may be loaded within the block
            monkeypatch.setitem(sys.modules, "cupy", cupy(lambda: None))
    assert not m.complete
    assert [reading.energy_j for reading in m.readings] == [pytest.approx(1)]
    with pytest.raises(NotMeasured, match="incomplete: NVML: unavailable: nvidia-ml-py is not installed"):
        m.energy_j  # noqa: B018
    assert " J" not in str(m).split("\n")[0]
    # With the library and a card that counts, the sum is whole.
    library = Cards({"H100": 5_000})
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with m:
        processor.set("intel-rapl:0", 3_000_000)
        library.energies_mj["H100"] = 7_000
    assert m.complete
    assert m.energy_j == pytest.approx(1 + 2)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("nvmlInit", "no NVIDIA driver answers"),
        ("nvmlDeviceGetCount", "the driver does not list its cards"),
        ("nvmlDeviceGetTotalEnergyConsumption", "has no energy counter"),
    ],
)
def test_drivers_that_fail(no_processor: None, monkeypatch: pytest.MonkeyPatch, broken: str, says: str) -> None:
    library = Cards({"H100": 1})

    def fail(*_: object) -> None:
        raise library.NVMLError("Driver Not Loaded")

    monkeypatch.setattr(library, broken, fail)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with measure() as m:
        pass
    with pytest.raises(NotMeasured, match=f"{says}.*Driver Not Loaded"):
        m.energy_j  # noqa: B018
    assert library.started == 0


def test_no_cards_and_a_driver_that_was_loaded_anew(no_processor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Cards({}))
    with measure() as m:
        pass
    assert "the driver finds no card" in str(m)
    library = Cards({"H100": 5_000})
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with m:
        library.energies_mj["H100"] = 10
    assert "went back" in str(m)


def cupy(wait: Callable[[], object], cards: int = 1) -> SimpleNamespace:
    """What the meter needs of CuPy."""
    runtime = SimpleNamespace(getDeviceCount=lambda: cards)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(synchronize=wait)))


def test_queued_work_is_waited_for(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setitem(sys.modules, "cupy", cupy(lambda: waits.append(1)))
    with measure():
        assert len(waits) == 1
    assert len(waits) == 2


def test_cupy_without_a_card_has_nothing_queued(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy(lambda: pytest.fail("it waits for a card"), cards=0))
    with measure() as m:
        processor.set("intel-rapl:0", 2_000_000)
    assert m.energy_j == pytest.approx(1)


@pytest.mark.parametrize("good", [0, 1])
def test_a_card_that_fails_is_named_and_the_meter_can_be_used_again(
    processor: Processor, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    waits = iter([None] * good)

    def wait() -> None:
        try:
            next(waits)
        except StopIteration:
            raise RuntimeError("an illegal memory access was encountered") from None

    monkeypatch.setitem(sys.modules, "cupy", cupy(wait))
    for energy_uj in (2_000_000, 3_000_000):
        with measure() as m:
            processor.set("intel-rapl:0", energy_uj)
        assert [reading.energy_j for reading in m.readings] == [pytest.approx(1)]
        assert not m.complete  # the card is there, and nothing reads it
        assert str(m).count("what it has queued cannot be waited for (an illegal memory access") == 1
        with m:
            pass
    assert not [thread for thread in threading.enumerate() if thread.name == "hwsim meter"]


def test_an_interrupt_at_either_end_leaves_the_meter_as_it_was(
    no_processor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Cards({"H100": 5_000})
    monkeypatch.setitem(sys.modules, "pynvml", library)
    interrupts = iter([True, False, True, False, False])

    def wait() -> None:
        if next(interrupts):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "cupy", cupy(wait))
    m = measure()
    for _ in range(2):  # as it begins, then as it ends
        with pytest.raises(KeyboardInterrupt), m:
            pass
        assert library.started == 0
        assert not [thread for thread in threading.enumerate() if thread.name == "hwsim meter"]
    with m:
        library.energies_mj["H100"] = 6_000
    assert m.energy_j == pytest.approx(1)


# -- blocks ------------------------------------------------------------------------------------------------


def test_blocks_within_blocks(processor: Processor) -> None:
    with measure() as outer:
        processor.set("intel-rapl:0", 2_000_000)
        with measure() as inner:
            processor.set("intel-rapl:0", 4_000_000)
        processor.set("intel-rapl:0", 8_000_000)
    assert inner.energy_j == pytest.approx(2)
    assert outer.energy_j == pytest.approx(7)
    assert inner.time_s < outer.time_s


def test_a_meter_may_be_used_again_but_not_within_itself(processor: Processor) -> None:
    with measure() as m:
        processor.set("intel-rapl:0", 2_000_000)
        with pytest.raises(ConfigError, match="runs already"), m:
            pass
    assert m.energy_j == pytest.approx(1)
    with m:
        processor.set("intel-rapl:0", 5_000_000)
    assert m.energy_j == pytest.approx(3)


def test_what_fails_inside_is_measured_and_goes_on_failing(processor: Processor) -> None:
    m = measure()

    def work() -> None:
        with m:
            processor.set("intel-rapl:0", 2_000_000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert m.energy_j == pytest.approx(1)


def test_nothing_is_known_before_the_end(processor: Processor) -> None:
    m = measure()
    assert str(m) == "not measured yet"
    with m:
        for read in (lambda: m.time_s, lambda: m.energy_j, lambda: m.readings, lambda: m.unavailable):
            with pytest.raises(NotMeasured, match="has not ended"):
                read()
