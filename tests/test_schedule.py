"""Schedules: closed forms, hand-drawn timelines, SimPy as an independent engine, and the ledger's own sums."""

import itertools
import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hwsim
from hwsim import cli, losses, ops, registry
from hwsim import pipeline as pipeline_module
from hwsim.arguments import model_and_data
from hwsim.bill import shape_step
from hwsim.cost import EVERY_KIND, STEP_PHASES, Component, Elementwise, Kind, Op, Phase, Product, Role, Use
from hwsim.device import Device
from hwsim.errors import ConfigError
from hwsim.learning.backprop import backprop
from hwsim.ledger import Ledger, TileShape
from hwsim.models.recompute import chained, coupled
from hwsim.models.revnet import fixed_add, fixed_subtract
from hwsim.nn import Network, dense, recurrent
from hwsim.optim import SGD
from hwsim.parameters import parameter
from hwsim.pipeline import shares_in, step_of, steps_of, traced_step
from hwsim.report import gantt
from hwsim.schedule import Schedule, Trace, schedule
from hwsim.schedule.engine import GRAINS, Claim, Job, grains, list_schedule
from hwsim.schedule.recorded import Recorded
from hwsim.schedule.reference import simpy_schedule
from hwsim.schedule.trace import Collector
from hwsim.tape import Value
from hwsim.tile import Tile
from hwsim.train import fit, loss_for

EXACT = 1e-9  # relative


def near(value: float) -> object:
    return pytest.approx(value, rel=EXACT)


def makespan(jobs: Sequence[Job]) -> float:
    return max(list_schedule(jobs).finish_s)


def pipeline(stage_s: Sequence[float], items: int) -> list[Job]:
    """Items that go through stages, a machine each."""
    width = len(stage_s)
    return [
        Job(stage_s[s], s, (item * width + s - 1,) if s else ()) for item in range(items) for s in range(width)
    ]  # fmt: skip


def random_jobs(rng: random.Random, count: int, machines: int, pools: int, times: Sequence[float]) -> list[Job]:
    """A random graph; every tenth job or so takes no time."""
    jobs = []
    for i in range(count):
        duration_s = 0.0 if rng.random() < 0.1 else rng.choice(times)
        after = sorted(rng.sample(range(i), min(i, rng.choice((0, 1, 1, 2)))))
        claims = [Claim(p, grains(rng.choice((0.1, 0.25, 1 / 3, 0.5, 1)))) for p in range(pools) if rng.random() < 0.4]
        jobs.append(Job(duration_s, rng.randrange(machines), after, claims))
    return jobs


# -- the engine --------------------------------------------------------------------------------------------


def test_one_machine_takes_the_serial_sum() -> None:
    rng = random.Random(1)
    jobs = random_jobs(rng, 400, 1, 0, [rng.random() for _ in range(50)])
    assert makespan(jobs) == near(math.fsum(job.duration_s for job in jobs))


def test_a_machine_for_every_job_takes_the_longest_path() -> None:
    rng = random.Random(2)
    times = [rng.random() for _ in range(50)]
    jobs = [job._replace(machine=i) for i, job in enumerate(random_jobs(rng, 300, 1, 0, times))]

    def longest_from(i: int) -> float:  # from the end backwards, where the engine goes forwards
        followers = [j for j, job in enumerate(jobs) if i in job.after]
        return jobs[i].duration_s + max((paths[j] for j in followers), default=0.0)

    paths: dict[int, float] = {}
    for i in reversed(range(len(jobs))):
        paths[i] = longest_from(i)
    assert makespan(jobs) == near(max(paths.values()))


@pytest.mark.parametrize(("stages", "items"), [(1, 7), (5, 1), (6, 40)])
def test_a_pipeline_fills_and_drains(stages: int, items: int) -> None:
    # Equal stages of 0.3 s: the last item enters after (items - 1) stages, and takes all of them.
    assert makespan(pipeline([0.3] * stages, items)) == near(0.3 * (stages + items - 1))


def test_a_pipeline_goes_at_the_pace_of_its_slowest_stage() -> None:
    rng = random.Random(3)
    stage_s = [rng.random() for _ in range(9)]
    for items in (1, 2, 100):
        assert makespan(pipeline(stage_s, items)) == near(math.fsum(stage_s) + (items - 1) * max(stage_s))
    assert makespan(pipeline(stage_s, 101)) - makespan(pipeline(stage_s, 100)) == near(max(stage_s))


def test_a_flow_shop_of_unequal_items_obeys_its_recurrence() -> None:
    # Items pass all machines in one order: C[i, s] = max(C[i - 1, s], C[i, s - 1]) + p[i, s] (Johnson 1954).
    rng = random.Random(4)
    times = [[rng.random() for _ in range(6)] for _ in range(30)]
    done = [0.0] * 6
    for item in times:
        for s in range(6):
            done[s] = max(done[s], done[s - 1] if s else 0.0) + item[s]
    jobs = [Job(times[i][s], s, (6 * i + s - 1,) if s else ()) for i in range(30) for s in range(6)]
    assert makespan(jobs) == near(done[-1])


@pytest.mark.parametrize(("jobs", "units"), [(12, 1), (12, 3), (13, 3), (2, 5)])
def test_jobs_that_share_units_go_in_rounds(jobs: int, units: int) -> None:
    claims = (Claim(0, grains(1 / units)),)
    assert makespan([Job(0.7, i, (), claims) for i in range(jobs)]) == near(0.7 * math.ceil(jobs / units))


def test_parts_of_a_pool_that_make_the_whole_fit_in_it() -> None:
    for parts in range(1, 200):
        assert parts * grains(1 / parts) <= GRAINS
    thirds = [Job(1.0, 0, (), (Claim(0, grains(1 / 3)),)), Job(1.0, 1, (), (Claim(0, grains(2 / 3)),))]
    assert makespan(thirds) == 1.0


def test_a_pool_serves_in_order_and_who_does_not_fit_holds_up_those_behind() -> None:
    claims = [(Claim(0, grains(share)),) for share in (0.5, 1.0, 0.5)]
    times = list_schedule([Job(1.0, i, (), claims[i]) for i in range(3)])
    assert times.start_s == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("seed", range(40))
def test_simpy_finds_the_same_times_to_the_last_bit(seed: int) -> None:
    rng = random.Random(seed)
    # Few different times make many things happen at one instant, where order matters.
    times = (0.5, 1.0, 2.0, 3.0) if seed % 2 else [rng.random() for _ in range(20)]
    jobs = random_jobs(rng, rng.randrange(1, 90), rng.randrange(1, 9), rng.randrange(4), times)
    found = list_schedule(jobs)
    assert found == simpy_schedule(jobs)
    for i, job in enumerate(jobs):
        assert all(found.finish_s[j] <= found.start_s[i] for j in job.after)


@pytest.mark.parametrize(
    "job",
    [
        Job(-1.0, 0),
        Job(math.nan, 0),
        Job(math.inf, 0),
        Job(1.0, 0, (0,)),
        Job(1.0, 0, (-1,)),
        Job(1.0, 0, (), (Claim(0, GRAINS + 1),)),
        Job(1.0, 0, (), (Claim(0, 0),)),
        Job(1.0, 0, (), (Claim(1, 1), Claim(0, 1))),
    ],
)
def test_jobs_that_cannot_be_scheduled_are_refused(job: Job) -> None:
    for engine in (list_schedule, simpy_schedule):
        with pytest.raises(ConfigError, match="job 0"):
            engine([job])


def test_nothing_to_do_takes_no_time() -> None:
    assert list_schedule([]) == simpy_schedule([]) == ([], [], [])


# -- devices and networks with numbers that can be added by hand -----------------------------------------------


class Clerk(Device):
    """A host that works on gradients for half a second each, and on all else for no time."""

    name = "clerk"
    host = None
    adds_s: float = parameter(0.0, unit="s", doc="elementwise work on weights")

    @property
    def components(self) -> Mapping[str, Component]:
        return {"desk": Component(energy_j=0.5, time_s=0.5, static_power_w=1.0, idle_power_w=0.2)}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        if isinstance(op, Elementwise):
            return {"desk": Use(2 * self.adds_s)} if op.name == "momentum" else {}
        return {"desk": Use(1)} if op.kind is Kind.GRADIENT else None


