"""What optics does for every operation, from shapes alone: how often each of its components acts.

A matrix lies on units of up to `inputs` x `outputs`, each cut to measure, with its own modulators, detectors and
converters on both sides; all units of a matrix work side by side. A homodyne unit is one for all matrices: `lanes` x
`outputs` pairs of detectors, on which blocks of results take turns. Rings pass light one way, from inputs that are all
broadcast to every output: errors have a bank of rings of their own, set to the transpose, with lasers of its own.

What one action is, which is also the unit of what runs record:

- symbol: one vector's time in the optics (of homodyne: one pair of values in every detector).
- modulator: one bit of one value. dac, adc, mac, add: one value. buffer_*: one bit. tap: one power of one shifter.
- flight: one column of MZIs, or the path of other optics. settle: one wait until what was set stands.
- driver: one phase, pixel or ring.
- shifter: pi of one phase shifter, set by programming. To set it has no price beside its driver's; to hold it is static
  power, at the phases recorded where the run knows them (meshes), else at the expected `mean_phase`.
- flop: of the host that decomposes a matrix. Singular values 21 N^3 (Golub and Van Loan, recalled), and for every MZI
  of a mesh 28 for each of two thirds of its n elements (derived).
- saturation: the light of one absorber for one symbol at its saturation intensity. Recorded: the sum of intensities,
  without a price: the lasers of pump and probe are static power, at the expected `mean_intensity`.
- photocurrent: none; installed for every electron that detectors make of light in a symbol.
- absorber: one value in one absorber.
- crest: one vector's; recorded, and without a price: what its largest value needs of the laser, over the light of the
  vector, since modulators only attenuate. Lasers are static power, at the expected `crest`.

To train phases in place every vector takes nine sends, each as long as its meters read. The two meshes are lit each by
itself: attenuators are MZIs, whose free ports let light in and out between the meshes when they are turned. So there
are modulators and receivers there too, and one wait more.

    second mesh   the error backwards, to be read where it leaves; then x with and without it, or with either sign
    first mesh    the same, the error entering from the free ports
    attenuators   x and the error behind the first mesh: both, and each alone
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from hwsim.cost import Elementwise, Kind, Op, Product, Use
from hwsim.devices.optical.decomposition import layout_of
from hwsim.devices.optical.detection import VACUUM
from hwsim.devices.optical.device import Optics
from hwsim.devices.optical.insitu import Monitor

VALUE_BITS = 16  # of inputs, errors and results in the buffers (assumed)
SENDS = 9  # of a vector, to train phases
SLOPE_FLOPS = 20  # of one absorber's derivative, worked out in electronics (assumed)
GAIN_FLOPS = 4  # a value's part in both sums of the gain nearest to the derivative
ON_HOST = (Kind.PRODUCT, Kind.RELEASE)

Uses = Mapping[str, Use]


class Counts(Optics):
    """The actions of every operation."""

    # -- where weights lie -------------------------------------------------------------------------------

    def blocks(self, k: int, n: int) -> Iterator[tuple[int, int, int]]:
        """The units of a matrix: how many, their inputs and outputs."""
        for rows, inputs in pieces(k, self.inputs):
            for cols, outputs in pieces(n, self.outputs):
                yield rows * cols, inputs, outputs

    def elements(self, k: int, n: int) -> int:
        """Phases, attenuators, pixels or rings of a matrix."""
        if self.optics == "mesh":
            return sum(count * (a * a + b * b + min(a, b)) for count, a, b in self.blocks(k, n))
        return self.banks_of_weights * k * n

    def shifters(self, k: int, n: int) -> int:
        """Phase shifters of a matrix; attenuators and rings count as one."""
        return self.elements(k, n) if self.optics in ("mesh", "microring") else 0

    def depth(self, k: int, n: int) -> int:
        """Columns of MZIs that light passes on its way, the attenuators being one."""
        if self.optics != "mesh":
            return 1
        first, second = (layout_of(self.mesh_kind, modes) for modes in (k, n))
        return len(first.columns) + 1 + len(second.columns)

    def launched_over_detected(self, k: int, n: int) -> float:
        """Photons that the laser gives for one that is detected, in a unit of k inputs and n outputs, on all rails."""
        passed = 10 ** (-(self.modulator_loss_db.nominal + self.path_loss_db.nominal) / 10)
        columns = self.depth(k, n) if self.optics == "mesh" else 0
        passed *= 10 ** (-self.column_loss_db * columns / 10) * self.detector_efficiency.nominal
        return self.rails * self.crest.nominal * extinction_penalty(self.extinction_db.nominal) / passed

    def entering_electrons(self, k: int, n: int) -> float:
        """The light of a vector as it enters a unit of k inputs and n outputs: what a detector would make of it."""
        columns = self.depth(k, n) if self.optics == "mesh" else 0
        return float(k * n * self.detected_photons * 10 ** (self.column_loss_db * columns / 10))

    def metered_electrons(self, k: int, n: int) -> float:
        """The same while meters read: in a reading each then detects `meter_photons`, in the smaller mesh."""
        return self.meter_photons * min(k, n) / (self.tap_fraction * self.meter_symbols)

    def monitor(self, k: int, n: int) -> Monitor:
        """The power meters behind the phase shifters of a unit, lit for `meter_symbols`.

        Either mesh is lit by itself, and the light spread evenly over the modes of the smaller one: of the other's shot
        noise that is a bound. A meter has one detector, which rejects nothing of the laser's own noise.
        """
        launched = self.metered_electrons(k, n) * self.meter_symbols
        receiver = dataclasses.replace(
            self.receiver,
            integration_s=self.meter_symbols / self.symbol_rate_hz,
            common_mode_rejection_db=0.0,
            diodes=1,
        )
        bits = self.meter_bits or math.inf
        if not self.shot_noise:
            return Monitor(self.tap_fraction, bits=bits)
        noise = math.sqrt(receiver.variance(self.meter_photons)) / launched
        return Monitor(self.tap_fraction, noise, bits, self.field_noise(launched))

    def field_noise(self, launched: float) -> float:
        """Of either quadrature of a field read for `meter_symbols`, in units of the root of so many electrons.

        Either quadrature gets half of the light, beside an oscillator of its own (see detection.py).
        """
        oscillator = self.oscillator_photons * self.meter_symbols
        receiver = dataclasses.replace(self.receiver, integration_s=self.meter_symbols / self.symbol_rate_hz)
        return VACUUM * math.sqrt(2 * receiver.variance(oscillator) / oscillator / launched)

    # -- operations --------------------------------------------------------------------------------------

    def activity(self, op: Op) -> Uses | None:
        """Products both ways, gradients where the optics does them, programming, and neurons."""
        if isinstance(op, Elementwise):
            return self._neurons(op)
        if op.kind in ON_HOST:
            return None
        if op.kind is Kind.GRADIENT:
            return self._meeting(op, op.k, op.m, op.n) if self.gradient_by == "homodyne" else None
        if op.kind is Kind.UPDATE_OUTER:
            return self._trained(op) if self.trained == "phases" else None
        if op.kind in (Kind.PROGRAM, Kind.UPDATE):
            return self._programmed(op)
        if op.kind is Kind.READ:
            return self._read(op)
        forward = op.kind is Kind.FORWARD
        if not self.reprogrammed:
            return self._meeting(op, op.m, *((op.k, op.n) if forward else (op.n, op.k)))
        return self._vectors(op, op.m, forward)

    def _vectors(self, op: Product, m: int, forward: bool) -> dict[str, Use]:
        """m vectors through all units."""
        s, inner, outer = op.stack, *((op.k, op.n) if forward else (op.n, op.k))
        into, out_of = (self.inputs, self.outputs) if forward else (self.outputs, self.inputs)
        copies, sums = -(-outer // out_of), -(-inner // into)
        sent, results = s * m * inner * copies * self.rails, s * m * outer * sums
        distinct = op.x_values if forward and op.x_values else s * m * inner
        return {
            "symbol": Use(m * self.rails),
            "crest": Use(s * m * sums * self.crest.nominal),
            "flight": Use(min(m, 1) * self.depth(min(op.k, self.inputs), min(op.n, self.outputs))),
            "dac": Use(sent),
            "modulator": Use(sent * (self.dac_bits or VALUE_BITS)),
            "adc": Use(results * self.rails),
            "add": Use(s * m * outer * (sums - 1 + sums * (self.rails - 1))),
            "mac": Use(s * m * inner + results),  # the vector's size, and what results are scaled by
            "buffer_read": Use(VALUE_BITS * distinct),
            "buffer_write": Use(VALUE_BITS * s * m * outer),
        }

    def _meeting(self, op: Product, rows: int, inner: int, columns: int) -> dict[str, Use]:
        """[rows, inner] times [inner, columns], both as light, on blocks of lanes x outputs detectors."""
        s = op.stack
        down, across = -(-rows // self.lanes), -(-columns // self.outputs)
        sent = s * inner * (rows * across + columns * down)
        results = s * rows * columns
        return {
            "symbol": Use(s * down * across * inner),
            "crest": Use(s * rows * self.crest.nominal),
            "flight": Use(min(rows * inner, 1)),
            "dac": Use(sent),
            "modulator": Use(sent * (self.dac_bits or VALUE_BITS)),
            "adc": Use(results),
            "mac": Use(s * inner * (rows + columns) + results),
            "buffer_read": Use(VALUE_BITS * sent),
            "buffer_write": Use(VALUE_BITS * results),
        }

    def _programmed(self, op: Product) -> dict[str, Use]:
        """New weights: written to memory, and where optics holds them decomposed, sent to drivers, and waited for."""
        s, k, n = op.stack, op.k, op.n
        stored = {"buffer_read": Use(VALUE_BITS * s * k * n), "buffer_write": Use(VALUE_BITS * s * k * n)}
        return {**stored, **self._set(op), "flop": Use(s * self._decomposition_flops(k, n))}

    def _set(self, op: Product) -> dict[str, Use]:
        """All elements of a matrix set anew."""
        s, k, n = op.stack, op.k, op.n
        if not self.reprogrammed:
            return {}
        turns = s * self.shifters(k, n) * self.mean_phase.nominal if self.optics == "mesh" else 0
        return {"driver": Use(s * self.elements(k, n)), "settle": Use(1), "shifter": Use(turns)}

    def _decomposition_flops(self, k: int, n: int) -> float:
        if self.optics != "mesh":
            return 0
        return sum(
            count * (21 * max(a, b) ** 3 + sum(28 * modes * (modes - 1) / 2 * modes * 2 / 3 for modes in (a, b)))
            for count, a, b in self.blocks(k, n)
        )

    def _read(self, op: Product) -> dict[str, Use]:
        """Unit vectors sent through all units; weights of light are read from memory."""
        if not self.reprogrammed:
            return {"buffer_read": Use(VALUE_BITS * op.stack * op.k * op.n)}
        return self._vectors(op, min(op.k, self.inputs), forward=True)

    def _trained(self, op: Product) -> dict[str, Use]:
        """Phases moved by powers read in place: vectors sent, meters read, drivers set."""
        s, m, blocks = op.stack, op.m, list(self.blocks(op.k, op.n))
        lit = sum(count * min(a, b) for count, a, b in blocks)
        into, out_of = (sum(count * end[i] for count, *end in blocks) for i in (0, 1))
        phases = self.elements(op.k, op.n) - lit
        sent = s * m * (2 * into + 3 * out_of + 4 * lit)  # the error enters the first mesh where attenuators pass it
        read = s * m * (into + out_of + 2 * lit)  # where errors leave either mesh; x behind the first, twice
        taps = s * m * (self.readings * phases + 3 * lit)
        settings = self._set(op)
        return {
            **settings,
            "symbol": Use(SENDS * m * self.meter_symbols),
            "flight": Use(min(m, 1) * self.depth(min(op.k, self.inputs), min(op.n, self.outputs))),
            "dac": Use(sent),
            "modulator": Use(sent * (self.dac_bits or VALUE_BITS)),
            "adc": Use(read),
            "tap": Use(taps),
            "mac": Use(sent + read + taps),
            "buffer_read": Use(VALUE_BITS * s * m * (op.k + op.n)),
            "settle": Use(2),
            "driver": Use(settings["driver"].actions + s * lit),
        }

    def _neurons(self, op: Elementwise) -> dict[str, Use] | None:
        """Absorbers: values are emitted, pass, and are read; a probe needs the pump beside it."""
        if op.name not in ("device", "device_backward") or not self.optical_depth:
            return None
        if op.name == "device_backward" and self.absorber_backward == "exact":
            return {"mac": Use(SLOPE_FLOPS / 2 * op.size)}
        emitted = op.size * (2 if op.name == "device_backward" else 1)
        return {
            **(self._probed(op.size) if op.name == "device_backward" else {}),
            "absorber": Use(op.size, self.neurons),  # of any row: the same absorbers serve all layers
            "saturation": Use(op.size * self.mean_intensity.nominal),
            "dac": Use(emitted),
            "modulator": Use(emitted * (self.dac_bits or VALUE_BITS)),
            "adc": Use(op.size),
        }

    def _probed(self, size: int) -> dict[str, Use]:
        """The slopes that a gain of one's own choice is worked out from."""
        flops = 0 if self.probe_gain is not None else SLOPE_FLOPS + GAIN_FLOPS
        return {"mac": Use(flops / 2 * size)}


def pieces(length: int, size: int) -> Iterator[tuple[int, int]]:
    """How many whole parts of `size`, and the rest."""
    if length >= size:
        yield length // size, size
    if length % size:
        yield 1, length % size


def extinction_penalty(extinction_db: float) -> float:
    """Power that makes good for modulators which are not dark at 0: (r + 1) / (r - 1)."""
    ratio = 10 ** (extinction_db / 10)
    return (ratio + 1) / (ratio - 1)
