"""One training step of 784-256-128-10 on `ideal` against the same step in PyTorch on the CPU, in one run.

    python benchmarks/step.py [--threads N] [--rounds N] [--json FILE]

Needs torch. Both do forward, cross-entropy, backward and plain SGD on the same float32 batch; hwsim also charges its
ledger and checks every operand for NaN. The two take turns, so that a busy machine slows both; the medians of the
times and of the ratios, round by round, are printed. Then: what charging costs, and 100 shape-only steps with their
bill and its 90% interval.
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


def hwsim_step(batch: int) -> tuple[Callable[[], object], Any]:
    """One step of ours, and its network."""
    import numpy as np

    import hwsim
    from hwsim.learning.backprop import backprop
    from hwsim.losses import cross_entropy
    from hwsim.models.mlp import Mlp
    from hwsim.optim import SGD

    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((batch, WIDTHS[0]), dtype=np.float32), rng.integers(0, 10, batch)
    net, optimizer = hwsim.Network(Mlp(WIDTHS), hwsim.device("ideal")), SGD(0.01)
    return lambda: backprop(net, x, labels, cross_entropy, optimizer), net


def torch_step(batch: int) -> Callable[[], object]:
    """One step of PyTorch's."""
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((batch, WIDTHS[0]), dtype=np.float32))
    labels = torch.from_numpy(rng.integers(0, 10, batch))
    layers: list[torch.nn.Module] = []
    for k, n in itertools.pairwise(WIDTHS):
        layers += [torch.nn.Linear(k, n), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    mover = torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        mover.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        mover.step()

    return step


def shape_only() -> dict[str, float]:
    """Milliseconds of 100 shape-only steps with their bill, and of a 90% interval of it."""
    import hwsim
    from hwsim.learning.backprop import backprop
    from hwsim.losses import cross_entropy
    from hwsim.models.mlp import Mlp
    from hwsim.optim import SGD

    device = hwsim.device("gpu:h100")
    best = {"100_shape_only_steps_and_their_bill_ms": 1e9, "interval_10000_draws_ms": 1e9}
    for _ in range(5):
        start = time.perf_counter()
        net, optimizer = hwsim.Network(Mlp(WIDTHS), device, shape_only=True), SGD(0.01)
        for _ in range(100):
            backprop(net, hwsim.Shape(64, 784), hwsim.Shape(64), cross_entropy, optimizer)
        _ = net.ledger.energy_j, net.ledger.time_s
        costed = time.perf_counter()
        net.ledger.interval()
        done = time.perf_counter()
        for name, seconds in zip(best, (costed - start, done - costed), strict=True):
            best[name] = min(best[name], 1e3 * seconds)
    return best


def charging(net: Any, step: Callable[[], object]) -> dict[str, float]:
    """What charging the ledger costs: per call, and as a share of a step."""
    from hwsim.cost import Kind, Product

    ledger, op = net.ledger, Product(Kind.FORWARD, 64, 784, 256)
    device = next(iter(ledger.devices()))
    once = min(timed(lambda: ledger.charge(device, op), 20_000) for _ in range(5))
    before = sum(ledger.calls.values())
    step()
    calls = sum(ledger.calls.values()) - before
    return {"us_per_call": 1e6 * once, "calls_per_step": calls, "share_of_step": once * calls / timed(step, 200)}


def timed(work: Callable[[], object], repeats: int) -> float:
    """Seconds per call."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def taking_turns(ours: Callable[[], object], theirs: Callable[[], object], rounds: int, repeats: int) -> dict[str, Any]:
    """Medians of both and of their ratio, round by round, after one round to warm up."""
    times = [(timed(ours, repeats), timed(theirs, repeats)) for _ in range(rounds + 1)][1:]
    ratios = sorted(b / a for a, b in times)
    return {
        "hwsim_us": 1e6 * statistics.median(a for a, _ in times),
        "torch_us": 1e6 * statistics.median(b for _, b in times),
        "torch_over_hwsim": statistics.median(ratios),
        "torch_over_hwsim_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # before either library is imported
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {}
    for batch, repeats in ((64, 20), (1, 100)):
        step, net = hwsim_step(batch)
        results[f"batch {batch}"] = taking_turns(step, torch_step(batch), options.rounds, repeats)
        results[f"charging at batch {batch}"] = charging(net, step)
    results["shape-only"] = shape_only()
    for name, values in results.items():
        print(f"{name}: {json.dumps({k: v if isinstance(v, list) else round(v, 4) for k, v in values.items()})}")
    about = {
        "threads": options.threads, "machine": platform.machine(), "cores": os.cpu_count(),
        "numpy": np.__version__, "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip
    print(about)
    if options.json:
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
