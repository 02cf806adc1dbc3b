"""Where a training run stands, kept in a checkpoint: what is in it, and what it must hold to go on from."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.checkpoint import read_checkpoint, sole_user, write_checkpoint
from hwsim.errors import ConfigError, DataError, HwsimError
from hwsim.files import require_writable
from hwsim.learning import PREPARATIONS
from hwsim.optim import Optimizer
from hwsim.report.units import plural
from hwsim.run import Epoch, Run, made_with
from hwsim.tile import Activation, Tile


class Keeper:
    """Where a run of `epochs` of `per_epoch` steps stands, and its checkpoint, written every `every` steps."""

    def __init__(
        self,
        path: str | Path | None,
        every: int | None,
        settings: dict[str, Any],
        run: Run,
        optimizer: Optimizer,
        *,
        per_epoch: int,
        epochs: int,
    ) -> None:
        self.path = None if path is None else require_writable(path)
        self.settings, self.run, self.optimizer = settings, run, optimizer
        self.per_epoch, self.epochs, self.every = per_epoch, epochs, every or per_epoch
        self.step = 0
        self.losses: list[float] = []  # of the present epoch
        self.written = -1

    @contextmanager
    def held(self, *, resume: bool) -> Iterator[None]:
        """Keep the file to this run, which goes on from it or begins it. Raises ConfigError where another has it."""
        if self.path is None:
            yield
            return
        with sole_user(self.path):
            if resume:
                self.restore()
            else:
                require_new(self.path)  # another run may have begun and ended since it was asked first
            yield

    def finish_epoch(self, epoch: int, validation_accuracy: float) -> None:
        """Note how things stand."""
        self.run.end_epoch(epoch, self.step, math.fsum(self.losses) / len(self.losses), validation_accuracy)
        self.losses.clear()

    def due(self) -> bool:
        """Whether it is time to write."""
        return self.step % self.every == 0

    def write(self) -> None:
        """Write the checkpoint, unless there is none or it already holds this step."""
        if self.path is None or self.written == self.step:
            return
        state = {f"net/{name}": value for name, value in self.run.network.save().items()}
        state |= {f"optimizer/{name}": value for name, value in self.optimizer.save().items()}
        integers = {name: value for name, value in state.items() if isinstance(value, int)}
        meta = {
            "settings": self.settings,
            "made_with": made_with(),
            "step": self.step,
            "losses": self.losses,
            "epochs": [asdict(epoch) for epoch in self.run.epochs],
            "integers": integers,
            "holds": kinds(state),
            "ledger": self.run.ledger.as_dict(),
        }
        write_checkpoint(self.path, {n: v for n, v in state.items() if n not in integers}, meta)
        self.written = self.step

    def restore(self) -> None:
        """Go on from the checkpoint, and say where it was made with something else, or goes further than asked.

        Raises ConfigError where it is unreadable, not whole, or of a run with other settings, DataError where the data
        changed.
        """
        assert self.path is not None
        arrays, meta = read_checkpoint(self.path)
        self._require_same_run(meta.get("settings"))
        net = self.run.network
        try:
            state, made = arrays | meta["integers"], dict(meta["made_with"])
            require_alike(meta["holds"], kinds(state))
            step, losses, epochs = history(meta, self.per_epoch)
            tiles = dict(net.ledger.tiles)
            net.load(below(state, "net/"))
            # A rule that prepares the network keeps the optimizer's state in a form of its own.
            own = self.settings["rule"] in PREPARATIONS
            self.optimizer.load(below(state, "optimizer/"), None if own else shapes_moved(self.run))
            net.ledger.load(meta["ledger"], {label: d for d, label in net.ledger.labels().items()})
            if net.ledger.tiles != tiles:
                raise ConfigError("its ledger lists other tiles than the network has")
            if lost := [op for _, _, device, op in net.ledger.calls if device.uses(op) is None]:
                raise ConfigError(f"its ledger lists {lost[0]}, which its device does not do")
        except HwsimError as error:
            raise ConfigError(f"checkpoint {self.path} is not whole: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise ConfigError(f"checkpoint {self.path} is not whole: {error!r}") from None
        self.step, self.losses, self.run.epochs, self.written = step, losses, epochs, step
        now = made_with()
        if others := [
            f"{name} {made.get(name)}, now {value}" for name, value in now.items() if made.get(name) != value
        ]:
            self._remark(f"was made with {'; '.join(others)}: the run may end with other bits")
        if step > self.epochs * self.per_epoch:
            done = f"{plural(len(epochs), 'whole epoch')}, {plural(step, 'step')}"
            self._remark(f"holds {done}: more than {plural(self.epochs, 'epoch')}, so nothing is trained")

    def _remark(self, words: str) -> None:
        print(f"checkpoint {self.path} {words}", file=sys.stderr)

    def _require_same_run(self, other: Any) -> None:
        """Refuse the settings of another run with a ConfigError, other data with a DataError."""
        if not isinstance(other, dict):
            raise ConfigError(f"checkpoint {self.path} is not whole: it does not say what settings it was made with")
        differ = [
            f"{name} was {other.get(name)!r}, is {value!r}"
            for name, value in self.settings.items()
            if other.get(name) != value and name not in ("data_sha256", "files")
        ]
        if not differ and other.get("files") != self.settings["files"]:
            differ = changed_files(other.get("files"), self.settings["files"])
        if differ:
            raise ConfigError(
                f"checkpoint {self.path} belongs to another run: {'; '.join(differ)}; give the settings that it was "
                "made with, or start without resume"
            )
        was, now = (str(settings.get("data_sha256", "")) for settings in (other, self.settings))
        if was != now:
            raise DataError(
                f"checkpoint {self.path} was made with other rows of {self.settings['data']} (sha256 {was[:12]}, now "
                f"{now[:12]}); go on with the data that it was made with, or start without resume"
            )


def require_new(path: str | Path) -> None:
    """Refuse a checkpoint that is there already, with a ConfigError."""
    if os.path.exists(path):
        raise ConfigError(f"{path} exists; give --resume to go on from it, or another file")


# -- what a checkpoint must hold -----------------------------------------------------------------------------


def kinds(state: Mapping[str, Any]) -> dict[str, str]:
    """The type and shape of everything by name."""
    return {
        name: type(value).__name__ if isinstance(value, int) else f"{np.asarray(value).dtype} {np.shape(value)}"
        for name, value in state.items()
    }


def require_alike(wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Refuse state that is not what was written, with a ConfigError."""
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise ConfigError(f"{name} was {wanted.get(name, 'not there')}, is {found.get(name, 'not there')}")


