"""The kit is sharp: faults planted in built-in devices fail the checks that name them. All of them: the benchmark."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hwsim.testing import CHECKS, Outcome, run
from hwsim.testing.bench import Bench

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def package(name: str) -> ModuleType:
    """A package of the benchmarks, by its own name, so that its classes can be pickled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module(name)


KIT_FAULTS = package("kit_faults")
FAULTS = {fault.name: fault for fault in KIT_FAULTS.FAULTS}

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
    "BackwardOfOneOutput": "cost_grows",
    "CallsAlone": "cost_grows",
    "TrafficOfOneRow": "cost_grows",
    "PulsesOfOneRow": "cost_grows",
    "CleanEvaluation": "evaluation_noise",
    "ExactEvaluation": "evaluation_noise",
    "NoisierTraining": "evaluation_noise",
    "ResultsUnwritten": "both_ways_alike",
    "CellsOfOneArray": "both_ways_alike",
    "NoSettlingBackward": "both_ways_alike",
    "ConvertsOnceABatch": "converters_take_all",
    "FirstMatrixDetected": "stacks_add_up",
    "StackSquared": "stacks_add_up",
    "UpdateWithoutLaunch": "calls_for_all",
    "HalfTheFlops": "within_stated_rate",
    "FreeRelease": "nothing_is_free",
    "RepeatedInputsWholeInGradients": "distinct_inputs",
    "FreeElementwise": "work_on_values",
    "SizeForgotten": "work_on_values",
    "AdamMovesNothing": "work_on_values",
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # some faults divide by zero
@pytest.mark.parametrize(("name", "check"), SAMPLE.items())
def test_a_planted_fault_fails_the_check_that_names_it(name: str, check: str) -> None:
    with np.errstate(all="ignore"):
        assert run(check, Bench(FAULTS[name].make, (1, 2))).outcome is Outcome.FAILED


def test_the_list_is_long_and_names_real_checks() -> None:
    assert len(FAULTS) >= 40
    assert len(FAULTS) == len(KIT_FAULTS.FAULTS)
    assert set(SAMPLE.values()) <= set(CHECKS)
    assert set(KIT_FAULTS.UNKNOWABLE) <= set(FAULTS) - set(SAMPLE)
    assert {fault.what.partition(":")[0] for fault in FAULTS.values()} == {
        "cpu", "crossbar", "digital", "gpu", "optical", "reversible",
    }  # fmt: skip
