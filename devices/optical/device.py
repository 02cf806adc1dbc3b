"""The parameters of an optical device, and what follows from them alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from hwsim.contract import Contract
from hwsim.cost import ZERO, Quantity
from hwsim.device import Device, same_value
from hwsim.devices.optical.absorber import Absorber
from hwsim.devices.optical.decomposition import layout_of
from hwsim.devices.optical.imperfections import Imperfections
from hwsim.devices.optical.options import reader_of
from hwsim.devices.optical.receiver import Receiver, photon_energy_j
from hwsim.errors import ConfigError, DeviceError
from hwsim.parameters import parameter

OPTICS = ("mesh", "slm", "homodyne", "microring")
LEVELS = ("gemm", "mesh", "photon")
DETECTIONS = ("oscillator", "arms", "balanced", "intensity")
DETECTED_BY = {
    "mesh": ("oscillator",),
    "slm": ("oscillator", "intensity"),
    "homodyne": ("arms",),
    "microring": ("balanced", "intensity"),
}

DARK_DB = 200.0  # behind it a laser of 1 W at 1550 nm, 8e18 photons a second (derived), leaves one in ten seconds

WEAK = 0.05  # of the saturation intensity: where |x| is small that is what a probe adds to I, and so to D, at most


class Optics(Device):
    """Matrices of light: what kind of optics holds or meets the weights, how it is read, and its neurons; parameters.

    `optics`: "mesh": two meshes of Mach-Zehnder interferometers and attenuators; "slm": a modulator in free space,
    whose lenses copy the inputs to all rows and add the products up; "homodyne": inputs and weights both come as
    light, pulse after pulse, and meet on beam splitters whose detectors add up charge; "microring": a wavelength for
    each input, and a ring for each weight between two detectors.

    `detection`: "oscillator": the field beside a strong local oscillator; "arms": two beams of equal power on a pair
    of detectors; "balanced": a pair of detectors for the light that weights pass and hold back; "intensity": counting.
    """

    name = "optical"
    presets_path = Path(__file__).with_name("optical.toml")
    default_preset = "nitride"

    optics: str = parameter(doc="what multiplies", choices=OPTICS)
    level: str = parameter("gemm", doc="gemm: effective weights; mesh: light through all MZIs; photon: counts",
                           choices=LEVELS)  # fmt: skip
    detection: str = parameter(doc="how light is read", choices=DETECTIONS)
    precision: str = parameter("fp32", doc="working precision of the simulation", choices=("fp32", "fp64"))
    inputs: int = parameter(64, doc="inputs of one unit; larger matrices are cut", low=1)
    outputs: int = parameter(64, doc="outputs of one unit", low=1)
    lanes: int = parameter(1, doc="vectors that a homodyne unit multiplies side by side", low=1)
    mesh_kind: str = parameter("clements", doc="how MZIs are arranged", choices=("clements", "reck"))
    weight_scale: float | None = parameter(None, doc="singular value, or weight, of full transmission; none: the "
                                           "largest of each unit", low=1e-30)  # fmt: skip
    trained: str = parameter("weights", doc="what plain SGD moves", choices=("weights", "phases"))
    readings: int = parameter(2, doc="of power behind each phase shifter, to train phases", low=2, high=3)
    tap_fraction: float = parameter(0.01, doc="of the power, to each of the meters that training phases needs",
                                    low=1e-6, high=0.5)  # fmt: skip
    meter_symbols: int = parameter(100, doc="that one reading of a meter takes", low=1)
    meter_bits: int = parameter(8, unit="bit", doc="of a meter's ADC; 0: exact", low=0, high=24)
    meter_photons: float = parameter(1e5, doc="that a meter detects in one reading: the mean at a mesh's inputs", low=1)
    phase_rate: float = parameter(1.0, doc="learning rate of phases over the run's own", low=0)
    gradient_by: str = parameter("host", doc="who multiplies inputs and errors", choices=("host", "homodyne"))

    chip_seed: int | None = parameter(None, doc="of fixed errors; none: seed", low=0)
    drift_seed: int | None = parameter(None, doc="of errors that change with every update; none: seed", low=0)
    weight_bits: int = parameter(8, unit="bit", doc="of phases, attenuations, pixels, rings; 0: exact", low=0, high=24)
    weight_sigma: float = parameter(0.0, doc="fixed error of a pixel or ring, over the largest weight", low=0)
    weight_crosstalk: float = parameter(0.0, doc="of a weight onto the inputs beside it (slm, microring)",
                                        low=0, high=0.5)  # fmt: skip
    splitter_sigma: float = parameter(0.0, unit="rad", doc="of splitter angles", low=0)
    phase_sigma: float = parameter(0.0, unit="rad", doc="fixed, of phase shifters", low=0)
    drift_sigma: float = parameter(0.0, doc="redrawn at every update: of phases [rad], or over the largest weight",
                                   low=0)  # fmt: skip
    mzi_loss_db: float = parameter(0.0, unit="dB", doc="of one MZI", low=0, high=100)
    mzi_loss_sigma_db: float = parameter(0.0, unit="dB", doc="between MZIs", low=0)
    heat_crosstalk: float = parameter(0.0, doc="share of a phase that neighbours get too", low=0, high=0.2)
    calibrated: bool = parameter(True, doc="whether fixed errors and heat of MZIs are known, and corrected one by one")

    dac_bits: int = parameter(8, unit="bit", doc="of inputs and errors; 0: exact", low=0, high=24)
    adc_bits: int = parameter(8, unit="bit", doc="of results; 0: exact", low=0, high=24)
    adc_crest: float = parameter(0.0, doc="full scale over the RMS of results; 0: the largest result", low=0)
    shot_noise: bool = parameter(True, doc="whether receivers are noisy at all")
    detected_photons: float = parameter(doc="detected, of the signal, per multiply-accumulate", low=1e-9)
    oscillator_photons: float = parameter(1e5, doc="of a local oscillator, detected per sample", low=1)
    excess_factor: float = parameter(1.0, doc="of an avalanche photodiode", low=1)
    dark_current_a: float = parameter(0.0, unit="A", doc="of a detector", low=0)
    load_ohm: float = parameter(0.0, unit="ohm", doc="of a load resistor; 0: there is none", low=0)
    amplifier_a_per_root_hz: float = parameter(0.0, unit="A/sqrt(Hz)", doc="input noise of the amplifier", low=0)
    integrator_electrons: float = parameter(13.0, doc="noise of what adds charge up, where two beams meet", low=0)
    rin_db_per_hz: float = parameter(-1000.0, unit="dB/Hz", doc="intensity noise of the laser")
    common_mode_rejection_db: float = parameter(30.0, unit="dB", doc="of a pair of detectors", low=0)

    wavelength_m: float = parameter(unit="m", doc="of all light", low=1e-7, high=1e-5)
    symbol_rate_hz: float = parameter(unit="Hz", doc="of inputs", low=1e-3)

    optical_depth: float = parameter(0.0, doc="of the saturable absorbers; 0: there are none", low=0)
    profile: str = parameter("lumped", doc="of saturation along them", choices=("lumped", "distributed"))
    encoding: str = parameter("amplitude", doc="of neurons' values: fields, or intensities whose signs electronics "
                              "keeps", choices=("amplitude", "intensity"))  # fmt: skip
    absorber_backward: str = parameter("probe", doc="through absorbers: by a weak beam, or the derivative",
                                       choices=("probe", "exact"))  # fmt: skip
    probe_gain: float | None = parameter(None, doc="of the errors that a probe brings; none: nearest to exact", low=0)
    output_loss_depth: float = parameter(0.0, doc="unsaturable, behind the absorbers", low=0)
    internal_loss_depth: float = parameter(0.0, doc="unsaturable, along distributed absorbers", low=0)
    probe_ratio: float = parameter(0.0, doc="of the probe's values over the pump's, RMS; 0: it saturates nothing",
                                   low=0)  # fmt: skip
    probe_photons: float = parameter(1e4, doc="of a probe that saturates nothing, detected per neuron and symbol",
                                     low=1e-9)  # fmt: skip
    grating: float = parameter(0.0, doc="share of the standing wave that is written", low=0, high=1)
    absorber_crosstalk: float = parameter(0.0, doc="share of a value that each neighbour gets", low=0, high=0.5)
    neurons: int = parameter(128, doc="absorbers side by side", low=1)
    lifetime_s: Quantity = parameter(ZERO, unit="s", doc="of the absorbers' excited state", low=0)
    remembered: float = parameter(0.02, doc="of a symbol's excitation that may be left at the next", low=1e-9, high=0.9)
    saturation_w_per_mm2: Quantity = parameter(ZERO, unit="W/mm2", doc="saturation intensity", low=0)
    beam_area_mm2: Quantity = parameter(ZERO, unit="mm2", doc="of the beam in one absorber", low=0)
    mean_intensity: Quantity = parameter(Quantity.of(1.0), doc="expected, over the saturation intensity", low=0)

    detector_efficiency: Quantity = parameter(doc="electrons per photon that reaches the detector", low=1e-3, high=1)
    wall_plug: Quantity = parameter(doc="light over electricity of the laser", low=1e-4, high=1)
    modulator_loss_db: Quantity = parameter(unit="dB", doc="of what modulates the inputs", low=0)
    path_loss_db: Quantity = parameter(unit="dB", doc="of couplers, lenses and waveguides, MZIs apart", low=0)
    extinction_db: Quantity = parameter(unit="dB", doc="brightest over darkest of the modulators", low=1)
    crest: Quantity = parameter(doc="expected, of vectors: laser power that the largest value needs, over the vector's",
                                low=1)  # fmt: skip
    modulator_j_per_bit: Quantity = parameter(unit="J/bit", doc="to modulate", low=0)
    dac_energy_j: Quantity = parameter(unit="J", doc="per conversion of 8 bits", low=0)
    dac_area_mm2: Quantity = parameter(unit="mm2", doc="of one", low=0)
    adc_energy_j: Quantity = parameter(unit="J", doc="per conversion of 8 bits", low=0)
    adc_area_mm2: Quantity = parameter(unit="mm2", doc="of one", low=0)
    detector_power_w: Quantity = parameter(ZERO, unit="W", doc="of one photodiode in the dark; 0: in the amplifier's",
                                           low=0)  # fmt: skip
    detector_bias_v: Quantity = parameter(ZERO, unit="V", doc="that drives the photocurrent; 0: in the amplifier's",
                                          low=0)  # fmt: skip
    amplifier_power_w: Quantity = parameter(unit="W", doc="of one amplifier or integrator", low=0)
    amplifier_area_mm2: Quantity = parameter(unit="mm2", doc="of one", low=0)
    shifter_pi_power_w: Quantity = parameter(ZERO, unit="W", doc="that holds a phase of pi, or one ring", low=0)
    shifter_area_mm2: Quantity = parameter(ZERO, unit="mm2", doc="of one phase shifter with half an MZI, or one ring",
                                           low=0)  # fmt: skip
    mean_phase: Quantity = parameter(Quantity.of(1.0), doc="expected, of phase shifters, over pi", low=0, high=2)
    driver_energy_j: Quantity = parameter(ZERO, unit="J", doc="to set one phase, pixel or ring", low=0)
    settle_s: Quantity = parameter(ZERO, unit="s", doc="until a new matrix stands", low=0)
    panel_power_w: Quantity = parameter(ZERO, unit="W", doc="of one spatial modulator", low=0)
    panel_area_mm2: Quantity = parameter(ZERO, unit="mm2", doc="of one spatial modulator", low=0)
    flight_s: Quantity = parameter(unit="s", doc="of light through one column of MZIs, or the whole path", low=0)
    flop_s: Quantity = parameter(ZERO, unit="s", doc="per operation of decomposing matrices", low=0)
    node_nm: float = parameter(14.0, unit="nm", doc="technology node of digital parts", low=5, high=130)
    buffer_kb: float = parameter(64.0, unit="KB", doc="one bank of static RAM: one for vectors, more for weights",
                                 low=0.01)  # fmt: skip

    claim_forward: float = parameter(doc="RMS relative error, see Contract", low=0)
    claim_backward: float = parameter(doc="RMS relative error", low=0)
    claim_gradient: float = parameter(0.0, doc="RMS relative error, where gradient_by=homodyne", low=0)
    claim_update: float = parameter(doc="RMS relative error of moves", low=0)
    claim_update_outer: float = parameter(2.6, doc="RMS relative error, where trained=phases", low=0)
    claim_bias: float = parameter(doc="largest mean error", low=0)

    @classmethod
    def create(cls, preset: str | None, parameters: Mapping[str, Any], text: str = "") -> Self:
        """A device from a preset and overriding parameters. Raises DeviceError where one of these has no effect.

        To ask for what is so anyway is no error.
        """
        made = super().create(preset, parameters, text)
        for name in parameters:
            reader = reader_of(made, name)
            if reader and not same_value(getattr(made, name), getattr(super().create(preset, {}, text), name)):
                raise DeviceError(f"optical: {name}={parameters[name]} has no effect here; it is read with {reader}")
        return made

    def check(self) -> None:
        """Refuse parameters that do not fit together."""
        if self.detection not in DETECTED_BY[self.optics]:
            raise DeviceError(
                f"optical: optics={self.optics} is read by detection={' or '.join(DETECTED_BY[self.optics])}, not "
                f"{self.detection}"
            )
        if self.level == "mesh" and self.optics != "mesh":
            raise DeviceError(f"optical: level=mesh: optics={self.optics} has no MZIs; take level=gemm or photon")
        if self.detection == "intensity" and self.level != "photon":
            raise DeviceError("optical: detection=intensity has noise that depends on results; take level=photon")
        if self.trained == "phases" and (self.optics != "mesh" or self.array != "numpy"):
            raise DeviceError("optical: trained=phases needs optics=mesh, and array=numpy")
        if self.trained == "phases" and self.readings == 3 and self.mesh_kind == "reck":
            raise DeviceError(
                "optical: readings=3 need the loss of light that is sent again, and the paths of mesh_kind=reck differ "
                "in it; take readings=2 or mesh_kind=clements"
            )
        if self.optics == "mesh":
            self._require_light()
        for name in ("weight_bits", "dac_bits", "adc_bits", "meter_bits"):
            if getattr(self, name) == 1:
                raise DeviceError(f"optical: {name}=1: signed values need 2 bits or more (-1, 0, 1); 0: exact")
        if self.optical_depth and not (self.lifetime_s.nominal and self.saturation_w_per_mm2.nominal):
            raise DeviceError(
                "optical: absorbers need lifetime_s, saturation_w_per_mm2 and beam_area_mm2 of what they are made of; "
                "the presets slm and nitride have rubidium"
            )
        try:
            _ = self.receiver, self.imperfections, self.absorber
        except ConfigError as error:
            raise DeviceError(f"optical: {error}") from None
        if self.probed and self.probe_ratio == 0:
            self._require_weak_probe()

    def _require_light(self) -> None:
        """Refuse meshes that no light passes."""
        columns = 1 + sum(len(layout_of(self.mesh_kind, modes).columns) for modes in (self.inputs, self.outputs))
        loss_db = self.mzi_loss_db * columns
        if loss_db > DARK_DB:
            raise DeviceError(
                f"optical: mzi_loss_db={self.mzi_loss_db:g}: {columns} columns of inputs={self.inputs}, "
                f"outputs={self.outputs} lose {loss_db:.0f} dB, and beyond {DARK_DB:g} dB no photon arrives; take "
                f"mzi_loss_db={DARK_DB / columns:.3g} or less, or smaller units"
            )

    def _require_weak_probe(self) -> None:
        """Refuse a probe that is said to saturate nothing, and does."""
        most = WEAK * self.probe_photons / self.probe_over_saturation
        if self.probe_photons > most:
            raise DeviceError(
                f"optical: probe_photons={self.probe_photons:g} are {self.probe_over_saturation:.2g} of the saturation "
                f"intensity in the absorbers, and a weak probe has {WEAK:g} at most: take probe_photons={most:.3g} or "
                "less, or say by probe_ratio how strong it is"
            )

    @cached_property
    def contract(self) -> Contract:
        """As the preset claims: measured on the operands of the conformance kit, times about 1.5; 0 where exact."""
        return Contract(
            self.claim_forward,
            self.claim_backward,
            self.claim_gradient if self.gradient_by == "homodyne" else 0.0,
            self.claim_update,
            self.claim_update_outer if self.trained == "phases" else None,
            self.claim_bias,
            deterministic=not (self.shot_noise or self.drift_sigma or self.fixed_errors),
        )

    @property
    def fixed_errors(self) -> bool:
        """Whether one chip differs from another."""
        if self.optics != "mesh":
            return self.weight_sigma > 0
        return any((self.splitter_sigma, self.phase_sigma, self.mzi_loss_sigma_db))

    @cached_property
    def exact_weights(self) -> bool:
        """Whether the weights that act are those that were asked for."""
        same = self.weight_bits == 0 and not self.fixed_errors and not self.drift_sigma
        uneven = self.mesh_kind == "reck" and self.optics == "mesh" and self.mzi_loss_db > 0  # paths of any length
        bent = self.heat_crosstalk or self.weight_crosstalk or uneven
        return same and not bent and self.weight_scale is None

    @cached_property
    def exact_reading(self) -> bool:
        """Whether products are read as they are."""
        return not (self.shot_noise or self.dac_bits or self.adc_bits)

    @property
    def reprogrammed(self) -> bool:
        """Whether weights are a state of the optics; else they come as light, from memory."""
        return self.optics != "homodyne"

    @property
    def banks_of_weights(self) -> int:
        """Of units that hold a matrix: light passes most of them both ways; rings have one for the transpose too."""
        return {"homodyne": 0, "microring": 2}.get(self.optics, 1)

    @property
    def rails(self) -> int:
        """Symbols that one signed vector takes: intensities send positive and negative values one after the other."""
        return 2 if self.detection in ("balanced", "intensity") else 1

    @property
    def photon_j(self) -> float:
        """Of one photon."""
        return photon_energy_j(self.wavelength_m)

    @cached_property
    def receiver(self) -> Receiver:
        """Of one sample of one symbol."""
        return Receiver(
            1 / self.symbol_rate_hz,
            self.excess_factor,
            self.dark_current_a,
            self.load_ohm or math.inf,
            amplifier_a_per_root_hz=self.amplifier_a_per_root_hz,
            rin_db_per_hz=self.rin_db_per_hz,
            common_mode_rejection_db=0.0 if self.detection == "intensity" else self.common_mode_rejection_db,
            diodes=1 if self.detection == "intensity" else 2,
        )

    def variance(self, electrons: Any, by: str, symbols: int) -> Any:
        """All noise [electrons^2] of a result by detection `by`: of one sample for each rail, or of so many symbols."""
        if by != "arms":
            return self.receiver.variance(electrons) + (self.rails - 1) * self.receiver.electronic_variance
        adding = dataclasses.replace(
            self.receiver,
            integration_s=symbols / self.symbol_rate_hz,
            load_ohm=math.inf,
            amplifier_a_per_root_hz=0.0,
            diodes=2,
        )
        return adding.variance(electrons) + self.integrator_electrons**2

    @cached_property
    def imperfections(self) -> Imperfections:
        """Of a mesh."""
        return Imperfections(
            self.splitter_sigma,
            self.phase_sigma,
            self.weight_bits or math.inf,
            self.mzi_loss_db,
            self.mzi_loss_sigma_db,
            self.heat_crosstalk,
            self.tap_fraction if self.trained == "phases" else 0.0,
        )

    @cached_property
    def absorber(self) -> Absorber:
        """One layer of neurons."""
        return Absorber(
            self.optical_depth,
            self.profile,  # type: ignore[arg-type]
            self.encoding,  # type: ignore[arg-type]
            output_loss_depth=self.output_loss_depth,
            internal_loss_depth=self.internal_loss_depth,
            probe_ratio=self.probe_ratio,
            grating=self.grating,
            crosstalk=self.absorber_crosstalk,
            lifetime_s=self.lifetime_s.nominal,
        )

    @cached_property
    def absorber_period_s(self) -> float:
        """The time of one symbol in the absorbers: their memory, or the rate of the inputs."""
        return max(1 / self.symbol_rate_hz, 1 / self.absorber.highest_symbol_rate_hz(self.remembered))

    @cached_property
    def saturation_photons(self) -> float:
        """That pass one absorber in a symbol at the saturation intensity."""
        power_w = self.saturation_w_per_mm2.nominal * self.beam_area_mm2.nominal
        return power_w * self.absorber_period_s / self.photon_j

    @property
    def path_ratio(self) -> float:
        """Power before over power behind the path."""
        return float(10 ** (self.path_loss_db.nominal / 10))

    @property
    def probed(self) -> bool:
        """Whether light brings errors back through absorbers."""
        return bool(self.optical_depth) and self.absorber_backward == "probe"

    @property
    def probe_over_saturation(self) -> float:
        """The intensity of a probe of `probe_photons` in the absorbers, over the saturation intensity."""
        entering = self.probe_photons * self.path_ratio / self.detector_efficiency.nominal
        return entering / self.saturation_photons

    @property
    def column_loss_db(self) -> float:
        """What light loses in one column of MZIs, taps included."""
        return -20 * math.log10(self.imperfections.column_amplitude)