def history(meta: Mapping[str, Any], per_epoch: int) -> tuple[int, list[float], list[Epoch]]:
    """The steps done, the losses since the last epoch, and the epochs. Raises ConfigError where they disagree."""
    step, losses, epochs = meta["step"], meta["losses"], [Epoch(**epoch) for epoch in meta["epochs"]]
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise ConfigError(f"its step is {step!r}, where a whole number from 1 is needed")
    if (len(epochs), len(losses)) != divmod(step, per_epoch):
        raise ConfigError(
            f"step {step} ends {step // per_epoch} epochs of {per_epoch} steps and begins another one with "
            f"{step % per_epoch}; it holds {len(epochs)} and {len(losses)}"
        )
    if not all(is_number(loss) for loss in losses):
        raise ConfigError(f"its losses are {losses!r:.80}, where finite numbers are needed")
    for i, epoch in enumerate(epochs, start=1):
        numbers = (epoch.loss, epoch.validation_accuracy, epoch.energy_j, epoch.time_s)
        sound = all(map(is_number, numbers)) and epoch.energy_j >= 0 and epoch.time_s >= 0
        if (epoch.epoch, epoch.steps) != (i, i * per_epoch) or not sound or not 0 <= epoch.validation_accuracy <= 1:
            raise ConfigError(f"it describes epoch {i} as {epoch}")
    return step, losses, epochs


def is_number(value: Any) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def shapes_moved(run: Run) -> dict[str, tuple[int, ...]]:
    """The shape of all that the optimizer moves, by the name that it keeps state by."""
    found: dict[str, tuple[int, ...]] = {}
    for name, item in run.network.placed.items():
        if name.rpartition("/")[0] in run.network.frozen:
            continue
        if isinstance(item, Activation):
            parts = item.device.activation_parameters(item.n)
            found |= {f"{name}/{part}": tuple(shape) for part, shape in parts.items()}
        else:
            found[name] = item.shape if isinstance(item, Tile) else tuple(item.data.shape)
    return found


def changed_files(was: Any, now: Mapping[str, str]) -> list[str]:
    """Files that are others by now, in words."""
    before: Mapping[str, Any] = was if isinstance(was, dict) else {}
    return [
        f"the file {name} has changed (sha256 {before.get(name, 'none')}, now {now.get(name, 'none')})"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]


def below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """What has a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
