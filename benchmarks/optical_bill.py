"""What optics costs: one layer by kind, a training step by batch, size and bits, and the light that it needs at least.

    python benchmarks/optical_bill.py [--photons FILE] [--json FILE] [--figure FILE]

costs     one N x N layer: J per multiplication forwards, light launched, an update, and the batch at which forward and
          backward take as many joules as it; the same where matrices are decomposed in no time, but for settling.
bill      one training step of an N x N layer, the device's own part, from shapes: joules per multiplication against
          batch, N, bits and photons; by component. Under it the standard quantum limit: the light of as many photons as
          bring a network within a point of exact arithmetic where nothing but light is noisy. `--photons` is the file
          that `optical_training.py --parts photons --json FILE` wrote; without it no limit is drawn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stamp import commit

from hwsim.arrays import Shape
from hwsim.cost import Product
from hwsim.devices.optical import Optical
from hwsim.ledger import Ledger, TileShape
from hwsim.tile import Tile

BILLED = {
    "nitride": "mzi",
    "mzi": "mzi",
    "slm": "slm",
    "homodyne": "homodyne",
    "microring": "microring",
}  # and its limit: where light alone is noisy, both meshes are one device, whatever the wavelength
BATCHES = tuple(4**i for i in range(11))
SIZES = (16, 32, 64, 128, 256, 512, 1024)
BITS = (2, 4, 6, 8, 10, 12)
PHOTONS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
LARGE = 262_144  # a batch that outweighs most updates
COSTED: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("nitride", 64, {}), ("mzi", 16, {}), ("mzi", 64, {}), ("mzi", 256, {"inputs": 256, "outputs": 256}),
    ("homodyne", 64, {}), ("microring", 64, {}), ("slm", 256, {}),
)  # fmt: skip


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


def costs() -> list[dict[str, Any]]:
    """One layer of each kind."""
    found = [costed(*case) for case in COSTED]
    for row in found:
        print("  ".join(f"{name} {value:.3g}" if name != "preset" else f"{value:9}" for name, value in row.items()))
    return found


def costed(preset: str, size: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Forwards at batch 64, an update, and the batch at which both ways outweigh it."""
    device = Optical.create(preset, parameters)
    joules, seconds = {}, {}
    for what in ("forward", "backward", "update"):
        tile = programmed(preset, size, **parameters)
        getattr(tile, what)(Shape(size, size) if what == "update" else Shape(64, size))
        joules[what], seconds[what] = tile.ledger.energy_j, tile.ledger.time_s
    both_ways_j = joules["forward"] + joules["backward"]
    return {
        "preset": preset,
        "size": size,
        "J/MAC": joules["forward"] / (64 * size * size),
        "launched/detected": device.launched_over_detected(min(size, device.inputs), min(size, device.outputs)),
        "update [s]": seconds["update"],
        "settling [s]": device.settle_s.nominal if device.reprogrammed else 0.0,
        "update [J]": joules["update"],
        "batch": 64 * joules["update"] / both_ways_j,
        "batch, decomposed at once": 64 * settled_j(preset, size, parameters) / both_ways_j,
    }


def settled_j(preset: str, size: int, parameters: Mapping[str, Any]) -> float:
    """An update by a processor that decomposes in no time."""
    mesh = Optical.create(preset, parameters).optics == "mesh"
    tile = programmed(preset, size, **parameters, **({"flop_s": 0.0} if mesh else {}))
    tile.update(Shape(size, size))
    return tile.ledger.energy_j


def bill() -> dict[str, Any]:
    """J per multiplication of a step against batch, size, bits and photons, and by component."""
    found: dict[str, Any] = {}
    for preset in BILLED:
        cases: dict[str, list[tuple[int, int, dict[str, Any]]]] = {
            "batch": [(64, batch, {}) for batch in BATCHES],
            "size": [(size, LARGE, {}) for size in SIZES],
            "bits": [(64, LARGE, {"adc_bits": bits, "dac_bits": bits}) for bits in BITS],
            "photons": [(64, LARGE, {"detected_photons": number}) for number in PHOTONS],
        }
        row: dict[str, Any] = {"photon": Optical.create(preset, {}).photon_j}
        row["crossing"] = costed(preset, 64, {})["batch"]
        for what, settings in cases.items():
            row[what] = []
            for size, batch, parameters in settings:
                ledger, macs = step(preset, size, batch, **parameters)
                row[what].append(ledger.energy_j / macs)
            print(f"{preset:10} J/MAC by {what:8}" + " ".join(f"{value:.2e}" for value in row[what]), flush=True)
        row["components"] = {str(batch): components(preset, batch) for batch in (64, LARGE)}
        found[preset] = row
    return found


