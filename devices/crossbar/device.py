"""The parameters of a crossbar, and what follows from them alone."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import numpy as np

from hwsim.arrays import Array
from hwsim.contract import Contract
from hwsim.cost import ZERO, Quantity
from hwsim.device import Device
from hwsim.devices.crossbar import cells, pulses
from hwsim.devices.crossbar.cells import Cell, Silent
from hwsim.devices.crossbar.converters import Converter, Periphery
from hwsim.devices.crossbar.grid import Wires
from hwsim.errors import ConfigError, DeviceError
from hwsim.parameters import parameter

ENCODINGS = ("reference", "offset", "one-sided", "differential")
PAIRS = ("one-sided", "differential")
ALGORITHMS = ("sgd", "tiki-taka", "ttv2", "c-ttv2", "mixed", "verified")
WITH_FAST_ARRAY = ("tiki-taka", "ttv2", "c-ttv2")
SELECTORS = ("none", "transistor")
READ_NOISES = ("none", "vector", "batch", "resampled")
MOST_BITS = 24  # of digits together: whole numbers that float32 holds
MOST_PULSES = 100_000  # in which a cell that can be trained has climbed its window


class Arrays(Device):
    """Arrays of memory cells, each with a buffer and with converters on both sides; the parameters.

    A weight is scale x (sum over its cells of +-g, less the state of weight 0). `encoding`: "reference": one cell less
    a reference that never changes; "offset": one cell less that of the array's offset column, which is programmed like
    any other; "one-sided": a pair of cells of which one holds the magnitude and pulses only go up; "differential": a
    pair that moves in opposite directions about the middle of the window.
    """

    name = "crossbar"
    presets_path = Path(__file__).with_name("crossbar.toml")
    default_preset = "reram-es"

    cell: str = parameter(doc="its cells: preset of cells.toml, model, entry point, or path/to/file.py:Class")
    encoding: str = parameter("reference", doc="how cells make a signed weight", choices=ENCODINGS)
    algorithm: str = parameter("sgd", doc="how weights are trained in place", choices=ALGORITHMS)
    rows: int = parameter(256, doc="rows of one array", low=1)
    columns: int = parameter(256, doc="columns of one array", low=1)
    weight_slices: int = parameter(1, doc="cells (or pairs) over which the digits of a weight are cut", low=1, high=16)
    slice_bits: int = parameter(0, unit="bit", doc="of a weight per cell; 0: one analogue cell", low=0, high=8)
    input_slices: int = parameter(1, doc="reads over which the digits of an input are cut", low=1, high=16)
    input_coding: str = parameter("serial", doc="digits of an input", choices=("serial", "integrated"))
    read_noise: str = parameter("vector", doc="cells' read noise: fresh for what", choices=READ_NOISES)
    word_line_ohm: float = parameter(0.0, unit="ohm", doc="of a word line from cell to cell", low=0)
    bit_line_ohm: float = parameter(0.0, unit="ohm", doc="of a bit line from cell to cell", low=0)
    driver_ohm: float = parameter(0.0, unit="ohm", doc="of the driver of a line", low=0)
    sense_ohm: float = parameter(0.0, unit="ohm", doc="of the sense circuit of a line", low=0)
    drive_side: str = parameter("left", doc="end of the word lines that has their terminals", choices=("left", "right"))
    sense_side: str = parameter("bottom", doc="end of the bit lines with terminals", choices=("bottom", "top"))
    wire_tolerance: float = parameter(1e-3, doc="relative error of the wires' effect while weights move", low=1e-9)
    compensation: str = parameter("none", doc="of drift: one factor on all outputs", choices=("none", "global"))
    refresh_at: float = parameter(0.75, doc="share of the window at which one-sided pairs are reset", low=0.05, high=1)
    fast_rate: float = parameter(1.0, doc="learning rate of the fast array over the run's own", low=0)
    transfer_every: int = parameter(1, doc="samples between two transfers from the fast array", low=1)
    transfer_rate: float = parameter(1.0, doc="of what was read that a transfer moves", low=0)
    transfer_threshold: float = parameter(1.0, doc="pulses' worth at which ttv2 moves a cell", low=1e-6)
    chop_probability: float = parameter(0.05, doc="that a line's signs flip at its transfer (c-ttv2)", low=0, high=1)
    weight_fill: float = parameter(0.6, doc="share of the window that the largest weight programmed takes", low=1e-6)
    weight_scale: float | None = parameter(None, doc="weight of state 1; none: by weight_fill", low=1e-30)
    dac_bits: int = parameter(7, unit="bit", doc="of inputs; 0: not rounded", low=0, high=24)
    adc_bits: int = parameter(9, unit="bit", doc="of outputs; 0: not rounded", low=0, high=24)
    adc_effective_bits: float | None = parameter(None, unit="bit", doc="that its energy pays for; none: adc_bits")
    adc_share: int = parameter(8, doc="lines that share one ADC", low=1)
    adc_rate_hz: float = parameter(1e8, unit="Hz", doc="conversions of one ADC, or steps of a neuron", low=1)
    input_bound: float = parameter(1.0, doc="largest input of the DAC", low=1e-6)
    output_bound: float = parameter(20.0, doc="largest output of the ADC: full inputs x states", low=1e-6)
    output_percentile: float = parameter(
        0.0,
        unit="%",
        doc="of a tile's first outputs each way, which sets the ADC's range; 0: output_bound",
        low=0,
        high=100,
    )
    output_noise: float = parameter(0.1, doc="sigma before the ADC: full inputs x states", low=0)
    desired_bl: int = parameter(31, doc="most slots of a pulse train", low=1, high=pulses.MOST_SLOTS)
    mean_slots: float = parameter(doc="expected slots of a train", low=0)
    line_activity: float = parameter(doc="expected share of slots in which a line fires", low=0, high=1)
    verify_rounds: int = parameter(5, doc="of pulses and reading back, to program or move weights", low=1)
    program_pulses: float = parameter(
        8.5, doc="pulses, each read back, that write a cell which is programmed whole: NeuRRAM's mean", low=1
    )  # 8.52 us of writing in CiMLoop's cell file of NeuRRAM (read), by pulses of 1 us (recalled)
    pulses_per_round: float = parameter(doc="expected pulses per weight and round of that, or update (mixed)", low=0)
    transfer_pulses: float = parameter(doc="expected pulses per weight and transfer from a fast array", low=0)
    node_nm: float = parameter(28.0, unit="nm", doc="technology node of the periphery", low=5, high=130)
    buffer_kb: float = parameter(8.0, unit="KB", doc="static RAM of each array for inputs and results", low=0.01)
    mean_square_input: Quantity = parameter(doc="expected mean square of the inputs of a read, 1 at full scale")
    read_voltage_v: Quantity = parameter(unit="V", doc="at full scale", low=0)
    read_time_s: Quantity = parameter(unit="s", doc="that inputs are held", low=0)
    pulse_voltage_v: Quantity = parameter(unit="V", doc="of a pulse, half of it on each line", low=0)
    pulse_time_s: Quantity = parameter(unit="s", doc="of a pulse", low=0)
    dac_energy_j: Quantity = parameter(unit="J", doc="per conversion", low=0)
    dac_time_s: Quantity = parameter(unit="s", doc="per conversion", low=0)
    dac_area_mm2: Quantity = parameter(unit="mm2", doc="of one", low=0)
    sample_hold_energy_j: Quantity = parameter(unit="J", doc="per sample; 0: reads wait for conversions", low=0)
    sample_hold_area_mm2: Quantity = parameter(unit="mm2", doc="of one", low=0)
    adc_kind: str = parameter("survey", doc="how an ADC is priced", choices=("survey", "given", "neuron"))
    adc_energy_j: Quantity | None = parameter(None, unit="J", doc="per conversion, or step of a neuron", low=0)
    adc_power_w: Quantity = parameter(ZERO, unit="W", doc="static, of one given ADC", low=0)
    adc_area_mm2: Quantity = parameter(ZERO, unit="mm2", doc="of one given ADC", low=0)
    cell_area_f2: Quantity = parameter(doc="of a cell with its selector, in squares of node_nm", low=0)
    selector: str = parameter("none", doc="in every cell; none: half the voltage on each line", choices=SELECTORS)
    gate_energy_j: Quantity = parameter(ZERO, unit="J", doc="to switch one selector on and off", low=0)
    reset_energy_j: Quantity = parameter(unit="J", doc="to put a cell back to the bottom of its window", low=0)
    dram: str = parameter("none", doc="dynamic RAM beside the chip, as in hwsim components, or none")
    arrays_per_tile: int = parameter(1, doc="arrays that share a tile's overhead", low=1)
    tiles_per_chip: int = parameter(1, doc="tiles that share a chip's overhead", low=1)
    array_power_w: Quantity = parameter(ZERO, unit="W", doc="of registers beside an array, as published", low=0)
    array_area_mm2: Quantity = parameter(ZERO, unit="mm2", doc="of the same", low=0)
    tile_power_w: Quantity = parameter(ZERO, unit="W", doc="of a tile's memory and network; 0: by actions", low=0)
    tile_area_mm2: Quantity = parameter(ZERO, unit="mm2", doc="of the same", low=0)
    chip_power_w: Quantity = parameter(ZERO, unit="W", doc="of a chip's links", low=0)
    chip_area_mm2: Quantity = parameter(ZERO, unit="mm2", doc="of the same", low=0)
    claim_forward: float = parameter(doc="RMS relative error, see Contract", low=0)
    claim_backward: float = parameter(doc="RMS relative error", low=0)
    claim_update: float = parameter(doc="RMS relative error of verified moves", low=0)
    claim_update_outer: float = parameter(doc="RMS relative error of pulsed moves", low=0)
    claim_bias: float = parameter(doc="largest mean error", low=0)

    def check(self) -> None:
        """Refuse parameters that do not fit together."""
        cell = self.model
        if self.algorithm in WITH_FAST_ARRAY and (self.encoding == "one-sided" or not cell.pulsed):
            raise DeviceError(
                f"crossbar: algorithm={self.algorithm} needs cells that pulses move both ways; {cell.title} in "
                f"encoding={self.encoding} has none"
            )
        if self.algorithm == "mixed" and not cell.pulsed:
            raise DeviceError(f"crossbar: algorithm=mixed moves cells by pulses; {cell.title} is only programmed")
        for what, bits in (
            ("weight", self.slice_bits * self.weight_slices),
            ("input", self.dac_bits * self.input_slices),
        ):
            if bits > MOST_BITS:
                raise DeviceError(
                    f"crossbar: {bits} bits of {what}s: float32 holds {MOST_BITS}; take fewer slices or bits"
                )
        if self.weight_slices > 1 and not self.slice_bits:
            raise DeviceError(f"crossbar: weight_slices={self.weight_slices} needs slice_bits, the bits of one cell")
        if self.slice_bits and self.encoding == "differential":
            raise DeviceError("crossbar: encoding=differential holds no digits; take one-sided, offset or reference")
        if self.slice_bits and self.algorithm in (*WITH_FAST_ARRAY, "mixed"):
            raise DeviceError(f"crossbar: algorithm={self.algorithm} moves analogue cells; leave slice_bits at 0")
        if self.input_slices > 1 and not self.dac_bits:
            raise DeviceError(f"crossbar: input_slices={self.input_slices} needs dac_bits, the bits of one slice")
        if self.input_slices > 1 and self.input_coding == "integrated" and self.dac_bits != 1:
            raise DeviceError("crossbar: input_coding=integrated samples bits 1, 2, 4, ... times; it needs dac_bits=1")
        if self.adc_bits == 0 and self.adc_effective_bits is None:
            raise DeviceError("crossbar: adc_bits=0 rounds nothing and has no price; give adc_effective_bits too")
        try:
            cell.window_siemens()
            _ = self.periphery, self.wires
        except ConfigError as error:
            raise DeviceError(f"crossbar: {error}") from None

    @cached_property
    def model(self) -> Cell:
        """The cells."""
        return cells.cell(self.cell)

    @cached_property
    def contract(self) -> Contract:
        """As the preset claims: measured on the operands of the conformance kit, times about 1.5."""
        move = self.claim_update_outer if self.trains_in_place else None
        return Contract(
            self.claim_forward, self.claim_backward, 0.0, self.claim_update, move, self.claim_bias, deterministic=False
        )

    @property
    def trains_in_place(self) -> bool:
        """Whether pulse trains do rank-m updates; else weights are programmed and verified, or moved by sums."""
        return self.model.pulsed and not self.slice_bits and self.algorithm not in ("mixed", "verified")

    @property
    def programmed(self) -> bool:
        """Whether moves are writings of whole cells: those that pulses do not move, and those that hold digits."""
        return not self.model.pulsed or bool(self.slice_bits)

    @cached_property
    def periphery(self) -> Periphery:
        """Both converters; the same for either direction."""
        return self.ranged(self.output_bound)

    def ranged(self, output_bound: float) -> Periphery:
        """Both converters, with another range of the ADC."""
        bits = self.dac_bits * self.input_slices + (self.input_slices > 1)  # digits are of magnitudes; and a sign
        dac = Converter.of_bits(bits or math.inf, self.input_bound)
        adc = Converter.of_bits(self.adc_bits or math.inf, output_bound, self.output_noise)
        return Periphery(dac, adc, "abs_max", bound_management="iterative")

    @cached_property
    def wires(self) -> Wires | None:
        """The lines' resistances; None: there is none."""
        ohms = self.word_line_ohm, self.bit_line_ohm, self.driver_ohm, self.sense_ohm
        return Wires(*ohms, self.drive_side, self.sense_side) if any(ohms) else None  # type: ignore[arg-type]

    @property
    def paired(self) -> bool:
        """Whether a weight is a pair of cells that both move."""
        return self.encoding in PAIRS

    @property
    def rest(self) -> float:
        """The state of a cell in a weight of 0: of one-sided pairs the lowest, else 0 or the middle of the window."""
        cell = self.model
        if self.encoding == "one-sided":
            return cell.w_min
        inside = cell.w_min < 0 < cell.w_max and not self.paired
        return 0.0 if inside else (cell.w_min + cell.w_max) / 2

    def share(self, value: Array, sign: int) -> Array:
        """The states of the cells that count with `sign`, in weights of `value` [states]; for analogue cells."""
        if self.encoding == "one-sided":
            return self.xp.maximum(sign * value, 0) + self.rest
        return value * (sign / 2 if self.paired else 1) + self.rest

    @property
    def digit(self) -> float:
        """The states that one unit of a slice's digit takes."""
        return self.model.span / ((1 << self.slice_bits) - 1)

    @property
    def window(self) -> float:
        """The largest weight of either sign, in states; with digits, in states of the lowest slice."""
        cell = self.model
        if self.slice_bits:
            bits = self.slice_bits * self.weight_slices
            return ((1 << (bits if self.paired else bits - 1)) - 1) * self.digit
        return cell.span if self.paired else min(self.rest - cell.w_min, cell.w_max - self.rest)

    @cached_property
    def trains(self) -> pulses.TrainSettings:
        """How pulse trains are made."""
        return pulses.TrainSettings(self.desired_bl)

    @cached_property
    def mean_step(self) -> float:
        """What one pulse moves a typical weight [states].

        The mean of up and down at weight 0, of differential pairs twice that. One-sided pairs only climb, and their
        steps may shrink on the way: the mean over the way to `refresh_at`, from rest.
        """
        cell, state = self.model, np.full(1, self.rest)
        typical, silent = cell.typical(np, (1,)), Silent(np)
        if self.encoding == "one-sided":
            goal, count = cell.w_min + self.refresh_at * cell.span, 0
            while state[0] < goal and count < MOST_PULSES:
                state, count = cell.pulse(np, state, typical, np.array([True]), silent), count + 1
            return float(state[0] - cell.w_min) / max(count, 1)
        ends = [cell.pulse(np, state, typical, np.array([up]), silent) for up in (True, False)]
        return float(ends[0][0] - ends[1][0]) / (1 if self.paired else 2)
