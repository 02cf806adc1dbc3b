"""Accuracy of every cell and training algorithm of the crossbar, beside its controls (part of acceptance.py)."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed

import hwsim
from hwsim import models
from hwsim.errors import HwsimError

PULSED = (
    *("reram-es", "reram-sb", "reram-array-om", "reram-array-hfo2", "capacitor", "ecram", "ecram-mo", "idealized"),
    *("gokmen-vlasov", "pcm", "hermes"),
)
ALGORITHMS = ("sgd", "tiki-taka", "ttv2", "c-ttv2", "mixed", "verified")
RATES = (0.03, 0.1, 0.3)  # tried by each, with one seed of its own; the best on the validation split is taken
TRANSFER = {"tiki-taka": 0.02, "ttv2": 0.1, "c-ttv2": 0.1}
SETTINGS = {"epochs": 10, "batch": 64, "progress": False}
SEEDS, CONTROL_SEEDS = 3, 1  # of each row; exact arithmetic has as many controls as seeds
CHANCE_LEVEL = "diverged or refused"


def device_name(preset: str, algorithm: str) -> str:
    """The device string of a cell trained by an algorithm."""
    transfer = f":transfer_rate={TRANSFER[algorithm]}" if algorithm in TRANSFER else ""
    return f"crossbar:{preset}:algorithm={algorithm}{transfer}"


def once(data_name: str, widths: Sequence[int], device: str, rate: float, seed: int, last: bool = False) -> Any:
    """Validation and test accuracy, joules and seconds a step of one run; None where it diverged."""
    data, model = hwsim.data.load(data_name), models.mlp(list(widths))
    frozen = [f"fc{i + 1}" for i in range(len(widths) - 2)] if last else []
    try:
        run = hwsim.fit(model, data, device, learning_rate=rate, seed=seed, frozen=frozen, **SETTINGS)
    except HwsimError as error:
        print(f"{device} at {rate}, seed {seed}: {error}", file=sys.stderr)
        return None
    wear = [found["pulses_mean"] for found in run.network.wear().values() if "pulses_mean" in found]
    return {
        "validation": run.validation_accuracy,
        "test": run.test_accuracy,
        "energy_per_step_j": run.energy_per_step_j,
        "time_per_step_s": run.time_per_step_s,
        "pulses_mean": max(wear, default=0.0),
    }


def best_rate(pool: Parallel, data: str, widths: Sequence[int], device: str) -> float:
    """The rate of RATES whose runs have the best validation accuracy."""
    found = pool(delayed(once)(data, widths, device, rate, 1000) for rate in RATES)
    score = {rate: run["validation"] if run else 0.0 for rate, run in zip(RATES, found, strict=True)}
    return max(score, key=lambda rate: score[rate])


def measured(
    pool: Parallel, data: str, widths: Sequence[int], device: str, seeds: int, controls: int
) -> dict[str, Any]:
    """Accuracies of one device over seeds, and with only the last layer trained."""
    rate = best_rate(pool, data, widths, device)
    asked = [(seed, False) for seed in range(seeds)] + [(seed, True) for seed in range(controls)]
    runs = pool(delayed(once)(data, widths, device, rate, seed, last) for seed, last in asked)
    whole, last = runs[:seeds], [run["test"] for run in runs[seeds:] if run]
    tests = [run["test"] for run in whole if run]
    row: dict[str, Any] = {"learning_rate": rate, "test_accuracy": tests, "last_layer_only": last}
    if whole[0]:
        row |= {key: whole[0][key] for key in ("energy_per_step_j", "time_per_step_s", "pulses_mean")}
    text = f"{100 * np.mean(tests):.1f} ± {100 * np.std(tests, ddof=len(tests) > 1):.1f}" if tests else CHANCE_LEVEL
    control = f"{100 * np.mean(last):.1f}" if last else CHANCE_LEVEL
    print(f"  {device:60s} rate {rate}: {text} (last layer only {control})", file=sys.stderr, flush=True)
    return row


def crossbar(quick: bool) -> tuple[dict[str, Any], list[str]]:
    """Every algorithm on every cell: mnist5k, MLP 784-256-128-10; quick: digits, two cells, three algorithms."""
    data, widths = ("digits", (64, 32, 10)) if quick else ("mnist5k", (784, 256, 128, 10))
    seeds, presets = (1, ("ecram", "pcm")) if quick else (SEEDS, PULSED)
    algorithms = ("sgd", "mixed", "tiki-taka") if quick else ALGORITHMS
    result: dict[str, Any] = {"data": data, "widths": widths, "settings": SETTINGS, "rates": RATES}
    with Parallel(n_jobs=1 if quick else 2) as pool:
        result["ideal"] = measured(pool, data, widths, "ideal", seeds, seeds)
        for preset, algorithm in itertools.product(presets, algorithms):
            name = device_name(preset, algorithm)
            try:
                hwsim.device(name)
            except HwsimError as error:
                result[name] = {"refused": str(error)}
                continue
            result[name] = measured(pool, data, widths, name, seeds, CONTROL_SEEDS)
    name = device_name("ecram", "sgd")
    best, control = np.mean(result[name]["test_accuracy"]), np.mean(result["ideal"]["last_layer_only"])
    return result, [] if best > control else [f"crossbar {name}: {best:.1%}, exact last layer only {control:.1%}"]
