"""Component values with their sources: reading TOML files, and the library of digital parts, memories and links.

Energies in between technology nodes carry the band of two scaling laws (see `node_scale`), and every value keeps
the certainty of the weakest number that it rests on.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hwsim.cost import Certainty, Quantity, Role, weaker
from hwsim.errors import ConfigError

COMPONENTS = Path(__file__).with_name("components.toml")

PREFIXES = {"z": 1e-21, "a": 1e-18, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
PREFIXES |= {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
PREFIXED = (
    *("J", "J/bit", "J/bit/mm", "J/B", "J/MAC", "J/FLOP", "W", "W/bit", "s", "Hz", "m", "V", "A", "S", "Ohm", "F"),
    *("B", "bit", "B/s", "bit/s", "FLOP/s", "OP/s"),
)
UNITS: dict[str, tuple[float, str]] = {p + unit: (factor, unit) for unit in PREFIXED for p, factor in PREFIXES.items()}
UNITS |= {"": (1.0, ""), "1": (1.0, ""), "%": (0.01, ""), "K": (1.0, "K"), "dB": (1.0, "dB"), "dB/cm": (1.0, "dB/cm")}
UNITS |= {"rad": (1.0, "rad"), "mm2": (1.0, "mm2"), "um2": (1e-6, "mm2")}  # cost.py counts area in mm2

FIELDS = {"low", "nominal", "high", "exact", "source", "certainty", "unit", "note", "node_nm", "bits", "role"}

# What a multiply-accumulate adds in; fp8 in fp16, as no fp8 unit keeps fp32 sums at the price of an fp8 product.
ACCUMULATOR = {"int8": "int32", "int16": "int32", "int32": "int32", "fp8": "fp16", "bf16": "fp32", "fp16": "fp32"}
ACCUMULATOR |= {"tf32": "fp32", "fp32": "fp32", "fp64": "fp64"}
LIKE = {"fp8_e4m3": "fp8", "fp8_e5m2": "fp8"}  # priced alike

MOST_EFFECTIVE_BITS = 24  # no converter of Murmann's survey has as many (recalled)
PLANAR_NM = 28.0  # down to here Stillmaker and Baas agree with silicon; below, FinFETs (see components.toml)


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of the component library, in SI units (areas in mm2)."""

    name: str
    quantity: Quantity
    unit: str
    role: Role = Role.CORE
    node_nm: float | None = None
    bits: int | None = None
    note: str = ""


