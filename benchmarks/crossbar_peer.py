"""The crossbar against aihwkit and against plain float32 products, in one process, on one thread, by CPU time.

    python benchmarks/crossbar_peer.py [--rounds N] [--json FILE]

Needs aihwkit and torch. Reads with aihwkit's default IOParameters; pulsed updates of a batch with small gradients
(about one slot a sample) and with full trains (31 slots), which aihwkit does for 2 samples, scaled to the batch; steps
of 784-256-128-10 as in crossbar_step.py, on inputs of which 81% are zero. All take turns; printed are medians of times,
and medians and quartiles of ratios, round by round.

What is alike: converters and their noise, iterative bound management, update management, cells without spread from
device to device and without write noise in the updates, and the expected number of pulses. What differs:

- aihwkit takes one sample after the other and pulses every coincidence by itself, with noise of its own. hwsim counts
  the coincidences of the whole batch and moves each cell once, in closed form: up and down in random order, the mean
  biased by up to .04 in a window of 2 (moves.py). aihwkit's updates are thus of higher fidelity.
- aihwkit takes a pulse of the exponential cell to be worth its larger step at weight 0, hwsim's device the mean of
  both: in the step of the network, not in the updates, hwsim gives about 1.2 times as many pulses (measured).
- Calls are to the simulators' kernels, without autograd or ledger, but for the step of the network: there aihwkit runs
  under autograd and AnalogSGD, hwsim charges its ledger, counts the pulses of every cell, looks for NaN, and cuts
  matrices into arrays of 256 x 256 with converters of their own; aihwkit cuts the first layer in two of 392 rows.
- TTv2 is one idea in two forms, each as its preset has it: aihwkit's (ChoppedTransferCompound, no chopping) scales the
  fast array's rate to recent gradients and forgets its buffer at a transfer; hwsim's (transfer.py) does neither, and
  starts the fast array at its symmetry points. Both read and move one line of the slow array per sample.
- aihwkit is written for GPUs first; this is its CPU path.

aihwkit 1.1.0 brings OpenBLAS 0.3.15, which takes newer processors for an AMD Barcelona of 2007 and is then 3 times as
slow. It is told here to use the kernels that NumPy's OpenBLAS chose, and its exact products are checked.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import crossbar_step
import crossbar_update

READS = ("forward, noise, DAC and ADC", "backward, noise, DAC and ADC")
RATE, STEP = 0.1, 0.00135  # learning rate, and weight of a pulse, of crossbar_update.works
SMALL = 0.003  # what small gradients are there, over those of full trains
FEW = 2  # samples of full trains that aihwkit does
SLICE_S = 0.02  # least CPU time that a competitor's turn takes
VERSIONS = ("numpy", "numba", "torch", "aihwkit")


class Work(NamedTuple):
    """One competitor's part: what to call, and what its time is multiplied by."""

    call: Callable[[], object]
    factor: float = 1.0


def load_aihwkit() -> None:
    """Load aihwkit's kernels with the BLAS kernels that NumPy's BLAS chose. Raises SystemExit for wrong products."""
    import numpy as np
    import scipy.linalg  # noqa: F401  # its BLAS chooses before the variable is set
    import torch
    from threadpoolctl import threadpool_info

    torch.set_num_threads(1)
    libraries = [found for found in threadpool_info() if found["internal_api"] == "openblas"]
    chosen = [found["architecture"] for found in libraries if "numpy" in found["filepath"]]
    if chosen:
        os.environ["OPENBLAS_CORETYPE"] = chosen[0]
    from aihwkit.simulator.configs import FloatingPointRPUConfig
    from aihwkit.simulator.tiles.floating_point import FloatingPointTile

    os.environ.pop("OPENBLAS_CORETYPE", None)
    for m, k, n in crossbar_update.SHAPES:
        x, w, d = operands(m, k, n)
        tile = FloatingPointTile(n, k, FloatingPointRPUConfig(), bias=False)
        tile.set_weights(torch.from_numpy(w.T.copy()))
        pairs = (tile.tile.forward(torch.from_numpy(x)), x @ w), (tile.tile.backward(torch.from_numpy(d)), d @ w.T)
        error = max(float(np.abs(theirs.numpy() - exact).max() / np.abs(exact).max()) for theirs, exact in pairs)
        if not error < 1e-5:
            raise SystemExit(f"aihwkit's exact products at {(m, k, n)} are off by {error:.1e}: its BLAS is at fault")


