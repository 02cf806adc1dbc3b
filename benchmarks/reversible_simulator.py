"""Times the bit-sliced simulator of reversible netlists against a Python loop and, where installed, cirq.

    python benchmarks/reversible_simulator.py [--words N] [--json FILE]

Stored: results/reversible_simulator.json, of the defaults with cirq 1.7.0. cirq is a large package that nothing else
here needs: `pip install cirq-core` into an environment that has hwsim, and the ratio to it is in the same run.

All run one multiply-accumulate of 8 by 8 bits into 24 (`mask`), on random values; every engine's results are checked
against integer arithmetic. A gate evaluation is one gate in one lane. The second table is a fault study: one flip in
every place where a gate may fail, 50 times on random values, and the shares of them that a look at the ancillas, or at
ancillas and operands, finds; the silent rest has changed the result alone. Then flips at random, of every place with
one probability, so that a run may have several.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from stamp import commit

from hwsim.devices.reversible import faults
from hwsim.devices.reversible.mac import REGISTER_SCHEMES, mac_netlist
from hwsim.devices.reversible.netlist import Kind
from hwsim.devices.reversible.simulate import Faults, load, read, simulate_numba, simulate_numpy
from hwsim.run import made_with

BITS, ACCUMULATOR_BITS = 8, 24
WORDS = 4096
REPEATS = 9
FLIPS = 50
PROBABILITIES, LANES = (1e-5, 1e-4, 1e-3), 64_000  # of a flip in one place of one run; runs


def cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def operands(lanes: int) -> dict[str, np.ndarray]:
    """Random values of the three registers."""
    rng = np.random.default_rng(1)
    half = 2 ** (BITS - 1)
    drawn = rng.integers(2**BITS, size=lanes), rng.integers(-half, half, size=lanes)
    return {"x": drawn[0], "w": drawn[1], "accumulator": rng.integers(2**ACCUMULATOR_BITS, size=lanes)}


def wanted(values: dict[str, np.ndarray]) -> np.ndarray:
    """The accumulators afterwards, by integer arithmetic."""
    return (values["accumulator"] + values["w"] * values["x"]) % 2**ACCUMULATOR_BITS


def bits_of(netlist, values: dict[str, np.ndarray]) -> list[int]:
    """What is on each wire in lane 0."""
    bits = [0] * netlist.width
    for name, wires in netlist.registers.items():
        for i, wire in enumerate(wires):
            bits[wire] = int(values[name][0]) >> i & 1
    return bits


def value_of(netlist, bits: list[int]) -> int:
    """The accumulator in a list of bits."""
    return sum(int(bits[wire]) << i for i, wire in enumerate(netlist.registers["accumulator"]))


def python_loop(gates: list[tuple[int, int, int, int]], bits: list[int]) -> None:
    """One lane, gate after gate."""
    for kind, first, second, target in gates:
        if kind == Kind.TOFFOLI:
            bits[target] ^= bits[first] & bits[second]
        elif kind == Kind.CNOT:
            bits[target] ^= bits[first]
        else:
            bits[target] ^= 1


def rates(call, evaluations: int, repeats: int = REPEATS) -> list[float]:
    """Gate evaluations a second in each of `repeats` calls, after one that compiles and warms up."""
    call()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(evaluations / (time.perf_counter() - start))
    return found


def python_rates(netlist) -> list[float]:
    """The Python loop, 20 times a call."""
    values = operands(1)
    gates, start = [(int(kind), *wires) for kind, *wires in netlist.program.tolist()], bits_of(netlist, values)
    bits = start.copy()
    python_loop(gates, bits)
    assert value_of(netlist, bits) == wanted(values)[0]
    return rates(lambda: [python_loop(gates, start.copy()) for _ in range(20)], 20 * len(gates))


def cirq_rates(netlist) -> list[float] | None:
    """cirq's ClassicalStateSimulator; None where cirq is not installed."""
    try:
        import cirq
    except ImportError:
        return None
    values, qubits = operands(1), cirq.LineQubit.range(netlist.width)
    gate = {Kind.NOT: cirq.X, Kind.CNOT: cirq.CNOT, Kind.TOFFOLI: cirq.TOFFOLI}
    circuit = cirq.Circuit(
        gate[Kind(kind)](*(qubits[wire] for wire in wires if wire >= 0)) for kind, *wires in netlist.program.tolist()
    )
    circuit.append(cirq.measure(*qubits, key="all"))
    simulator, start = cirq.ClassicalStateSimulator(), bits_of(netlist, values)
    done = simulator.simulate(circuit, qubit_order=qubits, initial_state=start)
    assert value_of(netlist, done.measurements["all"].tolist()) == wanted(values)[0]
    return rates(
        lambda: simulator.simulate(circuit, qubit_order=qubits, initial_state=start), len(netlist.program), repeats=5
    )


