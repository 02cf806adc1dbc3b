"""Optical networks trained end to end: decision boundaries, controls of the absorbers, and accuracy against photons.

    python benchmarks/optical_training.py [--parts tasks controls photons phases slopes costs bill] [--data digits]
                                          [--seeds 5]
                                          [--epochs 30] [--json FILE] [--figure FILE]

tasks     rings, XOR and arches in the plane, 2-16-2 (rings: 3 classes), on preset slm with all its noise: layers and
          absorbers optical both ways, the loss in electronics; controls with ReLU, and with no nonlinearity.
controls  the widths of Guo et al. 2021 (k-128-128-n without bias, Adam 5e-4, squared error, batch 64, start N(0, .1)):
          absorbers with exact derivative and with probe, ReLU, linear, all in exact arithmetic, where only the
          absorber differs; and the same on preset slm with all its noise. Paired: one seed, one start, one order.
photons   a ReLU network k-100-n trained in exact arithmetic, then read with so many photons per multiplication:
          counted intensities as Wang et al. 2022 do, and the kinds of optics as they come but for their photons.
phases    k-n on preset mzi, moved by powers that are read in place; and what loss does to these gradients.
slopes    cosines between the slopes that a probe sees and the exact ones, by depth and size of the inputs.
costs     one N x N layer: J per multiplication forwards, light launched, an update, and the batch that outweighs it.
bill      one training step of an N x N layer, the device's own part, from shapes: joules per multiplication against
          batch, N, photons and bits (converters at constant energy per level); by component. Under it the light of as
          many photons as reach the exact accuracy less a point, where the part `photons` found them, else of those
          that the preset detects.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import hwsim
from hwsim import data, models
from hwsim.arrays import Shape
from hwsim.cost import Product
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.devices.optical import Optical, insitu
from hwsim.devices.optical.absorber import Absorber, best_gain, exact_slope, probe_slope, slope_cosine
from hwsim.devices.optical.decomposition import decompose
from hwsim.devices.optical.imperfections import Imperfections, fabricate, realised
from hwsim.devices.optical.mesh import trace, trace_back
from hwsim.ledger import Ledger, TileShape
from hwsim.nn import Initial, Network
from hwsim.tile import Tile

Host = np.ndarray[Any, Any]

EXACT = {
    "shot_noise": False,
    "dac_bits": 0,
    "adc_bits": 0,
    "weight_bits": 0,
    "weight_sigma": 0.0,
    "weight_crosstalk": 0.0,
    "drift_sigma": 0.0,
    **{f"claim_{name}": 0.0 for name in ("forward", "backward", "update", "bias")},
}
DEPTHS = (1.0, 10.0, 30.0)
PHOTONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
PARTS = ("tasks", "controls", "photons", "phases", "slopes", "costs", "bill")
BITS = (4, 6, 8, 10, 12)
SLOPE_DEPTHS, SIGMAS = (1.0, 4.0, 10.0, 30.0), (0.5, 1.0, 2.0, 4.0)
TASKS = ("rings", "xor", "arches")
BILLED = ("nitride", "mzi", "slm", "homodyne", "microring")
BATCHES = tuple(4**i for i in range(11))
COSTED: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("nitride", 64, {}), ("mzi", 16, {}), ("mzi", 64, {}), ("mzi", 256, {"inputs": 256, "outputs": 256}),
    ("homodyne", 64, {}), ("microring", 64, {}), ("slm", 256, {}),
)  # fmt: skip
SIZES = (16, 32, 64, 128, 256, 512, 1024)
ACTIVATIONS = {"absorber, probe": "device", "ReLU": "relu", "linear": None}


def slm(**parameters: Any) -> Optical:
    """Free space with rubidium."""
    return Optical.create("slm", parameters)


def spread(values: list[float]) -> str:
    """Mean and standard deviation in percent."""
    deviation = 100 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{100 * float(np.mean(values)):5.1f} +- {deviation:.1f}"


# -- tasks in the plane ----------------------------------------------------------------------------------------


def points(task: str, count: int, rng: Any) -> tuple[Host, Host]:
    """x [count, 2] in about -2..2, and labels [count]."""
    if task == "xor":
        x = rng.uniform(-2, 2, (count, 2))
        return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    if task == "rings":
        labels = rng.integers(0, 3, count)
        radius, angle = 0.4 + 0.7 * labels + 0.1 * rng.standard_normal(count), rng.uniform(0, 2 * np.pi, count)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), labels
    labels, angle = rng.integers(0, 2, count), rng.uniform(0, np.pi, count)
    side = 1 - 2 * labels
    x = np.stack([1.2 * np.cos(angle) + 0.6 * side - 0.0, side * (1.2 * np.sin(angle) - 0.4)], axis=1)
    return x + 0.15 * rng.standard_normal((count, 2)), labels


def plane(task: str) -> Dataset:
    """400 points to train on, 200 each to validate and test."""
    rng = np.random.default_rng(0)
    train, validation, test = (points(task, count, rng) for count in (400, 200, 200))
    single = [(x.astype(np.float32), labels) for x, labels in (train, validation, test)]
    (x, y), (x_validation, y_validation), (x_test, y_test) = single
    return data.from_arrays(
        x, y, x_validation=x_validation, y_validation=y_validation, x_test=x_test, y_test=y_test, name=task
    )


def tasks(options: argparse.Namespace) -> dict[str, Any]:
    """Test accuracies, and what the first seed's networks say of the plane."""
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-2.5, 2.5, 81)]), axis=-1).reshape(-1, 2).astype(np.float32)
    found: dict[str, Any] = {}
    for task in TASKS:
        dataset = plane(task)
        boundaries: dict[str, Any] = {}
        accuracies: dict[str, list[float]] = {}
        for name, activation in ACTIVATIONS.items():
            accuracies[name] = []
            for seed in range(options.seeds):
                model = models.mlp([2, 16, 3 if task == "rings" else 2], activation)
                settings: dict[str, Any] = {"epochs": 60, "batch": 20, "learning_rate": 0.01, "optimizer": "adam"}
                run = hwsim.fit(model, dataset, slm(seed=seed), seed=seed, **settings)
                accuracies[name].append(run.test_accuracy)
                if seed == 0:
                    boundaries[name] = run.network.predict(grid).argmax(axis=1).reshape(81, 81).tolist()
            print(f"{task:8} {name:16} {spread(accuracies[name])}", flush=True)
        found[task] = {"accuracy": accuracies, "boundary": boundaries}
    return found


