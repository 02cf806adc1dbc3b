"""Which parameters a device reads, and what would have to be chosen for the others to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwsim.devices.optical.device import Optics

OF_MESHES = (
    "mesh_kind", "trained", "splitter_sigma", "phase_sigma", "mzi_loss_db", "mzi_loss_sigma_db", "heat_crosstalk",
    "calibrated", "flop_s",
)  # fmt: skip
OF_METERS = (
    "readings", "tap_fraction", "meter_symbols", "meter_bits", "meter_photons", "phase_rate", "claim_update_outer",
)  # fmt: skip
OF_SHIFTERS = ("shifter_pi_power_w", "shifter_area_mm2", "mean_phase")
OF_SETTING = ("driver_energy_j", "settle_s")
OF_NOISE = (
    "excess_factor", "dark_current_a", "load_ohm", "amplifier_a_per_root_hz", "integrator_electrons", "rin_db_per_hz",
    "common_mode_rejection_db",
)  # fmt: skip
OF_AMPLIFIERS = ("load_ohm", "amplifier_a_per_root_hz")
OF_ABSORBERS = (
    "profile", "encoding", "absorber_backward", "probe_gain", "output_loss_depth", "internal_loss_depth", "probe_ratio",
    "probe_photons", "grating", "absorber_crosstalk", "neurons", "lifetime_s", "remembered", "saturation_w_per_mm2",
    "beam_area_mm2", "mean_intensity",
)  # fmt: skip
NO_LASER_NOISE_DB = -1000.0
OF_PROBES = ("probe_gain", "probe_ratio", "probe_photons", "grating")


def reader_of(device: Optics, name: str) -> str | None:
    """What would have to be chosen for a parameter to be read; None where it is read."""
    return next((reader for names, read, reader in rules(device) if name in names and not read), None)


def rules(device: Optics) -> list[tuple[tuple[str, ...], bool, str]]:
    """Parameters, whether they are read, and with what."""
    optics, mesh = device.optics, device.optics == "mesh"
    meeting = "homodyne" in (optics, device.gradient_by)
    field_neurons = bool(device.optical_depth) and device.encoding == "amplitude"
    amplified = optics != "homodyne" or bool(device.optical_depth)
    paired = device.detection != "intensity" or meeting or field_neurons
    return [
        (OF_MESHES, mesh, "optics=mesh"),
        (OF_METERS, device.trained == "phases", "trained=phases"),
        (OF_SHIFTERS, optics in ("mesh", "microring"), "optics=mesh or microring"),
        (OF_SETTING, device.reprogrammed, "optics=mesh, slm or microring"),
        (("inputs",), optics != "homodyne", "optics=mesh, slm or microring"),
        (("panel_power_w", "panel_area_mm2"), optics == "slm", "optics=slm"),
        (("lanes", "integrator_electrons", "claim_gradient"), meeting, "optics=homodyne, or gradient_by=homodyne"),
        (("weight_sigma", "weight_crosstalk"), not mesh, "optics=slm, homodyne or microring"),
        (("chip_seed",), device.fixed_errors, "a fixed error above 0"),
        (("calibrated",), device.fixed_errors or device.heat_crosstalk > 0, "a fixed error or heat_crosstalk above 0"),
        (("drift_seed",), device.drift_sigma > 0, "drift_sigma above 0"),
        (("adc_crest",), not device.exact_reading, "shot_noise=true, or converters of some bits"),
        (("oscillator_photons",), device.detection == "oscillator" or field_neurons, "detection=oscillator"),
        (OF_NOISE, device.shot_noise, "shot_noise=true"),
        (OF_AMPLIFIERS, amplified, "optics=mesh, slm or microring: charge that adds up has integrator_electrons"),
        (("common_mode_rejection_db",), paired, "pairs of detectors"),
        (("common_mode_rejection_db",), device.rin_db_per_hz > NO_LASER_NOISE_DB, "rin_db_per_hz above its default"),
        (OF_ABSORBERS, device.optical_depth > 0, "optical_depth above 0"),
        (OF_PROBES, device.probed, "absorber_backward=probe"),
        (("probe_photons",), device.probe_ratio == 0, "probe_ratio=0, which decides else"),
    ]
