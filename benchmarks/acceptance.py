"""Acceptance runs: what hwsim claims about training, measured over many seeds.

    python benchmarks/acceptance.py [--quick] [--only NAME] [--json FILE]

xor       two hidden sigmoid neurons, recipe 1 of the XOR model, on `ideal` and on `gpu`: solved starts of 1,000
          (--quick: of seeds 0-99; at least 85 must be solved, the true rate being about 93%)
digits    64-32-10 on every built-in preset and precision, 5 seeds (--quick: 1 seed, four devices), beside exact
          arithmetic and the last layer alone; with exact arithmetic at least 95% on average
crossbar  784-256-128-10 on mnist5k (an extra) on every cell by every training algorithm, 3 seeds, learning rates by
          the validation split (--quick: digits, two cells); ecram by plain SGD must beat the exact last layer alone

Exits with status 1 where a claim does not hold. The JSON holds every number, and the commit it was made at.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from crossbar_training import crossbar

import hwsim
from hwsim import models, registry

FIT_SEEDS, QUICK_SEEDS = 1000, 100
SOLVED, QUICK_SOLVED = 0.90, 0.85
PRECISIONS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8")


def xor(quick: bool) -> tuple[dict[str, Any], list[str]]:
    """How many starts solve XOR in under 1,000 epochs."""
    seeds, least = (QUICK_SEEDS, QUICK_SOLVED) if quick else (FIT_SEEDS, SOLVED)
    model, data = models.xor(), hwsim.data.load("xor")
    recipe = {key: value for key, value in model.recipe.items() if key != "data"}
    result, failures = {}, []
    for name in ("ideal", "gpu:h100"):
        device = hwsim.device(name)
        runs = [hwsim.fit(model, data, device, seed=seed, **recipe) for seed in range(seeds)]
        epochs = [run.steps for run in runs if run.validation_accuracy == 1.0 and run.steps < 1000]
        last = [hwsim.fit(model, data, device, seed=s, frozen=["fc1"], **recipe) for s in range(0, seeds, 10)]
        result[name] = {
            "seeds": seeds,
            "solved": len(epochs),
            "median_epochs": statistics.median(epochs),
            "last_layer_only_solved_of": [sum(r.validation_accuracy == 1.0 for r in last), len(last)],
            "energy_per_step_j": runs[0].energy_per_step_j,
        }
        if len(epochs) < least * seeds:
            failures.append(f"xor on {name}: {len(epochs)} of {seeds} solved, needs {least:.0%}")
    return result, failures


def presets() -> list[str]:
    """Every built-in preset, and every precision that each GPU has."""
    found = ["ideal", "ideal:precision=fp64"]
    for name in ("digital", "gpu"):
        cls = registry.device_class(name)
        for preset, values in cls.presets().items():
            has = [p for p in PRECISIONS if p in values["flop_per_s"]] if name == "gpu" else [""]
            found += [f"{name}:{preset}" + (f":precision={p}" if p else "") for p in has]
    return [*found, "digital:precision=fixed4.12", "digital:precision=fixed3.5"]


def digits(quick: bool) -> tuple[dict[str, Any], list[str]]:
    """Test accuracy of one small network on every substrate."""
    seeds = 1 if quick else 5
    names = ["ideal", "digital:int8", "gpu:h100:precision=fp8", "gpu:gtx580"] if quick else presets()
    model, data = models.mlp([64, 32, 10]), hwsim.data.load("digits")
    result: dict[str, Any] = {}
    for name in names:
        device = hwsim.device(name)
        runs = [hwsim.fit(model, data, device, seed=s, learning_rate=0.3) for s in range(seeds)]
        last = [hwsim.fit(model, data, device, seed=s, learning_rate=0.3, frozen=["fc1"]) for s in range(seeds)]
        accuracies = [run.test_accuracy for run in runs]
        result[name] = {
            "test_accuracy": accuracies,
            "mean": statistics.mean(accuracies),
            "deviation": statistics.stdev(accuracies) if seeds > 1 else None,
            "last_layer_only": statistics.mean(run.test_accuracy for run in last),
            "energy_per_step_j": runs[0].energy_per_step_interval_j()._asdict(),
            "time_per_step_s": runs[0].time_per_step_s,
        }
        print(f"  {name:34s} {100 * result[name]['mean']:.1f}%", file=sys.stderr)
    failures = [] if result["ideal"]["mean"] >= 0.95 else [f"digits: exact arithmetic {result['ideal']['mean']:.1%}"]
    return result, failures


RUNS: dict[str, Callable[[bool], tuple[dict[str, Any], list[str]]]] = {
    "xor": xor,
    "digits": digits,
    "crossbar": crossbar,
}


def commit() -> str:
    """The commit that this was made at, marked where the tree has changes."""
    try:
        asked = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main() -> int:
    """Run what was asked for; 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=RUNS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results, failures = {}, []
    for name in [options.only] if options.only else RUNS:
        start = time.perf_counter()
        results[name], failed = RUNS[name](options.quick)
        failures += failed
        print(f"{name}: {json.dumps(results[name])[:1000]} ({time.perf_counter() - start:.0f} s)", file=sys.stderr)
    about = {
        "commit": commit(), "hwsim": hwsim.__version__, "numpy": np.__version__, "python": platform.python_version(),
        "machine": platform.machine(), "cores": os.cpu_count(), "quick": options.quick,
    }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    print(f"{len(results) - len({f.split()[0] for f in failures})} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