# -- controls --------------------------------------------------------------------------------------------------


def start(features: int) -> Initial:
    """N(0, .1), as Guo et al. start; the first layer by as much more as gives fields the size that 784 inputs have.

    Deep absorbers are black to weak fields, and learn nothing from them.
    """

    def initial(rng: Any, shape: tuple[int, ...]) -> Host:
        scale = math.sqrt(784 / features) if shape[0] == features else 1.0
        return 0.1 * scale * rng.standard_normal(shape)  # type: ignore[no-any-return]

    return initial


def rows() -> dict[str, tuple[str | None, dict[str, Any]]]:
    """Activation and parameters of every row."""
    found: dict[str, tuple[str | None, dict[str, Any]]] = {"ReLU": ("relu", EXACT), "linear": (None, EXACT)}
    for depth in DEPTHS:
        for back in ("exact", "probe"):
            found[f"absorber {depth:g}, {back}"] = (
                "device",
                {**EXACT, "optical_depth": depth, "absorber_backward": back},
            )
    for back in ("exact", "probe"):
        found[f"slm with its noise, absorber 10, {back}"] = "device", {"absorber_backward": back}
    found["slm with its noise, ReLU"] = "relu", {}
    return found


def controls(options: argparse.Namespace) -> dict[str, list[float]]:
    """Test accuracies by row, seed after seed."""
    dataset = data.load(options.data)
    found: dict[str, list[float]] = {}
    for name, (activation, parameters) in rows().items():
        found[name] = []
        for seed in range(options.seeds):
            model = models.mlp([dataset.features, 128, 128, dataset.classes], activation, bias=False)
            model = type(model)(model.widths, model.activation, bias=False, initial=start(dataset.features))
            run = hwsim.fit(
                model, dataset, slm(seed=seed, **parameters), epochs=options.epochs, batch=64, learning_rate=5e-4,
                optimizer="adam", loss="mse", seed=seed,
            )  # fmt: skip
            found[name].append(run.test_accuracy)
        print(f"{options.data:8} {name:42} {spread(found[name])}", flush=True)
    for depth in DEPTHS:
        exact, probe = (np.array(found[f"absorber {depth:g}, {back}"]) for back in ("exact", "probe"))
        print(f"{options.data:8} absorber {depth:g}, exact less probe, paired {spread(list(exact - probe)):>20}")
    return found


