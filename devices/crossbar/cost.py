"""What a crossbar costs: what one unit of each component takes, and how many units are installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property

from hwsim import library
from hwsim.cost import EVERY_KIND, ZERO, Certainty, Component, Quantity, Role, weaker
from hwsim.devices.crossbar.activity import KILOBYTE_BITS, SUM_BITS, VALUE_BITS, Counts
from hwsim.devices.crossbar.device import WITH_FAST_ARRAY
from hwsim.errors import ConfigError, DeviceError
from hwsim.ledger import TileShape

ALU_RATE_HZ = 1e9  # of one digital unit, of which there are as many as the converters' results need (assumed)
ADCS_PER_SHIFT_ADD = 2  # ISAAC: 4 units for the 8 converters of as many arrays
ARRAYS_PER_BUS = 96  # ISAAC: a tile
ARRAYS_PER_ROUTER = 4 * 96  # ISAAC: four tiles
LINKS_NM = 32.0  # ISAAC, whose links the library has
CONVERTER_VALUES = ("energy_j", "static_power_w", "area_mm2")
SECOND_SIDE = "on the second side as on the first (assumed)"
SUMMED_BITS = {"mixed": SUM_BITS, "ttv2": VALUE_BITS, "c-ttv2": VALUE_BITS}  # of a digital sum, per weight


class Costs(Counts):
    """The cost of arrays of memory cells, each with buffers, drivers of its lines, and converters on both sides.

    Where `tile_power_w` is given, buffers, registers and the network on the chip are in it, and cost nothing per
    action: chips publish the average power of a busy tile. Everything else has static power where its source tells it
    from the rest (ADCs, static RAM). Cells that are not read, and converters that wait, take no more than that.
    """

    excluded = (
        "generators of pulse trains, and control",
        "repeated reads where an ADC clipped",
        "throughput of buffers, network and dynamic RAM",
        "transfer of inputs and errors to a host that works out gradients",
        "half-selected cells outside the matrix, and currents through unselected ones",
        "first programming of fast arrays, references and offset columns",
        "area of offset columns",
    )

    def check(self) -> None:
        """Refuse parameters that have no price."""
        super().check()
        if self.adc_kind != "survey" and self.adc_energy_j is None:
            raise DeviceError(f"crossbar: adc_kind={self.adc_kind} needs adc_energy_j, what one action of an ADC takes")
        if self.adc_kind == "neuron" and not self.adc_bits:
            raise DeviceError("crossbar: adc_kind=neuron decides bit by bit; adc_bits=0 has none, give 1 or more")
        try:
            _ = self.components
        except ConfigError as error:
            raise DeviceError(f"crossbar: {error}") from None

    @cached_property
    def conductance(self) -> Quantity:
        """Of a typical cell [S].

        In the state of weight 0; of one-sided pairs, of which one cell rests, the mean of both with weights spread
        evenly up to `weight_fill`; where cells hold digits, the middle of the window, or between that and rest.
        """
        low, high = self.model.g_min_siemens, self.model.g_max_siemens
        if low is None or high is None:
            raise DeviceError(f"crossbar: {self.model.title} has no conductances")
        one_sided = self.encoding == "one-sided"
        if self.slice_bits:
            u = 0.25 if one_sided else 0.5
            if self.encoding == "reference":  # its second cell holds 1 in the highest bit, nothing in lower digits
                u = (u + (1 << (self.slice_bits - 1)) / ((1 << self.slice_bits) - 1) / self.weight_slices) / 2
        else:
            u = self.weight_fill / 4 if one_sided else float(self.model.fraction(self.rest))
        return Quantity(
            low.low + u * (high.low - low.low),
            low.nominal + u * (high.nominal - low.nominal),
            low.high + u * (high.high - low.high),
            source=f"{u:.2g} of the window of {self.cell}: {high.source}",
            certainty=weaker(low.certainty, high.certainty),
            key=f"crossbar/{self.cell}.conductance",
        )

    # -- components --------------------------------------------------------------------------------------

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """One cell, line, conversion, operation on a value, bit, wait, and overhead: actions as in activity.py."""
        return {
            **self._cells_and_lines(),
            **self._first_side(),
            **{f"{name}_back": second_side(part) for name, part in self._first_side().items()},
            **self._digital(),
            **self._memories(),
            **self._overheads(),
        }

    @property
    def pipelined(self) -> bool:
        """Whether samples are held for the converters, so that the next read overlaps with the conversion."""
        return self.sample_hold_energy_j.nominal > 0

    @property
    def selected(self) -> bool:
        """Whether transistors keep current from all cells but those of a selected row; lines then swing fully."""
        return self.selector == "transistor"

    @property
    def in_tile(self) -> bool:
        """Whether buffers, registers and network are part of a tile of known power."""
        return self.tile_power_w.nominal > 0

    def _cells_and_lines(self) -> dict[str, Component]:
        """What happens in the array: V^2 G t and C V^2."""
        read = ohmic(self.read_voltage_v, self.conductance, self.read_time_s, "crossbar/read")
        pulse = ohmic(self.pulse_voltage_v, self.conductance, self.pulse_time_s, "crossbar/pulse")
        two_ways = self.pulse_time_s.scaled(2, "pulses up and down take turns")
        pitch_um = self.cell_area_f2.nominal**0.5 * self.node_nm * 1e-3
        line_f = library.entry("wire.capacitance_per_um").quantity.scaled(pitch_um, f"{pitch_um:.3g} um a cell")
        feature_mm2 = (self.node_nm * 1e-6) ** 2
        swing = squared(self.pulse_voltage_v) if self.selected else quarter(squared(self.pulse_voltage_v))
        return {
            # One key for both: V, G and t are the same, and their ranges are wider than that of the inputs.
            "cell": Component(
                energy_j=library.times(read, self.mean_square_input, "crossbar/read"),
                area_mm2=self.cell_area_f2.scaled(feature_mm2, f"F = {self.node_nm:g} nm"),
            ),
            "cell_full": Component(Role.PROGRAMMING, read),
            "gate": Component(energy_j=self.gate_energy_j),
            "line": Component(energy_j=library.times(squared(self.read_voltage_v), line_f, "crossbar/line")),
            "settle": Component(time_s=self.read_time_s, serial=not self.pipelined, of_tile=EVERY_KIND),
            "fill": Component(time_s=self.read_time_s if self.pipelined else ZERO, serial=True, of_tile=EVERY_KIND),
            "pulse": Component(Role.PROGRAMMING, pulse),
            "half_selected": Component(Role.PROGRAMMING, ZERO if self.selected else quarter(pulse)),
            "pulse_line": Component(Role.PROGRAMMING, library.times(swing, line_f, "crossbar/line")),
            "reset": Component(Role.PROGRAMMING, self.reset_energy_j),
            "slot": Component(Role.PROGRAMMING, time_s=two_ways, serial=True, of_tile=EVERY_KIND),
            "driver": Component(
                Role.PROGRAMMING, area_mm2=assumed(library.area("line_driver", self.node_nm), "write drivers added")
            ),
        }

    def _first_side(self) -> dict[str, Component]:
        """The converters of forward reads."""
        cycle_s = 1 / self.adc_rate_hz
        cycle = Quantity(cycle_s, cycle_s, cycle_s, "adc_rate_hz, a choice", Certainty.ASSUMED, "crossbar/adc_cycle")
        if self.adc_kind == "survey":
            adc = library.adc(self.adc_effective_bits or self.adc_bits, self.adc_rate_hz, self.node_nm)
        else:
            assert self.adc_energy_j is not None  # by check
            adc = library.Adc(self.adc_energy_j, self.adc_power_w, self.adc_area_mm2)
        held = self.sample_hold_energy_j, ZERO, ZERO, None, False, self.sample_hold_area_mm2
        return {
            "dac": Component(Role.CONVERTER, self.dac_energy_j, self.dac_time_s, area_mm2=self.dac_area_mm2),
            "sample_hold": Component(Role.CONVERTER, *held),
            "adc": Component(Role.CONVERTER, adc.energy, cycle, adc.static_power, area_mm2=adc.area),
        }

    def _digital(self) -> dict[str, Component]:
        """Arithmetic on values; one unit adds, multiplies and compares."""
        node = self.node_nm
        unit = library.area("alu", node)
        return {
            "shift_add": Component(
                energy_j=library.special("shift_add", node), area_mm2=library.area("shift_add", node), node_nm=node
            ),
            "add": Component(energy_j=library.operation("add", "int32", node), node_nm=node),
            "multiply": Component(energy_j=library.operation("multiply", "fp16", node), area_mm2=unit, node_nm=node),
            "comparator": Component(energy_j=library.special("comparator", node), node_nm=node),
        }

    def _memories(self) -> dict[str, Component]:
        """Registers, buffers, sums, the network on the chip, and dynamic RAM beside it; per bit."""
        node, on_chip = self.node_nm, Role.ON_CHIP_MEMORY
        sums = library.sram(max(self._accumulated_kb, 1e-3), node)
        off_chip = ZERO if self.dram == "none" else library.dram(self.dram)
        own = {
            "accumulator_read": Component(on_chip, sums.read, 0.0, sums.leakage, area_mm2=sums.area, node_nm=node),
            "accumulator_write": Component(on_chip, sums.write, node_nm=node),
            "dram": Component(Role.OFF_CHIP_MEMORY, off_chip),
        }
        if self.in_tile:
            free = Component(on_chip, area_mm2=ZERO)
            return {**own, **dict.fromkeys(("register", "buffer_read", "buffer_write", "bus", "router"), free)}
        buffer = library.sram(self.buffer_kb, node)
        scale = library.node_scale(LINKS_NM, node)
        return {
            **own,
            "register": Component(
                on_chip, library.special("register", node), area_mm2=library.area("register", node), node_nm=node
            ),
            "buffer_read": Component(on_chip, buffer.read, 0.0, buffer.leakage, area_mm2=buffer.area, node_nm=node),
            "buffer_write": Component(on_chip, buffer.write, node_nm=node),
            **{
                name: Component(
                    Role.LINK,
                    library.times(library.link(name), scale, f"components/link.{name}"),
                    area_mm2=library.area(name, node),
                    node_nm=node,
                )
                for name in ("bus", "router")
            },
        }

    def _overheads(self) -> dict[str, Component]:
        """Average power and area of what arrays, tiles and chips have beside their arrays, as published."""
        return {
            level: Component(role, ZERO, ZERO, power, area_mm2=area)
            for level, role, power, area in (
                ("array", Role.ON_CHIP_MEMORY, self.array_power_w, self.array_area_mm2),
                ("tile", Role.ON_CHIP_MEMORY, self.tile_power_w, self.tile_area_mm2),
                ("chip", Role.LINK, self.chip_power_w, self.chip_area_mm2),
            )
        }

    @property
    def _accumulated_kb(self) -> float:
        """Of the digital sums of one array."""
        bits = SUMMED_BITS.get(self.algorithm, 0) if not self.slice_bits else 0
        return self.rows * self.columns * bits / KILOBYTE_BITS

    @property
    def _conversions_per_result(self) -> float:
        """That shift and add make one value of."""
        return self.weight_slices * (1 if self.input_coding == "integrated" else self.input_slices)

    # -- what is installed -------------------------------------------------------------------------------

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        """Converters on both sides of every array, its drivers and memories; whole tiles and chips around them."""
        matrices = sum(stack * self.arrays(k, n) for stack, k, n in tiles)
        arrays = matrices * (2 if self.algorithm in WITH_FAST_ARRAY else 1)
        columns, tiles_used = self.columns * self.pair, -(-arrays // self.arrays_per_tile)
        adcs, adcs_back = -(-self.columns // self.adc_share), -(-self.rows // self.adc_share)
        own = {
            "cell": self.rows * columns,
            "driver": self.rows + columns,
            "dac": self.rows,
            "dac_back": columns,
            "sample_hold": self.columns,
            "sample_hold_back": self.rows,
            "adc": adcs,
            "adc_back": adcs_back,
            "shift_add": adcs / ADCS_PER_SHIFT_ADD,
            "bus": 1 / ARRAYS_PER_BUS,
            "router": 1 / ARRAYS_PER_ROUTER,
            "register": VALUE_BITS * (self.rows + self.columns),
            "buffer_read": 1,
            "array": 1,
        }
        return {
            **dict.fromkeys(self.components, 1.0),
            **{name: float(arrays * count) for name, count in own.items()},
            "multiply": float(-(-arrays * adcs * self.adc_rate_hz // (self._conversions_per_result * ALU_RATE_HZ))),
            "accumulator_read": float(matrices if self._accumulated_kb else 0),
            "tile": float(tiles_used),
            "chip": float(-(-tiles_used // self.tiles_per_chip)),
        }


def second_side(part: Component) -> Component:
    """The same converter for reads the other way: an array that is only read forward has none."""
    energy, power, area = (assumed(part.quantity(name), SECOND_SIDE) for name in CONVERTER_VALUES)
    return Component(part.role, energy, part.time_s, power, area_mm2=area)


def assumed(quantity: Quantity, why: str) -> Quantity:
    """The same value, of the same key, as a guess."""
    return dataclasses.replace(quantity, certainty=Certainty.ASSUMED, source=f"{quantity.source}; {why}")


def squared(value: Quantity) -> Quantity:
    """The square, which varies together with the value."""
    return dataclasses.replace(value, low=value.low**2, nominal=value.nominal**2, high=value.high**2)


def quarter(value: Quantity) -> Quantity:
    """What goes with the square of the voltage, at half of it."""
    return value.scaled(0.25, "half the voltage")


def ohmic(voltage_v: Quantity, conductance: Quantity, time_s: Quantity, key: str) -> Quantity:
    """V^2 G t [J]."""
    return library.times(library.times(squared(voltage_v), conductance, key), time_s, key)
