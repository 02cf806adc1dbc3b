"""`hwsim fit-cell`: from a file of measured pulses to a cell preset, with the spread over devices and a figure."""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from hwsim import registry
from hwsim.devices.crossbar import cells, steps
from hwsim.devices.crossbar.cells import Cell
from hwsim.devices.crossbar.curves import Curve, read_csv
from hwsim.devices.crossbar.fit import NOISES, Z95, Estimate, Population, fit_devices
from hwsim.errors import ConfigError, DeviceError, HwsimError, PluginError
from hwsim.files import require_writable
from hwsim.parameters import parameters_of

Z90 = 1.645  # half a 90% interval of the normal distribution in standard deviations
STYLE = "hwsim.report.hwsim"  # the style file of all figures, as matplotlib calls one within a package
NAME = r"[A-Za-z0-9_-]+"  # of a preset, so that cell=file.toml:NAME can be told apart

PULSES = (
    "CSV file whose first line names the columns: pulse (0, 1, 2, ... through), its direction (+1 or -1, up or down), "
    "conductance_siemens after it, and device where several were measured. Row 0 is the state before any pulse."
)
MODEL = "Cell model to fit, NAME or path/to/file.py:Class; else every shipped pulsed model is tried and BIC chooses."
NOISE = "What is noisy: cycle (each pulse, read exactly) or read (the reading of exact pulses)."
JSON = "Write the result as JSON; '-' for standard output, which then holds nothing else."


def fit_cell(
    pulses: Annotated[Path, typer.Argument(help=PULSES)],
    model: Annotated[str | None, typer.Option(help=MODEL)] = None,
    noise: Annotated[str, typer.Option(help=NOISE)] = "cycle",
    name: Annotated[str | None, typer.Option(help="Name of the preset; else from the file's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the preset here; else PULSES-cell.toml.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw curve and residuals here; else PULSES-residuals.png.")
    ] = None,
    json_path: Annotated[str | None, typer.Option("--json", help=JSON)] = None,
) -> None:
    """Fit a memory cell to measured pulses and write a preset for crossbars: parameters with 95% intervals.

    The first lines of a file: "pulse,direction,conductance_siemens", "0,+1,1.02e-5", "1,+1,1.09e-5". Measure until
    the conductance saturates both ways: only soft-bounds finds its bounds, others take the curve's extremes for them.

    Example: hwsim fit-cell pulses.csv --out mine.toml --name mine
    """
    out, figure = out or Path(f"{pulses.stem}-cell.toml"), figure or Path(f"{pulses.stem}-residuals.png")
    name = name or re.sub(f"(?!{NAME}).", "-", pulses.stem) or "cell"
    if not re.fullmatch(NAME, name):
        raise ConfigError(f"preset name {name!r}: needs letters, digits, - and _ alone")
    result = None if json_path in (None, "-") else Path(str(json_path))
    require_separate(pulses, [path for path in (out, figure, result) if path is not None])
    kind = image_kind(figure)
    if noise not in NOISES:
        raise ConfigError(f"noise {noise!r}: needs one of {', '.join(NOISES)}")
    tried = [model] if model is not None else shipped()
    classes = {each: model_class(each) for each in tried}
    curves = read_csv(pulses)
    trials = ranked(classes, curves, noise)
    best = trials[0].found
    if best is None:
        raise ConfigError(f"{pulses}: {trials[0].refusal}")
    text = json.dumps(record(trials, curves, noise, pulses.name, name), allow_nan=False)
    files = {out: preset(best, name, pulses.name, trials[0].model).encode()}
    files[figure] = drawn(best, f"{trials[0].model} fitted to {pulses.name}", kind)
    if result is not None:
        files[result] = f"{text}\n".encode()
    write_whole(files)
    print(report(trials, curves, pulses.name), file=sys.stderr if json_path == "-" else sys.stdout)
    if json_path == "-":
        print(text)
    print(f"preset: {out} (crossbar:cell={out}:{name})\nfigure: {figure}", file=sys.stderr)


# -- many models -------------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """A model that was tried: what came out, or why nothing did."""

    model: str
    found: Population | None
    refusal: str = ""


def shipped() -> list[str]:
    """The shipped models of pulsed cells; phase-change pulses as exp-step does, and is not tried beside it."""
    return [name for name, cls in cells.models().items() if cls.__module__ == steps.__name__]


def model_class(name: str) -> type[Cell]:
    """The cell class called `name`: shipped, of an entry point, or path/to/file.py:Class.

    Raises DeviceError for an unknown one, PluginError for one that is no cell, ConfigError for one without pulses.
    """
    known = {**registry.installed(cells.GROUP), **cells.models()}
    if name not in known and not name.partition(":")[0].endswith(".py"):
        raise DeviceError(registry.unknown("cell model", name, known))
    cls: Any = cells.models().get(name) or registry.load(cells.GROUP, "cell model", name)
    if not (isinstance(cls, type) and issubclass(cls, Cell)):
        raise PluginError(f"cell model {name!r} is {cls!r}, not a subclass of hwsim.devices.crossbar.cells.Cell")
    if cls.pulse is Cell.pulse:
        raise ConfigError(f"cell model {name!r} has no pulses that could be fitted; try {', '.join(shipped())}")
    return cls


