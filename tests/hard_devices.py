"""Three substrates that strain the interface, and the plain digital machine that hosts them.

The framework is tested on these, so that its tests need no built-in device. Component values are round numbers,
made up so that energies can be added up by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hwsim.arrays import Array
from hwsim.contract import Contract
from hwsim.cost import Component, Elementwise, Kind, Op, Phase, Product, Quantity, Role, Use
from hwsim.device import Device
from hwsim.ledger import Ledger, TileShape
from hwsim.nn import Network
from hwsim.optim import Optimizer
from hwsim.parameters import parameter
from hwsim.precision import Policy, policy
from hwsim.tape import HostOp, Parameter
from hwsim.tile import Activation, Tile

PRODUCTS = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT, Kind.PRODUCT)
OWN_ACTIVATION = ("device", "device_backward")


class Toy(Device):
    """A plain digital machine: 64 lanes of arithmetic before one memory; its own host."""

    name = "toy"
    host = None

    precision: str = parameter("fp32", choices=("fp32", "fp64"), doc="number format")

    @property
    def components(self) -> Mapping[str, Component]:
        return {
            "flop": Component(Role.HOST, energy_j=1e-12, time_s=1e-9),
            "byte": Component(Role.HOST, energy_j=Quantity(5e-12, 1e-11, 3e-11, key="toy/byte"), time_s=1e-10),
            "chip": Component(Role.HOST, static_power_w=0.1, idle_power_w=0.02),
        }

    @property
    def policy(self) -> Policy:
        return policy(self.precision)

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        if isinstance(op, Elementwise):
            touched = op.bytes_read + op.bytes_written
            return None if op.name in OWN_ACTIVATION else {"flop": Use(op.flops, 64), "byte": Use(touched)}
        if op.kind in PRODUCTS:
            values = op.stack * (op.m * op.k + op.k * op.n + op.m * op.n)
            return {"flop": Use(2 * op.macs, 64), "byte": Use(4 * values)}
        if op.kind in (Kind.UPDATE_OUTER, Kind.RELEASE):
            return None
        return {"byte": Use(8 * op.stack * op.k * op.n)}


HOST = Toy()


class StatefulCrossbar(Device):
    """Differential pairs of noisy cells; no two cells, and no two directions, answer a pulse alike.

    Weights move in place by stochastic pulses, of 31 slots a row, or cell by cell in five rounds of program and verify.
    """

    name = "stateful-crossbar"
    host = HOST

    size: int = parameter(64, low=1, doc="rows and columns of one array")
    moved_by: str = parameter("pulses", choices=("pulses", "verify"), doc="how weights move")
    pulse_step: float = parameter(0.002, low=1e-6, doc="mean weight change of one pulse")
    asymmetry: float = parameter(0.1, low=0, high=0.9, doc="how much more than the mean a pulse upwards does")
    spread: float = parameter(0.3, low=0, doc="device-to-device spread of pulses, sigma of the logarithm")
    read_noise: float = parameter(0.01, low=0, doc="RMS noise of a column that is read")

    @property
    def contract(self) -> Contract:
        # Verified moves are better than stochastic pulses.
        return Contract(0.007, 0.009, 1e-5, update=0.08, update_outer=0.65, bias=0.1, deterministic=False)

    @property
    def components(self) -> Mapping[str, Component]:
        energy = Quantity(1e-12, 2e-12, 5e-12, key="crossbar/adc")
        return {
            "cell": Component(energy_j=1e-15),
            "dac": Component(Role.CONVERTER, energy_j=1e-13, time_s=1e-9),
            "adc": Component(Role.CONVERTER, energy_j=energy, time_s=1e-9, static_power_w=1e-4),
            "settling": Component(time_s=1e-8, serial=True),
            "pulse": Component(Role.PROGRAMMING, energy_j=1e-13),
            "slot": Component(Role.PROGRAMMING, time_s=1e-7, serial=True),
        }

    def converters(self, k: int, n: int) -> int:
        return math.ceil(k / self.size) * math.ceil(n / self.size) * math.ceil(self.size / 8)  # 8 columns share one

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {"adc": sum(stack * self.converters(k, n) for stack, k, n in tiles)}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        if isinstance(op, Elementwise) or op.kind in (Kind.GRADIENT, Kind.PRODUCT, Kind.RELEASE):
            return None
        cells, converters = op.stack * op.k * op.n, op.stack * self.converters(op.k, op.n)
        if op.kind in (Kind.FORWARD, Kind.BACKWARD, Kind.READ):
            m = op.k if op.kind is Kind.READ else op.m
            inputs, outputs = (op.n, op.k) if op.kind is Kind.BACKWARD else (op.k, op.n)
            dacs = Use(op.stack * m * inputs * math.ceil(outputs / self.size), op.stack * inputs)
            adcs = Use(op.stack * m * outputs * math.ceil(inputs / self.size), converters)
            return {"cell": Use(m * cells), "dac": dacs, "adc": adcs, "settling": Use(m)}
        if op.kind is Kind.UPDATE_OUTER:
            return {"pulse": Use(op.m * cells), "slot": Use(31 * op.m)} if self.moved_by == "pulses" else None
        return {"pulse": Use(5 * cells), "adc": Use(5 * cells, converters), "slot": Use(5 * min(op.k, self.size))}

    def write(self, tile: Tile, w: Array) -> None:
        xp, fabrication = self.xp, tile.rng("fabrication")
        for name, mean in (("up", 1 + self.asymmetry), ("down", 1 - self.asymmetry)):
            normal = fabrication.standard_normal(tile.shape, dtype=xp.float32)
            tile.state[name] = self.pulse_step * mean * xp.exp(self.spread * normal)
        tile.state["plus"], tile.state["minus"] = xp.maximum(w, 0), xp.maximum(-w, 0)
        tile.state["pulses"] = xp.zeros(tile.shape, dtype=xp.int64)

    def read(self, tile: Tile) -> Array:
        return tile.state["plus"] - tile.state["minus"]

    def forward(self, tile: Tile, x: Array) -> Array:
        return self.columns(tile, x, self.read(tile), Kind.FORWARD)

    def backward(self, tile: Tile, dy: Array) -> Array:
        return self.columns(tile, dy, self.read(tile).swapaxes(-1, -2), Kind.BACKWARD)

    def columns(self, tile: Tile, x: Array, w: Array, stream: str) -> Array:
        y = x @ w
        tile.record(cell=(abs(x).sum(axis=-2) * abs(w).sum(axis=-1)).sum())
        return y + self.read_noise * tile.rng(stream).standard_normal(y.shape, dtype=self.xp.float32)

    def update_outer(self, tile: Tile, x: Array, dy: Array, scale: float) -> None:
        step = scale * (x.swapaxes(-1, -2) @ dy)
        tile.record(pulse=self.pulse(tile, step, tile.rng("train").poisson(abs(step) / self.pulse_step)))

    def update(self, tile: Tile, step: Array) -> None:
        target, total = self.read(tile) + step, 0
        for _ in range(5):
            missing = target - self.read(tile)
            total = total + self.pulse(tile, missing, self.xp.rint(abs(missing) / self.pulse_step))
        tile.record(pulse=total)

    def pulse(self, tile: Tile, direction: Array, count: Array) -> Array:
        state = tile.state
        state["plus"] += self.xp.where(direction > 0, count, 0) * state["up"]
        state["minus"] += self.xp.where(direction < 0, count, 0) * state["down"]
        state["pulses"] += count.astype(self.xp.int64)
        return count.sum()


class LearnedAbsorber(Device):
    """An optical mesh with a saturable absorber of its own behind each output, whose depth is learned.

    The way back knows only a transmission and a running gain, so that its gradients are biased, and drift.
    """

    name = "learned-absorber"
    host = HOST

    lanes: int = parameter(16, low=1, doc="modulators side by side")
    depth: float = parameter(2.0, low=0, doc="optical depth that every absorber starts with")
    photons: float = parameter(1e4, low=1, doc="photons in a full-scale output")

    @property
    def components(self) -> Mapping[str, Component]:
        return {
            "laser": Component(Role.LIGHT, static_power_w=0.5, idle_power_w=0.25),
            "shifter": Component(static_power_w=0.001),
            "modulator": Component(Role.CONVERTER, energy_j=1e-13, time_s=1e-10),
            "detector": Component(Role.CONVERTER, energy_j=1e-12, time_s=1e-10),
            "heating": Component(Role.PROGRAMMING, time_s=1e-5, serial=True),
            "absorber": Component(energy_j=1e-14, time_s=1e-10),
        }

    @property
    def contract(self) -> Contract:
        return Contract(forward=0.05, backward=1e-5, gradient=1e-5, update=1e-5, bias=0.05, deterministic=False)

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {"laser": 1, "shifter": sum(2 * stack * k * n for stack, k, n in tiles)}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        if isinstance(op, Elementwise):
            return {"absorber": Use(op.size, self.lanes)} if op.name in OWN_ACTIVATION else None
        if op.kind in (Kind.FORWARD, Kind.BACKWARD):
            inputs, outputs = (op.n, op.k) if op.kind is Kind.BACKWARD else (op.k, op.n)
            sides = {"modulator": inputs, "detector": outputs}
            return {name: Use(op.stack * op.m * count, self.lanes) for name, count in sides.items()}
        if op.kind in (Kind.PROGRAM, Kind.UPDATE):
            return {"heating": Use(1)}
        return {} if op.kind is Kind.READ else None

    def forward(self, tile: Tile, x: Array) -> Array:
        y = x @ tile.state["w"]
        shot = tile.rng("shot").standard_normal(y.shape, dtype=self.xp.float32)
        return y + shot / math.sqrt(self.photons)

    def start_activation(self, activation: Activation, n: int) -> None:
        activation.state["depth"] = self.xp.full(n, self.depth, dtype=self.xp.float32)
        activation.state["gain"] = self.xp.ones(n, dtype=self.xp.float32)

    def activation_parameters(self, n: int) -> Mapping[str, tuple[int, ...]]:
        return {"depth": (n,)}

    def activate(self, activation: Activation, x: Array) -> tuple[Array, Any]:
        transmission = self.xp.exp(-0.5 * activation.state["depth"] / (1 + x * x))
        return x * transmission, (x, transmission)

    def update_activation(self, activation: Activation, steps: Mapping[str, Array]) -> None:
        activation.state["depth"] = self.xp.maximum(activation.state["depth"] + steps["depth"], 0)

    def activate_backward(self, activation: Activation, saved: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        (x, t), state = saved, activation.state
        rows = tuple(range(x.ndim - 1))
        exact = t * (1 + state["depth"] * x * x / (1 + x * x) ** 2)
        state["gain"] = 0.9 * state["gain"] + 0.1 * (exact * t).sum(axis=rows) / (t * t).sum(axis=rows)
        return dy * t * state["gain"], {"depth": (-0.5 * dy * x * t / (1 + x * x)).sum(axis=rows)}


class Leapfrog(Device):
    """A reversible machine in exact fixed point: a product leaves garbage, which its release computes away again."""

    name = "leapfrog"
    host = HOST

    fraction_bits: int = parameter(12, low=1, high=16, doc="bits behind the point")
    integer_bits: int = parameter(8, low=1, high=8, doc="bits before it")

    @property
    def components(self) -> Mapping[str, Component]:
        return {"gate": Component(energy_j=1e-17, time_s=1e-9), "wire": Component(static_power_w=1e-9)}

    @property
    def policy(self) -> Policy:
        return policy(f"fixed{self.integer_bits}.{self.fraction_bits}")

    @property
    def contract(self) -> Contract:
        return Contract(forward=1e-3, backward=1e-3, gradient=1e-3, update=0.01, bias=0.01)

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {"wire": sum(self.policy.value_bits * stack * k * n for stack, k, n in tiles)}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        bits = self.policy.value_bits
        if isinstance(op, Elementwise):
            return {"gate": Use(3 * bits * op.size, op.size)} if op.name in ("relu", "relu_backward") else None
        if op.kind in (Kind.FORWARD, Kind.RELEASE, Kind.BACKWARD, Kind.GRADIENT, Kind.PRODUCT):
            return {"gate": Use(14 * bits * op.macs, op.stack * op.n)}
        if op.kind in (Kind.PROGRAM, Kind.UPDATE):
            return {"gate": Use(7 * bits * op.stack * op.k * op.n, op.stack * op.n)}
        return {} if op.kind is Kind.READ else None

    def held_bits(self, op: Op) -> int:
        if not isinstance(op, Product):
            return 0
        sign = {Kind.FORWARD: 1, Kind.RELEASE: -1}.get(op.kind, 0)
        return sign * 2 * self.policy.value_bits * op.stack * op.m * op.n

    def integers(self, a: Array) -> Array:
        return self.xp.rint(a * 2.0**self.fraction_bits).astype(self.xp.int64)

    def values(self, integers: Array) -> Array:
        return (integers * 2.0**-self.fraction_bits).astype(self.xp.float32)

    def write(self, tile: Tile, w: Array) -> None:
        tile.state["w"] = self.integers(w)

    def read(self, tile: Tile) -> Array:
        return self.values(tile.state["w"])

    def _multiply(self, a: Array, b: Array) -> Array:
        return self.values((a @ b + (1 << (self.fraction_bits - 1))) >> self.fraction_bits)

    def forward(self, tile: Tile, x: Array) -> Array:
        return self._multiply(self.integers(x), tile.state["w"])

    def backward(self, tile: Tile, dy: Array) -> Array:
        return self._multiply(self.integers(dy), tile.state["w"].swapaxes(-1, -2))

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        return self._multiply(self.integers(x).swapaxes(-1, -2), self.integers(dy))

    def product(self, a: Array, b: Array) -> Array:
        return self._multiply(self.integers(a), self.integers(b))

    def update(self, tile: Tile, step: Array) -> None:
        tile.state["w"] += self.integers(step)


class ReversibleMomentum(Optimizer):
    """v = 9/10 v - learning rate x gradient, w += v, in integers: what the division drops is kept, not lost.

    Source: Maclaurin, Duvenaud and Adams, Gradient-based hyperparameter optimization through reversible learning, 2015.
    """

    def __init__(self, learning_rate: float, fraction_bits: int) -> None:
        super().__init__(learning_rate)
        self.unit = 2.0**-fraction_bits
        self.dropped: dict[str, list[Array]] = {}

    def _kick(self, device: Device, gradient: Array) -> Array:
        return device.xp.rint(gradient * (self.learning_rate / self.unit)).astype(device.xp.int64)

    def step(self, name: str, device: Device, gradient: Array) -> Array:
        velocity = self.state.get(name, device.xp.zeros(gradient.shape, dtype=device.xp.int64))
        velocity, dropped = divmod(9 * velocity, 10)
        self.dropped.setdefault(name, []).append(dropped)
        self.state[name] = velocity - self._kick(device, gradient)
        return self.state[name] * self.unit

    def back(self, net: Network, x: Array, target: Array, loss: HostOp) -> None:
        """The last step of backprop undone: weights first, then the velocities that had moved them."""
        tiles = [tile for tile in net.placed.values() if isinstance(tile, Tile)]
        with net.ledger.scope(phase=Phase.UPDATE):
            for tile in tiles:
                tile.update(-self.state[tile.name] * self.unit)
        sink = Gradients()
        with net.ledger.scope(phase=Phase.FORWARD):
            y = net.forward(x, sink=sink)
            net.tape.backward(net.tape.host(loss, y, net.constant(target, y.device)))
            net.tape.release()
        for tile in tiles:
            before = self.state[tile.name] + self._kick(tile.device, sink.found[tile.name])
            velocity, rest = divmod(10 * before + self.dropped[tile.name].pop(), 9)
            assert not rest.any()
            self.state[tile.name] = velocity


class Gradients:
    """A sink that sums gradients by the name of what they belong to, and moves nothing."""

    def __init__(self) -> None:
        self.found: dict[str, Array] = {}

    def _add(self, name: str, gradient: Array) -> None:
        self.found[name] = self.found[name] + gradient if name in self.found else gradient

    def collect(self, tile: Tile, x: Array, dy: Array, x_values: int = 0) -> None:
        self._add(tile.name, tile.gradient(x, dy))

    def collect_parameter(self, parameter: Parameter, gradient: Array) -> None:
        self._add(parameter.name, gradient)

    def collect_activation(self, activation: Activation, gradients: Mapping[str, Array]) -> None:
        for name, gradient in gradients.items():
            self._add(f"{activation.name}/{name}", gradient)


class Plan:
    """A model from a function of (net, x), for tests that need a network of their own."""

    def __init__(self, build: Any, *input_shape: int) -> None:
        self.build, self.input_shape = build, input_shape

    def __call__(self, net: Network, x: Any) -> Any:
        return self.build(net, x)


def calls_by_kind(ledger: Ledger, layer: str | None = None) -> dict[Any, int]:
    """Calls by kind of product or name of elementwise operation, of one layer or of all."""
    found: dict[Any, int] = {}
    for (where, _, _, op), calls in ledger.calls.items():
        if layer in (None, where):
            name = op.kind if isinstance(op, Product) else op.name
            found[name] = found.get(name, 0) + calls
    return found
