"""Optical networks trained end to end: decision boundaries, controls of the absorbers, and accuracy against photons.

    python benchmarks/optical_training.py [--parts tasks controls photons phases slopes] [--data digits] [--seeds 5]
                                          [--epochs 30] [--json FILE] [--figure FILE]

tasks     rings, XOR and arches in the plane, 2-16-2 (rings: 3 classes), on preset slm with all its noise: layers and
          absorbers optical both ways, the loss in electronics; controls with ReLU, and with no nonlinearity.
controls  the widths of Guo et al. 2021 (k-128-128-n without bias, Adam 5e-4, squared error, batch 64, start N(0, .1)):
          absorbers with exact derivative and with probe, ReLU, linear, all in exact arithmetic, where only the
          absorber differs; and the same on preset slm with all its noise. Paired: one seed, one start, one order.
photons   a ReLU network k-100-n trained in exact arithmetic, then read with so many photons per multiplication:
          counted intensities as Wang et al. 2022 do, and the kinds of optics, as they come but for their photons, and
          with the noise of light alone, which is the standard quantum limit.
phases    k-n on preset mzi, moved by powers that are read in place; and what loss does to these gradients.
slopes    cosines between the slopes that a probe sees and the exact ones, by depth and size of the inputs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stamp import commit

import hwsim
from hwsim import data, models
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.devices.optical import Optical, insitu
from hwsim.devices.optical.absorber import Absorber, best_gain, exact_slope, probe_slope, slope_cosine
from hwsim.devices.optical.decomposition import decompose
from hwsim.devices.optical.imperfections import Imperfections, fabricated, realised, standard_draws
from hwsim.devices.optical.mesh import trace, trace_back
from hwsim.devices.optical.options import reader_of
from hwsim.nn import Initial, Network
from hwsim.tile import Tile

Host = np.ndarray[Any, Any]

EXACT = {
    "shot_noise": False,
    "dac_bits": 0,
    "adc_bits": 0,
    "heat_crosstalk": 0.0,
    "weight_bits": 0,
    "weight_sigma": 0.0,
    "weight_crosstalk": 0.0,
    "drift_sigma": 0.0,
    **{f"claim_{name}": 0.0 for name in ("forward", "backward", "update", "bias")},
}
DEPTHS = (1.0, 10.0, 30.0)
ALONE = {  # no noise but that of light, which no vector gets less of for its crest
    **EXACT, "shot_noise": True, "splitter_sigma": 0.0, "phase_sigma": 0.0, "mzi_loss_db": 0.0, "heat_crosstalk": 0.0,
    "oscillator_photons": 1e12, "amplifier_a_per_root_hz": 0.0, "integrator_electrons": 0.0, "rin_db_per_hz": -1000.0,
    "dark_current_a": 0.0, "crest": 1e6,
}  # fmt: skip
PHOTONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
KINDS = ("slm", "mzi", "homodyne", "microring")
LIMIT = ", light alone"
PARTS = ("tasks", "controls", "photons", "phases", "slopes")
SLOPE_DEPTHS, SIGMAS = (1.0, 4.0, 10.0, 30.0), (0.5, 1.0, 2.0, 4.0)
TASKS = ("rings", "xor", "arches")
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
        noisy = {"absorber_backward": back}
        found[f"slm with its noise, absorber 10, {back}"] = "device", noisy
        found[f"slm with its noise, of intensities, {back}"] = "device", {**noisy, "encoding": "intensity"}
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
    counted = {"level": "photon", "detection": "intensity", "inputs": 1000, "outputs": 1000}
    found = {"counted intensities (Wang)": slm(**{**alone("slm"), **shared, **counted})}
    for kind in KINDS:
        found[kind] = Optical.create(kind, shared)
        found[kind + LIMIT] = Optical.create(kind, {**alone(kind), **shared})
    return found  # type: ignore[return-value]


def alone(kind: str) -> dict[str, Any]:
    """What leaves one kind of optics the noise of light alone."""
    device = Optical.create(kind, {})
    return {name: value for name, value in ALONE.items() if reader_of(device, name) is None}


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
    print("fewest photons within a point of exact: " + ", ".join(f"{k} {v and f'{v:.2g}'}" for k, v in fewest.items()))
    return {"exact": run.test_accuracy, "fewest": fewest, "by kind": found}


def enough(by_photons: Mapping[str, list[float]], wanted: float) -> float | None:
    """The photons at which the mean accuracy first is the one wanted, linear in their logarithm; None: never."""
    numbers, means = [*map(float, by_photons)], [float(np.mean(each)) for each in by_photons.values()]
    for i, mean in enumerate(means):
        if mean >= wanted:
            if i == 0:
                return numbers[0]
            return float(np.exp(np.interp(wanted, means[i - 1 : i + 1], np.log(numbers[i - 1 : i + 1]))))
    return None


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
            chip = fabricated(np, layout, Imperfections(loss_db=0.2), *standard_draws(layout, rng))
            mesh = realised(np, chip, told)
            x, g = rng.standard_normal((2, modes, 20))
            forward, backward = trace(np, mesh, x)[1], trace_back(np, mesh, g)[1]
            exact = np.concatenate([-(f * b).imag.sum(axis=1) for f, b in zip(forward, backward, strict=True)])
            measured = insitu.measured_gradient(np, mesh, x, g, insitu.Monitor(), rng, readings=count)
            found_one = np.concatenate(list(measured))
            each.append(found_one @ exact / (np.linalg.norm(found_one) * np.linalg.norm(exact)))
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


# -- the figure ------------------------------------------------------------------------------------------------


def draw(found: Mapping[str, Any], path: Path) -> None:
    """A row for each task, and one each for the curve of photons and the slopes."""
    import matplotlib.pyplot as plt

    planes, columns = found.get("tasks", {}), len(ACTIVATIONS)
    height = len(planes) + ("photons" in found) + ("slopes" in found)
    with plt.style.context("hwsim.report.hwsim"):
        figure = plt.figure(figsize=(3.3 * columns, 3 * height), layout="constrained")
        grid = figure.add_gridspec(height, columns)
        for i, (task, part) in enumerate(planes.items()):
            for j, name in enumerate(ACTIVATIONS):
                draw_plane(figure.add_subplot(grid[i, j]), task, name, part)
        if "photons" in found:
            draw_photons(figure.add_subplot(grid[len(planes), :]), found["photons"])
        if "slopes" in found:
            draw_slopes([figure.add_subplot(grid[-1, j]) for j in range(columns)], found["slopes"])
        figure.savefig(path)


def draw_plane(axes: Any, task: str, name: str, part: Mapping[str, Any]) -> None:
    """What a network says of the plane, and the points that it was tested on."""
    dataset, ticks = plane(task), np.linspace(-2.5, 2.5, 81)
    axes.contourf(ticks, ticks, np.array(part["boundary"][name]), levels=[-0.5, 0.5, 1.5, 2.5], alpha=0.4)
    axes.scatter(dataset.x_test[:, 0], dataset.x_test[:, 1], c=dataset.y_test, s=6)
    axes.set_title(f"{task}: {name}, {100 * part['accuracy'][name][0]:.1f}%", fontsize=9)
    axes.set_aspect("equal")


def draw_photons(axes: Any, curve: Mapping[str, Any]) -> None:
    """Accuracy against photons per multiplication, light alone dashed; the line is exact arithmetic less a point."""
    for name, by_photons in curve["by kind"].items():
        kind = name.removesuffix(LIMIT)
        color = f"C{KINDS.index(kind)}" if kind in KINDS else f"C{len(KINDS)}"
        limit = kind != name or kind not in KINDS
        x, y = [*map(float, by_photons)], 100 * np.array([*by_photons.values()])
        label = None if kind != name else f"{name}, light alone" if limit else name
        axes.plot(x, y.mean(axis=1), "--" if limit else ".-", color=color, label=label)
        axes.fill_between(x, y.min(axis=1), y.max(axis=1), color=color, alpha=0.15, linewidth=0)
    axes.axhline(100 * curve["exact"] - 1, color="black", linewidth=0.5, label="exact arithmetic less a point")
    axes.set(xscale="log", xlabel="photons detected per multiplication", ylabel="test accuracy (%)",
             title="Read with so many photons (dashed: noise of light alone, the standard quantum limit)")  # fmt: skip
    axes.legend(fontsize=7)


def draw_slopes(panels: list[Any], cosines: Mapping[str, Mapping[str, list[float]]]) -> None:
    """The slope that a probe sees, at the gain that is best at RMS 2, beside the exact one; and their cosines."""
    x = np.linspace(-8, 8, 401)
    for i, depth in enumerate(SLOPE_DEPTHS):
        for panel, profile, style in zip(panels, ("lumped", "distributed"), (".-", ".:"), strict=False):
            neurons = Absorber(depth, profile)  # type: ignore[arg-type]
            gain = best_gain(np, neurons, 2 * np.random.default_rng(0).standard_normal(10_000))
            panel.plot(x, exact_slope(np, neurons, x), color=f"C{i}", label=f"depth {depth:g}")
            panel.plot(x, gain * probe_slope(np, neurons, x), "--", color=f"C{i}")
            panels[2].plot(SIGMAS, cosines[profile][f"{depth:g}"], style, color=f"C{i}")
            panel.set(xlabel="field (root of saturation intensity)", ylabel="slope", ylim=(0, 2.5))
            panel.set_title(f"{profile}: exact, probe dashed")
    panels[0].legend(fontsize=6)
    panels[2].set(xlabel="RMS field (root of saturation intensity)", ylabel="cosine of exact slope and probe",
                  title="distributed dotted")  # fmt: skip


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
    work = dict(zip(PARTS, (tasks, controls, photons, phases, slopes), strict=True))
    found = {part: work[part](options) for part in options.parts}
    if options.json:
        options.json.write_text(json.dumps({**commit(), **without_planes(found)}, indent=1))
    if options.figure:
        draw(found, options.figure)


if __name__ == "__main__":
    main()