def ranked(classes: Mapping[str, type[Cell]], curves: Mapping[str, Curve], noise: str) -> list[Trial]:
    """Every model fitted, by BIC, lowest first; those that the curves do not determine come last."""
    trials = []
    for name, cls in classes.items():
        try:
            trials.append(Trial(name, fit_devices(cls, curves, noise)))
        except ConfigError as error:
            trials.append(Trial(name, None, str(error)))
        except HwsimError:
            raise
        except Exception as error:  # a class of the user's own fails in its own way
            what = f"{type(error).__name__}: {error}"
            raise PluginError(f"cell model {name!r} cannot be fitted: {what}") from error
    return sorted(trials, key=lambda trial: math.inf if trial.found is None else trial.found.bic)


# -- the preset --------------------------------------------------------------------------------------------


def preset(found: Population, name: str, source: str, model: str = "") -> str:
    """TOML text of a preset called `name`, of `model` (none given: the class's name) with what it differs by."""
    cell, estimates = found.cell, found.estimates
    rows = [
        f"[{toml(name)}]",
        f"doc = {toml(f'Fitted to {counted(found)}')}",
        f"model = {toml(model or type(cell).name)}",
        f"source = {toml(source)}",
        'certainty = "measured"',
    ]
    for key, field in parameters_of(type(cell)).items():
        value, at = getattr(cell, key), estimates.get(key)
        if key not in ("label", "g_min_siemens", "g_max_siemens") and (at or value != field.default):
            rows.append(f"{key} = {toml(value)}" + (f" # 95%: {at.low:.6g} to {at.high:.6g}" if at else ""))
    rows += [window_row(found, end, source) for end in ("min", "max")]
    if rest := not_measured(found):
        rows.append("# Not measured, the model's own: " + ", ".join(f"{key} = {rest[key]!r}" for key in rest))
    return "\n".join(rows) + "\n"


def window_row(found: Population, end: str, source: str) -> str:
    """A conductance of the window; with 5% and 95% where its bound was fitted and these are above 0."""
    low, high = found.cell.window_siemens()
    value = low if end == "min" else high
    at = found.estimates.get(f"w_{end}", Estimate(0.0, 0.0, 0.0))
    half = Z90 / Z95 * (at.high - at.low) / 2 * (high - low) / found.cell.span
    ends = f"low = {value - half!r}, high = {value + half!r}" if value > half > 0 else "exact = true"
    return (
        f'g_{end}_siemens = {{ nominal = {value!r}, {ends}, unit = "S", certainty = "measured", '
        f"source = {toml(source)} }}"
    )


def not_measured(found: Population) -> dict[str, float]:
    """Spreads and noises of the model that the measurement does not tell, where they are not 0."""
    known = found.estimates.keys() | found.spreads.keys()
    names = [name for name in parameters_of(type(found.cell)) if name.endswith(("_d2d", "_std"))]
    return {name: value for name in names if name not in known and (value := getattr(found.cell, name))}