def components(preset: str, batch: int) -> dict[str, float]:
    """J of a step of 64 x 64 by component; and its interval."""
    ledger, macs = step(preset, 64, batch)
    joules = {name: float(value) for (name,), value in ledger.energy(["component"]).items() if value > 0}
    total = sum(joules.values())
    top = sorted(joules.items(), key=lambda item: -item[1])[:5]
    low, middle, high = (value / macs for value in ledger.interval()[()])
    shares = ", ".join(f"{name} {100 * value / total:.1f}%" for name, value in top)
    print(f"{preset:10} batch {batch}: {middle:.2g} J/MAC ({low:.2g} to {high:.2g}): {shares}")
    return joules


# -- the figure ------------------------------------------------------------------------------------------------


def draw(by_preset: Mapping[str, Any], limits: Mapping[str, float | None], path: Path) -> None:
    """Joules per multiplication against what they depend on; shares of components at a small and a large batch."""
    import matplotlib.pyplot as plt

    with plt.style.context("hwsim.report.hwsim"):
        figure = plt.figure(figsize=(10, 9), layout="constrained")
        grid = figure.add_gridspec(3, 2)
        places = (grid[0, 0], grid[0, 1], grid[1, 0], grid[1, 1])
        panels = dict(zip(("batch", "size", "bits", "photons"), map(figure.add_subplot, places), strict=True))
        for what, axes in panels.items():
            draw_curve(axes, what, by_preset, limits)
        for j, batch in enumerate((64, LARGE)):
            draw_components(figure.add_subplot(grid[2, j]), by_preset, batch)
        figure.savefig(path)


def draw_curve(axes: Any, what: str, by_preset: Mapping[str, Any], limits: Mapping[str, float | None]) -> None:
    """One dependence; the standard quantum limit dashed where the x axis does not change it."""
    ticks = {"batch": BATCHES, "size": SIZES, "bits": BITS, "photons": PHOTONS}[what]
    labels = {
        "batch": "vectors of a batch, 64 x 64",
        "size": f"N of N x N weights, batch {LARGE:,}",
        "bits": f"bits of converters, batch {LARGE:,}",
        "photons": f"photons detected per multiplication, batch {LARGE:,}",
    }
    for i, (preset, row) in enumerate(by_preset.items()):
        axes.plot(ticks, row[what], ".-", color=f"C{i}", label=preset)
        needed = limits.get(BILLED[preset])
        if what == "batch":
            height = np.exp(np.interp(np.log(row["crossing"]), np.log(ticks), np.log(row[what])))
            axes.plot(row["crossing"], height, "o", color=f"C{i}", markerfacecolor="white", zorder=3)
        if what == "batch" and needed is not None:
            axes.axhline(needed * row["photon"], color=f"C{i}", linestyle="--", linewidth=0.8)
        if what == "photons":
            axes.plot(ticks, row["photon"] * np.array(ticks), "--", color=f"C{i}", linewidth=0.8)
    axes.set(xlabel=labels[what], ylabel="J per multiplication, training", yscale="log")
    axes.set(xscale="linear" if what == "bits" else "log")
    if what == "batch":
        axes.legend(fontsize=7, ncols=2)
        axes.set_title("white: right of it products outweigh updates; dashed: standard quantum limit", fontsize=7)
    if what == "photons":
        axes.set_title("dashed: the light that is detected")


def draw_components(axes: Any, by_preset: Mapping[str, Any], batch: int) -> None:
    """Shares of the components; those above 2% anywhere, at either batch, are named."""
    import matplotlib.pyplot as plt

    def shares(name: str, size: int) -> Any:
        rows = [row["components"][str(size)] for row in by_preset.values()]
        return np.array([100 * row.get(name, 0.0) / sum(row.values()) for row in rows])

    every = sorted({name for row in by_preset.values() for part in row["components"].values() for name in part})
    named = [name for name in every if max(shares(name, 64).max(), shares(name, LARGE).max()) > 2]
    below = np.zeros(len(by_preset))
    for number, name in enumerate(named):
        color = plt.get_cmap("tab20")(number % 20)
        axes.barh([*by_preset], shares(name, batch), left=below, color=color, label=name)
        below += shares(name, batch)
    axes.barh([*by_preset], 100 - below, left=below, color="lightgray", label="others")
    axes.set(xlabel=f"share of the energy of a step, batch {batch:,} (%)", xlim=(0, 100))
    if batch != 64:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photons", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"costs": costs(), "bill": bill()}
    limits: dict[str, float | None] = {}
    if options.photons:
        fewest = json.loads(options.photons.read_text())["photons"]["fewest"]
        limits = {kind: fewest[f"{kind}, light alone"] for kind in BILLED.values()}
        for preset, kind in BILLED.items():
            light_j = None if limits[kind] is None else limits[kind] * found["bill"][preset]["photon"]
            print(f"{preset:10} standard quantum limit: {limits[kind]} photons, {light_j} J per multiplication")
    if options.json:
        options.json.write_text(json.dumps({**commit(), **found}, indent=1))
    if options.figure:
        draw(found["bill"], limits, options.figure)


if __name__ == "__main__":
    main()
