"""A digital processor: an array of multiply-accumulate lanes, vector lanes, static RAM and dynamic RAM.

The default host of every device, and the baseline of every comparison (`digital:int8`). Energies come from the
component library; what an operation moves follows from its shape alone. The model and its limits: readme.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from hwsim import library
from hwsim.cost import Certainty, Component, Elementwise, Kind, Op, Product, Quantity, Role, Use
from hwsim.device import Device
from hwsim.errors import ConfigError, DeviceError
from hwsim.ledger import TileShape
from hwsim.parameters import parameter
from hwsim.precision import FixedFormat, Policy, policy

BITS_PER_KILOBYTE = 8192  # 1 KB is 1024 bytes, as in CACTI
PORT_BITS = 32  # of every row and column of the array into the static RAM
OFF_CHIP = ("ddr4", "gddr5", "gddr6", "hbm2", "hbm3", "lpddr4", "lpddr5")


class Matmul(NamedTuple):
    """out [rows, columns] = left [rows, inner] @ right [inner, columns], `stack` times; operands in bits."""

    stack: int
    rows: int
    inner: int
    columns: int
    left_value_bits: int
    right_value_bits: int
    out_value_bits: int
    left_values: int  # distinct, over the whole stack

    @property
    def left_bits(self) -> int:
        """Bits of the distinct left operands."""
        return self.left_values * self.left_value_bits

    @property
    def right_bits(self) -> int:
        """Bits of the right operands."""
        return self.stack * self.inner * self.columns * self.right_value_bits

    @property
    def out_bits(self) -> int:
        """Bits of the results."""
        return self.stack * self.rows * self.columns * self.out_value_bits

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.stack * self.rows * self.inner * self.columns


class Digital(Device):
    """Products on a rows x columns array that keeps its results in place, everything else on one vector lane a column.

    Products run in `precision`, elementwise work in fp32 (fp64 for fp64). It is its own host.
    """

    name = "digital"
    presets_path = Path(__file__).with_name("digital.toml")
    default_preset = "fp32"
    excluded = (
        "instruction dispatch and clock tree",
        "standby and refresh of the dynamic RAM",
        "waking lanes and static RAM from idle",
        "links between chips",
        "area",
        "weights that fit one by one but not together",
    )

    host: str | Device | None = parameter(None, doc="none: it is its own host")
    precision: str = parameter("fp32", doc="number format of the products: fp64 fp32 tf32 bf16 fp16 fp8 int8 fixedI.F")
    node_nm: float = parameter(unit="nm", doc="technology node", low=5, high=130)
    rows: int = parameter(doc="rows of the array", low=1)
    columns: int = parameter(doc="columns of the array, and vector lanes", low=1)
    clock_hz: float = parameter(unit="Hz", doc="clock", low=1)
    sram_kb: float = parameter(unit="KB", doc="static RAM on the chip, 1 KB = 1024 bytes", low=1)
    dram: str = parameter(doc="kind of dynamic RAM", choices=OFF_CHIP)
    dram_bytes_per_s: Mapping[str, Quantity] = parameter(unit="B/s", doc="sustained bandwidth by kind of dynamic RAM")
    leakage_fraction: Quantity = parameter(doc="static power of the lanes over their dynamic power at full rate")
    gated_fraction: Quantity = parameter(doc="power of idle lanes over their static power", low=0, high=1)
    retention_fraction: Quantity = parameter(doc="power of idle static RAM over its static power", low=0, high=1)

    def check(self) -> None:
        """Refuse precisions without a known energy, and memories without a known bandwidth."""
        try:
            library.mac(self.mac_format, self.node_nm)
        except ConfigError as error:
            raise DeviceError(f"digital: precision={self.precision!r}: {error}") from None
        if self.dram not in self.dram_bytes_per_s:
            known = ", ".join(sorted(self.dram_bytes_per_s))
            raise DeviceError(f"digital: dram={self.dram!r}: no bandwidth is given; known: {known}")

    @cached_property
    def policy(self) -> Policy:
        """The number formats of `precision`."""
        return policy(self.precision)

    @property
    def mac_format(self) -> str:
        """What the library calls the units of `precision`: fixed point runs on integer units that are wide enough."""
        values = self.policy.values
        if isinstance(values, FixedFormat):
            return next(f"int{bits}" for bits in (8, 16, 32) if bits >= values.bits)
        return self.precision

    @property
    def accumulator_bits(self) -> int:
        """Bits of a sum in the array."""
        return 64 if self.precision == "fp64" else 32

    # -- cost --------------------------------------------------------------------------------------------

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """One MAC lane, one bit of its registers, one vector lane, one bit read or written, one bit off the chip."""
        mac = library.mac(self.mac_format, self.node_nm)
        vector = library.mac("fp64" if self.precision == "fp64" else "fp32", self.node_nm)
        leakage = library.times(self.leakage_fraction, mac.scaled(self.clock_hz), self.leakage_fraction.key)
        memory = library.sram(self.sram_kb, self.node_nm)
        # With the key of the leakage that it is a share of: both are high, or low, together.
        gated = library.times(leakage, self.gated_fraction, leakage.key)
        retained = library.times(memory.leakage, self.retention_fraction, memory.leakage.key)
        cycle = 1 / self.clock_hz
        cycle_s = Quantity(cycle, cycle, cycle, "one cycle of the clock", Certainty.DERIVED, "digital/clock")
        return {
            "mac": Component(Role.CORE, mac, cycle_s, leakage, gated, node_nm=self.node_nm),
            "register": Component(Role.ON_CHIP_MEMORY, library.special("register", self.node_nm), node_nm=self.node_nm),
            "alu": Component(Role.CORE, vector.scaled(0.5, "one flop is half a MAC"), cycle_s, node_nm=self.node_nm),
            "sram_read": Component(
                Role.ON_CHIP_MEMORY, memory.read, cycle_s, memory.leakage, retained, node_nm=self.node_nm
            ),
            "sram_write": Component(Role.ON_CHIP_MEMORY, memory.write, cycle_s, node_nm=self.node_nm),
            "dram": Component(
                Role.OFF_CHIP_MEMORY, library.dram(self.dram), inverse(self.dram_bytes_per_s[self.dram], 1 / 8)
            ),
        }

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        """All lanes leak, whatever they hold; while another device works, their supply is cut."""
        return {**dict.fromkeys(self.components, 1.0), "mac": self.rows * self.columns, "alu": self.columns}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """Everything but nonlinearities of a substrate's own, updates in place and releases."""
        if isinstance(op, Elementwise):
            if op.name in ("device", "device_backward"):
                return None
            return self._stream(8 * op.bytes_read, 8 * op.bytes_written, op.flops)
        if op.kind in (Kind.UPDATE_OUTER, Kind.RELEASE):
            return None
        if op.kind in (Kind.PROGRAM, Kind.READ, Kind.UPDATE):
            return self._weights(op)
        return self._product(self._matmul(op))

    def _matmul(self, op: Product) -> Matmul:
        """The product as the array sees it."""
        s, m, k, n = op.stack, op.m, op.k, op.n
        formats = self.policy
        x_values = op.x_values or s * m * k
        value, error, out = formats.values.bits, formats.gradients.bits, formats.output.bits
        if op.kind is Kind.BACKWARD:
            return Matmul(s, m, n, k, error, value, out, s * m * n)
        if op.kind is Kind.GRADIENT:
            return Matmul(s, k, m, n, value, error, formats.master.bits, x_values)
        return Matmul(s, m, k, n, value, value, out, x_values)

    def _product(self, op: Matmul) -> Mapping[str, Use]:
        """Each result stays on its lane while `inner` operands pass; then a column shifts its results out."""
        if op.macs == 0:
            return {}
        down, across = -(-op.rows // self.rows), -(-op.columns // self.columns)
        cycles = op.stack * down * across * max(op.inner, self.rows) + self.rows + self.columns
        into, out_of = self._off_chip(op)
        left_reads = op.stack * op.rows * op.inner * across * op.left_value_bits
        passing = op.left_value_bits + op.right_value_bits + self.accumulator_bits
        uses = {
            "mac": Use(op.macs, op.macs / cycles),  # lanes that are busy on average
            "register": Use(op.macs * passing),
            "sram_read": self._read(left_reads + op.right_bits * down + out_of),
            "sram_write": self._write(op.out_bits + into),
        }
        if self.policy.scaling != "none":  # codes from values, values from sums: one multiplication each
            uses["alu"] = Use(op.left_values + op.stack * op.rows * op.columns, self.columns)
            values = op.left_values  # of the operand that is made into codes: read as results lie, written as codes
            uses["sram_read"] = self._read(
                left_reads + op.right_bits * down + out_of + values * self.policy.output.bits
            )
            uses["sram_write"] = self._write(op.out_bits + into + values * op.left_value_bits)
        if into:
            uses["dram"] = Use(into + out_of)
        return uses

    def _off_chip(self, op: Matmul) -> tuple[float, float]:
        """Bits that a product reads from, and writes to, dynamic RAM: none where operands and results fit on the chip.

        Else results are written once, and operands are read in the cheapest of three orders: parts of the left, or of
        the right, operand that fill half of the static RAM each see the whole other one; or blocks of sums fill that
        half, and each sees its rows of the left and its columns of the right operand.
        """
        capacity = self.sram_kb * BITS_PER_KILOBYTE
        left, right = op.left_bits, op.right_bits
        if left + right + op.out_bits <= capacity:
            return 0, 0
        half = capacity / 2
        sums = half / self.accumulator_bits
        block_rows = min(op.rows, max(math.sqrt(sums), sums / op.columns))
        block_columns = sums / block_rows
        reads = (
            left + right * math.ceil(left / op.stack / half),
            right + left * math.ceil(right / op.stack / half),
            left * math.ceil(op.columns / block_columns) + right * math.ceil(op.rows / block_rows),
        )
        return min(reads), op.out_bits

    def _weights(self, op: Product) -> Mapping[str, Use]:
        """Weights live on the chip if the masters and the copies that enter products fit there, else off the chip."""
        formats = self.policy
        values = op.stack * op.k * op.n
        master = values * formats.master.bits
        copy = 0 if formats.values is formats.master else values * formats.values.bits
        if op.kind is Kind.UPDATE:
            return self._stream(2 * master, master + copy, values + (values if copy else 0))
        fits = master + copy <= self.sram_kb * BITS_PER_KILOBYTE
        if op.kind is Kind.READ:
            staged = {} if fits else {"sram_write": self._write(master), "dram": Use(master)}
            return {"sram_read": self._read(master), **staged}
        rounding = {"alu": Use(values, self.columns)} if copy else {}
        if fits:  # they come from off the chip
            return {"dram": Use(master), "sram_write": self._write(master + copy), **rounding}
        both = master + copy
        return {"dram": Use(both), "sram_write": self._write(both), "sram_read": self._read(both), **rounding}

    def _stream(self, read: float, written: float, flops: float) -> Mapping[str, Use]:
        """Work on values that pass once [bits]: from static RAM if all of them fit there, else through it."""
        uses = {"alu": Use(flops, self.columns)}
        if read + written <= self.sram_kb * BITS_PER_KILOBYTE:
            return {**uses, "sram_read": self._read(read), "sram_write": self._write(written)}
        both = read + written
        return {**uses, "sram_read": self._read(both), "sram_write": self._write(both), "dram": Use(both)}

    def _read(self, bits: float) -> Use:
        return Use(bits, PORT_BITS * (self.rows + self.columns))

    def _write(self, bits: float) -> Use:
        return Use(bits, PORT_BITS * self.columns)


def inverse(rate: Quantity, factor: float) -> Quantity:
    """factor / rate, for the time per action of a component with a rate."""
    values = (factor / rate.high, factor / rate.nominal, factor / rate.low)
    return Quantity(*values, source=rate.source, certainty=rate.certainty, key=rate.key)