# -- photons ---------------------------------------------------------------------------------------------------


def readers(photons: float, seed: int) -> dict[str, Device]:
    """Kinds of optics with so many photons per multiplication."""
    shared = {"detected_photons": photons, "seed": seed}
    counted = {**EXACT, **shared, "shot_noise": True, "level": "photon", "detection": "intensity", "inputs": 1000,
               "outputs": 1000, "amplifier_a_per_root_hz": 0.0}  # fmt: skip
    return {
        "counted intensities (Wang)": slm(**counted),
        "slm": slm(**shared),
        "mzi": Optical.create("mzi", shared),
        "homodyne": Optical.create("homodyne", shared),
        "microring": Optical.create("microring", shared),
    }


def weights_of(network: Network) -> Mapping[str, Host]:
    """All tiles and biases by name."""
    return {
        name: item.read() if isinstance(item, Tile) else item.data  # type: ignore[union-attr]
        for name, item in network.placed.items()
    }


def photons(options: argparse.Namespace) -> dict[str, Any]:
    """Test accuracy by kind and photons, of one network read with several seeds of noise."""
    dataset = data.load(options.data)
    found: dict[str, dict[str, list[float]]] = {}
    model = models.mlp([dataset.features, 100, dataset.classes], "relu", bias=False)
    run = hwsim.fit(model, dataset, "ideal", epochs=options.epochs, learning_rate=0.1)
    values = weights_of(run.network)
    print(f"{options.data:8} exact {100 * run.test_accuracy:.1f}")
    for number in PHOTONS:
        for seed in range(options.seeds):
            for name, device in readers(number, seed).items():
                network = Network(model, device, values=values)
                right = network.predict(dataset.x_test).argmax(axis=1) == dataset.y_test
                found.setdefault(name, {}).setdefault(str(number), []).append(float(right.mean()))
        row = ", ".join(f"{name} {spread(found[name][str(number)])}" for name in found)
        print(f"{number:7g} photons: {row}", flush=True)
    fewest = {name: enough(by_photons, run.test_accuracy - 0.01) for name, by_photons in found.items()}
    print(f"fewest photons within a point of exact: {fewest}")
    return {"exact": run.test_accuracy, "fewest": fewest, "by kind": found}


def enough(by_photons: Mapping[str, list[float]], wanted: float) -> float | None:
    """The fewest photons whose mean accuracy is the one that is wanted; None where none are."""
    return min((float(number) for number, each in by_photons.items() if np.mean(each) >= wanted), default=None)


# -- phases ----------------------------------------------------------------------------------------------------


def phases(options: argparse.Namespace) -> dict[str, Any]:
    """Accuracies of meshes that are trained in place, by row; and cosines of gradients under loss, by modes."""
    dataset = data.load(options.data)
    found: dict[str, list[float]] = {}
    by_light = {"trained": "phases"}
    cases: dict[str, dict[str, Any]] = {
        "weights": {},
        "phases, 2 readings": by_light,
        "phases, 2 readings, no noise": {**by_light, "shot_noise": False},
        "phases, 3 readings, loss known": {**by_light, "readings": 3},
    }
    for name, parameters in cases.items():
        found[name] = []
        for seed in range(options.seeds):
            device = Optical.create("mzi", {**parameters, "seed": seed})
            model = models.mlp([dataset.features, dataset.classes])
            run = hwsim.fit(model, dataset, device, epochs=5, learning_rate=1.0, seed=seed)
            found[name].append(run.test_accuracy)
        print(f"{options.data:8} {name:32} {spread(found[name])}, {run.energy_per_step_j:.2g} J a step", flush=True)
    return {"accuracy": found, "cosine": {modes: cosines(modes) for modes in (8, 16, 32, 64)}}