class Arrays(Device):
    """An array for every tile: two seconds forwards, three backwards, five for a move."""

    name = "arrays"
    host: str | Device | None = parameter(Clerk(), doc="whose clerk works on gradients")
    forward_s: float = parameter(2.0, unit="s", doc="of a forward product; 0: one a column")
    backward_s: float = parameter(3.0, unit="s", doc="of a backward product")
    move_s: float = parameter(5.0, unit="s", doc="of an update")
    release_s: float = parameter(0.0, unit="s", doc="of a release; 0: nothing is held")
    in_place: bool = parameter(False, doc="whether it moves by outer products")
    converters: float = parameter(0.0, doc="that a forward product takes, for one second")

    @property
    def components(self) -> Mapping[str, Component]:
        return {
            "core": Component(energy_j=1.0, time_s=1.0, static_power_w=4.0, idle_power_w=0.5),
            "adc": Component(Role.CONVERTER, time_s=1.0, static_power_w=1.0 if self.converters else 0.0),
        }

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {"core": len(tiles), "adc": len(tiles) * self.converters}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        if isinstance(op, Elementwise):  # an activation of its own takes a second either way
            return {"core": Use(1.0)} if op.name in ("device", "device_backward") else None
        if op.kind in (Kind.GRADIENT, Kind.PRODUCT) or (op.kind is Kind.UPDATE_OUTER and not self.in_place):
            return None
        if op.kind is Kind.RELEASE:
            return {"core": Use(self.release_s)} if self.release_s else None
        if op.kind is Kind.FORWARD:
            converted = {"adc": Use(self.converters, self.converters)} if self.converters else {}
            return {"core": Use(self.forward_s or float(op.n)), **converted}
        times = {Kind.BACKWARD: self.backward_s, Kind.UPDATE: self.move_s, Kind.UPDATE_OUTER: self.move_s}
        return {"core": Use(times.get(op.kind, 0.0))}

    def activation_parameters(self, n: int) -> Mapping[str, tuple[int, ...]]:
        return {"threshold": (n,)}


class Chain:
    """Dense layers of given widths, without bias."""

    def __init__(self, *widths: int, activation: str | None = None) -> None:
        self.widths = widths
        self.activation = activation
        self.input_shape = (4,)

    def __call__(self, net: Network, x: Value) -> Value:
        for i, width in enumerate(self.widths):
            x = dense(net, f"layer{i}", x, width, bias=False, activation=self.activation)
        return x


def traced(model: object, device: Device, micro_batches: int, optimizer: str = "sgd") -> Trace:
    """One step on eight rows."""
    return traced_step(
        model, device, (), losses.cross_entropy, batch=8, optimizer=optimizer, micro_batches=micro_batches
    )  # type: ignore[arg-type]  # fmt: skip


def starts(found: Schedule, what: object, layer: str) -> list[tuple[float, float]]:
    """Start and end of a layer's operations of one kind (or elementwise name)."""
    return [
        (found.start_s[i], found.finish_s[i])
        for i, task in enumerate(found.tasks)
        if task.layer == layer and (task.op.kind if isinstance(task.op, Product) else task.op.name) == what
    ]


def test_two_micro_batches_on_two_tiles_and_a_host_as_drawn_by_hand() -> None:
    # tile 0:  F1 0-2, F2 2-4;                                  U 12.5-17.5 (its last gradient is there at 12.5)
    # tile 1:          F1 2-4, B1 4-7, F2 7-9, B2 9-12,         U 12-17     (nothing reads it after 12)
    # clerk:           gradients of layer 1 at 4 and 9, of layer 0 at 7 and 12, half a second each
    found = schedule(traced(Chain(3, 2), Arrays(), 2))
    assert starts(found, Kind.FORWARD, "layer0") == [(0, 2), (2, 4)]
    assert starts(found, Kind.FORWARD, "layer1") == [(2, 4), (7, 9)]
    assert starts(found, Kind.BACKWARD, "layer1") == [(4, 7), (9, 12)]
    assert starts(found, Kind.BACKWARD, "layer0") == []
    assert starts(found, Kind.GRADIENT, "layer1") == [(4, 4.5), (9, 9.5)]
    assert starts(found, Kind.GRADIENT, "layer0") == [(7, 7.5), (12, 12.5)]
    assert starts(found, Kind.UPDATE, "layer1") == [(12, 17)]
    assert starts(found, Kind.UPDATE, "layer0") == [(12.5, 17.5)]
    assert found.makespan_s == 17.5
    assert found.serial_s == 4 * 2 + 2 * 3 + 2 * 5 + 4 * 0.5
    assert {r.label: s for r, s in found.busy_s.items()} == {"arrays layer0/w": 9, "arrays layer1/w": 15, "clerk": 2}
    assert {r.label: u for r, u in found.utilisation.items()}["arrays layer1/w"] == near(15 / 17.5)
    assert found.component_utilisation == {("arrays", "core"): near(24 / 2 / 17.5), ("clerk", "desk"): near(2 / 17.5)}


def test_idle_energy_is_that_of_the_makespan() -> None:
    # As above: one of the two arrays works at any time from 0 to 17.5; the clerk works for 2 s and waits for 15.5.
    found = schedule(traced(Chain(3, 2), Arrays(), 2))
    assert found.energy_j == {
        ("arrays", "dynamic"): 24.0,  # 1 J a second of an array
        ("arrays", "static"): 2 * 4.0 * 17.5,
        ("arrays", "idle"): 0.0,
        ("clerk", "dynamic"): 4 * 0.5,
        ("clerk", "static"): 1.0 * 2,
        ("clerk", "idle"): near(0.2 * 15.5),
    }
    # One after the other the arrays work for 24 s and wait for the clerk's 2 s, and the clerk for 24 s.
    assert found.serial_energy_j["arrays", "static"] == near(2 * 4.0 * 24)
    assert found.serial_energy_j["arrays", "idle"] == near(2 * 0.5 * 2)
    assert found.serial_energy_j["clerk", "idle"] == near(0.2 * 24)
    assert found.total_j == near(24 + 140 + 2 + 2 + 3.1)


def test_arithmetic_of_a_layer_stands_between_its_gradients_and_its_move() -> None:
    # One micro-batch: F 0-2 and 2-4; gradient of layer 1 at 4-4.5, its momentum (1 s) 4.5-5.5; B 4-7; gradient of
    # layer 0 at 7-7.5, its momentum 7.5-8.5. Layer 1 moves when it is read no more (7), layer 0 at 8.5.
    found = schedule(traced(Chain(3, 2), Arrays(host=Clerk(adds_s=1.0)), 1, "momentum"))
    assert starts(found, "momentum", "layer1") == [(4.5, 5.5)]
    assert starts(found, "momentum", "layer0") == [(7.5, 8.5)]
    assert starts(found, Kind.UPDATE, "layer1") == [(7, 12)]
    assert starts(found, Kind.UPDATE, "layer0") == [(8.5, 13.5)]


def test_what_a_tile_holds_is_released_after_its_last_use() -> None:
    # Layer 1 is read backwards until 7, and its gradient is there at 4.5; layer 0 waits for its gradient until 7.5.
    found = schedule(traced(Chain(3, 2), Arrays(release_s=1.0), 1))
    assert starts(found, Kind.RELEASE, "layer1") == [(7, 8)]
    assert starts(found, Kind.RELEASE, "layer0") == [(7.5, 8.5)]
    assert starts(found, Kind.UPDATE, "layer1") == [(8, 13)]
    assert starts(found, Kind.UPDATE, "layer0") == [(8.5, 13.5)]


def test_an_activation_of_the_substrate_has_hardware_of_its_own() -> None:
    # First micro-batch: F 0-2, activation 2-3, F 3-5, activation 5-6 and back 6-7, B 7-10, activation back 10-11.
    # Second: F 2-4, 4-5, F 5-7, 7-8 (the activation is free again at 7) and back 8-9, B when its tile is free, 10-13.
    found = schedule(traced(Chain(3, 2, activation="device"), Arrays(), 2))
    assert starts(found, "device", "layer0") == [(2, 3), (4, 5)]
    assert starts(found, "device", "layer1") == [(5, 6), (7, 8)]
    assert starts(found, "device_backward", "layer1") == [(6, 7), (8, 9)]
    assert starts(found, Kind.BACKWARD, "layer1") == [(7, 10), (10, 13)]
    assert starts(found, "device_backward", "layer0") == [(10, 11), (13, 14)]
    assert {machine.tile for machine in found.machines} >= {"layer0/w", "layer0/activation", "layer1/activation"}


