"""Training that erases nothing in the array: accuracy beside float, the way back to the first weights, and the bill.

    python benchmarks/reversible_training.py [--seeds N] [--epochs N] [--json FILE]

Stored: results/reversible_training.json, of the defaults.

First the digits MLP 64-32-10 by rule `leapfrog` on the device `reversible`, beside the same net in float32 with the
same rate, momentum and mini-batches; then all of it backwards. Then what each garbage policy takes, from the ledger:
of that MLP, and of a chain of eight layers, where checkpoints pay. What the host erases all the same is counted as the
bits that it overwrites. `reserved` bits of the buffer are what its registers hold; `occupied` ones are up to the
highest bit that is set, fewer where a velocity stays zero, as those of pixels that are always blank.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stamp import commit

import hwsim
from hwsim.cost import STEP_PHASES, Elementwise, Kind, Part
from hwsim.data import Dataset
from hwsim.devices.reversible import Reversible
from hwsim.learning.information import Buffer, occupied_bits
from hwsim.learning.leapfrog import leapfrog
from hwsim.learning.undoing import batches_back, undo
from hwsim.losses import cross_entropy
from hwsim.models import mlp
from hwsim.models.checkpointed import checkpointed
from hwsim.nn import Model, Network
from hwsim.optim import SGD
from hwsim.report.erasure import step_of
from hwsim.run import Run, made_with

BATCH, RATE = 32, 0.03
WIDTHS = [64, 32, 10]
DEPTH = 9  # layers of the chain, the last of them 10 wide
PRODUCTS = (Kind.FORWARD, Kind.RELEASE, Kind.BACKWARD, Kind.GRADIENT)
COLUMNS = ("garbage held, bits", "array erases", "host overwrites", "buffer grows", "erasure J", "array J", "dynamic J",
           "host J")  # fmt: skip
JOULES = ("erasure_j", "array_j", "array_dynamic_j", "host_j")
CAUSES = ("the loss", "velocity and buffer", "activations, biases, moves of operands")
LIVE = (7, 6, 5, 4)  # layers of the chain that are held


def steps_of(model: Model, device: Any, data: Dataset, count: int, momentum: float) -> tuple[Network, SGD]:
    """`count` steps of `leapfrog` from seed 0."""
    net, mover = Network(model, device), SGD(RATE, momentum=momentum)
    for x, y in reversed(list(batches_back(data, seed=0, batch=BATCH, steps=count))):
        leapfrog(net, x, y, cross_entropy, mover)
    return net, mover


def occupied(state: dict[str, Any]) -> float:
    """Bits that are occupied in all information buffers."""
    names = [name.removesuffix("|head") for name in state if name.endswith("|head")]
    buffers = [Buffer(state[f"{n}|head"], state[f"{n}|spilled"], int(state[f"{n}|count"])) for n in names]
    return sum(occupied_bits(np, buffer) for buffer in buffers)


def is_back(net: Network, start: dict[str, Any]) -> bool:
    """Whether weights, velocities and buffers are what they were, bit for bit."""
    mover: Any = net.tape.mover
    end = net.save()
    weights = end.keys() == start.keys() and all(np.array_equal(end[name], value) for name, value in start.items())
    return weights and mover.at_start and not any(net.ledger.live_bits.values())


def acceptance(data: Dataset, bits: int, seeds: int, epochs: int) -> dict[str, Any]:
    """Accuracy in integers and in float, and whether every run came back."""
    model, found = mlp(WIDTHS), defaultdict(list)
    options: Any = {"epochs": epochs, "batch": BATCH, "learning_rate": RATE, "optimizer": "momentum"}
    for seed in range(seeds):
        device = Reversible.create(None, {"bits": bits})
        start = Network(model, Reversible.create(None, {"bits": bits}), seed=seed).save()
        begun = time.perf_counter()
        run = hwsim.fit(model, data, device, rule="leapfrog", seed=seed, **options)
        trained = time.perf_counter()
        control = hwsim.fit(model, data, "ideal", seed=seed, **options)
        buffer_bits = run.ledger.live_bits[device.host_device]
        held = occupied(run.network.tape.mover.state)  # type: ignore[union-attr]
        apart = int((correct(run, data) != correct(control, data)).sum())
        undoing = time.perf_counter()
        undo(run.network, batches_back(data, seed=seed, batch=BATCH, steps=run.steps), cross_entropy)
        found["integer"].append(run.test_accuracy)
        found["float"].append(control.test_accuracy)
        found["integer_loss"].append(run.epochs[-1].loss)
        found["float_loss"].append(control.epochs[-1].loss)
        found["images_apart"].append(apart)
        found["back"].append(is_back(run.network, start))
        found["steps"].append(run.steps)
        found["reserved"].append(buffer_bits / (run.network.parameter_count * run.steps))
        found["occupied"].append(held / (run.network.parameter_count * run.steps))
        found["there_s"].append(trained - begun)
        found["back_s"].append(time.perf_counter() - undoing)
    return dict(found)


def correct(run: Run, data: Dataset) -> Any:
    """Which test images are right."""
    return run.network.predict(data.x_test).argmax(axis=-1) == data.y_test


def growth(data: Dataset, momentum: float, count: int) -> dict[str, float]:
    """Bits of the buffer for each parameter and step beside the law, and whether the run came back."""
    device = Reversible.create(None, {})
    net, mover = steps_of(mlp(WIDTHS), device, data, count, momentum)
    values = net.parameter_count * count
    found = {
        "law": -math.log2(momentum),
        "reserved": net.ledger.live_bits[device.host_device] / values,
        "occupied": occupied(mover.state) / values,
    }
    undo(net, batches_back(data, seed=0, batch=BATCH, steps=count), cross_entropy)
    return found | {"back": is_back(net, Network(mlp(WIDTHS), Reversible.create(None, {})).save())}


def bill(model: Model, data: Dataset, count: int, **parameters: Any) -> dict[str, Any]:
    """What one step takes on a device with these parameters, from the ledger of `count` steps."""
    device = Reversible.create(None, parameters)
    net, _ = steps_of(model, device, data, count, 0.9)
    passes: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(PRODUCTS, 0.0))
    overwritten = dict.fromkeys(CAUSES, 0.0)
    for (layer, phase, doer, op), calls in net.ledger.calls.items():
        if phase not in STEP_PHASES:
            continue
        if isinstance(op, Elementwise):
            overwritten[cause_of(op)] += calls * 8 * op.bytes_written
        elif doer is device and op.kind in PRODUCTS:
            passes[layer][op.kind] += calls * device.passes(op)
    host = device.host_device
    assert host is not None
    found = step_of(net.ledger, device, count)
    dynamic_j = net.ledger.energy(by=("device", "part"), phases=STEP_PHASES)[device.spec, str(Part.DYNAMIC)]
    return {
        "passes": {layer: {str(kind): runs / count for kind, runs in each.items()} for layer, each in passes.items()},
        "garbage_held_between_operations_bits": net.ledger.peak_bits[device],
        "buffer_bits_per_step": net.ledger.live_bits[host] / count,
        "array_erased_bits": found["erased_bits"],
        "host_overwritten_bits": {cause: bits / count for cause, bits in overwritten.items()},
        "array_j": found["array_j"],
        "array_dynamic_j": float(dynamic_j) / count,
        "erasure_j": found["erasure_j"],
        "host_j": found["step_j"] - found["array_j"],
        "step_s": found["step_s"],
    }


def cause_of(op: Elementwise) -> str:
    """Why the host writes."""
    if op.name.startswith("cross_entropy"):
        return CAUSES[0]
    return CAUSES[1] if op.name == "leapfrog" else CAUSES[2]


def order_bits(data: Dataset) -> float:
    """Information in the order of one epoch's rows, which the host draws anew from the seed, by step."""
    rows = len(data.x_train)
    return math.lgamma(rows + 1) / math.log(2) / (rows // BATCH)


def spread(values: Iterable[float]) -> str:
    """Mean and standard deviation, in percent."""
    each = [100 * value for value in values]
    return f"{statistics.mean(each):.2f} +- {statistics.stdev(each) if len(each) > 1 else math.nan:.2f}"


def mean_passes(row: dict[str, Any], layers: Sequence[str]) -> dict[str, float]:
    """Passes over a matrix by kind, mean over some layers."""
    return {str(kind): statistics.mean(row["passes"][layer][str(kind)] for layer in layers) for kind in PRODUCTS}


def show_acceptance(bits: int, row: dict[str, Any]) -> None:
    """Two lines: accuracy, and the way back."""
    reserved, occupied_bits_each = statistics.mean(row["reserved"]), statistics.mean(row["occupied"])
    print(f"{bits:2} bits: {spread(row['integer'])}, float {spread(row['float'])}, after {row['steps'][0]} steps")
    print(f"   right in only one of both: {row['images_apart']} images by seed; loss of the last epoch ", end="")
    print(f"{statistics.mean(row['integer_loss']):.5f}, float {statistics.mean(row['float_loss']):.5f}")
    print(f"   back to the first bits: {sum(row['back'])} of {len(row['back'])} runs, ", end="")
    print(f"{statistics.mean(row['there_s']):.2f} s there, {statistics.mean(row['back_s']):.2f} s back; ", end="")
    print(f"buffer {reserved:.4f} bit/parameter/step reserved, {occupied_bits_each:.4f} occupied")


def show_growth(momentum: float, row: dict[str, float]) -> None:
    """One line."""
    shares = [f"{name} {row[name]:.4f} ({row[name] / row['law'] - 1:+.1%})" for name in ("reserved", "occupied")]
    print(f"momentum {momentum:<7g} law {row['law']:.4f}  {'  '.join(shares)}  back: {row['back']}")


def show_bills(title: str, bills: dict[str, dict[str, Any]], layers: Sequence[str]) -> None:
    """One line a policy, per step."""
    print(f"\n{title}, per step of {BATCH} rows")
    print("passes over a matrix: forward and release + backward + gradient")
    print(f"{'policy':14}{'passes':>20}" + "".join(f"{name:>19}" for name in COLUMNS))
    for policy, row in bills.items():
        made = mean_passes(row, layers)
        there = made["forward"] + made["release"]
        total = f"{there:.3g}+{made['backward']:.3g}+{made['gradient']:.3g} = {sum(made.values()):.3g}"
        overwritten = sum(row["host_overwritten_bits"].values())
        counts = [row["garbage_held_between_operations_bits"], row["array_erased_bits"], overwritten]
        line = "".join(f"{value:19,.0f}" for value in [*counts, row["buffer_bits_per_step"]])
        print(f"{policy:14}{total:>20}{line}" + "".join(f"{row[j]:19.3g}" for j in JOULES))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30, help="35 steps each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = hwsim.data.load("digits")
    settings = {"batch": BATCH, "learning_rate": RATE, "momentum": 0.9, "widths": WIDTHS, "epochs": options.epochs}
    result: dict[str, Any] = {**commit(), "made_with": made_with(), "settings": settings}
    result |= {"acceptance": {}, "growth": {}, "mlp": {}, "chain": {}}

    print(f"digits, MLP {'-'.join(map(str, WIDTHS))}, {options.seeds} seeds, test accuracy [%], mean +- sd")
    for bits in (8, 16):
        result["acceptance"][bits] = acceptance(data, bits, options.seeds, options.epochs)
        show_acceptance(bits, result["acceptance"][bits])
    print("\nbuffer after 1,200 steps, 8 bits, bit/parameter/step")
    for momentum in (0.5, 0.75, 0.9, 15 / 16, 0.99):
        result["growth"][momentum] = growth(data, momentum, 1200)
        show_growth(momentum, result["growth"][momentum])
    for scheme in ("ctrl", "naf"):
        for garbage in ("discard", "bennett"):
            result["mlp"][f"{scheme} {garbage}"] = bill(mlp(WIDTHS), data, 100, scheme=scheme, garbage=garbage)
    show_bills("MLP (passes: of fc2; fc1 has no backward)", result["mlp"], ["fc2"])
    for cause, overwritten in result["mlp"]["ctrl bennett"]["host_overwritten_bits"].items():
        print(f"   host overwrites for {cause}: {overwritten:,.0f} bits")
    print(
        f"   outside the ledger: order of rows, drawn from the seed again, {order_bits(data):,.0f} bits; a mini-batch,"
    )
    print(f"   copied in from data that stay, {BATCH * 64 * 32:,} bits")
    for garbage in ("discard", "bennett"):
        result["chain"][garbage] = bill(checkpointed(), data, 20, garbage=garbage)
    for live in LIVE:
        result["chain"][f"checkpoint:{live}"] = bill(checkpointed(live=live), data, 20)
    layers = [f"fc{i}" for i in range(1, DEPTH + 1)]
    show_bills(
        f"chain of {DEPTH} layers, all but the last 64 wide (passes: mean; the first has no backward)",
        result["chain"],
        layers,
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