def toml(value: Any) -> str:
    """A parameter as TOML."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


# -- what is shown -----------------------------------------------------------------------------------------


def report(trials: list[Trial], curves: Mapping[str, Curve], source: str) -> str:
    """The table of parameters, what is left over, and the ranking of models."""
    best = trials[0].found
    assert best is not None
    low, high = best.cell.window_siemens()
    lines = [
        f"{trials[0].model} fitted to {counted(best)} of {source}",
        f"States {best.cell.w_min:.4g} to {best.cell.w_max:.4g} stand for {1e6 * low:.4g} to {1e6 * high:.4g} uS.",
        "",
        f"{'parameter':<16} {'value':>12}   95% interval",
    ]
    for name, at in best.estimates.items():
        lines.append(f"{name:<16} {at.value:>12.5g}   {at.low:.5g} to {at.high:.5g}")
    lines += [f"{name:<16} {value:>12.5g}   (device to device)" for name, value in best.spreads.items()]
    span = max(c.conductance_siemens.max() for c in curves.values())
    span -= min(c.conductance_siemens.min() for c in curves.values())
    lines += [
        "",
        f"Residuals: RMS {1e6 * best.rms_siemens:.4g} uS ({100 * best.rms_siemens / span:.2g}% of the range), "
        f"{best.degrees_of_freedom} degrees of freedom, correlation of neighbours {best.autocorrelation:+.2f}",
    ]
    if best.autocorrelation**2 * best.pulses > 3**2:  # three standard deviations of what independent residuals show
        lines.append("Neighbours that correlate so show that the model, or the kind of noise (--noise), does not fit.")
    if rest := not_measured(best):
        lines.append("Not measured, the model's own: " + ", ".join(f"{key}={rest[key]:g}" for key in rest))
    if len(trials) > 1:
        lines += ["", f"{'model':<16} {'BIC - best':>12} {'RMS [uS]':>12} {'parameters':>12}"]
        for model, found, _ in trials:
            if found is not None:
                off, rms = found.bic - best.bic, 1e6 * found.rms_siemens
                lines.append(f"{model:<16} {off:>12.1f} {rms:>12.4g} {found.parameters:>12}")
        lines += [f"{model}: {refusal}" for model, _, refusal in trials if refusal]
    return "\n".join(lines)


def counted(found: Population) -> str:
    """How much was measured, in words."""
    return f"{found.pulses} pulses" + (f" on {len(found.fits)} devices" if len(found.fits) > 1 else "")


def record(trials: list[Trial], curves: Mapping[str, Curve], noise: str, source: str, name: str) -> dict[str, Any]:
    """The result as plain data."""
    best = trials[0].found
    assert best is not None
    return {
        "hwsim_fit": 1,
        "source": source,
        "devices": list(curves),
        "pulses": best.pulses,
        "preset": name,
        "model": trials[0].model,
        "noise": noise,
        "parameters": {name: at._asdict() for name, at in best.estimates.items()},
        "device_to_device": best.spreads,
        "window_siemens": best.cell.window_siemens(),
        "rms_siemens": best.rms_siemens,
        "degrees_of_freedom": best.degrees_of_freedom,
        "autocorrelation": best.autocorrelation,
        "models": [
            {"model": model, "refused": refusal}
            if found is None
            else {"model": model, "bic": found.bic, "rms_siemens": found.rms_siemens, "parameters": found.parameters}
            for model, found, refusal in trials
        ],
    }


def drawn(found: Population, title: str, kind: str) -> bytes:
    """An image of curves, fits and residuals [uS] against pulse number."""
    import matplotlib.style
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        above.set_title(title.replace("$", r"\$"))  # which would begin a formula
        for index, each in enumerate(found.fits.values()):
            pulse, shown = np.arange(len(each.curve.up)), index == 0  # one entry of a kind in the legends
            fitted = "fit, one pulse ahead" if each.noise == "cycle" else "fit"
            above.plot(pulse, 1e6 * each.curve.conductance_siemens, ".", ms=4, label="measured" if shown else None)
            above.plot(pulse[1:], 1e6 * each.predicted_siemens, "k-", lw=0.7, label=fitted if shown else None)
            for up, look, words in ((True, "C0^", "up"), (False, "C5v", "down")):
                at = each.curve.up[1:] == up
                below.plot(
                    pulse[1:][at], 1e6 * each.residuals_siemens[at], look, ms=2.5, label=words if shown else None
                )
        above.set_ylabel("conductance [uS]")
        below.axhline(0, color="black", lw=0.8)
        below.set_ylabel("residual [uS]")
        below.set_xlabel("pulse")
        above.legend()
        below.legend()
        try:
            figure.savefig(file, format=kind)
        except Exception as error:  # each kind of image has a writer of its own, which may lack what it needs
            raise ConfigError(f"the figure cannot be drawn as {kind}: {error}") from None
    return file.getvalue()


# -- files -------------------------------------------------------------------------------------------------


def image_kind(path: Path) -> str:
    """The kind of image that a file's ending names. Raises ConfigError for one that cannot be drawn."""
    from matplotlib.backend_bases import FigureCanvasBase

    kind, known = path.suffix[1:].lower(), FigureCanvasBase.get_supported_filetypes()
    if kind not in known:
        raise ConfigError(f"{path} cannot be drawn: its ending must be one of {', '.join(sorted(known))}")
    return kind


def require_separate(source: Path, results: list[Path]) -> None:
    """Refuse, before any work, results that cannot be written, or of which one would take another's place."""
    taken = {source.resolve()}
    for path in results:
        if require_writable(path).exists() and not path.is_file():
            raise ConfigError(f"{path} is no ordinary file; give a file to write")
        if path.resolve() in taken:
            raise ConfigError(f"{path} would be written over {source} or another result; give each a file of its own")
        taken.add(path.resolve())


def write_whole(files: Mapping[Path, bytes]) -> None:
    """Write all files beside their places, and move them there once all are whole. Raises ConfigError."""
    partial = {path: path.resolve().with_name(f".{path.name}.{os.getpid()}.partial") for path in files}
    try:
        for path, content in files.items():
            partial[path].write_bytes(content)
        for path in files:
            os.replace(partial[path], path.resolve())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        for each in partial.values():
            each.unlink(missing_ok=True)