def operands(m: int, k: int, n: int) -> tuple[Any, Any, Any]:
    """x [m, k], w [k, n] and d [m, n], the same that crossbar_update.works draws."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (m, k)).astype(np.float32)
    w = rng.uniform(-0.3, 0.3, (k, n)).astype(np.float32)
    return x, w, rng.standard_normal((m, n), dtype=np.float32)


def aihwkit_works(m: int, k: int, n: int) -> dict[str, Work]:
    """The reads and updates of crossbar_update.works, by aihwkit."""
    import torch
    from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig, SoftBoundsReferenceDevice
    from aihwkit.simulator.presets.devices import ReRamESPresetDevice
    from aihwkit.simulator.tiles.analog import AnalogTile

    x, w, d = (torch.from_numpy(array) for array in operands(m, k, n))
    alike = dict.fromkeys(("dw_min_dtod", "up_down_dtod", "w_max_dtod", "w_min_dtod"), 0.0)
    cells = {  # and what aihwkit takes one pulse to move [weight units], which sets the number of pulses
        "constant": (ConstantStepDevice(dw_min=STEP, dw_min_std=0.3, w_max=1, w_min=-1, **alike), STEP),
        "soft bounds": (
            SoftBoundsReferenceDevice(dw_min=0.002, dw_min_std=3.75, w_max=1.25, w_min=-0.75, **alike),
            0.002,
        ),
        # its step down at weight 0 (measured: 1.99 and 2.0 dw_min, from the share of cells that one sample moved)
        "exponential": (
            ReRamESPresetDevice(write_noise_std=0.0, up_down=0.0, **alike),
            STEP * (1 + 0.081404 * math.exp(2.5)),
        ),
    }

    def tile(device: Any, rate: float) -> Any:
        made = AnalogTile(n, k, SingleRPUConfig(device=device), bias=False)
        made.set_weights(w.T.contiguous())
        made.set_learning_rate(rate)
        return made.tile

    reader = tile(cells["constant"][0], RATE)
    found = {READS[0]: Work(partial(reader.forward, x)), READS[1]: Work(partial(reader.backward, d))}
    for name, (device, step) in cells.items():
        update = tile(device, RATE * step / STEP).update
        found[f"update, small gradients, {name}"] = Work(partial(update, x, d * SMALL, False))
        found[f"update, full trains, {name}"] = Work(partial(update, x[:FEW], d[:FEW], False), m / FEW)
    return found


def aihwkit_step(preset: Any, fill: float, inputs: str) -> Callable[[], object]:
    """crossbar_step's step by aihwkit; `fill`: where in the window the largest weight lies, 0: weights as they are."""
    import torch
    from aihwkit.nn import AnalogLinear
    from aihwkit.optim import AnalogSGD

    layers: list[Any] = []
    for k, n in itertools.pairwise(crossbar_step.WIDTHS):
        config = preset()
        config.mapping.weight_scaling_omega = fill
        layers += [AnalogLinear(k, n, rpu_config=config), torch.nn.Sigmoid()]
    model = torch.nn.Sequential(*layers[:-1])
    mover = AnalogSGD(model.parameters(), lr=crossbar_step.RATE)
    mover.regroup_param_groups(model)
    batches = [(torch.from_numpy(x), torch.from_numpy(labels)) for x, labels in crossbar_step.batches(inputs)]
    turn = itertools.cycle(batches)

    def step() -> None:
        x, labels = next(turn)
        mover.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        mover.step()

    return step


def competitions() -> dict[str, dict[str, Work]]:
    """Everything that is measured: the competitors of each, the plain one first."""
    from aihwkit.simulator.presets import ReRamESPreset, TTv2ReRamESPreset

    found: dict[str, dict[str, Work]] = {}
    for shape in crossbar_update.SHAPES:
        ours = crossbar_update.works(*shape, 1)
        for name, theirs in aihwkit_works(*shape).items():
            work, product = ours[name]
            found[f"{shape} {name}"] = {"numpy": Work(product), "hwsim": Work(work), "aihwkit": theirs}
    inputs = crossbar_step.INPUTS[1]
    steps = (
        ("ReRamES", ReRamESPreset, "reram-es"),
        ("TTv2 of ReRamES", TTv2ReRamESPreset, "reram-es:algorithm=ttv2"),
    )
    scales = (("largest weight at .8", 0.8, "weight_fill=0.8"), ("weights as they are", 0.0, "weight_scale=1"))
    for (name, preset, ours_too), (words, fill, scale) in itertools.product(steps, scales):
        found[f"step, {name}, {words}"] = {
            "torch": Work(crossbar_step.torch_step(inputs)),
            "hwsim": Work(crossbar_step.hwsim_step(f"{ours_too}:{scale}", inputs)),
            "aihwkit": Work(aihwkit_step(preset, fill, inputs)),
        }
    return found