def cosines(modes: int) -> dict[int, float]:
    """Mean cosine of measured and exact gradients of 10 random chips of 0.2 dB an MZI, loss unknown, by readings."""
    found: dict[int, float] = {}
    for count in (2, 3):
        each = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            layout, told = decompose(np.linalg.qr(rng.standard_normal((2, modes, modes)).T @ [1, 1j])[0])
            mesh = realised(np, fabricate(np, layout, Imperfections(loss_db=0.2), rng), told)
            x, g = rng.standard_normal((2, modes, 20))
            exact = insitu.exact_gradient(trace(np, mesh, x)[1], trace_back(np, mesh, g)[1])
            measured = insitu.measured_gradient(np, mesh, x, g, insitu.Monitor(), rng, readings=count)
            each.append(insitu.gradient_error(np, measured, exact)[1])
        found[count] = float(np.mean(each))
        print(f"{modes} modes, {count} readings: cosine {found[count]:.3f} +- {np.std(each, ddof=1):.3f}")
    return found


# -- slopes ----------------------------------------------------------------------------------------------------


def slopes(_: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Cosines by profile and depth, for every size of the inputs."""
    found: dict[str, dict[str, list[float]]] = {}
    for profile in ("lumped", "distributed"):
        for depth in SLOPE_DEPTHS:
            neurons = Absorber(depth, profile)
            cosine = [slope_cosine(neurons, sigma) for sigma in SIGMAS]
            found.setdefault(profile, {})[f"{depth:g}"] = cosine
            print(f"{profile:12} depth {depth:4g}: cosine " + " ".join(f"{value:.3f}" for value in cosine))
    return found


# -- the bill --------------------------------------------------------------------------------------------------


def programmed(preset: str, size: int, **parameters: Any) -> Tile:
    """A size x size layer, of shapes alone, whose ledger has nothing of its first programming."""
    device, ledger = Optical.create(preset, parameters), Ledger()
    tile = device.program(Shape(size, size), name="layer", ledger=Ledger())
    tile.ledger = ledger
    ledger.tiles[device, "layer"] = TileShape(1, size, size)
    return tile


def step(preset: str, size: int, batch: int, **parameters: Any) -> tuple[Ledger, float]:
    """The device's own part of one training step of a size x size layer, from shapes, and its multiplications."""
    tile = programmed(preset, size, **parameters)
    ledger, x = tile.ledger, Shape(batch, size)
    tile.forward(x)
    tile.backward(x)
    if Optical.create(preset, parameters).gradient_by == "homodyne":
        tile.gradient(x, x)
    tile.update(Shape(size, size))
    return ledger, sum(cell[3].macs * calls for cell, calls in ledger.calls.items() if isinstance(cell[3], Product))


def costs(_: argparse.Namespace) -> list[dict[str, Any]]:
    """One layer of each kind: forwards at batch 64, an update, and the batch at which both ways outweigh it."""
    found = []
    for preset, size, parameters in COSTED:
        device = Optical.create(preset, parameters)
        joules, seconds = {}, {}
        for what in ("forward", "backward", "update"):
            tile = programmed(preset, size, **parameters)
            getattr(tile, what)(Shape(size, size) if what == "update" else Shape(64, size))
            joules[what], seconds[what] = tile.ledger.energy_j, tile.ledger.time_s
        row = {
            "preset": preset,
            "size": size,
            "J/MAC": joules["forward"] / (64 * size * size),
            "launched/detected": device.launched_over_detected(min(size, device.inputs), min(size, device.outputs)),
            "update [s]": seconds["update"],
            "settling [s]": device.settle_s.nominal if device.reprogrammed else 0.0,
            "update [J]": joules["update"],
            "batch": 64 * joules["update"] / (joules["forward"] + joules["backward"]),
        }
        found.append(row)
        print("  ".join(f"{name} {value:.3g}" if name != "preset" else f"{value:9}" for name, value in row.items()))
    return found


def bill(options: argparse.Namespace) -> dict[str, Any]:
    """J per multiplication of a step against batch, size and photons, and by component at batch 64."""
    found: dict[str, Any] = {}
    for preset in BILLED:
        device = Optical.create(preset, {})
        row: dict[str, Any] = {"light": device.detected_photons * device.photon_j, "photon": device.photon_j}
        converters = {name: getattr(device, name).nominal for name in ("adc_energy_j", "dac_energy_j")}
        cases: dict[str, list[tuple[int, int, dict[str, Any]]]] = {
            "batch": [(64, batch, {}) for batch in BATCHES],
            "size": [(size, 64, {}) for size in SIZES],
            "photons": [(64, 64, {"detected_photons": number}) for number in PHOTONS],
            "bits": [
                (64, 4096, {"adc_bits": b, "dac_bits": b, **{k: v * 2.0 ** (b - 8) for k, v in converters.items()}})
                for b in BITS
            ],
        }
        for what, settings in cases.items():
            row[what] = []
            for size, batch, parameters in settings:
                ledger, macs = step(preset, size, batch, **parameters)
                row[what].append(ledger.energy_j / macs)
            print(f"{preset:10} J/MAC by {what:8}" + " ".join(f"{value:.2e}" for value in row[what]), flush=True)
        energy = step(preset, 64, 64)[0].energy(["component"])
        row["components"] = {name: float(value) for (name,), value in energy.items() if value > 0}
        total = sum(row["components"].values())
        top = sorted(row["components"].items(), key=lambda item: -item[1])[:5]
        print(f"{preset:10} batch 64: " + ", ".join(f"{name} {100 * value / total:.1f}%" for name, value in top))
        found[preset] = row
    return found


# -- the figure ------------------------------------------------------------------------------------------------


def draw(found: Mapping[str, Any], path: Path) -> None:
    """A row for each task, and one each for the curve of photons, the slopes, and the bill with its components."""
    import matplotlib.pyplot as plt

    planes, columns = found.get("tasks", {}), len(ACTIVATIONS)
    height = len(planes) + ("photons" in found) + ("slopes" in found) + 2 * ("bill" in found)
    figure = plt.figure(figsize=(3.3 * columns, 3 * height), layout="constrained")
    grid = figure.add_gridspec(height, columns)
    for i, (task, part) in enumerate(planes.items()):
        for j, name in enumerate(ACTIVATIONS):
            draw_plane(figure.add_subplot(grid[i, j]), task, name, part)
    if "photons" in found:
        draw_photons(figure.add_subplot(grid[len(planes), :]), found["photons"])
    if "slopes" in found:
        place = len(planes) + ("photons" in found)
        draw_slopes([figure.add_subplot(grid[place, j]) for j in range(2)], found["slopes"])
    if "bill" in found:
        fewest = found.get("photons", {}).get("fewest", {})
        draw_bill([figure.add_subplot(grid[-2, j]) for j in range(columns)], found["bill"], fewest)
        draw_components(figure.add_subplot(grid[-1, :]), found["bill"])
    figure.savefig(path, dpi=130)


def draw_plane(axes: Any, task: str, name: str, part: Mapping[str, Any]) -> None:
    """What a network says of the plane, and the points that it was tested on."""
    dataset, ticks = plane(task), np.linspace(-2.5, 2.5, 81)
    axes.contourf(ticks, ticks, np.array(part["boundary"][name]), levels=[-0.5, 0.5, 1.5, 2.5], alpha=0.4)
    axes.scatter(dataset.x_test[:, 0], dataset.x_test[:, 1], c=dataset.y_test, s=6)
    axes.set_title(f"{task}: {name}, {100 * part['accuracy'][name][0]:.1f}%", fontsize=9)
    axes.set_aspect("equal")


def draw_photons(axes: Any, curve: Mapping[str, Any]) -> None:
    """Accuracy against photons per multiplication; the line is exact arithmetic."""
    for name, by_photons in curve["by kind"].items():
        means = [100 * float(np.mean(each)) for each in by_photons.values()]
        axes.semilogx([*map(float, by_photons)], means, ".-", label=name)
    axes.axhline(100 * curve["exact"], color="black", linewidth=0.5)
    axes.set(xlabel="photons detected per multiplication", ylabel="test accuracy (%)")
    axes.legend(fontsize=7)


def draw_slopes(panels: list[Any], cosines: Mapping[str, Mapping[str, list[float]]]) -> None:
    """The slope that a probe sees, at its best gain, beside the exact one; and their cosines."""
    x = np.linspace(-4, 4, 401)
    for i, depth in enumerate(SLOPE_DEPTHS):
        neurons = Absorber(depth)
        gain = best_gain(np, neurons, np.random.default_rng(0).standard_normal(10_000))
        panels[0].plot(x, exact_slope(np, neurons, x), color=f"C{i}", label=f"depth {depth:g}")
        panels[0].plot(x, gain * probe_slope(np, neurons, x), "--", color=f"C{i}")
        for profile, style in (("lumped", ".-"), ("distributed", ".:")):
            panels[1].plot(SIGMAS, cosines[profile][f"{depth:g}"], style, color=f"C{i}")
    panels[0].set(xlabel="field (root of saturation intensity)", ylabel="slope: exact, probe dashed")
    panels[0].legend(fontsize=6)
    panels[1].set(xlabel="RMS field (root of saturation intensity)", ylabel="cosine; distributed dotted")


def draw_bill(panels: list[Any], by_preset: Mapping[str, Any], fewest: Mapping[str, float | None]) -> None:
    """Joules per multiplication against batch, size and bits; the light that is needed dashed."""
    labels = ("vectors of a batch", "modes, or values, of a vector", "bits of converters, batch 4,096")
    for axes, what, ticks, label in zip(panels, ("batch", "size", "bits"), (BATCHES, SIZES, BITS), labels, strict=True):
        for i, (preset, row) in enumerate(by_preset.items()):
            axes.loglog(ticks, row[what], ".-", color=f"C{i}", label=preset)
            needed = fewest.get(preset)
            floor = row["light"] if needed is None else needed * row["photon"]
            axes.axhline(floor, color=f"C{i}", linestyle="--", linewidth=0.7)
        axes.set(xlabel=label, ylabel="J per multiplication, training", ylim=(1e-19, 1e-2))
    panels[2].set(xscale="linear", xticks=BITS)
    panels[0].legend(fontsize=6, ncols=2)


def draw_components(axes: Any, by_preset: Mapping[str, Any]) -> None:
    """Shares of the components of a step at batch 64; those above 2% anywhere are named."""
    import matplotlib.pyplot as plt

    totals = np.array([sum(row["components"].values()) for row in by_preset.values()])
    names = sorted({name for row in by_preset.values() for name in row["components"]})
    shares = {n: 100 * np.array([row["components"].get(n, 0.0) for row in by_preset.values()]) / totals for n in names}
    below = np.zeros(len(by_preset))
    for number, name in enumerate([name for name in names if shares[name].max() > 2]):
        axes.barh([*by_preset], shares[name], left=below, color=plt.get_cmap("tab20")(number % 20), label=name)
        below += shares[name]
    axes.barh([*by_preset], 100 - below, left=below, color="lightgray", label="others")
    axes.set(xlabel="share of the energy of a step of 64 x 64, batch 64 (%)", xlim=(0, 100))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def without_planes(found: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers but what networks say of every point of the plane."""
    tasks_alone = {task: {"accuracy": part["accuracy"]} for task, part in found.get("tasks", {}).items()}
    return {**found, **({"tasks": tasks_alone} if tasks_alone else {})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    work = dict(zip(PARTS, (tasks, controls, photons, phases, slopes, costs, bill), strict=True))
    found = {part: work[part](options) for part in options.parts}
    if options.json:
        options.json.write_text(json.dumps(without_planes(found), indent=1))
    if options.figure:
        draw(found, options.figure)


if __name__ == "__main__":
    main()
