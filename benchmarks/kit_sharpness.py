"""How sharp the conformance kit is: faults planted in built-in devices, and the checks that catch them.

    python benchmarks/kit_sharpness.py [--only NAME] [--all]

Prints a line for every fault (benchmarks/kit_faults): the checks that fail, in the order of the kit, up to the first
(--all: all of them). Checks that the device fails without the fault do not count. Exits with status 1 where fewer than
95% are caught, or one is not that is not known to be beyond the kit.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import cache

from kit_faults import FAULTS, UNKNOWABLE, Fault

from hwsim import registry
from hwsim.testing import CHECKS, Outcome, run
from hwsim.testing.bench import Bench

WANTED = 0.95


@cache
def fails_anyway(spec: str) -> frozenset[str]:
    """The checks that a device fails with no fault planted in it: none, unless it is being worked on."""
    bench = Bench(lambda: registry.device(spec), (1, 2))
    return frozenset(name for name in CHECKS if run(name, bench).outcome is Outcome.FAILED)


def caught(fault: Fault, *, every: bool = False) -> dict[str, str]:
    """The checks that fail on a planted fault, with what they say; up to the first, or all of them."""
    bench, found = Bench(fault.make, (1, 2)), {}
    for name in CHECKS:
        result = run(name, bench)
        if result.outcome is Outcome.FAILED and name not in fails_anyway(fault.sound):
            found[name] = result.message
            if not every:
                break
    return found


def main() -> None:
    """Print the list."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # faults divide by zero
    missed = []
    faults = [fault for fault in FAULTS if options.only in (None, fault.name)]
    for fault in faults:
        start = time.process_time()
        found = caught(fault, every=options.all)
        missed += [] if found else [fault]
        first = next(iter(found.values()), "")
        print(f"{fault.name:26s} {time.process_time() - start:5.1f} s  {', '.join(found) or 'NOT CAUGHT'}", flush=True)
        print(f"    {fault.what}\n    {first[:150]}".rstrip(), flush=True)
    share = 1 - len(missed) / len(faults)
    print(f"{len(faults) - len(missed)} of {len(faults)} faults are caught: {share:.1%}")
    for fault in missed:
        reason = UNKNOWABLE.get(fault.name, "and no reason is known")
        print(f"not caught: {fault.name}: {fault.what}: {reason}")
    unexpected = [fault.name for fault in missed if fault.name not in UNKNOWABLE]
    raise SystemExit(1 if unexpected or share < WANTED else 0)


if __name__ == "__main__":
    main()
