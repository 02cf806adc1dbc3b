"""The card in this machine: products in each precision and a training step against plain cuBLAS, and joules by NVML.

    python benchmarks/card.py [--preset h100] [--sizes 512,2048,8192] [--rounds N] [--json FILE]

Products are n x n x n: `hwsim` is the forward product of a tile as it runs in training, with rounding and packing of
its input; `library` is the bare call on operands that lie ready in that format (matmul of CuPy for fp64, fp32 and
fp16, else the call that hwsim makes). The step is that of a perceptron 1024-2048-2048-10, batch 1024, plain gradient
descent, in fp32 by both: hwsim's, and the same sums written out in CuPy. Both take turns; figures are medians of the
rounds, and ratios those of rounds, with their quartiles. Joules are those of the whole card, idle power included,
beside what the preset's model charges for the same steps. Needs CuPy and a card: see the README.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import hwsim
from hwsim import models
from hwsim.arrays import namespace
from hwsim.cost import Kind, Product
from hwsim.devices.gpu import Gpu, card
from hwsim.errors import ConfigError, DeviceError, HwsimError
from hwsim.learning.backprop import backprop
from hwsim.ledger import Ledger
from hwsim.losses import cross_entropy
from hwsim.meter import Measurement, synchronize
from hwsim.optim import SGD

WIDTHS, BATCH, RATE = (1024, 2048, 2048, 10), 1024, 0.01
SAMPLE_S = 0.05  # of one turn of one side
ENERGY_S = 3.0  # of a measured block: thirty of the counter's updates and more
PRECISIONS = tuple(card.FIRST_CAPABILITY)


class Ratio(NamedTuple):
    """Medians of two sides that took turns [s], and of one over the other, with quartiles."""

    hwsim_s: float
    library_s: float
    ratio: float
    low: float
    high: float


def ratio_of(turns: Sequence[tuple[float, float]]) -> Ratio:
    """From the seconds of both sides in each round."""
    ratios = [ours / theirs for ours, theirs in turns]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    ours, theirs = (statistics.median(side) for side in zip(*turns, strict=True))
    return Ratio(ours, theirs, float(middle), float(low), float(high))


def preset_of(name: str, presets: Sequence[str]) -> str:
    """The preset of a card by the name that its driver tells. Raises ConfigError where none is its own."""
    words = name.lower().replace("-", " ").replace("geforce", "").split()
    plain = "".join(words)
    found = [preset for preset in presets if preset.partition("-")[0] in plain]
    memory = [preset for preset in found if f"{preset.partition('-')[2]}gb" in plain]
    exact = memory if len(found) > 1 else found
    if len(exact) != 1:
        raise ConfigError(f"no preset is known to be that of {name!r}; give --preset: {', '.join(presets)}")
    return exact[0]


def per_step(measured: Measurement, steps: int) -> dict[str, Any]:
    """What the cards' counters say of a step [J], with the error that sampling leaves; or why they say nothing."""
    cards = [reading for reading in measured.readings if reading.source == "NVML"]
    if not cards:
        return {"unavailable": "; ".join(str(each) for each in measured.unavailable if each.source == "NVML")}
    return {
        "energy_j": sum(each.energy_j for each in cards) / steps,
        "error_j": sum(each.error_j for each in cards) / steps,
        "power_w": sum(each.energy_j for each in cards) / measured.time_s,
        "cards": [each.name for each in cards],
    }


def lines(results: Mapping[str, Any]) -> list[str]:
    """The results for people."""
    found = [f"{results['card']}, preset {results['preset']}, {results['made_with']['cupy']}"]
    for row in results["products"]:
        at = f"{row['precision']:5} {row['n']:>6}^3"
        if "refused" in row:
            found.append(f"{at}  {row['refused']}")
            continue
        found.append(
            f"{at}  hwsim {1e6 * row['hwsim_s']:>9.1f} us, library {1e6 * row['library_s']:>9.1f} us, "
            f"{row['flop_per_s'] / 1e12:>7.1f} TFLOP/s, ratio {row['ratio']:.2f} ({row['low']:.2f} to "
            f"{row['high']:.2f}); the model says {1e6 * row['model_s']:.1f} us"
        )
    step = results["step"]
    found.append(
        f"step  hwsim {1e3 * step['hwsim_s']:.3f} ms, CuPy {1e3 * step['library_s']:.3f} ms, ratio {step['ratio']:.2f} "
        f"({step['low']:.2f} to {step['high']:.2f}); the model says {1e3 * step['model_s']:.3f} ms"
    )
    measured = step["measured"]
    said = measured.get("unavailable") or f"{measured['energy_j']:.4g} J +- {measured['error_j']:.2g} J by NVML"
    return [*found, f"step  {said}; the model says {step['model_j']:.4g} J"]


# -- on the card -------------------------------------------------------------------------------------------------


def seconds(xp: Any, work: Callable[[], object], calls: int) -> float:
    """Of one call."""
    synchronize(xp)
    start_s = time.perf_counter()
    for _ in range(calls):
        work()
    synchronize(xp)
    return (time.perf_counter() - start_s) / calls