def sliced_rates(netlist, engine, words: int) -> list[float]:
    """One of the simulator's engines on 64 lanes a word."""
    lanes = 64 * words
    values = operands(lanes)
    state = load(netlist, **values)
    engine(state)
    assert np.array_equal(read(netlist, state, "accumulator", lanes), wanted(values))
    assert not state[list(netlist.ancillas)].any()
    return rates(lambda: engine(state), len(netlist.program) * lanes)


def show_speed(words: int) -> dict[str, Any]:
    """Print one row for each engine; all rates, in gate evaluations a second."""
    netlist = mac_netlist("mask", BITS, ACCUMULATOR_BITS)
    print(
        f"MAC of {BITS} by {BITS} into {ACCUMULATOR_BITS} bits: {len(netlist.program)} gates on {netlist.width} wires"
    )
    rows = {
        "cirq, classical state": cirq_rates(netlist),
        "Python loop, one lane": python_rates(netlist),
        "NumPy": sliced_rates(netlist, partial(simulate_numpy, netlist), words),
    }
    for threads in sorted({1, os.cpu_count() or 1}):
        engine = partial(simulate_numba, netlist, threads=threads)
        rows[f"Numba, {threads} thread(s)"] = sliced_rates(netlist, engine, words)
    loop, cirq = statistics.median(rows["Python loop, one lane"]), rows["cirq, classical state"]
    print(f"{'':24s}{'gate evaluations a second':>36s}{'MACs/s':>10s}{'to the loop':>14s}{'to cirq':>14s}")
    for name, found in rows.items():
        if found is None:
            print(f"{name:24s}{'not installed':>36s}")
            continue
        middle = statistics.median(found)
        to_cirq = f"{middle / statistics.median(cirq):.3g}x" if cirq else "-"
        spread = f"{middle:.2e} ({min(found):.2e} to {max(found):.2e})"
        print(f"{name:24s}{spread:>36s}{middle / len(netlist.program):10.1e}{middle / loop:13.3g}x{to_cirq:>14s}")
    return {"gates": len(netlist.program), "wires": netlist.width, "gate_evaluations_per_s": rows}


def show_faults() -> dict[str, Any]:
    """Print how many single flips show, for each scheme, and flips at random; the shares."""
    single, random = {}, {}
    print(f"\nOne flip in each place, {FLIPS} times: places   result wrong   ancilla shows   or operand   silent")
    for scheme in REGISTER_SCHEMES:
        netlist = mac_netlist(scheme, BITS, ACCUMULATOR_BITS)
        flips, lanes = faults.one_each(netlist, FLIPS)
        single[scheme] = shares(netlist, flips, lanes)
        print(f"{scheme:34s}{lanes // FLIPS:7d}{row(single[scheme])}")
    print(f"\nFlips at random, {LANES} runs: probability   result wrong   ancilla shows   or operand   silent")
    for scheme in REGISTER_SCHEMES:
        netlist, random[scheme] = mac_netlist(scheme, BITS, ACCUMULATOR_BITS), {}
        for probability in PROBABILITIES:
            flips = faults.at_random(netlist, LANES, probability, np.random.default_rng(2))
            random[scheme][probability] = shares(netlist, flips, LANES)
            print(f"{scheme:27s}{probability:14g}{row(random[scheme][probability])}")
    return {"one_flip_each": single, "at_random": random}


def shares(netlist, flips: Faults, lanes: int) -> dict[str, float]:
    """Shares of all runs: a wrong result, an ancilla that shows, an ancilla or an operand, and wrong but silent."""
    by_ancilla = faults.detection(netlist, operands(lanes), flips, kept=()).flagged
    found = faults.detection(netlist, operands(lanes), flips, kept=("x", "w"))
    counted = {"wrong": found.wrong, "ancilla": by_ancilla, "shown": found.flagged, "silent": found.silent}
    return {name: count / lanes for name, count in counted.items()}


def row(found: dict[str, float]) -> str:
    """The shares as text."""
    return f"{found['wrong']:15.1%}{found['ancilla']:16.1%}{found['shown']:13.1%}{found['silent']:9.1%}"


def main() -> None:
    """Measure, print and store."""
    import numba

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=WORDS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    busy = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    versions = f"NumPy {np.__version__}, Numba {numba.__version__}"
    print(f"{cpu()}, {os.cpu_count()} cores, load {busy}; {versions}; {options.words} words")
    result = {**commit(), "made_with": {**made_with(), "cpu": cpu(), "load": busy, "numba": numba.__version__}}
    result |= {"words": options.words, "speed": show_speed(options.words), "faults": show_faults()}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