def test_a_gradient_holds_nobody_up() -> None:
    # Back through the last activation 6-7; B 7-7.25 while the clerk forms the gradient, 7-7.5; on at 7.25.
    found = schedule(traced(Chain(3, 2, activation="device"), Arrays(backward_s=0.25), 1))
    assert starts(found, Kind.GRADIENT, "layer1") == [(7, 7.5)]
    assert starts(found, "device_backward", "layer0") == [(7.25, 8.25)]


def test_moves_in_place_wait_for_their_operands() -> None:
    # The first layer is never read backwards: its errors are there when those of the second have come through, at 7,
    # and of the second micro-batch at 12, as drawn above. One move a micro-batch, one after the other, at the end.
    found = schedule(traced(Chain(3, 2), Arrays(in_place=True), 1))
    assert starts(found, Kind.UPDATE_OUTER, "layer0") == starts(found, Kind.UPDATE_OUTER, "layer1") == [(7, 12)]
    found = schedule(traced(Chain(3, 2), Arrays(in_place=True), 2))
    assert starts(found, Kind.UPDATE_OUTER, "layer0") == [(12, 17), (17, 22)]


def test_a_gradient_is_added_to_that_of_the_micro_batch_before() -> None:
    trace = traced(Chain(3), Arrays(), 3)
    formed = [i for i, task in enumerate(trace.tasks) if task.op[0] is Kind.GRADIENT]
    added = [i for i, task in enumerate(trace.tasks) if task.op[0] == "accumulate"]
    assert [trace.tasks[i].after for i in added] == [(formed[0], formed[1]), (added[0], formed[2])]
    rows = [task.op.m for task in trace.tasks if isinstance(task.op, Product) and task.op.kind is Kind.FORWARD]
    assert rows == [3, 3, 2]  # of eight


class Recurrence:
    """Two steps of a recurrent layer, and the last state through a second layer."""

    input_shape = (2, 4)

    def __call__(self, net: Network, x: Value) -> Value:
        states = recurrent(net, "cell", x, 3)
        return dense(net, "last", net.apply(ops.at(1), states), 2, bias=False)


def test_pieces_of_a_gradient_come_together_before_it_is_used() -> None:
    # F: w 0-2 for both steps, u 2-4, last 4-6. B: last 6-9, u 9-12. The inputs of step 1 have their gradient at 9, and
    # those of step 0 at 12: u's gradient is formed at 9, w's at 12, when both pieces are there.
    found = schedule(traced(Recurrence(), Arrays(), 1))
    assert starts(found, Kind.FORWARD, "cell") == [(0, 2), (2, 4)]
    assert starts(found, Kind.BACKWARD, "cell") == [(9, 12)]
    assert starts(found, Kind.GRADIENT, "cell") == [(9, 9.5), (12, 12.5)]


class Branches:
    """Two layers side by side, whose sum goes through a third."""

    input_shape = (4,)

    def __call__(self, net: Network, x: Value) -> Value:
        x = dense(net, "first", x, 4, bias=False)
        left, right = (dense(net, name, x, 4, bias=False) for name in ("left", "right"))
        return dense(net, "last", net.apply(ops.add, left, right), 2, bias=False)


def test_branches_run_side_by_side_and_their_gradients_meet() -> None:
    # F: first 0-2, left and right 2-4, last 4-6. B: last 6-9, left and right 9-12; their sum goes back to first.
    found = schedule(traced(Branches(), Arrays(), 1))
    assert starts(found, Kind.FORWARD, "left") == starts(found, Kind.FORWARD, "right") == [(2, 4)]
    assert starts(found, Kind.FORWARD, "last") == [(4, 6)]
    assert starts(found, Kind.BACKWARD, "left") == starts(found, Kind.BACKWARD, "right") == [(9, 12)]
    assert [start for start, _ in starts(found, Kind.GRADIENT, "first")] == [12]


class Uneven:
    """Halves of a layer's output, of which one goes through two more layers and the other through one."""

    input_shape: tuple[int, ...] = (2, 4)

    def __init__(self, longer: int) -> None:
        self.longer = longer

    def __call__(self, net: Network, x: Value) -> Value:
        x = dense(net, "first", x, 3, bias=False)
        ends = []
        for i in range(2):
            way = self.way(net, x, i)
            if i == self.longer:
                way = dense(net, "more", way, 3, bias=False)
            ends.append(dense(net, f"last{i}", way, 2, bias=False))
        return net.apply(ops.add, *ends)

    def way(self, net: Network, x: Value, i: int) -> Value:
        return net.apply(ops.at(i), x)


class Forked(Uneven):
    """The whole output of a layer both ways."""

    input_shape = (4,)

    def way(self, net: Network, x: Value, i: int) -> Value:
        return x


@pytest.mark.parametrize("model", [Uneven, Forked])
@pytest.mark.parametrize("longer", [0, 1])
def test_gradients_that_meet_wait_for_the_last_of_them(model: type[Uneven], longer: int) -> None:
    # F: first 0-2, the shorter way 2-4, the longer 2-6. B, when both have met: the shorter 6-9, the longer 6-12.
    found = schedule(traced(model(longer), Arrays(), 1))
    assert starts(found, Kind.BACKWARD, f"last{1 - longer}") == [(6, 9)]
    assert starts(found, Kind.BACKWARD, "more") == [(9, 12)]
    assert starts(found, Kind.GRADIENT, "first") == [(12, 12.5)]


class Coupling:
    """A sum that is written over one of its terms; what its branch had read is computed again on the way back."""

    input_shape = (4,)

    def __call__(self, net: Network, x: Value) -> Value:
        def branch(net: Network, x: Value) -> Value:
            return dense(net, "branch", x, 3, bias=False)

        a, b = (dense(net, name, x, 3, bias=False) for name in "ab")
        return dense(net, "last", coupled(net, a, b, branch, fixed_add, fixed_subtract), 2, bias=False)


def test_what_is_computed_again_waits_for_its_gradient() -> None:
    # F: a and b 0-2, branch 2-4, last 4-6. B: last 6-9; then the branch again, 9-11, and back, 11-14, before either
    # term has its gradient: b's is formed 14-14.5, a's 14.5-15.
    found = schedule(traced(Coupling(), Arrays(), 1))
    assert starts(found, Kind.FORWARD, "branch") == [(2, 4), (9, 11)]
    assert starts(found, Kind.BACKWARD, "branch") == [(11, 14)]
    assert starts(found, Kind.GRADIENT, "branch") == [(11, 11.5)]
    assert starts(found, Kind.FORWARD, "last") == [(4, 6)]
    assert starts(found, Kind.GRADIENT, "b") == [(14, 14.5)]
    assert starts(found, Kind.GRADIENT, "a") == [(14.5, 15)]


class Chained:
    """Three layers, of which at most two keep their result; moves as in the best pebbling of three segments."""

    input_shape = (4,)

    def __call__(self, net: Network, x: Value) -> Value:
        def segment(name: str) -> Callable[[Network, Value], Value]:
            return lambda net, x: dense(net, name, x, 3, bias=False)

        x = chained(net, x, [segment(name) for name in "abc"], (1, 2, -1, 3, 1, -3, -2, -1))
        return dense(net, "last", x, 2, bias=False)


def test_segments_that_are_computed_again_wait_for_their_gradient() -> None:
    # F: a, b, c, last 0-8; B: last 8-11. Before c goes back, a is computed again: 11-13. Tiles wait for nobody else,
    # so that c goes back 11-14 meanwhile, b 14-17, and the gradient of a, which has no error to send on, is at 17.
    found = schedule(traced(Chained(), Arrays(), 1))
    assert starts(found, Kind.FORWARD, "a") == [(0, 2), (11, 13)]
    assert starts(found, Kind.BACKWARD, "c") == [(11, 14)]
    assert starts(found, Kind.BACKWARD, "b") == [(14, 17)]
    assert starts(found, Kind.GRADIENT, "a") == [(17, 17.5)]


