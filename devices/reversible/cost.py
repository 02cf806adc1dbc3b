"""What a reversible machine costs: components by cause of heat, their time, and what is installed.

The formulas of energy and superconducting give joules by cause for one run of a netlist. Each cause is a component
whose action is what it is proportional to, and whose range is that of the machine's own multiply-accumulate (256 terms)
when all values of the technology are drawn together.

    switching, leakage_active, threshold_floor, clock    a node charged and discharged; of aqfp, a junction switched
    buffers                                              a junction switched to pass a wire on
    leakage_idle                                         a wire held for a ramp (a level, where switched conventionally)
    held                                                 a bit that waits outside the units, for as long
    erasure, resynthesis                                 a bit erased; a node of a weight's configuration erased
    cooler                                               a joule moved
    convert                                              a float32 of the host made an integer, or the reverse
    tick                                                 a ramp, a level or a phase, of one run of a netlist
    register, configuration, unit                        a bit of the installed registers; a node that a wired-in
                                                         weight configures; a node of the units and netlists
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from hwsim import library
from hwsim.cost import ZERO, Certainty, Component, Op, Quantity, Role, Use, Value, nominal, weaker
from hwsim.devices.reversible import work
from hwsim.devices.reversible.activity import BY_WEIGHTS, Activity
from hwsim.devices.reversible.energy import Adiabatic, Bill, Schedule
from hwsim.devices.reversible.energy_presets import Technology, technology
from hwsim.devices.reversible.superconducting import Josephson
from hwsim.errors import ConfigError, DeviceError
from hwsim.ledger import TileShape

DRAWS = 4000  # behind the range of a component
TYPICAL_TERMS = 256  # of the product whose ranges all products take
ROLES = {"resynthesis": Role.PROGRAMMING, "cooler": Role.COOLING, "held": Role.ON_CHIP_MEMORY}
LEAKING = ("leakage_active", "leakage_idle", "held", "register")  # what varies with the leakage, and so together
CONVERTER_NM = 28.0  # node of the converters of a technology that has none (assumed)
STEP = 1.01  # by which a value is changed to see what rests on it


def tick_s(machine: Technology) -> Value:
    """A ramp, a level where switched conventionally, or a phase of parametrons [s]."""
    if isinstance(machine, Adiabatic):
        return machine.ramp_s
    return 1 / (machine.phases_per_period * machine.frequency_hz) if isinstance(machine, Josephson) else machine.delay_s


def unit_j(machine: Technology) -> dict[str, Value]:
    """Cold heat of one action of each cause [J]."""
    cold_w = machine.held_bit_w / (1 + machine.cooler_factor)
    common = {"erasure": machine.erased_bit_j, "held": cold_w * tick_s(machine)}
    if isinstance(machine, Josephson):
        return {"switching": machine.switch_j, "buffers": machine.switch_j, **common}
    idle = machine.leakage_siemens * machine.voltage_v**2 * tick_s(machine)
    own = machine.node_j if isinstance(machine, Adiabatic) else {"switching": machine.activity * machine.swing_j}
    return {**own, "leakage_idle": idle, **common}


def cell_mm2(machine: Technology) -> tuple[Value, Value]:
    """Area of a node (of aqfp, of a junction), and of a bit that is kept [mm2]."""
    if isinstance(machine, Josephson):
        ring = machine.junctions_per_buffer * machine.phases_per_period
        return machine.junction_area_mm2, ring * machine.junction_area_mm2
    return machine.node_area_mm2, machine.node_area_mm2


class Costs(Activity):
    """The cost of every operation."""

    erasing: ClassVar[tuple[str, ...]] = ("erasure", "resynthesis")  # components an action of which erases a bit
    excluded = (
        "memory and network that bring operands to the units, beyond copying bits into registers",
        "leakage of garbage between a forward and its release",
        "control; starting and stopping the clocks of units that wait; empty places in pipelines",
        "shifting the window of a product along registers; the search for the largest operand of a call; keeping the "
        "half unit that rounds",
        "bits that an operation holds within itself, in the peak of held bits",
        "links between a cold chip and its host",
        "the host's own erased bits, beyond its joules",
    )

    def check(self) -> None:
        """Refuse technologies whose cost cannot be worked out."""
        super().check()
        try:
            _ = self.components
        except ConfigError as error:
            raise DeviceError(f"reversible: {error}") from None

    # -- actions -----------------------------------------------------------------------------------------

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """All products, programming and moves; nothing on values one by one, which is the host's."""
        done = self.work(op)
        return None if done is None else self.uses_of(done)

    def actual(self, op: Op, done: work.Work) -> dict[str, float]:
        """The actions of what `op` was found to consist of, of every component that it was expected to use.

        Ticks are as many as take the time that it took with the units that were expected.
        """
        uses, expected = self.uses_of(done), self.uses(op) or {}
        found = {name: uses[name].actions if name in uses else 0.0 for name in {**expected, **uses}}
        if "tick" in uses and "tick" in expected:
            found["tick"] = uses["tick"].actions / uses["tick"].units * expected["tick"].units
        return found

    def uses_of(self, done: work.Work) -> dict[str, Use]:
        """The actions of a piece of work."""
        machine, each, tick = self.technology, self._unit_j, nominal(tick_s(self.technology))
        heat = dict.fromkeys(each, 0.0)
        busy = elapsed = 0.0  # ticks of all runs together, and from the first to the last
        for block in done.blocks:
            if not block.runs:
                continue
            bill = machine.bill(block.schedule)
            for cause in heat.keys() & bill.parts.keys():
                heat[cause] += float(block.runs * bill.parts[cause])
            ticks, taken = block.runs * bill.latency_s / tick, self._elapsed_s(block, bill) / tick
            busy += ticks
            elapsed += taken
            # Of results that stay, those that are done and in no unit wait: half of all that are in none.
            in_units = ticks / taken
            waiting = max(block.together - in_units, 0.0) / 2 * block.staying_bits + in_units * block.due_bits
            heat["held"] += waiting * taken * each["held"]
        heat["held"] += done.waiting_bits * elapsed * each["held"]
        heat["erasure"] += done.erased_bits * each["erasure"]
        configured = done.rewired * self.resynthesis_nodes.nominal
        actions = {cause: heat[cause] / joules for cause, joules in each.items() if joules > 0}
        actions |= {"resynthesis": configured, "cooler": sum(heat.values()) + configured * each["erasure"]}
        actions["convert"] = done.converted
        uses = {name: Use(count) for name, count in actions.items() if name in self.components and count}
        return {**uses, "tick": Use(busy, busy / elapsed)} if busy else uses

    def _elapsed_s(self, block: work.Block, bill: Bill) -> float:
        """From the first to the last run of a block [s].

        Units take turns, each of which is as long as one run, or as all that go through one pipeline after each other.
        Netlists of wired-in weights take every row, so that the slowest decides, unless that of a single row does.
        """
        after_each_other = block.runs / block.together
        if block.netlists:
            slowest = self.technology.bill(block.schedule._replace(depth=block.deepest))
            rows_s = block.runs / block.netlists * slowest.interval_s
            return float(max(rows_s, after_each_other * bill.latency_s))
        pipelines = math.ceil(self.in_flight * min(bill.interval_s / bill.latency_s, 1.0))
        turn_s = max(bill.latency_s, math.ceil(block.together / pipelines) * bill.interval_s)
        return float(after_each_other * turn_s)

    @cached_property
    def _unit_j(self) -> dict[str, float]:
        return {cause: float(joules) for cause, joules in unit_j(self.technology).items()}

    # -- components --------------------------------------------------------------------------------------

    @cached_property
    def typical(self) -> Schedule:
        """A multiply-accumulate of a product of 256 terms, or of as many as the accumulator takes."""
        wide = self.accumulator_bits or self.accumulator(TYPICAL_TERMS)
        return work.with_operands(self.scheme, work.expected(self.scheme, self.bits, wide), self.bits, wide).mean

    @property
    def configured_nodes(self) -> float:
        """Nodes that hold a weight's wiring; none where weights are in registers."""
        return self.resynthesis_nodes.nominal if self.wires_weights_in else 0.0

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """One action of each cause of heat, one tick, one bit of a register, one node."""
        nodes = self.resynthesis_nodes
        found = {cause: self._heat(cause) for cause in self._unit_j}
        spread, spread_key = nodes.scaled(1 / (nodes.nominal or 1)), nodes.key or "reversible/resynthesis_nodes"
        if nodes.nominal:
            found["resynthesis"] = library.times(found["erasure"], spread, spread_key)
        if nominal(self.technology.cooler_factor):
            found["cooler"] = self._ranged("cooler", lambda m: self._typical_j(m, "cooler") / self._cold_j)
        ranged = self._ranged
        ticks = self._typical_bill.latency_s / tick_s(self.technology)
        node_nm = self.node_nm or CONVERTER_NM
        held_w = ranged("register", lambda m: m.held_bit_w / (1 + m.cooler_factor))
        bit_mm2 = ranged("area", lambda m: cell_mm2(m)[1])
        cooling_w = ranged("register", lambda m: m.held_bit_w * m.cooler_factor / (1 + m.cooler_factor))
        parts = {
            name: Component(ROLES.get(name, Role.CORE), energy, area_mm2=ZERO)  # a cause of heat takes no room
            for name, energy in found.items()
            if energy.nominal > 0
        }
        if "cooler" in parts:  # which does
            parts["cooler"] = replace(parts["cooler"], static_power_w=cooling_w, area_mm2=None)
        return parts | {
            # A shift and a rounding: about what an addition does with its smaller operand. At room temperature.
            "convert": Component(Role.CONVERTER, library.operation("add", "fp32", node_nm), node_nm=node_nm),
            "tick": Component(
                time_s=ranged("time", lambda m: m.bill(self.typical).latency_s / ticks),
                area_mm2=ZERO,
                of_tile=BY_WEIGHTS if self.wires_weights_in else (),
            ),
            "register": Component(Role.ON_CHIP_MEMORY, static_power_w=held_w, area_mm2=bit_mm2),
            "configuration": Component(
                static_power_w=library.times(held_w, spread, spread_key),
                area_mm2=library.times(bit_mm2, spread, spread_key),
            ),
            "unit": Component(area_mm2=ranged("area", lambda m: cell_mm2(m)[0])),
        }

    @cached_property
    def _typical_bill(self) -> Bill:
        return self.technology.bill(self.typical)

    @property
    def _cold_j(self) -> float:
        """What a typical multiply-accumulate turns into heat, cold [J]."""
        return float(sum(joules for cause, joules in self._typical_bill.parts.items() if cause != "cooler"))

    def _typical_j(self, machine: Technology, cause: str) -> Value:
        return machine.bill(self.typical).parts[cause]

    def _heat(self, cause: str) -> Quantity:
        """Of one action of a cause [J]; where a multiply-accumulate has it, its gates and depth vary too."""
        whole_j = self._typical_bill.parts.get(cause, 0.0)
        if not whole_j > 0:
            return self._ranged(cause, lambda machine: unit_j(machine)[cause])
        share = self._unit_j[cause] / whole_j
        return self._ranged(cause, lambda machine: self._typical_j(machine, cause) * share)

    def _ranged(self, name: str, value: Callable[[Technology], Value]) -> Quantity:
        """A value of the technology with the range that it has when all of the technology's own are drawn together.

        Draws in which a node does not settle within its ramp are left out: no such machine works.
        """
        middle, drawn = float(value(self.technology)), np.asarray(value(self._drawn))
        low, high = (float(q) for q in np.quantile(drawn[self._settled] if drawn.ndim else drawn, (0.05, 0.95)))
        rests_on = [key for key, changed in self._changed.items() if value(changed) != middle]
        known = [self.physics[key].certainty for key in rests_on]
        kind = "leakage" if name in LEAKING else name if name in ("time", "area") else "heat"
        family = "parametrons" if isinstance(self.technology, Josephson) else "cmos"
        source = f"{self.law}: from {', '.join(rests_on) or 'constants alone'}"
        # The clock is a choice of the preset, which no value of uncertain size tells.
        certainty = reduce(weaker, known, Certainty.ASSUMED if name == "time" else Certainty.DERIVED)
        return Quantity(min(low, middle), middle, max(high, middle), source, certainty, f"reversible/{family}.{kind}")

    @cached_property
    def _drawn(self) -> Technology:
        return technology(self.physics, draws=DRAWS)

    @cached_property
    def _settled(self) -> npt.NDArray[np.bool_]:
        """Which draws settle, [1 + DRAWS]."""
        settles = self._drawn.settles if isinstance(self._drawn, Adiabatic) else True
        return np.broadcast_to(settles, 1 + DRAWS)

    @cached_property
    def _changed(self) -> Mapping[str, Technology]:
        """The technology with one of its uncertain values a little larger, by its name."""
        uncertain = [key for key, value in self.physics.items() if isinstance(value, Quantity) and value.nominal > 0]
        return {key: technology({**self.physics, key: self.physics[key].scaled(STEP)}) for key in uncertain}

    # -- what is installed -------------------------------------------------------------------------------

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        """Units (pipelines) for the widest product with these matrices; registers of weights.

        Where weights are wired in, each has a netlist for either direction besides, and nodes that configure both and
        hold their charge all the time; units remain for gradients and for products of two operands that change.
        """
        widest = max((max(k, n) for _, k, n in tiles), default=1)
        bill = self.technology.bill(self.macs_of(self.register_scheme, widest).mean)
        areas_mm2 = [math.ceil(self.in_flight * bill.interval_s / bill.latency_s) * float(bill.area_mm2)]
        weights = float(sum(stack * k * n for stack, k, n in tiles))
        configured = 0.0
        if self.wires_weights_in:
            configured = weights * self.configured_nodes
            for stack, k, n in tiles:
                macs = (self.macs_of(self.scheme, terms).mean for terms in (k, n))
                areas_mm2.extend(stack * k * n * float(self.technology.bill(mac).area_mm2) for mac in macs)
        bits = weights * self.register_bits
        nodes = math.fsum(areas_mm2) / nominal(cell_mm2(self.technology)[0])  # fsum: the same in any order of tiles
        own = {"register": bits, "configuration": configured, "cooler": bits + configured, "unit": nodes,
               "tick": self.in_flight}  # fmt: skip
        return {name: float(own.get(name, 1.0)) for name in self.components}
