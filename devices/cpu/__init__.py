"""A general-purpose processor as NumPy uses it: a roofline of its BLAS, with every call and every packed operand paid.

Products take a call, the packing of operands into blocks that fit the cache (Goto and van de Geijn, Anatomy of
high-performance matrix multiplication, ACM TOMS 34(3), 2008), and then the longest of arithmetic, cache and memory.
Everything else is a pass over values, which NumPy reaches other rates in; a package draws its power all the while.
`hwsim calibrate` fits these numbers to the machine at hand. Values and their sources: cpu.toml; what is not modelled:
readme.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from hwsim import library
from hwsim.cost import Component, Elementwise, Kind, Op, Product, Quantity, Role, Use
from hwsim.device import Device
from hwsim.devices.cpu.files import FilePresets
from hwsim.errors import DeviceError
from hwsim.parameters import parameter
from hwsim.precision import Policy, policy

PRECISIONS = ("fp64", "fp32")  # what BLAS multiplies in
DRAM = ("ddr4", "gddr5", "gddr6", "hbm2", "hbm3", "lpddr4", "lpddr5")
WRITE_PASSES = 2  # a line that is written is fetched first (write-allocate caches: Jouppi, ISCA 1993, recalled)
MOVES = (Kind.PROGRAM, Kind.READ, Kind.UPDATE)


class Cpu(FilePresets):
    """One processor package with its memory; it is its own host.

    Products run in `precision`, by one BLAS call a matrix; everything else is a pass over values.
    """

    name = "cpu"
    presets_path = Path(__file__).with_name("cpu.toml")
    default_preset = "generic"
    excluded = (
        "standby and refresh of the memory",
        "mainboard, fans and power supply",
        "the interpreter between two operations",
        "other programs on the same package",
    )

    host: str | Device | None = parameter(None, doc="none: it is its own host")
    precision: str = parameter("fp32", doc="number format of the products", choices=PRECISIONS)

    flop_per_s: Mapping[str, Quantity] = parameter(doc="rate of a large product by precision, all threads together")
    call_s: Quantity = parameter(unit="s", doc="time of a product, or a move of weights, before and after its work")
    pack_bytes_per_s: Quantity = parameter(unit="B/s", doc="rate at which a product packs its operands", low=1)
    cache_bytes: int = parameter(unit="B", doc="what an operation finds in the cache if it needs no more", low=1)
    cache_bytes_per_s: Quantity = parameter(unit="B/s", doc="bandwidth of the cache, in products", low=1)
    memory_bytes_per_s: Quantity = parameter(unit="B/s", doc="bandwidth of the memory, as products reach it", low=1)
    pass_call_s: Quantity = parameter(unit="s", doc="time of a host operation before and after its work: NumPy's calls")
    vector_flop_per_s: Quantity = parameter(doc="rate of a pass that arithmetic bounds", low=1)
    pass_cache_bytes_per_s: Quantity = parameter(unit="B/s", doc="bandwidth of the cache, in passes", low=1)
    pass_memory_bytes_per_s: Quantity = parameter(
        unit="B/s", doc="bandwidth of the memory, as passes reach it, which take fresh pages for large results", low=1
    )
    package_power_w: Quantity = parameter(unit="W", doc="power of the package while it works; at most its TDP for long")
    idle_power_w: Quantity = parameter(unit="W", doc="power of the package while it waits")
    dram: str = parameter("ddr4", doc="kind of memory, for its energy per bit", choices=DRAM)

    def check(self) -> None:
        """Refuse a precision without a rate."""
        if self.precision not in self.flop_per_s:
            has = ", ".join(self.flop_per_s)
            raise DeviceError(f"{self.name}: precision={self.precision!r}: this preset has rates of {has} alone")

    @cached_property
    def policy(self) -> Policy:
        """Every number in `precision`."""
        return policy(self.precision)

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """One unit of each; all cores together are one."""
        dram_byte_j = library.dram(self.dram).scaled(8, "8 bits")
        return {
            "call": Component(Role.HOST, time_s=self.call_s, serial=True),
            "pack": Component(Role.ON_CHIP_MEMORY, time_s=inverse(self.pack_bytes_per_s), serial=True),
            "flop": Component(time_s=inverse(self.flop_per_s[self.precision])),
            "cache_byte": Component(Role.ON_CHIP_MEMORY, time_s=inverse(self.cache_bytes_per_s)),
            "memory_byte": Component(
                Role.OFF_CHIP_MEMORY, energy_j=dram_byte_j, time_s=inverse(self.memory_bytes_per_s)
            ),
            "pass_call": Component(Role.HOST, time_s=self.pass_call_s, serial=True),
            "vector_flop": Component(time_s=inverse(self.vector_flop_per_s)),
            "pass_cache_byte": Component(Role.ON_CHIP_MEMORY, time_s=inverse(self.pass_cache_bytes_per_s)),
            "pass_memory_byte": Component(
                Role.OFF_CHIP_MEMORY, energy_j=dram_byte_j, time_s=inverse(self.pass_memory_bytes_per_s)
            ),
            "package": Component(static_power_w=self.package_power_w, idle_power_w=self.idle_power_w),
        }

    # -- what an operation takes -------------------------------------------------------------------------

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """Everything but nonlinearities of a substrate's own, updates in place and releases."""
        if isinstance(op, Elementwise):
            if op.name in ("device", "device_backward"):
                return None
            passed, kept = op.bytes_read + WRITE_PASSES * op.bytes_written, op.bytes_read + op.bytes_written
            return self._pass("pass_call", op.flops, passed, kept)
        if op.kind in MOVES:
            count = op.stack * op.k * op.n
            size = count * self._value_bytes
            if op.kind is Kind.UPDATE:  # in place: what is written was fetched as an operand
                return self._pass("call", count, 3 * size, 2 * size)
            return self._pass("call", 0, size + WRITE_PASSES * size, 2 * size)
        if op.kind in (Kind.UPDATE_OUTER, Kind.RELEASE):
            return None
        return self._product(op)

    @property
    def _value_bytes(self) -> int:
        return self.policy.master.bits // 8

    def _pass(self, call: str, flops: int, passed: int, kept: int) -> dict[str, Use]:
        """One pass over values: its call, `flops` of arithmetic, and bytes as of `_moved`."""
        moved = {f"pass_{name}": use for name, use in self._moved(passed, kept).items()}
        return {call: Use(1), **({"vector_flop": Use(flops)} if flops else {}), **moved}

    def _moved(self, passed: int, kept: int) -> dict[str, Use]:
        """`passed` bytes through the cache and, where it does not hold the `kept` different ones, the memory."""
        return dict.fromkeys(("cache_byte", "memory_byte") if kept > self.cache_bytes else ("cache_byte",), Use(passed))

    def _product(self, op: Product) -> dict[str, Use]:
        """rows x inner by inner x columns: packed unless one side is 1, where BLAS takes operands as they lie."""
        rows, inner, columns = sides(op)
        # Rows that overlap (convolutions) are an array of their own by then: x counts whole, not by distinct values.
        read = op.stack * inner * (rows + columns) * self._value_bytes
        written = op.stack * rows * columns * self._value_bytes
        uses = {"call": Use(1), "flop": Use(2 * op.macs), **self._moved(read + WRITE_PASSES * written, read + written)}
        return uses if min(rows, inner, columns) <= 1 else {**uses, "pack": Use(read)}


def sides(op: Product) -> tuple[int, int, int]:
    """Rows, summed axis and columns of a product: dy w' is [m, n] x [n, k], x' dy is [k, m] x [m, n]."""
    if op.kind is Kind.BACKWARD:
        return op.m, op.n, op.k
    if op.kind is Kind.GRADIENT:
        return op.k, op.m, op.n
    return op.m, op.k, op.n


def inverse(rate: Quantity) -> Quantity:
    """The time of one action at `rate`: a high rate is a short time."""
    return Quantity(1 / rate.high, 1 / rate.nominal, 1 / rate.low, rate.source, rate.certainty, rate.key)