class Tied:
    """One tile that is read from both sides, under two layers."""

    input_shape = (4,)

    def __call__(self, net: Network, x: Value) -> Value:
        x = dense(net, "first", x, 3, bias=False)
        with net.layer("there"):
            tile = net.tile("w", (3, 2), lambda rng, shape: rng.standard_normal(shape))
            x = net.linear(tile, x)
        with net.layer("back"):
            return net.linear_transposed(tile, x)


def test_a_tied_tile_moves_once_after_everything_that_reads_it() -> None:
    # 'there' is read forwards 2-4; 'back' reads its other side 4-7, and on the way back its first one 7-9; then the
    # gradient goes through 'there' 9-12. Two gradients add up (clerk: 7-7.5 and 9-9.5); it moves at 12.
    found = schedule(traced(Tied(), Arrays(), 1))
    assert starts(found, Kind.BACKWARD, "back") == [(4, 7)]
    assert starts(found, Kind.FORWARD, "back") == [(7, 9)]
    assert starts(found, Kind.BACKWARD, "there") == [(9, 12)]
    moves = [i for i, task in enumerate(found.tasks) if task.tile == "there/w" and task.phase is Phase.UPDATE]
    assert [found.start_s[i] for i in moves] == [12]


@pytest.mark.parametrize("micro_batches", [1, 3, 8])
def test_layers_on_tiles_fill_and_drain(micro_batches: int) -> None:
    device = Arrays(forward_s=0.7, backward_s=0.0, move_s=0.0)
    trace = traced(Chain(5, 5, 5, 2), device, micro_batches)
    forwards = [i for i, task in enumerate(trace.tasks) if task.phase is Phase.FORWARD]
    found = schedule(trace)
    assert max(found.finish_s[i] for i in forwards) == near(0.7 * (4 + micro_batches - 1))


@pytest.mark.parametrize("micro_batches", [1, 2, 7])
def test_layers_on_tiles_go_at_the_pace_of_the_widest(micro_batches: int) -> None:
    widths = (3, 7, 5, 2)  # a second a column
    trace = traced(Chain(*widths), Arrays(forward_s=0.0, backward_s=0.0, move_s=0.0), micro_batches)
    found = schedule(trace)
    forwards = [i for i, task in enumerate(trace.tasks) if task.phase is Phase.FORWARD]
    assert max(found.finish_s[i] for i in forwards) == near(sum(widths) + (micro_batches - 1) * max(widths))


def test_tiles_that_share_all_converters_take_turns() -> None:
    device = Arrays(forward_s=1.0, backward_s=0.0, move_s=0.0, converters=2.0)
    trace = traced(Chain(5, 5, 2), device, 4)
    alone, together = schedule(trace), schedule(trace, shared={"adc": 2})
    assert starts(alone, Kind.FORWARD, "layer2")[-1][1] == near(3 + 4 - 1)
    assert starts(together, Kind.FORWARD, "layer2")[-1][1] == near(3 * 4)  # all twelve, one after the other
    assert together == schedule(trace, shared={"adc": 2}, engine=simpy_schedule)
    # The first micro-batch goes on before the second begins: that has its tile at 1 s, and the converters at 3 s.
    assert [machine.tile for machine in together.machines[:3]] == ["layer0/w", "layer1/w", "layer2/w"]
    assert together.waits[0] == (0, 0, 1.0, 3.0, 2)
    assert [loan.share for loan in together.loans] == [1.0] * 12
    # A half of what one product would take makes each product twice as long.
    assert starts(schedule(trace, shared={"adc": 1}), Kind.FORWARD, "layer2")[-1][1] == near(2 * 3 * 4)
    pool = together.pools[0]
    assert together.busy_s[pool] == near(12.0)
    # There is one set of converters, and not one a tile: it works as much as the pool that it is, if not for three.
    assert together.component_utilisation[device.spec, "adc"] == near(12 / together.makespan_s)
    assert alone.component_utilisation[device.spec, "adc"] == near(12 / 3 / alone.makespan_s)
    # Of eight, two work at a time for 12 s, all tiles together.
    many = schedule(trace, shared={"adc": 8})
    assert many.component_utilisation[device.spec, "adc"] == near(12 * 2 / 8 / many.makespan_s)
    assert many.utilisation[many.pools[0]] == near(12 * 2 / 8 / many.makespan_s)
    # Of six converters two are left, of 1 W each, beside three cores of 4 W.
    assert together.static_power_w[device.spec] == near(3 * 4 + 2)
    assert alone.static_power_w[device.spec] == near(3 * 4 + 6)
    assert together.idle_power_w[device.spec] == near(3 * 0.5 + 2)


class Workshop(Arrays):
    """Arrays that move only with a press, of which there is one."""

    name = "workshop"
    own: bool = parameter(False, doc="whether the press is a clock of each tile")

    @property
    def components(self) -> Mapping[str, Component]:
        of_tile = EVERY_KIND if self.own else ()
        press = Component(Role.PROGRAMMING, time_s=1.0, static_power_w=3.0, idle_power_w=0.25, of_tile=of_tile)
        return {**super().components, "press": press}

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {**super().installed(tiles), "press": 1.0}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        found = super().activity(op)
        moves = isinstance(op, Product) and op.kind is Kind.UPDATE
        return {**found, "press": Use(5.0)} if found is not None and moves else found


def test_what_does_not_grow_with_tiles_is_one_for_all() -> None:
    # As drawn by hand above, but layer 0 waits from 12.5 until layer 1 gives the press back at 17.
    trace = traced(Chain(3, 2), Workshop(), 2)
    found = schedule(trace)
    assert starts(found, Kind.UPDATE, "layer1") == [(12, 17)]
    assert starts(found, Kind.UPDATE, "layer0") == [(17, 22)]
    assert found == schedule(trace, engine=simpy_schedule)
    assert (found.pool_units, [pool.component for pool in found.pools]) == ([1.0], ["press"])
    assert found.waits == [(0, 0, 12.5, 17.0, 1)]
    assert found.component_utilisation["workshop", "press"] == near(10 / 22)  # of the one press
    # With a second press as drawn; that has power too. Half a press takes twice as long, and half of the power.
    two, half = schedule(trace, shared={"press": 2}), schedule(trace, shared={"press": 0.5})
    assert starts(two, Kind.UPDATE, "layer0") == [(12.5, 17.5)]
    assert starts(half, Kind.UPDATE, "layer1") == [(12, 22)]
    for each, units in ((found, 1), (two, 2), (half, 0.5)):
        assert each.static_power_w["workshop"] == near(2 * 4 + 3 * units)
        assert each.idle_power_w["workshop"] == near(2 * 0.5 + 0.25 * units)
    # A clock of each tile is nobody else's, and cannot be shared.
    own = traced(Chain(3, 2), Workshop(own=True), 2)
    clocks = schedule(own)
    assert starts(clocks, Kind.UPDATE, "layer0") == [(12.5, 17.5)]
    assert clocks.component_utilisation[own.tasks[0].device.spec, "press"] == near(10 / 2 / 17.5)
    with pytest.raises(ConfigError, match=r"sharing press changes nothing.*can be shared: core, desk"):
        schedule(own, shared={"press": 1})


class Shelves(Arrays):
    """One machine, whose memory grows with what it holds."""

    name = "shelves"

    @property
    def components(self) -> Mapping[str, Component]:
        return {"core": Component(time_s=1.0), "memory": Component(Role.ON_CHIP_MEMORY, static_power_w=1.0)}

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {"core": 1.0, "memory": len(tiles)}


def test_memory_that_grows_makes_no_second_machine() -> None:
    found = schedule(traced(Chain(5, 2), Shelves(), 2))
    assert starts(found, Kind.FORWARD, "layer0") == [(0, 2), (7, 9)]  # between them F and B of layer 1
    assert [machine.label for machine in found.machines] == ["shelves", "clerk"]


