"""One training step of 784-256-128-10 on `ideal` against the same step in PyTorch on the CPU, in one run.

    python benchmarks/step.py [--threads N] [--json FILE]

Needs torch. Both do forward, cross-entropy, backward and plain SGD on the same float32 batch; hwsim also charges its
ledger and checks every operand for NaN. The two take turns, so that a busy machine slows both; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

WIDTHS = (784, 256, 128, 10)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import numpy as np
    import torch

    import hwsim
    from hwsim.cost import Kind, Product
    from hwsim.learning.backprop import backprop
    from hwsim.losses import cross_entropy
    from hwsim.models.mlp import Mlp
    from hwsim.optim import SGD

    torch.set_num_threads(options.threads)
    results = {}
    for batch in (64, 1):
        rng = np.random.default_rng(0)
        x, labels = rng.standard_normal((batch, WIDTHS[0]), dtype=np.float32), rng.integers(0, 10, batch)
        net = hwsim.Network(Mlp(WIDTHS), hwsim.device("ideal"))
        optimizer = SGD(0.01)

        def ours() -> None:
            backprop(net, x, labels, cross_entropy, optimizer)

        layers: list[torch.nn.Module] = []
        for k, n in zip(WIDTHS, WIDTHS[1:]):
            layers += [torch.nn.Linear(k, n), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        mover = torch.optim.SGD(model.parameters(), lr=0.01)
        tx, tl = torch.from_numpy(x), torch.from_numpy(labels)

        def theirs() -> None:
            mover.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(tx), tl).backward()
            mover.step()

        repeats = 20 if batch > 1 else 100
        times = alternating({"hwsim": ours, "torch": theirs}, options.rounds, repeats)
        ratios = sorted(t / h for h, t in zip(times["hwsim"], times["torch"]))
        results[f"batch {batch}"] = {
            "hwsim_us": 1e6 * statistics.median(times["hwsim"]),
            "torch_us": 1e6 * statistics.median(times["torch"]),
            "torch_over_hwsim": statistics.median(ratios),
            "torch_over_hwsim_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        }
    ledger = hwsim.Ledger()
    op, device = Product(Kind.FORWARD, 64, 784, 256), hwsim.device("ideal")
    charge = min(timed(lambda: ledger.charge(device, op), 20_000) for _ in range(5))
    calls = sum(net.ledger.calls.values()) / max(1, net.ledger.calls[first_forward(net)])
    results["charge"] = {"us_per_call": 1e6 * charge, "calls_per_step": calls}
    for name, values in results.items():
        print(name, {k: [round(e, 3) for e in v] if isinstance(v, list) else round(v, 3) for k, v in values.items()})
    about = {"threads": options.threads, "machine": platform.machine(), "cores": os.cpu_count(),
             "numpy": np.__version__, "torch": torch.__version__, "python": platform.python_version()}
    print(about)
    if options.json:
        options.json.write_text(json.dumps({"results": results, "about": about}, indent=1) + "\n")


def first_forward(net: object) -> object:
    """A cell that is called once a step."""
    return next(cell for cell in net.ledger.calls if cell[1] == "forward")  # type: ignore[attr-defined]


def timed(work: Callable[[], None], repeats: int) -> float:
    """Seconds per call."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def alternating(work: dict[str, Callable[[], None]], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds per call of each, taking turns round by round, after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for i in range(rounds + 1):
        for name, function in work.items():
            seconds = timed(function, repeats)
            if i:
                times[name].append(seconds)
    return times


if __name__ == "__main__":
    main()
