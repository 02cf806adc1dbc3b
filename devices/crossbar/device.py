"""What a crossbar is made of and costs: its parameters, components, and the actions of every operation from shapes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from hwsim import library
from hwsim.contract import Contract
from hwsim.cost import Certainty, Component, Elementwise, Kind, Op, Product, Quantity, Role, Use, weaker
from hwsim.device import Device
from hwsim.devices.crossbar import cells, pulses
from hwsim.devices.crossbar.cells import Cell, Silent
from hwsim.devices.crossbar.converters import Converter, Periphery
from hwsim.errors import ConfigError, DeviceError
from hwsim.ledger import TileShape
from hwsim.parameters import parameter

VALUE_BITS = 16  # of inputs, errors and results in the buffers: what a digital host of such a chip keeps (assumed)
BUSIEST = 7.0  # pulses of a row's busiest cell over the mean, in verified moves: 5 to 9 in runs on digits (measured)
NOT_HERE = (Kind.GRADIENT, Kind.PRODUCT, Kind.RELEASE)


class Arrays(Device):
    """The parameters and the cost of arrays of memory cells, each with a buffer and with converters on both sides."""

    name = "crossbar"
    presets_path = Path(__file__).with_name("crossbar.toml")
    default_preset = "reram-es"
    excluded = (
        "charging of the arrays' lines",
        "generators of pulse trains and control",
        "links between arrays",
        "repeated reads where an ADC clipped",
        "actual inputs and conductances (expected ones are charged)",
        "area",
    )

    cell: str = parameter(doc="its cells: preset of cells.toml, model, entry point, or path/to/file.py:Class")
    rows: int = parameter(256, doc="rows of one array", low=1)
    columns: int = parameter(256, doc="columns of one array", low=1)
    weight_fill: float = parameter(0.6, doc="share of the window that the largest weight programmed takes", low=1e-6)
    weight_scale: float | None = parameter(None, doc="weight of state 1; none: by weight_fill", low=1e-30)
    dac_bits: int = parameter(7, unit="bit", doc="of inputs; 0: not rounded", low=0, high=24)
    adc_bits: int = parameter(9, unit="bit", doc="of outputs; 0: not rounded", low=0, high=24)
    adc_effective_bits: float | None = parameter(None, unit="bit", doc="that its energy pays for; none: adc_bits")
    adc_share: int = parameter(8, doc="lines that share one ADC", low=1)
    adc_rate_hz: float = parameter(1e8, unit="Hz", doc="conversions of one ADC", low=1)
    input_bound: float = parameter(1.0, doc="largest input of the DAC", low=1e-6)
    output_bound: float = parameter(20.0, doc="largest output of the ADC: full inputs x states", low=1e-6)
    output_noise: float = parameter(0.1, doc="sigma before the ADC: full inputs x states", low=0)
    desired_bl: int = parameter(31, doc="most slots of a pulse train", low=1, high=pulses.MOST_SLOTS)
    mean_slots: float = parameter(doc="expected slots of a train", low=0)
    line_activity: float = parameter(doc="expected share of slots in which a line fires", low=0, high=1)
    verify_rounds: int = parameter(5, doc="of pulses and reading back, to program or move weights", low=1)
    pulses_per_round: float = parameter(doc="expected pulses per cell and round of that", low=0)
    node_nm: float = parameter(28.0, unit="nm", doc="technology node of the periphery", low=5, high=130)
    buffer_kb: float = parameter(8.0, unit="KB", doc="static RAM of each array for inputs and results", low=0.01)
    mean_square_input: Quantity = parameter(doc="expected mean square of the inputs of a read, 1 at full scale")
    read_voltage_v: Quantity = parameter(unit="V", doc="at full scale", low=0)
    read_time_s: Quantity = parameter(unit="s", doc="that inputs are held", low=0)
    pulse_voltage_v: Quantity = parameter(unit="V", doc="of a pulse, half of it on each line", low=0)
    pulse_time_s: Quantity = parameter(unit="s", doc="of a pulse", low=0)
    dac_energy_j: Quantity = parameter(unit="J", doc="per conversion", low=0)
    dac_time_s: Quantity = parameter(unit="s", doc="per conversion", low=0)
    sample_hold_energy_j: Quantity = parameter(unit="J", doc="per sample", low=0)
    claim_forward: float = parameter(doc="RMS relative error, see Contract", low=0)
    claim_backward: float = parameter(doc="RMS relative error", low=0)
    claim_update: float = parameter(doc="RMS relative error of verified moves", low=0)
    claim_update_outer: float = parameter(doc="RMS relative error of pulsed moves", low=0)
    claim_bias: float = parameter(doc="largest mean error", low=0)

    def check(self) -> None:
        """Refuse cells that cannot hold signed weights, and converters that are not known."""
        if not self.model.w_min < 0 < self.model.w_max:
            raise DeviceError(
                f"crossbar: {self.model.title} has states from {self.model.w_min:g} to {self.model.w_max:g}; signed "
                "weights need a window on both sides of 0 (pairs of two cells that both move are not modelled yet)"
            )
        self.model.window_siemens()
        if self.adc_bits == 0 and self.adc_effective_bits is None:
            raise DeviceError("crossbar: adc_bits=0 rounds nothing and has no price; give adc_effective_bits too")
        try:
            _ = self.periphery, self._adc
        except ConfigError as error:
            raise DeviceError(f"crossbar: {error}") from None

    @cached_property
    def model(self) -> Cell:
        """The cells."""
        return cells.cell(self.cell)

    @cached_property
    def contract(self) -> Contract:
        """As the preset claims: measured on the operands of the conformance kit, times about 1.5."""
        move = self.claim_update_outer if self.model.pulsed else None
        return Contract(
            self.claim_forward, self.claim_backward, 0.0, self.claim_update, move, self.claim_bias, deterministic=False
        )

    @cached_property
    def periphery(self) -> Periphery:
        """Both converters; the same for either direction."""
        dac = Converter.of_bits(self.dac_bits or math.inf, self.input_bound)
        adc = Converter.of_bits(self.adc_bits or math.inf, self.output_bound, self.output_noise)
        return Periphery(dac, adc, "abs_max", bound_management="iterative")

    @property
    def window(self) -> float:
        """The largest state that either sign reaches."""
        return min(-self.model.w_min, self.model.w_max)

    @cached_property
    def trains(self) -> pulses.TrainSettings:
        """How pulse trains are made."""
        return pulses.TrainSettings(self.desired_bl)

    @cached_property
    def mean_step(self) -> float:
        """What one pulse moves a typical cell at state 0, mean of up and down [units of the state]."""
        typical, zero = self.model.typical(np, (1,)), np.zeros(1)
        ends = [self.model.pulse(np, zero, typical, np.array([up]), Silent(np)) for up in (True, False)]
        return float(ends[0][0] - ends[1][0]) / 2

    # -- cost --------------------------------------------------------------------------------------------

    @cached_property
    def _adc(self) -> library.Adc:
        return library.adc(self.adc_effective_bits or self.adc_bits, self.adc_rate_hz, self.node_nm)

    @cached_property
    def conductance(self) -> Quantity:
        """Of a cell at state 0, which is also its reference's [S]."""
        low, high, u = self.model.g_min_siemens, self.model.g_max_siemens, self.model.fraction(0.0)
        if low is None or high is None:
            raise DeviceError(f"crossbar: {self.model.title} has no conductances")
        return Quantity(
            low.low + u * (high.low - low.low),
            low.nominal + u * (high.nominal - low.nominal),
            low.high + u * (high.high - low.high),
            source=f"state 0 of {self.cell}: {high.source}",
            certainty=weaker(low.certainty, high.certainty),
            key=f"crossbar/{self.cell}.conductance",
        )

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """One cell read or pulsed (V^2 G t), one conversion, one operation on a value, one bit, one wait."""
        node, converter, adc = self.node_nm, Role.CONVERTER, self._adc
        memory = library.sram(self.buffer_kb, node)
        read = ohmic(self.read_voltage_v, self.conductance, self.read_time_s, "crossbar/cell_full")
        pulse = ohmic(self.pulse_voltage_v, self.conductance, self.pulse_time_s, "crossbar/pulse")
        cycle_s = 1 / self.adc_rate_hz
        cycle = Quantity(cycle_s, cycle_s, cycle_s, "adc_rate_hz, a choice", Certainty.ASSUMED, "crossbar/adc_cycle")
        two_ways = self.pulse_time_s.scaled(2, "pulses up and down take turns")
        return {
            "cell": Component(energy_j=library.times(read, self.mean_square_input, "crossbar/cell")),
            "cell_full": Component(Role.PROGRAMMING, read),
            "dac": Component(converter, self.dac_energy_j, self.dac_time_s),
            "sample_hold": Component(converter, self.sample_hold_energy_j),
            "adc": Component(converter, adc.energy, cycle, adc.static_power),
            "settle": Component(time_s=self.read_time_s, serial=True),
            "add": Component(energy_j=library.operation("add", "int32", node), node_nm=node),
            "multiply": Component(energy_j=library.operation("multiply", "fp16", node), node_nm=node),
            "comparator": Component(energy_j=library.special("comparator", node), node_nm=node),
            "buffer_read": Component(Role.ON_CHIP_MEMORY, memory.read, 0.0, memory.leakage, node_nm=node),
            "buffer_write": Component(Role.ON_CHIP_MEMORY, memory.write, node_nm=node),
            "pulse": Component(Role.PROGRAMMING, pulse),
            "half_selected": Component(Role.PROGRAMMING, pulse.scaled(0.25, "half the voltage")),
            "slot": Component(Role.PROGRAMMING, time_s=two_ways, serial=True),
        }

    def arrays(self, k: int, n: int) -> int:
        """Physical arrays that a matrix of k rows and n columns is cut into."""
        return -(-k // self.rows) * -(-n // self.columns)

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        """Converters on both sides, and a buffer, of every array."""
        arrays = sum(stack * self.arrays(k, n) for stack, k, n in tiles)
        adcs = -(-self.rows // self.adc_share) + -(-self.columns // self.adc_share)
        own = {"adc": arrays * adcs, "dac": arrays * (self.rows + self.columns), "buffer_read": arrays}
        return {**dict.fromkeys(self.components, 1.0), **own}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """Reads both ways, programming, verified and pulsed moves; gradients are the host's."""
        if isinstance(op, Elementwise) or op.kind in NOT_HERE:
            return None
        if op.kind is Kind.FORWARD:
            return self._vectors(op, op.k, op.n, self.rows, self.columns)
        if op.kind is Kind.BACKWARD:
            return self._vectors(op, op.n, op.k, self.columns, self.rows)
        if op.kind is Kind.UPDATE_OUTER:
            return self._trained(op) if self.model.pulsed else None
        return self._verified(op, 1) if op.kind is Kind.READ else self._moved(op)

    def _vectors(self, op: Product, inputs: int, outputs: int, into: int, out_of: int) -> Mapping[str, Use]:
        """m vectors through arrays of `into` input and `out_of` output lines; all arrays work side by side."""
        s, m, in_blocks, out_blocks = op.stack, op.m, -(-inputs // into), -(-outputs // out_of)
        conversions = s * m * outputs * in_blocks
        return {
            "cell": Use(s * m * inputs * (outputs + out_blocks)),  # and the reference line of each array
            "dac": Use(s * m * inputs * out_blocks, s * inputs * out_blocks),
            "sample_hold": Use(conversions),
            "adc": Use(conversions, s * in_blocks * outputs / min(self.adc_share, outputs)),
            "settle": Use(m),
            "add": Use(s * m * outputs * (in_blocks - 1)),
            "multiply": Use(conversions),  # by the vector's scale, or the weights'
            "comparator": Use(s * m * inputs),  # the largest input
            "buffer_read": Use(VALUE_BITS * (op.x_values or s * m * inputs)),
            "buffer_write": Use(VALUE_BITS * s * m * outputs),
        }

    def _verified(self, op: Product, times: int) -> dict[str, Use]:
        """All weights read `times`: a row of every array at once."""
        s, k, n = op.stack, op.k, op.n
        steps, across = times * min(k, self.rows), -(-n // self.columns)
        return {
            "cell_full": Use(times * s * k * (n + across)),
            "dac": Use(times * s * k * across, s * -(-k // self.rows) * across),
            "sample_hold": Use(times * s * k * n),
            "adc": Use(times * s * k * n, s * -(-k // self.rows) * n / min(self.adc_share, n)),
            "settle": Use(steps),
            "multiply": Use(times * s * k * n),
            "buffer_write": Use(times * VALUE_BITS * s * k * n),
        }

    def _moved(self, op: Product) -> Mapping[str, Use]:
        """Rounds of pulses and reads, and a read before; the other cells of a pulsed column are half selected."""
        reads, rows = self.verify_rounds, min(op.k, self.rows)
        if op.kind is Kind.PROGRAM:  # from state 0; weights spread evenly up to the largest, which a row waits for
            most = self.weight_fill * self.window / self.mean_step if self.model.pulsed else 1.0
            mean = most / 2
        else:
            reads, mean = reads + 1, self.verify_rounds * self.pulses_per_round
            most = BUSIEST * mean
        cells_pulsed = mean * op.stack * op.k * op.n
        return {
            **self._verified(op, reads),
            "pulse": Use(cells_pulsed),
            "half_selected": Use(cells_pulsed * (rows - 1)),
            "slot": Use(most * rows),
        }

    def _trained(self, op: Product) -> Mapping[str, Use]:
        """Trains of `mean_slots` with `line_activity` on every line; runs record their own counts."""
        s, m, lines, p = op.stack, op.m, op.k + op.n, self.line_activity
        slots = m * min(self.mean_slots, self.desired_bl)
        coincident = s * slots * op.k * op.n * p * p
        return {
            "pulse": Use(coincident),
            "half_selected": Use(2 * p * s * slots * op.k * op.n - 2 * coincident),
            "slot": Use(slots),
            "comparator": Use(s * m * lines),
            "buffer_read": Use(VALUE_BITS * s * m * lines),
        }


def ohmic(voltage_v: Quantity, conductance: Quantity, time_s: Quantity, key: str) -> Quantity:
    """V^2 G t [J]."""
    squared = dataclasses.replace(voltage_v, low=voltage_v.low**2, nominal=voltage_v.nominal**2, high=voltage_v.high**2)
    return library.times(library.times(squared, conductance, key), time_s, key)
