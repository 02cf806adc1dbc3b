"""The kit is sharp: faults planted in built-in devices fail the checks that name them. All of them: the benchmark."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hwsim.testing import CHECKS, Outcome, run
from hwsim.testing.bench import Bench

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(name: str) -> ModuleType:
    """A script of the benchmarks, as a module that its classes can be pickled from."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAULTS = {fault.name: fault for fault in script("kit_faults").FAULTS}

# What each fault has to fail, whatever else it fails.
SAMPLE = {
    "NegativeBackward": "claim_backward",
    "NotTransposedWhereSquare": "sizes",
    "FirstBlockOfInputs": "sizes",
    "FirstRowsOfABatch": "sizes",
    "FirstMatrixOfAStack": "sizes",
    "OrderOfMemory": "layouts",
    "DividesByTheLargest": "small_values",
    "StaleCodes": "products_follow",
    "DriftNobodySees": "products_follow",
    "TurnedPulses": "moves_forward",
    "HalfTheWeights": "moves_forward",
    "RoundsInPlace": "inputs_untouched",
    "KeepsTheStep": "inputs_untouched",
    "OneBuffer": "tiles_apart",
    "CountsOnTheDevice": "state_on_tiles",
    "ResidualsElsewhere": "checkpoint",
    "LearnsItsRange": "evaluation",
    "WearReadsTheCells": "wear_is_told",
    "BothWaysAlike": "independent_streams",
    "NamesCutShort": "independent_streams",
    "NoiseByPlaceAlone": "rows_in_any_order",
    "NoisierRowByRow": "rows_alike",
    "WholeTilesAlone": "installed_grows",
    "LastTileMissing": "installed_grows",
    "WholeArraysRead": "nothing_is_free",
    "OneMatrixOfAStack": "cost_grows",
    "LongBatchesCut": "cost_grows",
    "CostOfArrays": "cost_pure",
    "HoldsOneOfAStack": "held_bits_grow",
    "CountIsNoNumber": "small_values",
    "CountOfOneRow": "counts_of_all_rows",
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # some faults divide by zero
@pytest.mark.parametrize(("name", "check"), SAMPLE.items())
def test_a_planted_fault_fails_the_check_that_names_it(name: str, check: str) -> None:
    with np.errstate(all="ignore"):
        assert run(check, Bench(FAULTS[name].make, (1, 2))).outcome is Outcome.FAILED


def test_the_list_is_long_and_names_real_checks() -> None:
    assert len(FAULTS) >= 40
    assert set(SAMPLE.values()) <= set(CHECKS)
    assert {fault.what.partition(":")[0] for fault in FAULTS.values()} == {
        "cpu", "crossbar", "digital", "gpu", "optical", "reversible",
    }  # fmt: skip