def test_stages_that_share_a_resonator_take_the_serial_sum() -> None:
    trace = traced(Chain(5, 5, 5, 2), Arrays(host=Clerk(), forward_s=1.5), 8)
    found = schedule(trace, shared={"core": 1})
    assert found.busy_s[found.pools[0]] == near(8 * 4 * 1.5 + 8 * 3 * 3 + 4 * 5)
    spans = sorted(
        (found.start_s[i], found.finish_s[i]) for i, task in enumerate(trace.tasks) if task.device.name == "arrays"
    )
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize(("headroom_w", "seconds"), [(1.2, 2 * 2 * 4), (2.5, 2 * (2 + 4 - 1))])
def test_a_power_cap_holds_for_all_tiles_together(headroom_w: float, seconds: float) -> None:
    # A product of 2 J in 2 s takes 1 W beside the static 8 W of two arrays: two at once need 2 W.
    device = Arrays(backward_s=0.0, move_s=0.0, power_cap_w=8.0 + headroom_w)
    trace = traced(Chain(5, 2), device, 4)
    forwards = [i for i, task in enumerate(trace.tasks) if task.phase is Phase.FORWARD]
    found = schedule(trace)
    assert max(found.finish_s[i] for i in forwards) == near(seconds)


@pytest.mark.parametrize("shared", [{"nothing": 1.0}, {"core": 0.0}, {"core": math.inf}, {"core": math.nan}])
def test_what_cannot_be_shared_is_refused(shared: Mapping[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(shared))):
        schedule(traced(Chain(2), Arrays(), 1), shared=shared)


def test_sharing_what_nobody_takes_time_of_is_refused() -> None:
    # Without converters, a product takes time of its core alone.
    with pytest.raises(ConfigError, match=r"sharing adc changes nothing.*can be shared: core, desk"):
        schedule(traced(Chain(2), Arrays(), 1), shared={"adc": 1.0})


def test_the_search_for_micro_batches_goes_on_after_a_step_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # A makespan that dips twice: 12 s whole, 13 s in two, 11, 12, and 9 s in sixteen, 10 s in 32.
    makespan_s = {1: 12.0, 2: 13.0, 4: 11.0, 8: 12.0, 16: 9.0, 32: 10.0}

    def step(*_: object, micro_batches: int, **__: object) -> int:
        return micro_batches

    monkeypatch.setattr(pipeline_module, "traced_step", step)
    monkeypatch.setattr(
        pipeline_module, "schedule", lambda trace, **_: SimpleNamespace(makespan_s=makespan_s[trace], parts=trace)
    )
    network, data, _ = model_and_data("xor", None)
    for batch, best in ((1, 1), (2, 1), (7, 4), (8, 4), (15, 4), (16, 16), (32, 16), (33, 16)):
        found = step_of(network, data, Arrays(), batch=batch).quickest()
        assert (found.micro_batches, found.quickest.parts, found.whole.parts) == (best, best, 1)


def test_only_shapes_are_followed_and_every_micro_batch_has_a_row() -> None:
    trace = Trace()
    with pytest.raises(ConfigError, match="shape_only"):
        trace.follow(Network(Chain(2), Arrays(), ledger=trace), SGD(0.1))
    for micro_batches in (0, 9):
        with pytest.raises(ConfigError, match="from 1 to 8"):
            traced(Chain(2), Arrays(), micro_batches)


# -- the built-in devices --------------------------------------------------------------------------------------

CASES = [
    ("mlp", "digital:int8"),
    ("mlp", "gpu:h100"),
    *((model, "crossbar") for model in ("mlp", "gpt", "rnn", "revnet")),
]


