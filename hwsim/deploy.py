"""Deployment: a trained network programmed on another device, and its accuracy as the weights age there."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hwsim import registry
from hwsim.arrays import Array, to_host
from hwsim.cost import Phase
from hwsim.data import Dataset
from hwsim.device import Device, rebuilt
from hwsim.errors import ConfigError, DeviceError
from hwsim.nn import Network
from hwsim.parameters import parameters_of
from hwsim.run import Run
from hwsim.tape import Parameter
from hwsim.tile import Activation, Tile, require_age
from hwsim.train import accuracy, loss_for, made, require_fit, require_objects

DAY_S = 86400.0
UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": DAY_S}  # that ages are written in
AGES_S = (1.0, 3600.0, 30 * DAY_S, 365 * DAY_S)  # a second, an hour, a month, a year

Placement = Device | str | Mapping[str, Device | str]


@dataclass(frozen=True)
class Aged:
    """One programming of a trained network, at one age."""

    age_s: float  # since programming [s]
    seed: int  # of the device's noise
    accuracy: float  # on the test split
    exact_accuracy: float  # of the same weights in exact arithmetic, at no age: the control


def deploy(trained: Run | Network, device: Placement, *, seed: int | None = None) -> Network:
    """A network of the same model on `device`, programmed with the weights as they are read from `trained`.

    `device`: a device or its string, or several by layer name with "*" for all others. `seed`: of all noise there, in
    place of the devices' own seeds (None: those). Host parameters, parameters of a substrate's own nonlinearity, and
    frozen layers are taken over. The new network has a ledger of its own, with the programming in its SETUP. Reading
    is charged to the ledger of `trained`, as evaluation: neither training joules nor training noise change. Where
    reading is noisy, each deployment is of a new reading.

    Raises ConfigError for a network of shapes alone, and ConfigError or DeviceError where `device` does not fit.
    """
    source = network_of(trained)
    devices = reseeded(made(device), seed)
    # Without arrays first: what does not fit is refused before anything is read.
    _require_own_nonlinearities(source, Network(source.model, devices, shape_only=True))
    return _placed(source, devices, as_read(source))


def ageing(
    trained: Run | Network,
    data: Dataset,
    device: Placement,
    *,
    ages_s: Sequence[float] = AGES_S,
    seeds: int = 5,
) -> list[Aged]:
    """The test accuracy of a trained network at each age [s] after it was programmed on `device`, for several seeds.

    The weights are read from `trained` once (see `deploy`); each seed from 0 is one programming of them, which is
    evaluated at every age. Whether drift is compensated is the device's affair: ask for both, and compare. Beside
    every row stands its control: the accuracy of the same weights in exact arithmetic.

    Raises ConfigError for no ages, a negative or infinite one, or no seeds, and what `deploy` and `hwsim.fit` raise
    where device, network and data do not fit.
    """
    source, devices, exact = network_of(trained), made(device), registry.device("ideal")
    require_ageing(source, data, devices, ages_s, seeds)
    values = as_read(source)
    control = _test_accuracy(_placed(source, exact, values), data)
    rows = []
    for seed in range(seeds):
        net = _placed(source, reseeded(devices, seed), values)
        for age_s in ages_s:
            net.drift(age_s)
            rows.append(Aged(age_s, seed, _test_accuracy(net, data), control))
    return rows


def require_ageing(source: Network, data: Dataset, device: Placement, ages_s: Sequence[float], seeds: int = 1) -> None:
    """Refuse what `ageing` of `source` would, before it is trained: shapes alone tell. Raises as `ageing` does."""
    require_objects(source.model, data)
    if seeds < 1 or not ages_s:
        raise ConfigError(f"seeds {seeds}, ages {list(ages_s)}: needs a whole number of seeds from 1, and an age")
    for age_s in ages_s:
        require_age(age_s)
    devices = made(device)
    require_fit(source.model, data, devices, loss_for(data))
    for each in (devices, registry.device("ideal")):
        _require_own_nonlinearities(source, Network(source.model, each, shape_only=True))


def ages_in(text: str) -> dict[str, float]:
    """Ages [s] by their text, from "1s,90min,1h,30d". Raises ConfigError where one is no age, or is there twice."""
    found: dict[str, float] = {}
    for age in (part.strip() for part in text.split(",")):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]+)", age)
        unit_s = UNITS_S.get(match[2]) if match else None
        if match is None or unit_s is None:
            raise ConfigError(f"age {age!r}: needs a number with {', '.join(UNITS_S)}, such as 1s,1h,30d")
        age_s = float(match[1]) * unit_s
        if age_s in found.values():
            raise ConfigError(f"ages {text!r}: {age} is there twice; name each age once")
        require_age(age_s)
        found[age] = age_s
    return found


def deployment(trained: Run, data: Dataset, device: Device, ages_s: Mapping[str, float]) -> dict[str, Any]:
    """The `ageing` of a run at the ages [s] that are named, as plain data: each programming, and mean and deviation."""
    rows = ageing(trained, data, device, ages_s=tuple(ages_s.values()))
    by_age = []
    for age, age_s in ages_s.items():
        found = [row.accuracy for row in rows if row.age_s == age_s]
        spread = {"mean": statistics.fmean(found), "deviation": statistics.stdev(found)}
        by_age.append({"age": age, "age_s": age_s, "accuracy": spread, "exact_accuracy": rows[0].exact_accuracy})
    return {
        "device": device.spec,
        "trained_seed": trained.seed,
        "by_age": by_age,
        "programmings": [asdict(row) for row in rows],
    }


def network_of(trained: Run | Network) -> Network:
    """The network of a run, or the network itself. Raises ConfigError for anything else, or shapes alone."""
    net = trained.network if isinstance(trained, Run) else trained
    if not isinstance(net, Network):
        raise ConfigError(f"{trained!r:.80} to deploy: needs a run of hwsim.fit, or a network")
    if net.shape_only:
        raise ConfigError("a network of shapes alone has no weights to deploy; make it without shape_only")
    return net


def as_read(net: Network) -> dict[str, Any]:
    """The weights as they are read from the tiles, and the host parameters, as host arrays by name.

    Reading is charged to the network's ledger, as evaluation.
    """
    values: dict[str, Any] = {}
    for name, item in net.placed.items():
        if isinstance(item, Tile):
            with net.ledger.scope(layer=name.rpartition("/")[0], phase=Phase.EVALUATE):
                values[name] = to_host(item.read())
        elif isinstance(item, Parameter):
            values[name] = to_host(item.data)
    return values


def reseeded(device: Any, seed: int | None) -> Any:
    """The same device, or devices by name, with another seed of its noise; None: as it is."""
    if seed is None:
        return device
    if isinstance(device, Mapping):
        once = {each: reseeded(each, seed) for each in device.values()}  # one device in two places stays one
        return {name: once[each] for name, each in device.items()}
    values = {name: getattr(device, name) for name in parameters_of(type(device))} | {"seed": seed}
    origin = device.origin
    return rebuilt(type(device), values, origin._replace(parameters={**origin.parameters, "seed": seed}))


def _placed(source: Network, devices: Any, values: Mapping[str, Array]) -> Network:
    """A network of the source's model on other devices, starting from `values`."""
    net = Network(source.model, devices, seed=source.seed, frozen=source.frozen, values=values)
    for name, item in net.placed.items():
        trained = source.placed[name]
        if isinstance(item, Activation) and isinstance(trained, Activation):
            for parameter in item.device.activation_parameters(item.n):
                item.state[parameter] = item.device.asarray(to_host(trained.state[parameter]).copy())
    return net


def _require_own_nonlinearities(source: Network, target: Network) -> None:
    """Refuse a device whose own nonlinearity is another than the one that was trained, with a DeviceError."""
    for name, item in target.placed.items():
        trained = source.placed[name]
        if isinstance(item, Activation) and type(item.device) is not type(trained.device):
            raise DeviceError(
                f"{name}: trained with the nonlinearity of {trained.device.spec}, which {item.device.spec} does not "
                "have; deploy that layer on the same kind of device"
            )


def _test_accuracy(net: Network, data: Dataset) -> float:
    return accuracy(net, data.x_test, data.y_test, data.classes)
