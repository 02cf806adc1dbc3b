"""What the non-idealities of a crossbar cost in accuracy: wires, ADC bits, variation of devices, and drift.

    python benchmarks/crossbar_nonidealities.py [--seeds N] [--json FILE] [--figure FILE]

Digits, MLP 64-32-10. In place: trained on `crossbar:idealized`, or on another cell where a panel says so, with the
non-ideality present all along. Deployed: trained in exact arithmetic, or with the noise of the chip (`aware`), then
programmed. Controls: exact arithmetic, and exact arithmetic in which only the last layer is trained.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hwsim
from hwsim import models
from hwsim.train import accuracy

EPOCHS, BATCH, RATE = 10, 16, 0.2
OHMS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)
BITS = (4, 5, 6, 7, 8, 9, 10)
SPREADS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
AGES_S = (1.0, 3600.0, 86400.0, 30 * 86400.0, 365 * 86400.0)
CELL = "gokmen-vlasov"


def trained(device: str, seed: int, frozen: Sequence[str] = ()) -> Any:
    """One training run."""
    model, data = models.mlp([64, 32, 10]), hwsim.data.load("digits")
    settings = {"epochs": EPOCHS, "batch": BATCH, "learning_rate": RATE, "seed": seed, "progress": False}
    return hwsim.fit(model, data, device, frozen=frozen, **settings)


def deployed(run: Any, device: str, seed: int) -> float:
    """Test accuracy of a run's weights on a device."""
    data = hwsim.data.load("digits")
    return accuracy(hwsim.deploy(run, device, seed=seed), data.x_test, data.y_test, data.classes)


def panel(values: Sequence[float], device_of: Callable[[float], str], exact: Sequence[Any]) -> dict[str, Any]:
    """Accuracies [value][seed], trained in place and deployed after exact training."""
    found: dict[str, Any] = {"values": list(values), "in place": [], "deployed": []}
    for value in values:
        device = device_of(value)
        found["in place"].append([trained(device, seed).test_accuracy for seed in range(len(exact))])
        found["deployed"].append([deployed(run, device, seed) for seed, run in enumerate(exact)])
        print(f"{device}: {mean(found['in place'][-1])} in place, {mean(found['deployed'][-1])} deployed", flush=True)
    return found


def drift(exact: Sequence[Any]) -> dict[str, Any]:
    """Accuracies [age][seed] on phase-change memory, for two ways to train and with and without compensation."""
    found: dict[str, Any] = {"values": list(AGES_S)}
    data = hwsim.data.load("digits")
    aware = [trained("aware:pcm", seed) for seed in range(len(exact))]
    for training, runs in (("exact training", exact), ("hardware-aware", aware)):
        for compensation in ("none", "global"):
            chip = f"crossbar:pcm:compensation={compensation}"
            rows = [[row.accuracy for row in hwsim.ageing(run, data, chip, ages_s=AGES_S, seeds=1)] for run in runs]
            name = f"{training}, {'compensated' if compensation == 'global' else 'not compensated'}"
            found[name] = np.transpose(rows).tolist()
            print(f"{name}: {[mean(at) for at in found[name]]}", flush=True)
    return found


def mean(values: Sequence[float]) -> str:
    """Mean and standard deviation in per cent."""
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=len(values) > 1):.1f}"


def figure(result: dict[str, Any], path: Path) -> None:
    """Four panels, accuracy in per cent with the standard deviation over seeds."""
    import matplotlib.pyplot as plt

    labels = {
        "wires": ("resistance of a wire segment (ohm)", "symlog"),
        "adc": ("bits of the ADC", "linear"),
        "variation": ("spread of steps and bounds among devices (1)", "linear"),
        "drift": ("time since programming (s)", "log"),
    }
    with plt.style.context("hwsim.report.hwsim"):
        drawn, axes = plt.subplots(2, 2, figsize=(9.5, 7.0), layout="constrained")
        for axis, (name, (label, scale)) in zip(axes.flat, labels.items(), strict=True):
            part = result[name]
            for line in [key for key in part if key != "values"]:
                at = 100 * np.array(part[line])
                axis.errorbar(part["values"], at.mean(axis=1), at.std(axis=1), marker="o", capsize=2, label=line)
            for control, style in (("exact", "-"), ("last layer only", ":")):
                axis.axhline(100 * np.mean(result[control]), color="0.5", linestyle=style, label=control, zorder=0)
            axis.set_xscale(scale)
            if scale == "symlog":
                axis.set_xlim(left=-0.1)
            axis.set_xlabel(label)
            axis.legend(fontsize=7)
            axis.set_ylabel("test accuracy (%)")
        drawn.suptitle(f"Digits, MLP 64-32-10, {result['seeds']} seeds: non-idealities of a crossbar")
        drawn.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    chosen = parser.parse_args()
    exact = [trained("ideal", seed) for seed in range(chosen.seeds)]
    last = [trained("ideal", seed, ["fc1"]) for seed in range(chosen.seeds)]
    base = f"crossbar:{CELL}"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    result: dict[str, Any] = {
        "commit": commit.stdout.strip(),
        "command": " ".join(["benchmarks/crossbar_nonidealities.py", *sys.argv[1:]]),
        "seeds": chosen.seeds,
        "settings": {"epochs": EPOCHS, "batch": BATCH, "learning_rate": RATE, "cell": CELL},
        "exact": [run.test_accuracy for run in exact],
        "last layer only": [run.test_accuracy for run in last],
        "wires": panel(OHMS, lambda ohm: f"{base}:cell=ecram:word_line_ohm={ohm}:bit_line_ohm={ohm}", exact),
        "adc": panel(BITS, lambda bits: f"{base}:adc_bits={bits:g}:output_noise=0", exact),
        "variation": panel(
            SPREADS, lambda s: f"{base}:cell={CELL}+dw_min_d2d={s}+w_min_d2d={s}+w_max_d2d={s}", exact
        ),
        "drift": drift(exact),
    }  # fmt: skip
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.figure:
        figure(result, chosen.figure)


if __name__ == "__main__":
    main()
