"""Graphics processors: products in tiles on streaming multiprocessors, under a power cap, with every launch paid.

A roofline in time and energy (Choi et al., A roofline model of energy, IPDPS 2013): the times of arithmetic, operand
fetch and memory overlap, their energies add, a constant power burns meanwhile, and a power cap stretches time. Tiles
and waves of tiles set how much of the arithmetic is useful (see gemm.py). Values and their sources: gpu.toml; what is
not modelled: readme.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from hwsim import library
from hwsim.arrays import Array, namespace
from hwsim.cost import Z95, Component, Elementwise, Kind, Op, Product, Quantity, Role, Use
from hwsim.device import Device
from hwsim.devices.cpu.files import FilePresets
from hwsim.devices.gpu import card
from hwsim.devices.gpu.gemm import Gemm, Kernel, Speeds, fastest, least_traffic
from hwsim.errors import DeviceError
from hwsim.formats import Format
from hwsim.microscaling import BlockScaling
from hwsim.parameters import parameter
from hwsim.precision import Policy, policy
from hwsim.tile import Tile

PRECISIONS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "mxfp8", "mxfp6", "mxfp4", "nvfp4")
PRODUCTS = (Kind.FORWARD, Kind.BACKWARD, Kind.GRADIENT, Kind.PRODUCT)
MOVES = (Kind.PROGRAM, Kind.READ, Kind.UPDATE)
CREDIBLE_SIGMA = 4.0  # a power cap must exceed the constant power even where that is drawn this far up


class Gpu(FilePresets):
    """One board with its memory; it is its own host.

    Products run in `precision` on the fastest units that the board has for it, everything else on the vector units.
    The processor that launches the kernels is not part of it. With array=cupy the card in this machine multiplies in
    that precision (card.py), and is charged as the board of the preset; with array=numpy it is emulated.
    """

    name = "gpu"
    presets_path = Path(__file__).with_name("gpu.toml")
    default_preset = "h100"
    excluded = (
        "overlapping kernels, CUDA graphs and fused optimizers",
        "kernels that find the scales of fp8, int8 and nvfp4, and cast to these and to mx (the bytes of casts are in)",
        "clock and voltage scaling, and power that depends on the data",
        "the processor that launches kernels (it is in the boundary)",
    )

    host: str | Device | None = parameter(None, doc="none: it is its own host")
    precision: str = parameter("fp32", doc=f"number format of the products: {', '.join(PRECISIONS)}, as the card has")

    sms: int = parameter(doc="streaming multiprocessors", low=1)
    fed_edge: int = parameter(doc="edge of the smallest tile that shared memory feeds at full rate", low=1)
    operand_sharing: int = parameter(1, doc="SMs in either direction that take an operand tile from L2 together", low=1)
    flop_per_s: Mapping[str, Quantity] = parameter(doc="peak dense rate by precision")
    flop_j: Mapping[str, Quantity] = parameter(doc="energy per FLOP by precision, memory traffic apart")
    sustained_share: Quantity = parameter(
        doc="what a large kernel reaches of the peak rate where power permits", low=0.01, high=1
    )
    port_bytes_per_s: Quantity = parameter(unit="B/s", doc="rate into one SM", low=1)
    l2_bytes_per_s: Quantity = parameter(unit="B/s", doc="rate out of the L2 cache, sustained", low=1)
    l2_byte_j: Quantity = parameter(unit="J", doc="energy per byte from the L2 cache to an SM")
    dram_bytes_per_s: Quantity = parameter(unit="B/s", doc="memory bandwidth of the data sheet", low=1)
    dram_share: Quantity = parameter(doc="what a copy reaches of it", low=0.01, high=1)
    dram_byte_j: Quantity = parameter(unit="J", doc="energy per byte of memory traffic, through the chip")
    launch_s: Quantity = parameter(unit="s", doc="time from the launch of a kernel to its start, nothing overlapping")
    fill_s: Quantity = parameter(unit="s", doc="time to fill and drain the pipeline of a product")
    active_power_w: Quantity = parameter(unit="W", doc="constant power while kernels run")
    idle_power_w: Quantity = parameter(unit="W", doc="power while nothing runs")
    die_mm2: Quantity = parameter(unit="mm2", doc="area of the processor, memory stacks apart")
    node_nm: float = parameter(unit="nm", doc="technology node", low=1)

    def check(self) -> None:
        """Refuse precisions that the card lacks, and caps that its constant power may exceed."""
        if self.precision not in self.flop_per_s:
            has = ", ".join(name for name in PRECISIONS if name in self.flop_per_s)
            raise DeviceError(f"{self.name}: precision={self.precision!r}: this card has {has}; take one of these")
        power = self.active_power_w
        least = power.nominal * (power.high / power.nominal) ** (CREDIBLE_SIGMA / Z95)
        if self.power_cap_w is not None and self.power_cap_w.nominal <= least:
            raise DeviceError(
                f"{self.name}: power_cap_w={self.power_cap_w.nominal:g}: the constant power of this card is "
                f"{power.nominal:g} W, up to {least:.0f} W in its range: nothing is left for work; give more than that"
            )
        if self.array == "cupy":
            card.require(self.precision, namespace("cupy").cuda.Device().compute_capability, os.environ)

    @cached_property
    def policy(self) -> Policy:
        """The number formats of `precision`, and who multiplies in them."""
        formats = policy(self.precision)
        if self.precision in ("fp32", "fp64"):  # what array libraries multiply in by themselves
            return formats
        return card.on_card(formats) if self.array == "cupy" else card.emulated(formats)

    @cached_property
    def on_card(self) -> bool:
        """Whether operands are packed and multiplied in their own format, by a real card."""
        return self.array == "cupy" and self.rounds

    @property
    def vector_precision(self) -> str:
        """What the vector units compute in."""
        return "fp64" if self.precision == "fp64" else "fp32"

    # -- components --------------------------------------------------------------------------------------

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """One unit of each; the time of arithmetic is counted in slots of an SM, filled or not."""
        node, vector = self.node_nm, self.vector_precision
        return {
            "launch": Component(Role.HOST, time_s=self.launch_s, serial=True),
            "fill": Component(time_s=self.fill_s, serial=True),
            "flop": Component(energy_j=self.flop_j[self.precision], node_nm=node),
            "sm_slot": Component(time_s=self._flop_s(self.precision, self.sms)),
            "sm_port": Component(Role.ON_CHIP_MEMORY, time_s=inverse(self.port_bytes_per_s)),
            "l2_port": Component(Role.ON_CHIP_MEMORY, time_s=inverse(self.l2_bytes_per_s)),
            "l2_byte": Component(Role.ON_CHIP_MEMORY, energy_j=self.l2_byte_j, node_nm=node),
            "dram_byte": Component(
                Role.OFF_CHIP_MEMORY,
                energy_j=self.dram_byte_j,
                time_s=inverse(self.dram_share, self.dram_bytes_per_s),
            ),
            "vector_flop": Component(energy_j=self.flop_j[vector], time_s=self._flop_s(vector, 1), node_nm=node),
            "board": Component(
                static_power_w=self.active_power_w, idle_power_w=self.idle_power_w, area_mm2=self.die_mm2
            ),
        }

    def _flop_s(self, precision: str, units: int) -> Quantity:
        """The time of one FLOP on one of `units` equal parts of the chip [s]."""
        return inverse(self.sustained_share, self.flop_per_s[precision]).scaled(units)

    @cached_property
    def speeds(self) -> Speeds:
        """The nominal values by which a kernel is chosen."""
        part = self.components
        return Speeds(
            sms=self.sms,
            sharing=self.operand_sharing,
            fed_edge=self.fed_edge,
            slot_s=part["sm_slot"].quantity("time_s").nominal,
            port_s=part["sm_port"].quantity("time_s").nominal,
            l2_s=part["l2_port"].quantity("time_s").nominal,
            dram_s=part["dram_byte"].quantity("time_s").nominal,
            launch_s=self.launch_s.nominal,
            fill_s=self.fill_s.nominal,
        )

    # -- products on a real card ---------------------------------------------------------------------------

    def _round_operand(self, tile: Tile) -> None:
        """Keep the weights packed beside the master weights."""
        if not self.on_card:
            return super()._round_operand(tile)
        packed = card.packed(self.xp, tile.state["w"], self.policy, self.policy.values)
        tile.state["operand"] = packed.codes
        if packed.scale is not None:
            tile.state["operand_scale"] = packed.scale
        return None

    def _weights_of(self, tile: Tile) -> card.Packed:
        """The weights as `_round_operand` keeps them."""
        return card.Packed(tile.state["operand"], self.policy.values.name, tile.state.get("operand_scale"))

    def forward(self, tile: Tile, x: Array) -> Array:
        """x [..., m, k] -> [..., m, n]."""
        if not self.on_card:
            return super().forward(tile, x)
        x = card.packed(self.xp, x, self.policy, self.policy.values)
        return self.policy.round_output(self.xp, card.multiply(self.xp, x, self._weights_of(tile)))

    def backward(self, tile: Tile, dy: Array) -> Array:
        """dy [..., m, n] -> [..., m, k]."""
        if not self.on_card:
            return super().backward(tile, dy)
        dy = card.packed(self.xp, dy, self.policy, self.policy.gradients, self._rounding(tile, "backward"))
        dx = card.multiply(self.xp, dy, self._weights_of(tile).transposed())
        return self.policy.round_output(self.xp, dx)

    def gradient(self, tile: Tile, x: Array, dy: Array) -> Array:
        """x [..., m, k], dy [..., m, n] -> [..., k, n], summed over m."""
        if not self.on_card:
            return super().gradient(tile, x, dy)
        x = card.packed(self.xp, x, self.policy, self.policy.values)
        dy = card.packed(self.xp, dy, self.policy, self.policy.gradients, self._rounding(tile, "gradient"))
        return card.multiply(self.xp, x.transposed(), dy)

    def product(self, a: Array, b: Array) -> Array:
        """a [..., m, k] @ b [..., k, n] of operands that `policy` has rounded, in whichever of its formats.

        fp8 operands may be E4M3 or E5M2, which are not told apart here; both are exact in bf16, which multiplies them.
        """
        if not self.on_card:
            return super().product(a, b)
        if self.policy.scaling == "none" or self.precision == "fp8":
            name = "bf16" if self.precision == "fp8" else self.policy.values.name
            left, right = (card.Packed(card.narrow(self.xp, each, name), name) for each in (a, b))
        else:
            left, right = (card.packed(self.xp, each, self.policy, self.policy.values) for each in (a, b))
        return card.multiply(self.xp, left, right)

    # -- what an operation takes -------------------------------------------------------------------------

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        """Uses of components by one kernel, or by the few that a product takes."""
        if isinstance(op, Elementwise):
            return elementwise(op)
        if op.kind in PRODUCTS:
            return self._product(op)
        if op.kind in MOVES:
            return self._weights(op)
        return None

    def _operand_bytes(self, values: int, inner: int, format: Format) -> int:
        """Bytes of an operand in memory, summed over an axis of length `inner`: values, and a scale to each block."""
        bits, scaling = values * format.bits, self.policy.scaling
        if isinstance(scaling, BlockScaling) and values:
            bits += scaling.scale_bits * -(-values // inner) * -(-inner // scaling.size)
        return -(-bits // 8)

    @cached_property
    def _bytes(self) -> tuple[int, int]:
        """Bytes of one result and one master weight, as they lie in memory."""
        return self.policy.output.bits // 8, self.policy.master.bits // 8

    @cached_property
    def _fetched_bytes(self) -> float:
        """Bytes of one operand value on its way to an SM, with its share of a scale."""
        bits, scaling = self.policy.value_bits, self.policy.scaling
        shared = scaling.scale_bits / scaling.size if isinstance(scaling, BlockScaling) else 0
        return (bits + shared) / 8

    def _operands(self, op: Product) -> tuple[int, int]:
        """Bytes of both operands of a product, each blocked along the axis that it sums over."""
        kind, m, k, n, stack, x_values = op
        x, w, y = x_values or stack * m * k, stack * k * n, stack * m * n
        values, gradients = self.policy.values, self.policy.gradients
        if kind is Kind.BACKWARD:
            return self._operand_bytes(y, n, gradients), self._operand_bytes(w, n, values)
        if kind is Kind.GRADIENT:
            return self._operand_bytes(x, m, values), self._operand_bytes(y, m, gradients)
        return self._operand_bytes(x, k, values), self._operand_bytes(w, k, values)

    def gemm(self, op: Product) -> Gemm:
        """The product that `op` comes down to: dy w' is [m, n] x [n, k], x' dy is [k, m] x [m, n]."""
        kind, m, k, n, stack, _ = op
        operands, (result, master), fetched = sum(self._operands(op)), self._bytes, self._fetched_bytes
        if kind is Kind.BACKWARD:
            return Gemm(m, n, k, stack, fetched, operands + result * stack * m * k)
        if kind is Kind.GRADIENT:
            return Gemm(k, m, n, stack, fetched, operands + master * stack * k * n)
        return Gemm(m, k, n, stack, fetched, operands + result * stack * m * n)

    def kernel(self, op: Product) -> Kernel:
        """The kernel that does a product."""
        return fastest(self.gemm(op), self.speeds)

    def _product(self, op: Product) -> dict[str, Use]:
        gemm = self.gemm(op)
        if op.macs == 0:  # no rows: nothing to multiply, but a gradient of zeros is written
            return {"launch": Use(1), "dram_byte": Use(gemm.dram_bytes)}
        found = fastest(gemm, self.speeds)
        return {
            "launch": Use(1),
            "fill": Use(found.fills),
            "flop": Use(2 * op.macs),
            "sm_slot": Use(found.slot_flops, self.sms),
            "sm_port": Use(found.port_bytes, self.sms),
            "l2_port": Use(found.l2_bytes),
            "l2_byte": Use(least_traffic(gemm, self.operand_sharing)),
            "dram_byte": Use(gemm.dram_bytes + self._cast_bytes(op)),
        }

    def _cast_bytes(self, op: Product) -> int:
        """Bytes of making scaled operands before a product: read as results lie, written narrow.

        Only formats with scales need them: others are written by whoever makes the values. The cast is fused with
        the kernel before, and launches nothing. Values are cast for the forward product, errors for the gradient
        product, which every layer that learns has, and the backward one finds them made. Where blocks share a scale,
        errors are made blocked along n too, and values along m too, in the pass in which they are made first. Weights
        are made as they are updated.
        """
        if self.policy.scaling == "none" or op.kind is Kind.BACKWARD:
            return 0
        left, right = self._operands(op)
        result, _ = self._bytes
        if op.kind is Kind.GRADIENT:
            errors = op.stack * op.m * op.n
            again = left + self._operand_bytes(errors, op.n, self.policy.gradients) if self.policy.blocked else 0
            return errors * result + right + again
        x = op.x_values or op.stack * op.m * op.k
        if op.kind is Kind.PRODUCT:
            return (x + op.stack * op.k * op.n) * result + left + right
        return x * result + left

    def _weights(self, op: Product) -> dict[str, Use]:
        """Programming writes the master weights, reading reads them, an update does both and reads the step.

        Where products take narrower operands, programming and updating also write the weights in that format; where
        blocks share a scale, once for either direction.
        """
        _, master = self._bytes
        weights = op.stack * op.k * op.n
        copies = 0
        if self.policy.value_bits != self.policy.master.bits:
            directions = (op.k, op.n) if self.policy.blocked else (op.k,)
            copies = sum(self._operand_bytes(weights, inner, self.policy.values) for inner in directions)
        if op.kind is Kind.READ:
            return {"launch": Use(1), "dram_byte": Use(master * weights)}
        if op.kind is Kind.PROGRAM:
            return {"launch": Use(1), "dram_byte": Use(master * weights + copies)}
        return {"launch": Use(1), "vector_flop": Use(weights), "dram_byte": Use(3 * master * weights + copies)}


def elementwise(op: Elementwise) -> dict[str, Use] | None:
    """One kernel that reads its operands and writes its result; a bias is added as the product's result is written.

    Adding the bias in the product's epilogue is what PyTorch does through cuBLASLt: no launch, and of the memory
    traffic only the bias itself, which is what the operation reads beyond the values that it writes.
    """
    if op.name in ("device", "device_backward"):
        return None
    if op.name == "bias_add":
        bias_bytes = max(0, op.bytes_read - op.bytes_written)
        return {"vector_flop": Use(op.flops), "dram_byte": Use(bias_bytes)}
    return {
        "launch": Use(1),
        "vector_flop": Use(op.flops),
        "dram_byte": Use(op.bytes_read + op.bytes_written),
    }


def inverse(rate: Quantity, by: Quantity | None = None) -> Quantity:
    """The time of one action at `rate`, or at rate x by: a high rate is a short time."""
    if by is not None:
        rate = library.times(rate, by, rate.key)
    return Quantity(1 / rate.high, 1 / rate.nominal, 1 / rate.low, rate.source, rate.certainty, rate.key)