@pytest.mark.parametrize(("model", "device"), CASES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_tasks_are_the_calls_of_a_step_and_one_after_the_other_cost_what_the_ledger_says(
    model: str, device: str, optimizer: str
) -> None:
    network, data, _ = model_and_data(model, None)
    substrate = hwsim.device(device)
    step = shape_step(network, data, substrate, 16, optimizer)
    trace = traced_step(network, substrate, data.y_train.shape[1:], loss_for(data), batch=16, optimizer=optimizer)
    assert trace.calls == step.calls
    counted = Ledger()
    for task in trace.tasks:
        with counted.scope(layer=task.layer, phase=task.phase):
            counted.charge(task.device, task.op)
    assert counted.calls == {cell: calls for cell, calls in step.calls.items() if cell[1] is not Phase.SETUP}
    found = schedule(trace)
    energy = step.energy(("device", "part"), phases=STEP_PHASES)
    assert found.serial_s == near(float(step.total_s(phases=STEP_PHASES)))
    assert math.fsum(found.serial_energy_j.values()) == near(math.fsum(energy.values()))
    for label in step.devices().values():
        assert found.serial_energy_j[label, "idle"] == pytest.approx(energy.get((label, "idle"), 0.0), rel=EXACT)


@pytest.mark.parametrize(("model", "device"), CASES)
def test_no_schedule_breaks_its_bounds_and_simpy_finds_the_same(model: str, device: str) -> None:
    network, data, _ = model_and_data(model, None)
    trace = traced_step(
        network, hwsim.device(device), data.y_train.shape[1:], loss_for(data), batch=16, micro_batches=4
    )
    found = schedule(trace)
    assert found == schedule(trace, engine=simpy_schedule)
    assert max(found.busy_s.values()) <= found.makespan_s * (1 + EXACT)
    assert found.makespan_s <= found.serial_s * (1 + EXACT)
    for device_spec, busy_s in found.device_busy_s.items():
        machines = [seconds for resource, seconds in found.busy_s.items() if resource.device == device_spec]
        assert max(machines, default=0.0) <= busy_s * (1 + EXACT)
        assert busy_s <= math.fsum(machines) * (1 + EXACT)
    moved: dict[str, float] = {}
    for i in reversed(range(len(trace.tasks))):
        task = trace.tasks[i]
        if task.tile and task.phase is Phase.UPDATE:
            moved[task.tile] = min(found.start_s[i], moved.get(task.tile, math.inf))
        elif task.tile and task.tile in moved:
            assert found.finish_s[i] <= moved[task.tile]
    assert moved


@pytest.mark.parametrize("device", ["gpu:h100", "digital:int8"])
def test_a_single_processor_overlaps_nothing(device: str) -> None:
    network, data, _ = model_and_data("mlp", None)
    found = step_of(network, data, hwsim.device(device), batch=16).quickest()
    assert found.micro_batches == 1
    assert found.quickest.makespan_s == near(found.whole.serial_s)
    assert found.quickest.total_j == near(math.fsum(found.whole.serial_energy_j.values()))
    assert [machine.tile for machine in found.quickest.machines] == [""]


def test_tiles_of_a_crossbar_overlap_each_other_and_its_host() -> None:
    network, data, _ = model_and_data("mlp", None)
    found = step_of(network, data, hwsim.device("crossbar"), batch=16).quickest()
    tiles = {machine.tile for machine in found.quickest.machines}
    assert tiles == {"", "fc1/w", "fc2/w"}
    # Two tiles whose moves alone take nearly all of the time: not quicker than by two, but nearly so.
    assert 0.5 * found.whole.serial_s < found.quickest.makespan_s < 0.6 * found.whole.serial_s


@pytest.mark.parametrize("model", ["mlp", "gpt", "rnn", "revnet"])
@pytest.mark.parametrize("device", ["crossbar", "reversible", "digital:int8", "optical:nitride"])
@pytest.mark.parametrize(("optimizer", "micro_batches"), [("sgd", 7), ("adam", 5)])
def test_micro_batches_that_are_copied_are_those_that_are_recorded(
    model: str, device: str, optimizer: str, micro_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, data, _ = model_and_data(model, None)
    substrate, loss, shape = hwsim.device(device), loss_for(data), data.y_train.shape[1:]
    backprops = []

    def counted(*arguments: Any) -> Any:
        backprops.append(arguments)
        return backprop(*arguments)

    monkeypatch.setattr(pipeline_module, "backprop", counted)

    def trace() -> Trace:
        return traced_step(network, substrate, shape, loss, batch=16, optimizer=optimizer, micro_batches=micro_batches)

    copied = trace()
    assert len(backprops) < micro_batches
    monkeypatch.setattr(Collector, "repeat", lambda self, times: 0)
    recorded = trace()
    assert copied.tasks == recorded.tasks
    assert (copied.calls, copied.tiles, copied.peak_bits) == (recorded.calls, recorded.tiles, recorded.peak_bits)


# -- no unit is taken twice at once ----------------------------------------------------------------------------

BUILT_IN = [
    *(f"{name}:{preset}" for name in registry.devices() for preset in registry.device_class(name).presets()),
    "ideal",
    "crossbar:algorithm=ttv2",
    "crossbar:algorithm=mixed",
    "optical:mzi:trained=phases",
    *(f"optical:{preset}:gradient_by=homodyne" for preset in ("mzi", "nitride", "slm", "microring")),
    "reversible:scheme=naf",
    "reversible:scheme=naf:in_flight=8",
]


def passes_on_its_tile(device: Device, component: str, op: Op) -> bool:
    """Whether a component's time in an operation is a wait or clock of its tile: named here once more, by hand."""
    kind = op.kind if isinstance(op, Product) else None
    if device.name in ("crossbar", "aware"):
        return component in ("settle", "fill", "slot")  # a read's wait, a pipeline's fill, a pulse of a row
    if device.name == "optical":  # light in optics that a matrix has of its own; gradients have one unit for all
        own = device.optics != "homodyne" and kind is not Kind.GRADIENT  # type: ignore[attr-defined]
        return component == "settle" or (component in ("symbol", "flight") and own)
    wired = device.name == "reversible" and device.scheme == "naf"  # type: ignore[attr-defined]
    return wired and component == "tick" and kind in (Kind.FORWARD, Kind.BACKWARD, Kind.RELEASE)


def network_for(device: Device) -> Any:
    """Three layers, with the substrate's own neurons where it has such."""
    own = device.uses(Elementwise("device", 1, 0, 0, 0)) is not None
    return hwsim.models.mlp([64, 32, 16, 10], "device" if own else "relu")


@pytest.mark.parametrize("spec", BUILT_IN)
@pytest.mark.parametrize("micro_batches", [1, 4])
def test_no_unit_is_taken_twice_at_once(spec: str, micro_batches: int) -> None:
    device = hwsim.device(spec)
    _, data, _ = model_and_data("mlp", None)
    trace = traced_step(
        network_for(device), device, data.y_train.shape[1:], loss_for(data), batch=8, micro_batches=micro_batches
    )
    found = schedule(trace)
    for owner in trace.devices():
        machines = {found.jobs[i].machine for i, task in enumerate(trace.tasks) if task.device is owner}
        installed = owner.installed([shape for (of, _), shape in trace.tiles.items() if of is owner])
        changes: dict[str, list[tuple[float, float]]] = {}
        most: dict[str, float] = {}
        for i, task in enumerate(trace.tasks):
            if task.device is not owner or found.start_s[i] == found.finish_s[i]:
                continue
            for name, use in owner.uses(task.op).items():
                timed = use.actions and owner.components[name].quantity("time_s").nominal
                if timed and not passes_on_its_tile(owner, name, task.op):
                    taken = changes.setdefault(name, [])
                    taken += [(found.start_s[i], use.units), (found.finish_s[i], -use.units)]
                    most[name] = max(use.units, most.get(name, 0.0))
        for name, taken in changes.items():
            # Of a single machine, bits and blocks that an operation by itself takes at once are its own affair.
            units = installed.get(name, 0.0) if len(machines) > 1 else most[name]
            peak = max(itertools.accumulate(change for _, change in sorted(taken)))
            assert peak <= units * (1 + EXACT), (owner.spec, name)


@pytest.mark.parametrize("spec", ["optical:mzi", "optical:nitride"])
def test_one_processor_decomposes_all_weights(spec: str) -> None:
    # Of N x N weights in one block 21 N^3 flops for the singular values, and 28 for two thirds of the N modes of each
    # of N (N - 1) / 2 MZIs on either side: of 64 x 64 in units of that size or larger.
    device = hwsim.device(spec)
    each_s = (21 * 64**3 + 2 * 28 * 64 * 63 / 2 * 64 * 2 / 3) * device.components["flop"].quantity("time_s").nominal
    _, data, _ = model_and_data("mlp", None)
    network = hwsim.models.mlp([64, 64, 64, 64, 10])
    found = step_of(network, data, device, batch=16).quickest()
    assert found.quickest.makespan_s > 3 * each_s
    assert found.quickest.makespan_s > 0.98 * found.whole.serial_s
    moves = sorted(
        (found.quickest.start_s[i], found.quickest.finish_s[i])
        for i, task in enumerate(found.quickest.tasks)
        if isinstance(task.op, Product) and task.op.kind is Kind.UPDATE
    )
    assert len(moves) == 4
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(moves))


def test_gradients_take_turns_on_the_one_homodyne_unit() -> None:
    found = schedule(mlp_trace(hwsim.device("optical:nitride:gradient_by=homodyne")))
    spans = {
        kind: sorted(
            (found.start_s[i], found.finish_s[i])
            for i, task in enumerate(found.tasks)
            if isinstance(task.op, Product) and task.op.kind is kind
        )
        for kind in (Kind.GRADIENT, Kind.FORWARD)
    }
    assert len(spans[Kind.GRADIENT]) == 8
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans[Kind.GRADIENT]))
    # Meshes go on meanwhile, each with light of its own.
    assert any(a < end and start < b for start, end in spans[Kind.GRADIENT] for a, b in spans[Kind.FORWARD])


# -- actual counts in place of expected ones -------------------------------------------------------------------

RECORDING = [
    "crossbar",
    "crossbar:isaac",
    "crossbar:encoding=one-sided",
    "crossbar:algorithm=mixed",
    "optical:mzi",
    "optical:nitride:gradient_by=homodyne",
    "reversible:scheme=naf",
    "digital:int8",
]


@pytest.mark.parametrize("spec", RECORDING)
def test_with_the_counts_of_a_run_serial_time_and_energy_are_those_of_its_ledger(spec: str) -> None:
    network, data, _ = model_and_data("mlp", None)
    device = hwsim.device(spec)
    assert len(data.x_train) % 383 == 0
    run = fit(network, data, device, epochs=1, batch=383, learning_rate=0.1, seed=0)
    found = step_of(network, data, device, batch=383).quickest(run.ledger)
    assert found.whole.serial_s * run.steps == near(float(run.ledger.total_s(phases=STEP_PHASES)))
    energy_j = math.fsum(found.whole.serial_energy_j.values())
    assert energy_j * run.steps == near(float(run.ledger.total_j(phases=STEP_PHASES)))
    assert found.quickest.makespan_s <= found.whole.serial_s * (1 + EXACT)


def test_operations_with_other_rows_go_by_the_ratio_of_recorded_to_expected() -> None:
    # Expected: 2 actions of the core, and 3 of the 6 converters. Two calls of 8 rows recorded 3 of the core together,
    # and 16 of 'extra', which nobody expected; a call of 4 rows recorded 4.5 of the core. Ratio 7.5 / 6, 16 a 16 rows.
    device, run = Arrays(converters=3.0), Ledger()
    eight, four, two = (Product(Kind.FORWARD, m, 5, 7) for m in (8, 4, 2))
    with run.scope(layer="a", phase=Phase.FORWARD):
        for op, calls, counts in ((eight, 2, {"core": 3.0, "extra": 16.0}), (four, 1, {"core": 4.5})):
            for _ in range(calls):
                run.charge(device, op)
            run.record(device, op, counts)
    recorded = Recorded(run)

    def uses(op: Op, layer: str = "a", phase: Phase = Phase.FORWARD) -> Mapping[str, Use]:
        return recorded.uses(device, op, layer, phase)

    assert uses(eight) == {"core": Use(1.5), "adc": Use(3.0, 3.0), "extra": Use(8.0)}
    assert uses(four) == {"core": Use(4.5), "adc": Use(3.0, 3.0)}
    assert uses(two) == {"core": Use(2.5), "adc": Use(3.0, 3.0), "extra": Use(2.0)}
    for other in (uses(two, layer="b"), uses(two, phase=Phase.BACKWARD), uses(two._replace(n=6))):
        assert other == {"core": Use(2.0), "adc": Use(3.0, 3.0)}


class Hasty(Arrays):
    """Arrays whose forward products take half of the time that was expected."""

    name = "hasty"

    def forward(self, tile: Tile, x: Any) -> Any:
        tile.record(core=self.forward_s / 2)
        return super().forward(tile, x)


