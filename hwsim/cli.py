"""The command line. Results go to standard output, all else to standard error; errors are one sentence and status 2."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwsim import __version__, data, registry
from hwsim.arguments import device_names, model_and_data, numbers, output, say, writable
from hwsim.commands import Commands
from hwsim.errors import ConfigError, HwsimError, Interrupted, TrainingError
from hwsim.learning import RULES

if TYPE_CHECKING:
    from hwsim.device import Device
    from hwsim.run import Run

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    help="Train one network on every simulated substrate, and account for every joule and second.\n\n"
    "A device is NAME[:PRESET][:key=value]... or path/to/file.py:Class, everywhere.\n\n"
    "Example: hwsim compare --devices ideal,digital:int8,gpu:h100:precision=bf16",
)

INTERRUPTED = 130  # exit status of a program that SIGINT ended: 128 + 2
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]  # click's UsageError, which newer releases of typer carry themselves
DEVICE = "Device: NAME[:PRESET][:key=value]... or path/to/file.py:Class."
MODEL = "Network: NAME[:key=value]..., such as mlp:hidden=256-128."
DATA = "Data set: " + ", ".join(data.names()) + "."
AGES = "1s,1h,30d,365d"  # a second, an hour, a month, a year
JSON = "Write the result as JSON; '-' for standard output, which then holds nothing else."


def main() -> None:
    """Run the command line; what hwsim refuses becomes one sentence on standard error and exit status 2."""
    if sys.stderr is None:  # closed: what is said there is for nobody
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the program runs
    try:
        if sys.stdout is None:
            raise ConfigError("standard output is closed, so there is nowhere to print to")
        status = app(prog_name="hwsim", standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk is still an error with a sentence
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            where = error.ctx.command_path if error.ctx is not None else "hwsim"
            print(f"hwsim: {error.format_message()} (see: {where} --help)", file=sys.stderr)
        raise SystemExit(2) from None
    except Interrupted as stop:
        print(f"hwsim: {stop}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except HwsimError as error:
        print(f"hwsim: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        with contextlib.suppress(OSError):  # what could not be written must not be tried again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader has what it wanted
            raise SystemExit(1) from None
        what = error.filename or "the output cannot be written"
        print(f"hwsim: {what}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except MemoryError as error:
        print(f"hwsim: more memory is needed than there is ({error or 'none is left'}); take less", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    if status == INTERRUPTED:  # newer releases of typer turn the interrupt into this status themselves
        print("hwsim: interrupted", file=sys.stderr)
    raise SystemExit(status if isinstance(status, int) else 0)


def version(shown: bool) -> None:
    """Print the version and stop."""
    if shown:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    shown: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def devices() -> None:
    """List the installed devices with their presets and parameters.

    Example: hwsim devices
    """
    from hwsim.parameters import parameters_of

    for name, cls in registry.devices().items():
        print(f"{name}: {first_line(cls)}")
        for preset, values in cls.presets().items():
            print(f"    {name}:{preset}  {values.get('doc', '')}".rstrip())
        for key, field in parameters_of(cls).items():
            unit = f" [{field.metadata['unit']}]" if field.metadata.get("unit") else ""
            print(f"    {key}={unit}  {field.metadata.get('doc', '')}".rstrip())


@app.command()
def models() -> None:
    """List the installed networks with their parameters.

    Example: hwsim models
    """
    for name, factory in registry.models().items():
        print(f"{name}: {first_line(factory)}")
        for parameter in inspect.signature(factory).parameters.values():
            required = parameter.default is inspect.Parameter.empty
            print(f"    {parameter.name}" + ("  (required)" if required else f"={parameter.default!r}"))


@app.command()
def components(
    name: Annotated[str | None, typer.Argument(help="Show only values whose name holds this.")] = None,
) -> None:
    """Print the component library: values, ranges (5% to 95%), certainty and sources.

    Example: hwsim components mac
    """
    from hwsim.library import entries
    from hwsim.report.notes import CERTAINTY_NOTE
    from hwsim.report.table import grid, wrapped

    found = [entry for entry in entries() if name is None or name in entry.name]
    if not found:
        raise ConfigError(f"no component value holds {name!r} in its name; see: hwsim components")
    lines = []
    for entry in found:
        q = entry.quantity
        values = [f"{value:.4g}" for value in (q.low, q.nominal, q.high)]
        lines.append([entry.name, *values, entry.unit, q.certainty])
    head, rule, *rows = grid(["name", "low", "nominal", "high", "unit", "certainty"], lines).splitlines()
    print(f"{head}\n{rule}")
    for entry, row in zip(found, rows, strict=True):
        print(row)
        print(textwrap.indent(wrapped(entry.quantity.source, ""), "    "))
    print(f"\n{wrapped(CERTAINTY_NOTE)}")


@app.command()
def check(
    device: Annotated[str, typer.Argument(help=DEVICE)],
) -> None:
    """Run the conformance kit over a device; exit status 1 where a check fails.

    Example: hwsim check gpu:h100:precision=bf16
    """
    from hwsim.testing import check_device

    registry.device(device)
    report = check_device(lambda: registry.device(device), raise_on_failure=False)
    print(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command("new-device")
def new_device(
    name: Annotated[str, typer.Argument(help="Name of the device and of its package.")],
    folder: Annotated[Path, typer.Option(help="Where the package's folder is made.")] = Path(),
) -> None:
    """Write a small installable package for a device of your own: device, values, test, readme.

    Example: hwsim new-device spintronic
    """
    from hwsim.scaffold import new_device as scaffold

    for path in scaffold(name, folder):
        print(path)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help=MODEL)] = "mlp",
    data_name: Annotated[str | None, typer.Option("--data", help=DATA)] = None,
    device: Annotated[str, typer.Option(help=DEVICE)] = "ideal",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of a mini-batch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size, above zero.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, momentum or adam.")] = None,
    loss: Annotated[str | None, typer.Option(help="cross_entropy or mse.")] = None,
    rule: Annotated[str, typer.Option(help="Learning rule: " + ", ".join(RULES) + ".")] = "backprop",
    undo: Annotated[bool, typer.Option("--undo", help="Then run the training backwards (rule leapfrog).")] = False,
    until: Annotated[float | None, typer.Option(help="Stop at this validation accuracy.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
    seeds: Annotated[int, typer.Option(help="Train this many seeds, from --seed on.")] = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="File that the run is kept in (one seed).")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between writes; else every epoch.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    controls: Annotated[bool, typer.Option(help="Also train in exact arithmetic, and only the last layer.")] = True,
    deploy: Annotated[
        str | None, typer.Option(help="Then program the first seed's weights on this device, and let them age there.")
    ] = None,
    ages: Annotated[
        str | None, typer.Option(help="Ages on that device, in s, min, h or d; usually 1s,1h,30d,365d.")
    ] = None,
    json_path: Annotated[str | None, typer.Option("--json", help=JSON)] = None,
) -> None:
    """Train one network on one device; prints accuracy beside its controls, and the bill of a step.

    Example: hwsim train xor --device gpu:h100 --seeds 10

    With deployment: hwsim train mlp --device crossbar --deploy crossbar:pcm --ages 1s,1h,30d
    """
    from hwsim.deploy import ages_in, deployment, require_ageing
    from hwsim.learning.undoing import require_exact, run_back
    from hwsim.nn import Network
    from hwsim.report.runs import bill_text, deployment_text, heading, run_text, seeds_text
    from hwsim.report.units import title_of
    from hwsim.train import fit, loss_for, model_text, most_frequent_class_share, require_fit

    if seeds < 1:
        raise ConfigError(f"seeds {seeds}: needs a whole number from 1")
    if checkpoint is not None and seeds > 1:
        raise ConfigError("a checkpoint keeps one run; give --checkpoint with --seeds 1")
    if ages is not None and deploy is None:
        raise ConfigError(f"ages {ages!r} of what? give --deploy DEVICE with --ages")
    if undo and (rule != "leapfrog" or deploy is not None):
        raise ConfigError("--undo goes back to the first weights: give it with --rule leapfrog, and without --deploy")
    writable({"--json": json_path, "--checkpoint": checkpoint})
    network, dataset, recipe = model_and_data(model, data_name)
    chosen = {
        "epochs": epochs, "batch": batch, "learning_rate": learning_rate, "optimizer": optimizer, "loss": loss,
        "until": until, "rule": rule,
    }  # fmt: skip
    settings = recipe | {key: value for key, value in chosen.items() if value is not None}
    substrate = registry.device(device)
    if undo:
        require_exact([substrate])
    if deploy is not None:
        require_fit(network, dataset, substrate, loss_for(dataset, settings.get("loss")))
        target, ages_s = registry.device(deploy), ages_in(AGES if ages is None else ages)
        require_ageing(Network(network, substrate, shape_only=True), dataset, target, tuple(ages_s.values()))
    keeping: dict[str, Any] = {"checkpoint": checkpoint, "checkpoint_every": checkpoint_every, "resume": resume}
    title, share = title_of(model_text(network)), most_frequent_class_share(dataset)
    result: dict[str, Any] = {
        "hwsim_training": 1,
        "version": __version__,
        "model": model_text(network),
        "data": dataset.name,
        "most_frequent_class_share": share,
    }
    rows: list[dict[str, Any]] = []
    for each in range(seed, seed + seeds):
        run = fit(network, dataset, substrate, seed=each, **keeping, **settings, progress=None)
        row = {"device": substrate.spec, **run.record()}
        if controls:
            row |= controls_of(run, substrate, dataset, settings)
        if not rows:
            first, bill, name = run, run.bill(), f"{title} on {dataset.name}"
            say(json_path, heading(name, substrate.spec, dataset.classes, share, run.test_images))
        rows.append(row)
        say(json_path, run_text(row))
        if undo:
            used = loss_for(dataset, settings.get("loss"))
            row["undone"] = back = run_back(run.network, dataset, used, batch=run.batch, steps=run.steps)
            whether = "bit for bit" if back["bit_for_bit"] else "NOT bit for bit"
            say(json_path, f"    undone: {back['steps']} steps, for {back['energy_j']:.3g} J; first weights {whether}")
    if seeds > 1:
        say(json_path, seeds_text(rows, settings.get("until")))
    result |= {"rows": rows, "bill": bill}
    if text := bill_text(bill, substrate.spec):
        say(json_path, f"\n{text}")
    if deploy is not None:
        result["deployment"] = deployment(first, dataset, target, ages_s)
        say(json_path, f"\n{deployment_text(result['deployment'])}")
    output(json_path, json.dumps(result, allow_nan=False))


@app.command()
def compare(
    model: Annotated[str, typer.Option(help=MODEL)] = "mlp",
    data_name: Annotated[str | None, typer.Option("--data", help=DATA)] = None,
    devices: Annotated[str | None, typer.Option(help="Devices, comma separated; each " + DEVICE[8:])] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split; usually 10.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of a mini-batch; usually 32.")] = None,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds, for mean and spread.")] = 3,
    optimizer: Annotated[str | None, typer.Option(help="sgd, momentum or adam; usually sgd.")] = None,
    learning_rates: Annotated[
        str | None, typer.Option(help="Rates to choose from on the validation split, comma separated.")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Validation accuracy that joules are counted to; else by exact arithmetic.")
    ] = None,
    json_path: Annotated[str | None, typer.Option("--json", help=JSON)] = None,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write one line per device and seed.")] = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="Write table and figure as one file.")] = None,
    figure_path: Annotated[Path, typer.Option("--figure", help="Draw the figure into this file.")] = Path(
        "hwsim-compare.png"
    ),
    schedule: Annotated[
        str | None, typer.Option(help="'pipelined': also a step in micro-batches, tiles and host at once.")
    ] = None,
    share: Annotated[
        str | None, typer.Option(help="What the tiles share then: NAME=UNITS, or NAME for one bank; adc=8,adc_back=8.")
    ] = None,
) -> None:
    """Train one network on many devices and print what each reaches, at what cost, and why.

    Example: hwsim compare --devices ideal,digital:int8,gpu:h100,gpu:gtx580 --seeds 3
    """
    from hwsim.compare import DEFAULT_DEVICES
    from hwsim.compare import compare as run_comparison
    from hwsim.pipeline import shares_in
    from hwsim.report.figure import require_drawable
    from hwsim.report.gantt import chart_path, written

    if share is not None and schedule is None:
        raise ConfigError(f"share {share!r} in what? give --schedule pipelined with --share")
    shared = None if share is None else shares_in(share)
    results = {"--json": json_path, "--csv": csv_path, "--html": html_path, "--figure": require_drawable(figure_path)}
    writable(results | {"the chart of the schedule": chart_path(figure_path) if schedule is not None else None})
    network, dataset, recipe = model_and_data(model, data_name)
    settings = {key: value for key, value in recipe.items() if key in ("epochs", "batch", "optimizer")}
    if "learning_rate" in recipe:
        settings["learning_rates"] = (recipe["learning_rate"],)
    if learning_rates is not None:
        settings["learning_rates"] = numbers(learning_rates, "learning rates")
    asked = {"epochs": epochs, "batch": batch, "optimizer": optimizer, "schedule": schedule, "shared": shared}
    settings |= {key: value for key, value in asked.items() if value is not None}
    chosen = device_names(devices) if devices is not None else DEFAULT_DEVICES
    result = run_comparison(
        network, dataset, chosen, first_seed=seed, seeds=seeds, target=target, progress=None, **settings
    )
    say(json_path, str(result).rstrip("\n"))
    if csv_path is not None:
        result.to_csv(csv_path)
    if html_path is not None:
        result.to_html(html_path)
    output(json_path, result.json())  # before drawing: a picture that fails takes nothing else along
    result.to_figure(figure_path)
    print(f"figure: {figure_path}", file=sys.stderr)
    if schedule is not None:
        say(json_path, f"\n{written(result.data['schedule'], figure_path)}")


@app.command()
def calibrate(
    device: Annotated[str, typer.Option(help="cpu or gpu; :PRESET or :key=value say what is not fitted.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Write the preset here, a .toml file.")] = None,
) -> None:
    """Fit this machine's roofline to timed products; prints the time error on products that were not fitted.

    Example: hwsim calibrate --out mine.toml, and then: hwsim compare --devices cpu:mine.toml:local,gpu:h100
    """
    from hwsim.calibrate import calibrate_to

    print(calibrate_to(device, out))


# -- small things ------------------------------------------------------------------------------------------


def first_line(thing: Any) -> str:
    """The first sentence of what documents it."""
    return (inspect.getdoc(thing) or "").split("\n")[0]


def controls_of(run: Run, device: Device, dataset: data.Dataset, settings: dict[str, Any]) -> dict[str, Any]:
    """The test accuracies of a run's two controls, by name."""
    exact, network, layers = registry.device("ideal"), run.network.model, run.network.layers
    # Where exact arithmetic is what was trained, it is its own control.
    own = device.spec == exact.spec
    twin = run.test_accuracy if own else control(network, dataset, exact, run.seed, settings)
    found = {"exact_arithmetic_accuracy": twin}
    if len(layers) > 1:
        found["last_layer_only_accuracy"] = control(network, dataset, device, run.seed, settings, layers[:-1])
    return found


def control(
    network: Any, dataset: data.Dataset, device: Any, seed: int, settings: dict[str, Any], frozen: Sequence[str] = ()
) -> float | None:
    """The test accuracy of the same training on `device`, some layers frozen; None where that diverges."""
    from hwsim.train import fit

    try:
        return fit(network, dataset, device, seed=seed, frozen=frozen, **settings).test_accuracy
    except TrainingError:
        return None
