"""One training step of 784-256-128-10 on crossbars against the same step in PyTorch on the CPU, in one run.

    python benchmarks/crossbar_step.py [--presets reram-es capacitor ...] [--threads N] [--rounds N] [--json FILE]

Needs torch. Sigmoid units, batches of 64, cross-entropy and plain SGD at a rate of 0.1 on both sides; hwsim also draws
all noise, charges its ledger and checks every operand for NaN. The steps go round 32 batches of random inputs with
random labels, which are not learned while it runs, so that gradients keep their size: inputs of standard normal values
(every line fires), and inputs of which 81% are zero and the others uniform on [0, 1), as the pixels of MNIST are. Both
sides take turns, so that a busy machine slows both; printed are medians of the seconds per 1,000 samples and of the
ratios, round by round, with quartiles. CPU time at one thread, else wall time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WIDTHS = (784, 256, 128, 10)
BATCH, BATCHES, RATE = 64, 32, 0.1
PRESETS = ("reram-es", "capacitor", "ecram", "gokmen-vlasov")
INPUTS = ("normal", "81% zeros")
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # would hold NumPy's BLAS back


def batches(inputs: str) -> list[tuple[Any, Any]]:
    """Inputs [64, 784] float32 and labels [64], 32 times."""
    import numpy as np

    rng = np.random.default_rng(0)
    found = []
    for _ in range(BATCHES):
        x = rng.standard_normal((BATCH, WIDTHS[0]), dtype=np.float32)
        if inputs != "normal":
            x = rng.random(x.shape, dtype=np.float32) * (rng.random(x.shape, dtype=np.float32) < 0.19)
        found.append((x, rng.integers(0, WIDTHS[-1], BATCH)))
    return found


def hwsim_step(preset: str, inputs: str) -> Callable[[], object]:
    """One step of ours."""
    import hwsim
    from hwsim.learning.backprop import backprop
    from hwsim.losses import cross_entropy
    from hwsim.models.mlp import Mlp
    from hwsim.optim import SGD

    device = hwsim.device("ideal" if preset == "ideal" else f"crossbar:{preset}")
    net, optimizer = hwsim.Network(Mlp(WIDTHS, activation="sigmoid"), device), SGD(RATE)
    turn = itertools.cycle(batches(inputs))
    return lambda: backprop(net, *next(turn), cross_entropy, optimizer)


def torch_step(inputs: str) -> Callable[[], object]:
    """One step of PyTorch's."""
    import torch

    layers: list[torch.nn.Module] = []
    for k, n in itertools.pairwise(WIDTHS):
        layers += [torch.nn.Linear(k, n), torch.nn.Sigmoid()]
    model = torch.nn.Sequential(*layers[:-1])
    mover = torch.optim.SGD(model.parameters(), lr=RATE)
    turn = itertools.cycle([(torch.from_numpy(x), torch.from_numpy(labels)) for x, labels in batches(inputs)])

    def step() -> None:
        x, labels = next(turn)
        mover.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        mover.step()

    return step


def taking_turns(ours: Callable[[], object], theirs: Callable[[], object], rounds: int, threads: int) -> dict[str, Any]:
    """Medians and quartiles of both and of their ratio, round by round, after two rounds to compile and warm up."""
    clock = time.process_time if threads == 1 else time.perf_counter
    times = []
    for _ in range(rounds + 2):
        pair = []
        for step in (ours, theirs):
            start = clock()
            for _ in range(BATCHES):
                step()
            pair.append(1000 * (clock() - start) / (BATCH * BATCHES))
        times.append(pair)
    times = times[2:]
    low, middle, high = statistics.quantiles([a / b for a, b in times], n=4)
    return {
        "hwsim_s_per_1000": statistics.median(a for a, _ in times),
        "torch_s_per_1000": statistics.median(b for _, b in times),
        "ratio": middle,
        "lower_quartile": low,
        "upper_quartile": high,
    }


def machine() -> str:
    """The processor as it calls itself."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), help='of crossbar; "ideal": the exact device')
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for name in POOLS:  # before either library is imported
        os.environ[name] = str(options.threads)
    for name in FORCED:
        os.environ.pop(name, None)
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    about = {
        "machine": machine(), "cores": os.cpu_count(), "threads": options.threads, "rounds": options.rounds,
        "clock": "process_time" if options.threads == 1 else "perf_counter", "python": platform.python_version(),
        "numpy": np.__version__, "torch": torch.__version__,
    }  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{'':28} ratio to torch (quartiles)    s per 1,000 samples: hwsim, torch    ms per step: hwsim, torch")
    results = {}
    for preset, inputs in itertools.product(options.presets, INPUTS):
        row = taking_turns(hwsim_step(preset, inputs), torch_step(inputs), options.rounds, options.threads)
        results[f"{preset}, {inputs}"] = row
        ours, theirs = row["hwsim_s_per_1000"], row["torch_s_per_1000"]
        print(
            f"{preset + ', ' + inputs:28} {row['ratio']:5.2f} ({row['lower_quartile']:.2f}-{row['upper_quartile']:.2f})"
            f" {ours:26.4f} {theirs:8.4f} {ours * BATCH:24.3f} {theirs * BATCH:6.3f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