def test_micro_batches_take_what_their_batch_has_recorded_in_proportion() -> None:
    # As drawn by hand above, with F in 1 s: F1 0-1, F2 1-2; layer 1: F1 1-2, B1 2-5, F2 5-6, B2 6-9, U 9-14.
    network, data, _ = model_and_data("xor", None)
    device = Hasty(host=Clerk())
    run = fit(network, data, device, epochs=3, batch=2, learning_rate=0.1, seed=0)
    trace = traced_step(network, device, data.y_train.shape[1:], loss_for(data), batch=2, micro_batches=2)
    found, expected = schedule(trace, run=run.ledger), schedule(trace)
    assert starts(found, Kind.FORWARD, "fc2") == [(1, 2), (5, 6)]
    assert starts(found, Kind.BACKWARD, "fc2") == [(2, 5), (6, 9)]
    assert starts(found, Kind.UPDATE, "fc2") == [(9, 14)]
    assert starts(expected, Kind.FORWARD, "fc2") == [(2, 4), (7, 9)]


def test_a_comparison_schedules_the_step_of_its_table() -> None:
    network, data, _ = model_and_data("xor", None)
    found = hwsim.compare(
        network, data, ["crossbar", "digital"], epochs=2, batch=2, seeds=2, learning_rates=[0.1], target=0.5,
        schedule="pipelined",
    ).data  # fmt: skip
    for entry in found["summary"]:
        step = found["schedule"][entry["device"]]
        assert step["whole_serial_s"] == near(entry["time_per_step_s"])
        assert step["whole_serial_j"] == near(entry["energy_per_step_j"]["nominal"])


# -- what tiles of built-in devices share ----------------------------------------------------------------------

# A component, how many units of it both layers' tiles take side by side, and whether its power goes with their number.
SHARING = [
    ("crossbar:isaac", "adc", 2 * 8.0),  # an array for each of 8 slices of a weight, each with a converter
    ("crossbar:ecram", "adc", 2 * 32.0),  # as installed: a converter for 8 of 256 columns
    ("crossbar:ecram", "adc_back", 2 * 32.0),
    ("optical:nitride", "detector", 0.0),  # 0: as installed
    ("optical:nitride", "laser", 0.0),
    ("reversible:scheme=naf", "tick", 1e6),  # more than any product can use
]


def mlp_trace(device: Device, micro_batches: int = 4) -> Trace:
    """A step of 64-32-10 on 16 rows."""
    network, data, _ = model_and_data("mlp", None)
    return traced_step(network, device, data.y_train.shape[1:], loss_for(data), batch=16, micro_batches=micro_batches)


def units_of(trace: Trace, device: Device, component: str) -> float:
    """How many units are installed for all tiles of a trace."""
    return float(device.installed([shape for (owner, _), shape in trace.tiles.items() if owner is device])[component])


def pool_of(found: Schedule, component: str) -> int:
    """The place of a component's pool."""
    return [pool.component for pool in found.pools].index(component)


def most_lent(found: Schedule, pool: int) -> float:
    """The largest share of a pool that is lent at a time."""
    changes = sorted(
        change
        for loan in found.loans
        if loan.pool == pool and loan.finish_s > loan.start_s
        for change in ((loan.start_s, loan.share), (loan.finish_s, -loan.share))
    )
    return max(itertools.accumulate(share for _, share in changes), default=0.0)


@pytest.mark.parametrize(("spec", "component", "units"), SHARING)
def test_a_bank_for_all_at_once_changes_nothing(spec: str, component: str, units: float) -> None:
    device = hwsim.device(spec)
    trace = mlp_trace(device)
    alone, shared = schedule(trace), schedule(trace, shared={component: units or units_of(trace, device, component)})
    assert shared.start_s == pytest.approx(alone.start_s, rel=EXACT)
    assert shared.makespan_s == near(alone.makespan_s)
    assert shared.energy_j == pytest.approx(alone.energy_j, rel=EXACT)
    assert len(shared.waits) == len(alone.waits)


@pytest.mark.parametrize(("spec", "component", "units"), SHARING)
def test_one_bank_is_a_bottleneck_within_its_bounds(spec: str, component: str, units: float) -> None:
    device = hwsim.device(spec)
    trace = mlp_trace(device)
    alone, found = schedule(trace), schedule(trace, shared={component: None})
    assert found == schedule(trace, shared={component: None}, engine=simpy_schedule)
    place = pool_of(found, component)
    bank = found.pool_units[place]
    assert bank is not None
    time_s = device.components[component].quantity("time_s").nominal
    uses = [task.device.uses(task.op).get(component, Use(0.0)) for task in trace.tasks if task.device is device]
    if time_s:
        assert bank == max(use.units for use in uses if use.actions)
    work_s = math.fsum(use.actions / bank * time_s for use in uses)  # of the bank, whoever asks
    assert work_s <= found.makespan_s * (1 + EXACT)
    assert found.busy_s[found.pools[place]] <= found.makespan_s * (1 + EXACT)
    assert alone.makespan_s * (1 - EXACT) <= found.makespan_s <= found.serial_s * (1 + EXACT)
    assert found.serial_s == near(alone.serial_s)  # one by one, each has the whole bank
    assert most_lent(found, place) <= 1 + EXACT
    tiles = {machine for machine, resource in enumerate(found.machines) if resource.tile}
    for wait in found.waits:
        assert wait.begin_s < wait.end_s
        assert wait.machine in tiles
        assert wait.lender in tiles - {wait.machine}
        # Whoever hands over has worked until then.
        ends = {found.finish_s[i] for i, job in enumerate(found.jobs) if job.machine == wait.lender}
        assert wait.end_s in ends


def test_two_layers_on_the_converters_of_one_as_worked_out_by_hand() -> None:
    # ISAAC: 16 digits of an input, 8 slices of a weight, an array of 128 x 128 for each slice with one converter of
    # 1.28 GS/s. Two micro-batches of 4 rows through 64 x 32 and 32 x 16 weights:
    # 4 rows x 32 columns x 8 slices x 16 digits = 16384 conversions, on 8 converters 1.6 us; of the second layer half.
    # Reads take 4 rows x 16 digits x 4.58 ns = 0.29 us meanwhile; one of them fills the pipeline before.
    device, fill_s, layers = hwsim.device("crossbar:isaac"), 4.58e-9, Chain(32, 16)
    layers.input_shape = (64,)
    trace = traced(layers, device, 2)
    first_s, second_s = 1.6e-6 + fill_s, 0.8e-6 + fill_s
    alone, one_bank = schedule(trace), schedule(trace, shared={"adc": 8})
    assert starts(alone, Kind.FORWARD, "layer0") == [(0, near(first_s)), (near(first_s), near(2 * first_s))]
    assert starts(alone, Kind.FORWARD, "layer1")[0] == (near(first_s), near(first_s + second_s))
    # The first micro-batch goes on before the second begins, which has its array and waits for the converters.
    assert starts(one_bank, Kind.FORWARD, "layer1")[0] == (near(first_s), near(first_s + second_s))
    again = (near(first_s + second_s), near(2 * first_s + second_s))
    assert starts(one_bank, Kind.FORWARD, "layer0") == [(0, near(first_s)), again]
    wait = one_bank.waits[0]
    assert (wait.begin_s, wait.end_s) == (near(first_s), near(first_s + second_s))
    labels = [one_bank.machines[machine].tile for machine in (wait.machine, wait.lender)]
    assert labels == ["layer0/w", "layer1/w"]
    # With half of them, each product's conversions take twice as long.
    half = schedule(trace, shared={"adc": 4})
    assert starts(half, Kind.FORWARD, "layer0")[0] == (0, near(3.2e-6 + fill_s))
    # 16 converters of 0.2 mW stood there, which were powered while one of the tiles worked; 8 do.
    assert alone.static_power_w[device.spec] - one_bank.static_power_w[device.spec] == near(8 * 0.2e-3)


