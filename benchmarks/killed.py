"""Training killed by SIGKILL, and resumed: the bits are those of a run that was never killed.

    python benchmarks/killed.py [--points 20] [--seed 0] [--only NAME]

For every case, `--points` runs are killed, each in a process of its own and at a moment drawn by `--seed`: in the
middle of a step, or inside the write of a checkpoint (half of the file written; written, but not flushed; flushed, but
not renamed; just renamed). Each is resumed, and everything that it ends with is compared with the run that was not
killed. Exits with status 1 where any bit differs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

import hwsim
from hwsim import checkpoint, data, models, train
from hwsim.data import Dataset
from hwsim.nn import Network
from hwsim.run import Run
from hwsim.tile import Tile

MODEL = models.mlp([64, 6, 10])
EPOCHS, BATCH, EVERY = 2, 20, 2
STEPS = 10  # 2 epochs of 5 mini-batches
WRITES = 5  # one every 2 steps
AGE_S = 3600.0


class Case(NamedTuple):
    """What is trained: a device, how, and whether weights age by an hour before every step."""

    device: str
    options: dict[str, Any]
    ages: bool = False


CASES = {
    "ideal": Case("ideal", {"optimizer": "adam", "learning_rate": 0.01}),
    "crossbar-ttv2": Case("crossbar:reram-es:algorithm=ttv2", {}),
    "crossbar-pcm": Case("crossbar:pcm", {}, ages=True),
    "optical": Case("optical", {"optimizer": "momentum"}),
    "reversible": Case("reversible", {"rule": "leapfrog", "optimizer": "momentum", "learning_rate": 0.05}),
}


class Point(NamedTuple):
    """A moment: within step number `count`, or at a place within write number `count`."""

    place: str
    count: int


PLACES = ("step", "half", "fsync", "replace", "replaced")


def points(number: int, seed: int) -> list[Point]:
    """So many moments, all places in turn and counts at random; the first write has to be over."""
    rng = random.Random(seed)
    last = {"step": STEPS}
    return [
        Point(place, rng.randint(EVERY + 1 if place == "step" else 2, last.get(place, WRITES)))
        for place in (PLACES[i % len(PLACES)] for i in range(number))
    ]


def few() -> Dataset:
    """Digits, 100 training rows."""
    full = data.load("digits")
    return data.from_arrays(
        full.x_train[:100], full.y_train[:100], x_validation=full.x_validation[:50],
        y_validation=full.y_validation[:50], x_test=full.x_test[:50], y_test=full.y_test[:50], name="few",
    )  # fmt: skip


def fitted(case: Case, path: Path | None = None, *, resume: bool = False, on_step: Callable[[], None] = int) -> Run:
    """The run of a case; `on_step` is called in every step, when the weights have moved and nobody has counted it."""
    real = train.learning_rule

    def named(name: str) -> Callable[..., Any]:
        def rule(net: Network, x: Any, *rest: Any) -> Any:
            if case.ages:
                for tile in net.placed.values():
                    if isinstance(tile, Tile):
                        tile.drift(AGE_S)
            found = real(name)(net, x, *rest)
            on_step()
            return found

        return rule

    train.learning_rule = named  # type: ignore[assignment]
    keep: dict[str, Any] = {} if path is None else {"checkpoint": path, "checkpoint_every": EVERY, "resume": resume}
    try:
        return hwsim.fit(MODEL, few(), case.device, epochs=EPOCHS, batch=BATCH, seed=3, **case.options, **keep)
    finally:
        train.learning_rule = real


def ending(run: Run) -> dict[str, Any]:
    """All that a run ends with: weights, streams, ledger, history, accuracy."""
    found: dict[str, Any] = {
        name: (np.asarray(value).dtype.str, np.asarray(value).tobytes()) for name, value in run.network.save().items()
    }
    ledger = run.ledger.as_dict()
    found |= {part: sorted(map(repr, ledger[part])) for part in ("calls", "actual", "tiles")}
    found["epochs"], found["test"] = run.epochs, run.test_accuracy
    return found


def die() -> None:
    """End without a last word."""
    os.kill(os.getpid(), signal.SIGKILL)


def train_until(case: Case, path: Path, point: Point) -> None:
    """Train, and be killed at `point`."""
    counts = dict.fromkeys(PLACES, 0)

    def reached(place: str) -> bool:
        counts[place] += 1
        return (place, counts[place]) == point

    real_savez, real_fsync, real_replace = np.savez, os.fsync, os.replace

    def savez(file: Any, **arrays: Any) -> None:
        if not reached("half"):
            return real_savez(file, **arrays)
        whole = io.BytesIO()
        real_savez(whole, **arrays)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        return die()

    def fsync(number: int) -> None:
        if stat.S_ISREG(os.fstat(number).st_mode) and reached("fsync"):  # the folder is flushed too
            die()
        real_fsync(number)

    def replace(*paths: Any) -> None:
        if reached("replace"):
            die()
        real_replace(*paths)
        if reached("replaced"):
            die()

    np.savez, checkpoint.os.fsync, checkpoint.os.replace = savez, fsync, replace  # type: ignore[assignment,attr-defined]
    fitted(case, path, on_step=lambda: die() if reached("step") else None)


def killed(name: str, path: Path, point: Point) -> int:
    """The step in the checkpoint of a run that was killed at `point`, in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps([name, str(path), *point])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"{name} was to be killed at {point}, and ended with {done.returncode}: {done.stderr}")
    return int(checkpoint.read_checkpoint(path)[1]["step"])


def differences(name: str, wanted: dict[str, Any], path: Path, point: Point) -> tuple[int, list[str]]:
    """The step that a killed run was resumed from, and the names of what it ended with in other bits."""
    step = killed(name, path, point)
    found = ending(fitted(CASES[name], path, resume=True))
    left = [each.name for each in path.parent.iterdir() if each != path]
    differ = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
    return step, differ + left


def main() -> None:
    """Print a line for every moment."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, path, place, count = json.loads(options.child)
        train_until(CASES[name], Path(path), Point(place, count))
        return
    failed = 0
    for name in [options.only] if options.only else CASES:
        wanted, start = ending(fitted(CASES[name])), time.perf_counter()
        for point in points(options.points, options.seed):
            with TemporaryDirectory() as folder:
                step, differ = differences(name, wanted, Path(folder, "run.ckpt"), point)
            failed += bool(differ)
            print(f"{name:14s} {point.place:9s} {point.count:2d}  resumed from step {step:2d}  {differ or 'same bits'}")
        print(f"{name}: {options.points} kills in {time.perf_counter() - start:.0f} s", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