def taking_turns(xp: Any, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> Ratio:
    """Both sides, round by round, after one that warms up."""
    sides = (ours, theirs)
    for side in sides:
        side()
    calls = [max(1, int(SAMPLE_S / seconds(xp, side, 3))) for side in sides]
    return ratio_of([(seconds(xp, ours, calls[0]), seconds(xp, theirs, calls[1])) for _ in range(rounds + 1)][1:])


def bare(device: Gpu, x: Any, w: Any) -> Callable[[], object]:
    """The library's own product of operands in the device's format, that lie ready."""
    xp, name = device.xp, device.precision
    if name in ("fp64", "fp32", "fp16"):
        left, right = (
            each.astype({"fp64": xp.float64, "fp32": xp.float32, "fp16": xp.float16}[name]) for each in (x, w)
        )
        return lambda: left @ right
    packed = [card.packed(xp, each, device.policy, device.policy.values) for each in (x, w)]
    return lambda: card.multiply(xp, *packed)


def product(preset: str, precision: str, n: int, rounds: int) -> dict[str, Any]:
    """One n x n x n product in one precision, or why there is none."""
    try:
        device = Gpu.create(preset, {"precision": precision, "array": "cupy"})
    except DeviceError as error:
        return {"precision": precision, "n": n, "refused": str(error)}
    generator = np.random.default_rng(n)
    x, w = (device.asarray(generator.standard_normal((n, n), dtype=np.float32)) for _ in range(2))
    tile = device.program(w, name="w")
    found = taking_turns(device.xp, lambda: device.forward(tile, x), bare(device, x, w), rounds)
    ledger = Ledger()
    ledger.charge(device, Product(Kind.FORWARD, n, n, n))
    rate = 2 * n**3 / found.library_s
    return {"precision": precision, "n": n, **found._asdict(), "flop_per_s": rate, "model_s": ledger.time_s}


def plain_step(xp: Any, x: Any, labels: Any) -> Callable[[], object]:
    """The same step in CuPy alone: products, biases, ReLU, softmax, and plain gradient descent."""
    generator = np.random.default_rng(0)
    ends = list(pairwise(WIDTHS))
    weights = [xp.asarray(generator.standard_normal(end, dtype=np.float32) * (2 / end[0]) ** 0.5) for end in ends]
    biases = [xp.zeros(n, dtype=xp.float32) for _, n in ends]
    rows = xp.arange(len(x))

    def step() -> object:
        values = [x]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            values.append(xp.maximum(values[-1] @ w + b, 0))
        y = values[-1] @ weights[-1] + biases[-1]
        dy = xp.exp(y - y.max(axis=-1, keepdims=True))
        dy /= dy.sum(axis=-1, keepdims=True)
        loss = -xp.log(dy[rows, labels]).sum() / len(x)
        dy[rows, labels] -= 1
        dy /= len(x)
        for i in reversed(range(len(weights))):
            dw, db = values[i].T @ dy, dy.sum(axis=0)
            if i:
                dy = (dy @ weights[i].T) * (values[i] > 0)
            weights[i] -= RATE * dw
            biases[i] -= RATE * db
        return loss

    return step


def training_step(preset: str, rounds: int) -> dict[str, Any]:
    """A step of a perceptron, against the same in CuPy, with the joules that the card counts and those of the model."""
    device = Gpu.create(preset, {"array": "cupy"})
    xp, generator = device.xp, np.random.default_rng(1)
    x = device.asarray(generator.standard_normal((BATCH, WIDTHS[0]), dtype=np.float32))
    labels = xp.asarray(generator.integers(0, WIDTHS[-1], BATCH))
    net, mover = hwsim.Network(models.mlp(list(WIDTHS)), device), SGD(RATE)

    def step() -> object:
        return backprop(net, x, labels, cross_entropy, mover)

    setup_j, setup_s = net.ledger.energy_j, net.ledger.time_s
    step()
    model_j, model_s = net.ledger.energy_j - setup_j, net.ledger.time_s - setup_s
    found = taking_turns(xp, step, plain_step(xp, x, labels), rounds)
    steps = max(1, int(ENERGY_S / found.hwsim_s))
    with hwsim.measure() as measured:
        for _ in range(steps):
            step()
    return {
        **found._asdict(), "model_s": model_s, "model_j": model_j,
        "measured": per_step(measured, steps), "measured_steps": steps,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write where asked; 2 and a sentence where there is no card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", help="of gpu, by default that of the card's name")
    parser.add_argument("--sizes", default="512,2048,8192")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        cupy = namespace("cupy")
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
        name = name.decode() if isinstance(name, bytes) else str(name)
        preset = options.preset or preset_of(name, list(Gpu.presets()))
        sizes = [int(size) for size in options.sizes.split(",")]
        results = {
            "card": name,
            "preset": preset,
            "products": [product(preset, each, n, options.rounds) for each in PRECISIONS for n in sizes],
            "step": training_step(preset, options.rounds),
            "made_with": {
                "hwsim": hwsim.__version__, "cupy": f"CuPy {cupy.__version__}", "numpy": np.__version__,
                "cuda": cupy.cuda.runtime.runtimeGetVersion(), "driver": cupy.cuda.runtime.driverGetVersion(),
                "python": platform.python_version(), "machine": platform.machine(),
            },
        }  # fmt: skip
    except HwsimError as error:
        print(f"card.py: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines(results)))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
