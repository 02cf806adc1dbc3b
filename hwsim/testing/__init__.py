"""The conformance kit: `check_device` holds a device, built-in or a stranger's, against everything hwsim relies on.

    from hwsim.testing import check_device

    def test_my_device() -> None:
        check_device(lambda: MyDevice())

Known failures are named with a reason, and must fail: `expected_failures={"claim_update": "pulses saturate"}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hwsim.device import Device
from hwsim.errors import ConfigError, HwsimError
from hwsim.testing import accuracy, arrays, cost, growth, noise, operands, uses
from hwsim.testing.bench import Bench, Check, Failed, Found, Skipped

CHECKS: dict[str, Check] = {
    check.__name__: check
    for module in (arrays, operands, noise, accuracy, cost, growth, uses)
    for check in module.CHECKS
}


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "expected failure"
    SURPRISE_PASS = "surprise pass"


@dataclass(frozen=True)
class Result:
    """What one check found; `claimed` and `measured` where it compares numbers."""

    name: str
    outcome: Outcome
    claimed: float | None = None
    measured: float | None = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether the device may go on with this."""
        return self.outcome not in (Outcome.FAILED, Outcome.SURPRISE_PASS)


@dataclass(frozen=True)
class Report:
    """The results of all checks of one device; as text, an aligned table."""

    device: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """What failed, and what passed though its failure was expected."""
        return tuple(result for result in self.results if not result.ok)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def notes(self) -> tuple[Result, ...]:
        """Passed checks that call something out."""
        return tuple(r for r in self.results if r.outcome is Outcome.PASSED and r.message.startswith("note:"))

    def __getitem__(self, name: str) -> Result:
        return {result.name: result for result in self.results}[name]

    def __str__(self) -> str:
        lines = [("check", "outcome", "claimed", "measured", "")]
        lines += [(r.name, r.outcome, number(r.claimed), number(r.measured), r.message) for r in self.results]
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        rows = ["  ".join([*map(str.ljust, line, widths), line[4]]).rstrip() for line in lines]
        counts = [f"{sum(r.outcome is o for r in self.results)} {o}" for o in Outcome]
        return "\n".join([f"{self.device}:", *rows, ", ".join(text for text in counts if not text.startswith("0 "))])


class ConformanceError(HwsimError):
    """A device does not keep what the interface promises; the text lists the checks that failed."""

    def __init__(self, report: Report) -> None:
        lines = [f"  {result.name}: {result.outcome}: {result.message}" for result in report.failures]
        super().__init__("\n".join([f"{report.device} fails {len(lines)} of {len(report.results)} checks:", *lines]))
        self.report = report


def number(value: float | None) -> str:
    """Three digits, or nothing."""
    return "" if value is None else f"{value:.3g}"


def checks() -> dict[str, str]:
    """The names of all checks, with what each demands."""
    return {name: (check.__doc__ or "").partition("\n")[0] for name, check in CHECKS.items()}


def check_device(
    make: Callable[[], Device],
    *,
    expected_failures: Mapping[str, str] | None = None,
    seeds: tuple[int, int] = (1, 2),
    progress: Callable[[Result], object] | None = None,
    raise_on_failure: bool = True,
) -> Report:
    """Run every check on the device that `make` returns: a new one at each call, all alike.

    `expected_failures`: reasons by name of check; such a check must fail. `seeds`: two seeds of the device's noise.
    `progress` is called with each result as it comes. Raises ConformanceError where anything failed, unless told not
    to, and ConfigError for an unknown check or an expected failure without a reason.
    """
    expected = dict(expected_failures or {})
    unknown = sorted(set(expected) - set(CHECKS))
    if unknown:
        raise ConfigError(f"no check {', '.join(unknown)} to expect a failure of; there are: {', '.join(CHECKS)}")
    for name, reason in expected.items():
        if not (isinstance(reason, str) and reason.strip()):
            raise ConfigError(f"expected failure {name}: needs a reason")
    if seeds[0] == seeds[1]:
        raise ConfigError(f"seeds {seeds}: needs two different ones")
    first, second = make(), make()
    if first is second or type(first) is not type(second) or first.spec != second.spec:
        raise ConfigError(f"make() returned {first!r} and then {second!r}; needs a new device at each call, all alike")
    bench, results = Bench(make, seeds), []
    for name in CHECKS:
        results.append(judged(name, run(name, bench), expected.get(name)))
        if progress is not None:
            progress(results[-1])
    report = Report(first.spec, tuple(results))
    if raise_on_failure and not report.ok:
        raise ConformanceError(report)
    return report


def run(name: str, bench: Bench) -> Result:
    """One check; whatever it raises is a failure of the device."""
    try:
        found = CHECKS[name](bench) or Found()
    except Skipped as reason:
        return Result(name, Outcome.SKIPPED, message=str(reason))
    except Failed as failure:
        return Result(name, Outcome.FAILED, failure.claimed, failure.measured, str(failure))
    except Exception as error:
        return Result(name, Outcome.FAILED, message=f"{type(error).__name__}: {error}")
    return Result(name, Outcome.PASSED, found.claimed, found.measured, found.note)


def judged(name: str, result: Result, reason: str | None) -> Result:
    """The result in the light of what was expected. A check that does not apply cannot fail as expected either."""
    if reason is None or result.outcome is Outcome.SKIPPED:
        return result
    if result.outcome is Outcome.FAILED:
        message = f"{reason} ({result.message})"
        return Result(name, Outcome.EXPECTED_FAILURE, result.claimed, result.measured, message)
    message = f"passes, though it is expected to fail: {reason}; take it off expected_failures"
    return Result(name, Outcome.SURPRISE_PASS, result.claimed, result.measured, message)