@pytest.mark.parametrize(("spec", "component"), [("crossbar:isaac", "adc"), ("optical:nitride", "laser")])
def test_idle_energy_follows_the_makespan_where_tiles_share(spec: str, component: str) -> None:
    device = hwsim.device(spec)
    trace = mlp_trace(device)
    found = schedule(trace, shared={component: None})
    bank = found.pool_units[pool_of(found, component)]
    assert bank is not None
    for owner, label in found.labels.items():
        installed = dict(owner.installed([shape for (of, _), shape in trace.tiles.items() if of is owner]))
        if owner is device:
            installed[component] = bank
        for part, seconds, field in (
            ("idle", found.makespan_s - found.device_busy_s[label], "idle_power_w"),
            ("static", found.device_busy_s[label], "static_power_w"),
        ):
            power_w = math.fsum(
                installed.get(name, 0.0) * each.quantity(field).nominal for name, each in owner.components.items()
            )
            assert found.energy_j[label, part] == pytest.approx(power_w * seconds, rel=EXACT, abs=1e-24)


def test_too_few_of_what_takes_no_time_of_its_own_are_refused() -> None:
    # 64 x 32 and 32 x 10 weights: the first one's chip measures 64 + 32 values, with two detectors each.
    with pytest.raises(ConfigError, match=r"191 units of 'detector'.*optical:nitride needs 192 at once"):
        schedule(mlp_trace(hwsim.device("optical:nitride")), shared={"detector": 191})


def test_devices_of_a_comparison_share_what_they_have() -> None:
    network, data, _ = model_and_data("mlp", None)
    named = {spec: hwsim.device(spec) for spec in ("crossbar:isaac", "gpu:h100", "ideal")}
    found = steps_of(network, data, named, batch=16, shared={"adc": 8.0, "dac": None})
    pools = {name: [pool.component for pool in each.quickest().quickest.pools] for name, each in found.items()}
    assert pools == {"crossbar:isaac": ["dac", "adc"], "gpu:h100": [], "ideal": []}
    for shared, message in (
        ({"laser": None}, r"no component 'laser' to share; can be shared: adc, adc_back,"),
        ({"tile": 1.0}, r"sharing tile changes nothing.*can be shared: adc,"),
        ({"adc": 0.0}, r"0 units of 'adc' to share: needs a finite number above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            steps_of(network, data, named, batch=16, shared=shared)


def test_what_is_shared_is_read_from_words() -> None:
    assert shares_in("adc=8, tick,dac = 1e3") == {"adc": 8.0, "tick": None, "dac": 1000.0}
    for text, message in (
        ("", "'' is not NAME=UNITS"),
        ("adc=8,", "'' is not NAME=UNITS"),
        ("=8", "'=8' is not NAME=UNITS"),
        ("adc=", "'adc=' is not NAME=UNITS"),
        ("adc=many", "'adc=many' is not NAME=UNITS"),
        ("adc,adc=2", "adc is named twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            shares_in(text)


# -- reports ---------------------------------------------------------------------------------------------------


def test_bars_join_what_follows_without_a_gap() -> None:
    found = schedule(traced(Chain(3, 2), Arrays(), 2))
    bars = found.bars()
    assert [bar for bar in bars if bar[0] == 0] == [
        (0, "forward", 0, 0.0, 2.0),
        (0, "forward", 1, 2.0, 4.0),
        (0, "update", 2, 12.5, 17.5),
    ]
    one = schedule(traced(Chain(3), Arrays(backward_s=0.0, host=Arrays().host), 1))
    assert len(one.bars()) == 3  # forward, gradient, move


def test_the_chart_is_drawn_and_the_text_has_both_times(tmp_path: Path) -> None:
    network, data, _ = model_and_data("xor", None)
    found = {
        name: step_of(network, data, device, batch=4).quickest().as_dict()
        for name, device in (("mine", Arrays()), ("free", hwsim.device("ideal")))
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    text = gantt.written(found, tmp_path / "figure.png")
    line = next(line for line in text.splitlines() if line.startswith("mine"))
    serial_s, makespan_s = found["mine"]["whole_serial_s"], found["mine"]["makespan_s"]
    assert f"{serial_s:.3g} s" in line
    # Whole and cut, one operation after the other, and as scheduled: three times, in this order.
    times = [line.index(f"{found['mine'][key]:.3g} s") for key in ("whole_serial_s", "serial_s", "makespan_s")]
    assert times == sorted(times)
    joules = [cell.strip() for cell in line.split("  ") if cell.endswith(" J")]
    assert joules == [f"{found['mine'][key]:.3g} J" for key in ("whole_serial_j", "cut_serial_j", "scheduled_j")]
    assert f"{serial_s / makespan_s:.2f}x" in line
    assert next(line for line in text.splitlines() if line.startswith("free")).split()[1:] == ["-"] * 10
    assert (tmp_path / "figure-schedule.png").read_bytes().startswith(b"\x89PNG")
    nothing = {"free": found["free"]}
    assert "figure" not in gantt.written(nothing, tmp_path / "other.png")
    with pytest.raises(ConfigError, match="nothing to draw"):
        gantt.draw(nothing, tmp_path / "other.png")


@pytest.mark.parametrize(
    ("time_s", "unit", "number"), [(1.5e-5, "us", 15), (0.2, "ms", 200), (7, "s", 7), (3e-9, "ns", 3)]
)
def test_time_has_a_unit_that_fits(time_s: float, unit: str, number: float) -> None:
    factor, found = gantt.time_unit(time_s)
    assert (found, factor * time_s) == (unit, pytest.approx(number))


def test_compare_schedules_where_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "compare --model xor --devices digital,crossbar --epochs 1 --seeds 1 --learning-rates 0.3 --target 0.5"

    def status(*more: str) -> object:
        monkeypatch.setattr(sys, "argv", ["hwsim", *words.split(), *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    assert status("--schedule", "pipelined", "--json", "c.json") == 0
    out = capsys.readouterr().out
    assert "Serial and scheduled time of one training step" in out
    found = json.loads(Path("c.json").read_text())["schedule"]
    assert list(found) == ["digital", "crossbar"]
    assert found["crossbar"]["makespan_s"] < found["crossbar"]["whole_serial_s"]
    assert Path("hwsim-compare-schedule.png").is_file()
    assert status("--schedule", "pipelined", "--share", "adc,adc_back=16", "--json", "c.json") == 0
    out = capsys.readouterr().out
    assert "What tiles share" in out
    shared = json.loads(Path("c.json").read_text())["schedule"]
    assert list(shared["crossbar"]["pools"].values())[1] == 16
    assert shared["digital"]["pools"] == {}
    assert status("--share", "adc=8") == 2
    assert "give --schedule pipelined with --share" in capsys.readouterr().err
    assert status("--schedule", "pipelined", "--share", "laser") == 2
    assert "no component 'laser' to share; can be shared: adc" in capsys.readouterr().err
    assert status("--schedule", "soon") == 2
    assert "no schedule 'soon'; known: pipelined" in capsys.readouterr().err
    # A chart that cannot be written is refused before the training.
    Path("b-schedule.png").mkdir()
    monkeypatch.setattr(sys.modules["hwsim.compare"], "train_row", lambda *_: pytest.fail("training began"))
    assert status("--schedule", "pipelined", "--figure", "b.png") == 2
    assert "b-schedule.png is a folder" in capsys.readouterr().err


def test_results_are_written_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "compare --model xor --devices digital --epochs 1 --seeds 1 --learning-rates 0.3 --target 0.5"
    words += " --json c.json --csv c.csv --html c.html"

    def fail(*_: object) -> None:
        raise ConfigError("no picture")

    monkeypatch.setattr("hwsim.report.comparison.Comparison.to_figure", fail)
    monkeypatch.setattr(sys, "argv", ["hwsim", *words.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "no picture" in capsys.readouterr().err
    assert json.loads(Path("c.json").read_text())["summary"][0]["device"] == "digital"
    assert all(Path(name).stat().st_size > 0 for name in ("c.csv", "c.html"))


def test_what_cannot_be_scheduled_is_found_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConfigError("cannot be scheduled")

    monkeypatch.setattr(sys.modules["hwsim.compare"], "steps_of", fail)
    monkeypatch.setattr(sys.modules["hwsim.compare"], "train_row", lambda *_: pytest.fail("training began"))
    network, data, _ = model_and_data("xor", None)
    with pytest.raises(ConfigError, match="cannot be scheduled"):
        hwsim.compare(network, data, "digital", schedule="pipelined")