def read_errors(works: dict[str, Work]) -> dict[str, float]:
    """RMS errors of both reads over the RMS of the exact product: about equal where both do the same."""
    import numpy as np

    exact: Any = works["numpy"].call()
    outputs: dict[str, Any] = {name: works[name].call() for name in ("hwsim", "aihwkit")}
    return {
        f"{name}_rms_error": float(np.sqrt(np.mean((np.asarray(y) - exact) ** 2) / np.mean(exact**2)))
        for name, y in outputs.items()
    }


def taking_turns(works: dict[str, Work], rounds: int) -> dict[str, Any]:
    """Medians [ms] of all, and medians and quartiles of the ratios, round by round."""
    repeats = {}
    for name, work in works.items():
        work.call()  # compiles
        work.call()
        repeats[name] = max(1, math.ceil(SLICE_S / elapsed(work, 1)))
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(1e3 * work.factor * elapsed(work, repeats[name]) / repeats[name])
    plain = next(iter(works))
    ratios = {}
    for above, below in (("hwsim", plain), ("aihwkit", plain), ("aihwkit", "hwsim")):
        low, middle, high = statistics.quantiles([a / b for a, b in zip(times[above], times[below], strict=True)], n=4)
        ratios[f"{above}/{below}"] = {"ratio": middle, "lower_quartile": low, "upper_quartile": high}
    medians = {f"{name}_ms": statistics.median(taken) for name, taken in times.items()}
    return {**medians, "ratios": ratios, "calls_per_round": repeats}


def elapsed(work: Work, repeats: int) -> float:
    """CPU time [s] of all threads for some calls."""
    start = time.process_time()
    for _ in range(repeats):
        work.call()
    return time.process_time() - start


def about(rounds: int) -> dict[str, Any]:
    """Machine, versions and settings."""
    from threadpoolctl import threadpool_info

    folder = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=folder).stdout.strip()
    changes = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, cwd=folder)
    return {
        "machine": crossbar_step.machine(), "cores": os.cpu_count(), "threads": 1, "clock": "process_time",
        "rounds": rounds, "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in VERSIONS},
        "commit": commit, "uncommitted_changes": bool(changes.stdout.strip()),
        "blas": [f"{Path(found['filepath']).parent.name} {found['version']} {found['architecture']}"
                 for found in threadpool_info() if found["internal_api"] == "openblas"],
    }  # fmt: skip


def shown(name: str, row: dict[str, Any]) -> str:
    """One row of the table."""
    cells = []
    for at in row["ratios"].values():
        low, middle, high = (
            f"{at[key]:,.0f}" if at[key] >= 100 else f"{at[key]:.3g}"
            for key in ("lower_quartile", "ratio", "upper_quartile")
        )
        cells.append(f"{middle} ({low}-{high})")
    times = " ".join(f"{row[key]:11,.3f}" for key in row if key.endswith("_ms"))
    return f"{name:58}" + "".join(f"{cell:>26}" for cell in cells) + f"  {times}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for name in crossbar_step.POOLS:  # before any library is imported
        os.environ[name] = "1"
    for name in crossbar_step.FORCED:
        os.environ.pop(name, None)
    load_aihwkit()
    facts, load = about(options.rounds), [os.getloadavg()[0]]
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    heads = ("hwsim / plain", "aihwkit / plain", "aihwkit / hwsim")
    print(f"{'':58}{''.join(f'{head:>26}' for head in heads)}  ms: plain (numpy, torch), hwsim, aihwkit")
    results = {}
    for name, works in competitions().items():
        row = taking_turns(works, options.rounds)
        if name.endswith(READS):
            row |= read_errors(works)
        results[name] = row
        load.append(os.getloadavg()[0])
        print(shown(name, row), flush=True)
    facts["load_average"] = {"least": min(load), "median": statistics.median(load), "most": max(load)}
    print(f"load average of the machine: {facts['load_average']}")
    if options.json:
        options.json.write_text(json.dumps({"about": facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