def read_values(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file, each one that has a `nominal` as a Quantity in SI units, keyed "<stem>/<dotted path>".

    Raises ConfigError, naming file and entry, for malformed TOML, a missing source or range, and unknown units.
    """
    path = Path(path)
    return _built(_parsed(path), path, "")


def presets(path: str | Path) -> dict[str, dict[str, Any]]:
    """Named parameter sets: quantities, plain values, tables, and a `doc` each; `base = "other"` inherits.

    An inherited quantity keeps its base's key, so that both vary together. Raises ConfigError as `read_values`
    does, and for a preset without doc, an unknown base, or bases that form a circle.
    """
    tables = read_values(path)

    def resolve(name: str, heirs: tuple[str, ...]) -> dict[str, Any]:
        if name in heirs:
            raise ConfigError(f"{path}: presets inherit in a circle: {' -> '.join([*heirs, name])}")
        if name not in tables:
            raise ConfigError(f"{path}: {heirs[-1]}: no preset {name!r} to inherit from; known: {_names(tables)}")
        own = tables[name]
        if not isinstance(own, dict):
            raise ConfigError(f"{path}: {name} is not a preset; write [{name}] and its values below")
        if not isinstance(own.get("doc"), str) or not own["doc"].strip():
            raise ConfigError(f'{path}: preset {name} needs doc = "what it stands for"')
        base = own.get("base")
        values = {} if base is None else resolve(str(base), (*heirs, name))
        return _merged(values, {key: value for key, value in own.items() if key != "base"})

    return {name: resolve(name, ()) for name in tables}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, a null character in the name, too many digits
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply to be read") from None


def _built(table: Mapping[str, Any], path: Path, prefix: str) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            is_value = any(not isinstance(value.get(key, {}), dict) for key in ("nominal", "low", "high", "exact"))
            value = _quantity(value, path, prefix + name)[0] if is_value else _built(value, path, f"{prefix}{name}.")
        built[name] = value
    return built


def _quantity(table: Mapping[str, Any], path: Path, name: str) -> tuple[Quantity, str]:
    """The quantity that a table describes, and its SI unit."""
    where = f"{path}: {name}"
    if unknown := sorted(set(table) - FIELDS):
        raise ConfigError(f"{where}: unknown {', '.join(unknown)}; a value may have {_names(FIELDS)}")
    if table.get("exact", False) is True:
        if "low" in table or "high" in table:
            raise ConfigError(f"{where}: has low or high and exact = true; give one of them")
        table = {**table, "low": table.get("nominal"), "high": table.get("nominal")}
    numbers = [table.get(key) for key in ("low", "nominal", "high")]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise ConfigError(f"{where}: needs numbers low, nominal and high, or nominal and exact = true")
    asked = table.get("unit", "")
    if not isinstance(asked, str) or asked not in UNITS:
        raise ConfigError(
            f"{where}: unknown unit {asked!r}; known: {', '.join(PREFIXED)} with a prefix "
            f"{' '.join(prefix for prefix in PREFIXES if prefix)}, and 1, %, K, dB, dB/cm, rad, mm2, um2"
        )
    source, note = table.get("source"), table.get("note", "")
    if not isinstance(source, str) or not source.strip():
        raise ConfigError(f"{where}: needs a source: where the number comes from")
    if table.get("certainty") not in tuple(Certainty):
        raise ConfigError(f"{where}: certainty is {table.get('certainty')!r}; needs one of {', '.join(Certainty)}")
    factor, unit = UNITS[asked]
    full_source, certainty = f"{source}; {note}" if note else source, Certainty(table["certainty"])
    try:
        low, nominal, high = (float(number) * factor for number in numbers if number is not None)
        return Quantity(low, nominal, high, full_source, certainty, f"{path.stem}/{name}"), unit
    except (ConfigError, OverflowError) as error:  # OverflowError: a whole number beyond any float
        raise ConfigError(f"{where}: {error}") from None


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _known(what: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise ConfigError(f"no {what} {name!r}; known: {_names(table)}")
    return table[name]


@cache
def _library() -> dict[str, Any]:
    return read_values(COMPONENTS)


@cache
def entries() -> tuple[Entry, ...]:
    """Every value of the component library, and the multiply-accumulates derived from them at 45, 28 and 7 nm."""

    def walk(table: Mapping[str, Any], prefix: str) -> Iterator[Entry]:
        for key, value in table.items():
            if not isinstance(value, dict):
                continue
            if not isinstance(value.get("nominal"), int | float):
                yield from walk(value, f"{prefix}{key}.")
                continue
            name = prefix + key
            quantity, unit = _quantity(value, COMPONENTS, name)
            role = Role(value.get("role", Role.CORE))
            yield Entry(name, quantity, unit, role, value.get("node_nm"), value.get("bits"), value.get("note", ""))

    derived = [
        Entry(f"mac.{name}.at_{node}nm", mac(name, node), "J", Role.CORE, node, note=f"accumulates in {wide}")
        for name, wide in ACCUMULATOR.items()
        for node in (45, 28, 7)
    ]
    return (*walk(_parsed(COMPONENTS), ""), *derived)


def entry(name: str) -> Entry:
    """The value called `name`, such as "special.shift_add". Raises ConfigError where there is none."""
    return _known("component value", name, {each.name: each for each in entries()})  # type: ignore[no-any-return]


def times(a: Quantity, b: Quantity, key: str, source: str = "") -> Quantity:
    """a x b for independent a and b: medians multiply, ranges add as squares of logarithms."""
    if a.nominal == 0 or b.nominal == 0:
        return Quantity(0.0, 0.0, 0.0, source or a.source, weaker(a.certainty, b.certainty), key)
    nominal = a.nominal * b.nominal
    up = math.hypot(math.log(a.high / a.nominal), math.log(b.high / b.nominal))
    down = math.hypot(math.log(a.nominal / a.low), math.log(b.nominal / b.low))
    certainty = weaker(a.certainty, b.certainty)
    low, high = (nominal * math.exp(-down) if down else nominal), (nominal * math.exp(up) if up else nominal)
    return Quantity(low, nominal, high, source or f"{a.source}; x {b.source}", certainty, key)


def node_scale(from_nm: float, to_nm: float) -> Quantity:
    """Dynamic energy at `to_nm` over that at `from_nm`, for digital CMOS from 5 to 130 nm; exactly 1 at equal nodes.

    The band spans Stillmaker and Baas 2017 and the ratios of Jouppi et al. 2021 (x 0.094 and x 0.35 from 45 to
    7 nm); below 7 nm both are extrapolated. The laws stand in components.toml. Raises ConfigError outside 5-130 nm.
    """
    laws = _library()["node_scaling"]
    first, last = laws["steep"]["nodes_nm"][0], laws["steep"]["nodes_nm"][-1]
    for node in (from_nm, to_nm):
        if not first <= node <= last:
            raise ConfigError(f"no node scaling for {node:g} nm; known from {first:g} to {last:g} nm")
    if from_nm == to_nm:
        return Quantity(1.0, 1.0, 1.0, "equal nodes", Certainty.MEASURED, "components/node_scaling")

    def ratio(law: str) -> float:
        return _curve(laws[law], to_nm) / _curve(laws[law], from_nm)

    ratios, least = [ratio(law) for law in ("steep", "middle", "shallow")], min(from_nm, to_nm)
    certainty = Certainty.DERIVED if least >= PLANAR_NM else Certainty.RECALLED if least >= 7 else Certainty.ASSUMED
    source = f"node scaling {from_nm:g} to {to_nm:g} nm, Stillmaker-Baas 2017 and Jouppi 2021"
    source += "; extrapolated below 7 nm" if least < 7 else ""
    return Quantity(min(ratios), ratios[1], max(ratios), source, certainty, "components/node_scaling")


def area_scale(from_nm: float, to_nm: float) -> Quantity:
    """Area at `to_nm` over that at `from_nm`, for digital CMOS from 5 to 130 nm; exactly 1 at equal nodes.

    The band spans the ratios of Stillmaker and Baas 2017 (nominal; above 45 nm the square of the node) and the square
    of the node, which FinFETs do not keep up with. Raises ConfigError outside 5-130 nm.
    """
    law = _library()["area_scaling"]
    for node in (from_nm, to_nm):
        if not law["nodes_nm"][0] <= node <= law["nodes_nm"][-1]:
            raise ConfigError(f"no area scaling for {node:g} nm; known from {law['nodes_nm'][0]:g} to 130 nm")
    if from_nm == to_nm:
        return Quantity(1.0, 1.0, 1.0, "equal nodes", Certainty.MEASURED, "components/area_scaling")
    published, square = _curve(law, to_nm) / _curve(law, from_nm), (to_nm / from_nm) ** 2
    source = f"area scaling {from_nm:g} to {to_nm:g} nm, Stillmaker-Baas 2017; other end: the square of the node"
    low, high = min(published, square), max(published, square)
    return Quantity(low, published, high, source, Certainty.DERIVED, "components/area_scaling")


def area(name: str, node_nm: float) -> Quantity:
    """Area of one unit of "shift_add", "alu", "line_driver", ... [mm2], scaled from the node of its source.

    Raises ConfigError for unknown names.
    """
    quantity: Quantity = _known("area of", name, _library()["area"])
    return times(quantity, area_scale(entry(f"area.{name}").node_nm or node_nm, node_nm), quantity.key)


def _curve(law: Mapping[str, Any], node_nm: float) -> float:
    """A law's factor at a node, linear in logarithms between its points."""
    return math.exp(float(np.interp(math.log(node_nm), np.log(law["nodes_nm"]), np.log(law["factors"]))))


def operation(name: str, number_format: str, node_nm: float) -> Quantity:
    """Energy of one "add" or "multiply" [J], operands in registers.

    At 28 nm and above: Horowitz 2014 (45 nm) x `node_scale`. At 7 nm: Jouppi et al. 2021. In between, linear in
    logarithms; the band there also holds what scaling from 45 nm alone says. Raises ConfigError for unknown names.
    """
    library = _library()
    table = _known("operation", name, {each: library[each] for each in ("add", "multiply")})
    number_format = LIKE.get(number_format, number_format)
    anchors = _known(f"energy to {name} in", number_format, table)
    return _between(anchors["at_45nm"], anchors["at_7nm"], node_nm, f"components/{name}.{number_format}")


def _between(at_45nm: Quantity, at_7nm: Quantity, node_nm: float, key: str) -> Quantity:
    """An energy at any node from one at 45 nm and one at 7 nm (see `operation`)."""
    if node_nm >= PLANAR_NM:
        return times(at_45nm, node_scale(45, node_nm), key)
    if node_nm < 7:
        return times(_between(at_45nm, at_7nm, 7, key), node_scale(7, node_nm), key)
    planar = times(at_45nm, node_scale(45, PLANAR_NM), key)
    scaled, at_7_scaled = times(at_45nm, node_scale(45, node_nm), key), times(at_45nm, node_scale(45, 7), key)
    weight = math.log(PLANAR_NM / node_nm) / math.log(PLANAR_NM / 7)

    def mean(upper: float, lower: float) -> float:
        return math.exp((1 - weight) * math.log(upper) + weight * math.log(lower))

    low = min(mean(planar.low, min(at_7nm.low, at_7_scaled.low)), scaled.low)
    high = max(mean(planar.high, max(at_7nm.high, at_7_scaled.high)), scaled.high)
    source = at_7nm.source if node_nm == 7 else f"between 28 nm ({planar.source}) and 7 nm ({at_7nm.source})"
    certainty = at_7nm.certainty if node_nm == 7 else weaker(planar.certainty, at_7nm.certainty)
    return Quantity(low, mean(planar.nominal, at_7nm.nominal), high, source, certainty, key)


def mac(number_format: str, node_nm: float) -> Quantity:
    """Energy of one multiply-accumulate [J]: a multiplication and an addition in the accumulator's format.

    int8 at 45 nm: 0.2 + 0.1 = 0.3 pJ; at 28 nm x 0.513 = 0.154 pJ; at 7 nm 0.07 + 0.03 = 0.10 pJ. No operand
    fetch, no control. fp8, tf32 and fp64 are assumed. Raises ConfigError for an unknown format or node.
    """
    number_format = LIKE.get(number_format, number_format)
    accumulator = _known("multiply-accumulate in", number_format, ACCUMULATOR)
    product, sums = _library()["multiply"][number_format], _library()["add"][accumulator]
    at_45nm, at_7nm = (_sum(product[node], sums[node]) for node in ("at_45nm", "at_7nm"))
    return _between(at_45nm, at_7nm, node_nm, f"components/mac.{number_format}")


def _sum(a: Quantity, b: Quantity) -> Quantity:
    """a + b of one table, whose errors go together."""
    source = a.source if a.source == b.source else f"{a.source} + {b.source}"
    certainty = weaker(a.certainty, b.certainty)
    return Quantity(a.low + b.low, a.nominal + b.nominal, a.high + b.high, source, certainty, a.key)


def special(name: str, node_nm: float) -> Quantity:
    """Energy per action of another functional unit [J]: sigmoid, divide, shift_add, comparator, register (per bit).

    Scaled from the node of its source. Raises ConfigError for unknown names.
    """
    quantity: Quantity = _known("functional unit", name, _library()["special"])
    return times(quantity, node_scale(entry(f"special.{name}").node_nm or node_nm, node_nm), quantity.key)


class Sram(NamedTuple):
    """One static RAM."""

    read: Quantity  # [J/bit]
    write: Quantity  # [J/bit]
    leakage: Quantity  # [W]
    area: Quantity  # [mm2]


def sram(kilobytes: float, node_nm: float) -> Sram:
    """Energy per bit, leakage and area of a static RAM: a power law of its size, fitted to CACTI at 45, 32 and 22 nm.

    Between those nodes linear in logarithms, beyond them x `node_scale`, or x `area_scale`. The high end of a read is
    what Horowitz 2014 (45 nm) and Jouppi 2021 (7 nm) publish, up to 11 times CACTI at 7 nm. Outside 1 KB-4 MB it is
    extrapolated and marked assumed. Raises ConfigError for a size of 0 or less, or an unknown node.
    """
    if not kilobytes > 0 or not math.isfinite(kilobytes):
        raise ConfigError(f"no static RAM of {kilobytes} KB; needs a positive size")
    table = _library()["sram"]
    smallest, largest = table["kilobytes"]
    found = {}
    for action, exponent in table["exponent"].items():
        scale = area_scale if action == "area" else node_scale
        law = _sram_law(table[action], node_nm, scale, f"components/sram.{action}")
        law = law.scaled(kilobytes**exponent, f"x {kilobytes:g} KB^{exponent:g}")
        if not smallest <= kilobytes <= largest:
            law = replace(law, certainty=Certainty.ASSUMED, source=f"{law.source}; size extrapolated")
        found[action] = law
    read = found["read"]
    high = max(read.high, _published_sram(table["published"], kilobytes, node_nm))
    found["read"] = replace(read, high=high, source=f"{read.source}; high: Horowitz 2014, Jouppi 2021")
    return Sram(**found)


def _sram_law(
    anchors: Mapping[str, Quantity], node_nm: float, scale: Callable[[float, float], Quantity], key: str
) -> Quantity:
    """A law's value for 1 KB at a node; beyond those of the table by `scale`."""
    nodes = (22, 32, 45)
    values = [anchors[f"at_{node}nm"] for node in nodes]
    inside = min(max(node_nm, nodes[0]), nodes[-1])

    def at(field: str) -> float:
        points = [math.log(getattr(value, field)) for value in values]
        return math.exp(float(np.interp(math.log(inside), np.log(nodes), points)))

    nearest = values[min(range(3), key=lambda i: abs(math.log(nodes[i] / inside)))]
    law = Quantity(at("low"), at("nominal"), at("high"), nearest.source, nearest.certainty, key)
    return law if inside == node_nm else times(law, scale(inside, node_nm), key)


def _published_sram(table: Mapping[str, Any], kilobytes: float, node_nm: float) -> float:
    """What Horowitz (45 nm) and Jouppi (7 nm) say that a read takes [J/bit]; ends of the table hold beyond it."""

    def at(node: int) -> float:
        points = np.log(table[f"picojoule_per_bit_at_{node}nm"])
        return float(np.interp(math.log(kilobytes), np.log(table["kilobytes"]), points))

    weight = min(max(math.log(45 / node_nm) / math.log(45 / 7), 0.0), 1.0)
    return 1e-12 * math.exp((1 - weight) * at(45) + weight * at(7))


def dram(kind: str) -> Quantity:
    """Energy per bit of dynamic RAM, device and interface [J/bit]. Raises ConfigError for an unknown kind."""
    return _known("dynamic RAM", kind, _library()["dram"])  # type: ignore[no-any-return]


def link(kind: str) -> Quantity:
    """Energy per bit of a link [J/bit]: router and bus per hop; "wire" per mm too. Raises ConfigError if unknown."""
    return _known("link", kind, _library()["link"])  # type: ignore[no-any-return]


class Adc(NamedTuple):
    """One analog-to-digital converter."""

    energy: Quantity  # [J per conversion]
    static_power: Quantity  # [W]
    area: Quantity  # [mm2]


def adc(effective_bits: float, rate_hz: float, node_nm: float) -> Adc:
    """A converter on the envelope of Murmann's survey, for 4 effective bits and more; x / 3.5 uncalibrated.

    Takes effective bits, not nominal ones. 80% of the total energy is dynamic, 20% a static power at `rate_hz`; both
    have the same key, since they are shares of one total.
    Source: model.yaml of hwcomponents-adc 1.0.21. Raises ConfigError outside 4-24 bits, or without rate.
    """
    if not 4 <= effective_bits <= MOST_EFFECTIVE_BITS or not rate_hz > 0 or not node_nm > 0:
        raise ConfigError(
            f"no survey converter of {effective_bits} bits, {rate_hz} Hz, {node_nm} nm; 4 bits at least, and "
            f"{MOST_EFFECTIVE_BITS} at most"
        )
    merit_db = min(213.7807 - 2.8719 * math.log(rate_hz), 128.3068 + 3.2205 * math.ceil(effective_bits))
    resolution_db = 6.02 * effective_bits + 1.76
    exponent = 26.0496 + 1.8800 * math.log(node_nm) - 2.8291 * math.log(effective_bits) - 1.4702
    total_pj = 0.5 * 10 ** ((resolution_db - merit_db) / 10) * math.exp(exponent)
    area_um2 = math.exp(1.3462 + 0.9933 * math.log(node_nm) + 0.1807 * math.log(rate_hz) + 0.2991 * math.log(total_pj))

    def value(nominal: float, part: str) -> Quantity:
        source = "survey envelope, hwcomponents-adc 1.0.21; range x / 3.5: its per-chip calibrations"
        key = f"components/adc.{part}"
        return Quantity(nominal / 3.5, nominal, nominal * 3.5, source, Certainty.DERIVED, key)

    total_j = 1e-12 * total_pj
    return Adc(
        value(0.8 * total_j, "energy"),
        value(0.2 * total_j * rate_hz, "energy"),
        value(1e-6 * area_um2, "area"),
    )
