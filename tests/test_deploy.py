"""Deployment and ageing: decay with a known exponent by hand, equal bits, what is charged, what is refused."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hard_devices import LearnedAbsorber

import hwsim
from hwsim import data, models, testing
from hwsim.arrays import Array, Shape
from hwsim.cost import Kind, Op, Phase, Product, Use
from hwsim.data import Dataset
from hwsim.deploy import AGES_S, ages_in, deployment, require_ageing
from hwsim.devices.ideal import Ideal
from hwsim.errors import ConfigError, DeviceError, ShapeError
from hwsim.ledger import Ledger
from hwsim.nn import Network
from hwsim.parameters import parameter
from hwsim.run import TRAINING_PHASES, Run
from hwsim.tape import Parameter
from hwsim.testing.bench import Bench
from hwsim.tile import Tile

MLP = models.mlp([64, 16, 10])
DAY_S = 86400.0


class Decaying(Ideal):
    """Weights decay as t^-nu from 1 s on; programming errs, and time adds noise that grows as the root of it."""

    name = "decaying"

    nu: float = parameter(0.1, doc="exponent")
    error: float = parameter(0.0, doc="deviation of programming", low=0)
    diffusion: float = parameter(0.0, doc="deviation after 1 s", low=0)
    compensated: str = parameter("no", choices=("no", "yes"), doc="outputs scaled by what reading back tells")

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        return None if isinstance(op, Product) and op.kind is Kind.UPDATE_OUTER else super().activity(op)

    def write(self, tile: Tile, w: Array) -> None:
        super().write(tile, w)
        if self.error:
            tile.state["w"] += self.error * tile.rng("error").standard_normal(w.shape, dtype=self.xp.float32)
        tile.state["programmed"], tile.state["gain"] = tile.state["w"].copy(), 1.0

    def forward(self, tile: Tile, x: Array) -> Array:
        return super().forward(tile, x) * np.float32(tile.state["gain"])

    def drift(self, tile: Tile, time_s: float) -> None:
        programmed = tile.state["programmed"]
        tile.state["w"] = programmed * np.float32(max(time_s, 1.0) ** -self.nu)
        if self.diffusion:
            noise = tile.rng("diffusion").standard_normal(programmed.shape, dtype=self.xp.float32)
            tile.state["w"] += np.float32(self.diffusion * math.sqrt(time_s)) * noise
        if self.compensated == "yes":
            tile.state["gain"] = float(abs(programmed).mean() / abs(tile.read()).mean())


class NoisyReading(Ideal):
    """Exact, but for an error of 0.01 of each weight that is read back."""

    name = "noisy-reading"

    def read(self, tile: Tile) -> Array:
        noise = tile.rng("read").standard_normal(tile.shape, dtype=self.xp.float32)
        return tile.state["w"] + np.float32(0.01) * noise


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


@pytest.fixture(scope="module")
def run(digits: Dataset) -> Run:
    return hwsim.fit(MLP, digits, hwsim.device("ideal"), epochs=4, learning_rate=0.3)


def weights(net: Network) -> dict[str, Array]:
    return {name: item.data if isinstance(item, Parameter) else item.state["w"] for name, item in net.placed.items()}


def by_hand(net: Network, x: Array, kept: float) -> Array:
    """The outputs of the perceptron where every weight is multiplied by `kept`, and the biases stay."""
    w = {name: value.astype(np.float64) for name, value in weights(net).items()}
    hidden = np.maximum(x @ (kept * w["fc1/w"]) + w["fc1/b"], 0)
    return hidden @ (kept * w["fc2/w"]) + w["fc2/b"]


# -- drift -------------------------------------------------------------------------------------------------


def test_outputs_decay_as_the_weights_do(run: Run, digits: Dataset) -> None:
    net = hwsim.deploy(run, Decaying(nu=0.05))
    for time_s in (1.0, 3600.0, 365 * DAY_S):
        net.drift(time_s)
        y = by_hand(run.network, digits.x_test, time_s**-0.05)  # 1, 0.664 and 0.422 of each weight
        np.testing.assert_allclose(net.predict(digits.x_test), y, rtol=1e-4, atol=1e-5 * abs(y).max())


def test_without_biases_decay_scales_the_outputs_and_changes_no_answer(digits: Dataset) -> None:
    # relu(a x) = a relu(x): two layers that both keep a give a^2 of every output, and the largest stays the largest.
    trained = hwsim.fit(models.mlp([64, 16, 10], bias=False), digits, "ideal", epochs=1)
    net = hwsim.deploy(trained, Decaying(nu=0.1))
    net.drift(1e4)
    kept = (1e4**-0.1) ** 2  # 0.158
    y = kept * trained.network.predict(digits.x_test)
    np.testing.assert_allclose(net.predict(digits.x_test), y, rtol=1e-4, atol=1e-6 * abs(y).max())
    (row,) = hwsim.ageing(trained, digits, Decaying(nu=0.1), ages_s=[1e4], seeds=1)
    assert row.accuracy == row.exact_accuracy == trained.test_accuracy


def test_each_time_is_counted_from_programming(run: Run, digits: Dataset) -> None:
    once, often = (hwsim.deploy(run, Decaying()) for _ in range(2))
    once.drift(3600)
    for time_s in (1, 1e7, 0, 3600):
        often.drift(time_s)
    assert (once.predict(digits.x_test) == often.predict(digits.x_test)).all()


def test_noisy_drift_has_the_same_distribution_after_another_drift() -> None:
    # 0.01 after 1 s is 0.1 after 100 s; adding both times would give 0.1005, going on from 10,000 s over 1.
    n = 250 * 400
    for others in ((), (1.0, 1e4)):
        tile = Decaying(nu=0.0, diffusion=0.01).program(np.ones((250, 400), np.float32), name="w")
        for time_s in (*others, 100.0):
            tile.drift(time_s)
        moved = tile.read().astype(np.float64) - 1
        assert abs(moved.mean()) < 5 * 0.1 / math.sqrt(n)
        # The deviation of a sample's deviation is sigma / sqrt(2 n) = 2.2e-4: 5 sigma are 1.1%.
        assert abs(moved.std() - 0.1) < 5 * 0.1 / math.sqrt(2 * n)


def test_compensation_reads_each_tile_once_and_is_charged_as_evaluation(run: Run, digits: Dataset) -> None:
    net = hwsim.deploy(run, Decaying(compensated="yes"))
    before = net.predict(digits.x_test)
    setup = {key: calls for key, calls in net.ledger.calls.items() if key[1] is Phase.SETUP}
    net.drift(30 * DAY_S)  # keeps 0.228 of each weight, which the gain undoes
    np.testing.assert_allclose(net.predict(digits.x_test), before, rtol=1e-3, atol=1e-4 * abs(before).max())
    reads = {key: n for key, n in net.ledger.calls.items() if getattr(key[3], "kind", None) is Kind.READ}
    assert {key[:2]: n for key, n in reads.items()} == {("fc1", Phase.EVALUATE): 1, ("fc2", Phase.EVALUATE): 1}
    assert {key: calls for key, calls in net.ledger.calls.items() if key[1] is Phase.SETUP} == setup


def test_a_device_stays_as_it_is_unless_it_says_otherwise(run: Run, digits: Dataset) -> None:
    before = run.network.predict(digits.x_test)
    run.network.drift(1e9)
    assert (run.network.predict(digits.x_test) == before).all()


@pytest.mark.parametrize("parameters", [{}, {"error": 0.1}, {"error": 0.1, "diffusion": 0.01}, {"compensated": "yes"}])
def test_the_conformance_kit_accepts_drift_that_starts_from_programming(parameters: dict[str, object]) -> None:
    for seed in range(10):
        bench = Bench(lambda seed=seed: Decaying(seed=seed, **parameters), (1, 2))  # type: ignore[misc]
        found = testing.run("drift_from_programming", bench)
        assert found.outcome is testing.Outcome.PASSED, found.message


def test_shapes_do_not_age() -> None:
    tile = Decaying(compensated="yes").program(Shape(4, 3), name="w", ledger=(ledger := Ledger()))
    tile.drift(3600)
    assert [op.kind for _, _, _, op in ledger.calls] == [Kind.PROGRAM]


@pytest.mark.parametrize("time_s", [-1.0, -1e-300, math.nan, math.inf, -math.inf])
def test_times_that_there_are_not_are_refused(run: Run, digits: Dataset, time_s: float) -> None:
    says = r"drift to (-?[\de.-]+|nan|-?inf) s: needs a finite time from 0, counted from the last programming"
    for w in (np.ones((4, 3), np.float32), Shape(4, 3)):
        tile = Decaying().program(w, name="w")
        with pytest.raises(ConfigError, match=says):
            tile.drift(time_s)
    with pytest.raises(ConfigError, match=says):
        hwsim.deploy(run, Decaying()).drift(time_s)
    reads = read_calls(run)
    with pytest.raises(ConfigError, match=says):
        hwsim.ageing(run, digits, Decaying(), ages_s=[1.0, time_s])
    assert read_calls(run) == reads, "refused before anything is read"


def read_calls(run: Run) -> int:
    return sum(n for key, n in run.ledger.calls.items() if getattr(key[3], "kind", None) is Kind.READ)


# -- deployment --------------------------------------------------------------------------------------------


def test_on_ideal_a_network_is_itself(run: Run, digits: Dataset) -> None:
    for trained in (run, run.network):
        net = hwsim.deploy(trained, "ideal")
        assert (net.predict(digits.x_test) == run.network.predict(digits.x_test)).all()
        assert set(net.placed) == {"fc1/w", "fc1/b", "fc2/w", "fc2/b"}
        for name, value in weights(net).items():
            assert (value == weights(run.network)[name]).all()
            assert not np.shares_memory(value, weights(run.network)[name]), "changes there would come back"


@pytest.mark.parametrize("spec", ["digital:int8", "gpu:h100:precision=fp8"])
def test_where_it_was_trained_a_network_answers_with_the_same_bits(digits: Dataset, spec: str) -> None:
    trained = hwsim.fit(MLP, digits, spec, epochs=1, learning_rate=0.3)
    net = hwsim.deploy(trained, spec)
    assert (net.predict(digits.x_test) == trained.network.predict(digits.x_test)).all()


def test_int8_rounds_what_was_trained_exactly(run: Run, digits: Dataset) -> None:
    # 8-bit codes of a layer's weights, scaled by the largest: no weight is off by more than half of 1/127 of it, and
    # outputs of two such layers by a few percent.
    y = hwsim.deploy(run, "digital:int8").predict(digits.x_test)
    exact = run.network.predict(digits.x_test)
    assert 0 < np.sqrt(np.mean((y - exact) ** 2) / np.mean(exact**2)) < 0.05


def test_reading_is_charged_to_the_source_and_programming_to_the_new_ledger(run: Run) -> None:
    training = run.ledger.total_s(phases=TRAINING_PHASES), run.ledger.total_j(phases=TRAINING_PHASES)
    reads = read_calls(run)
    net = hwsim.deploy(run, "digital:int8")
    assert read_calls(run) == reads + 2
    assert all(key[1] is Phase.EVALUATE for key in run.ledger.calls if getattr(key[3], "kind", None) is Kind.READ)
    assert (run.ledger.total_s(phases=TRAINING_PHASES), run.ledger.total_j(phases=TRAINING_PHASES)) == training
    assert net.ledger is not run.ledger
    assert {(key[0], key[1], key[3].kind): n for key, n in net.ledger.calls.items()} == {
        ("fc1", Phase.SETUP, Kind.PROGRAM): 1,
        ("fc2", Phase.SETUP, Kind.PROGRAM): 1,
    }
    assert net.ledger.total_j(phases=[Phase.SETUP]) > 0


def test_a_noisy_reading_shifts_no_noise_of_training(digits: Dataset) -> None:
    source = Network(MLP, NoisyReading())
    tile = source.placed["fc1/w"]
    assert isinstance(tile, Tile)
    _ = tile.read()
    assert tile.drawn == {"read": 1}
    first, second = (weights(hwsim.deploy(source, "ideal"))["fc1/w"] for _ in range(2))
    assert tile.drawn == {"read": 1, "read/evaluate": 2}
    # Two readings err by 0.01 each, apart by sqrt(2) of it: 1,024 weights tell it to 1 / sqrt(2048) = 2.2%.
    apart = (first.astype(np.float64) - second).std() / (0.01 * math.sqrt(2))
    assert abs(apart - 1) < 5 / math.sqrt(2048)


def test_seeds_are_of_the_noise(run: Run, digits: Dataset) -> None:
    def outputs(device: object, seed: int | None = None) -> Array:
        return hwsim.deploy(run, device, seed=seed).predict(digits.x_test)  # type: ignore[arg-type]

    noisy = Decaying(error=0.02)
    assert (outputs(noisy, 1) == outputs(noisy, 1)).all()
    assert (outputs(noisy, 1) == outputs(Decaying(error=0.02, seed=1))).all()
    assert (outputs(noisy, 1) != outputs(noisy, 2)).any()
    assert (outputs(Decaying(error=0.02, seed=7)) != outputs(noisy)).any(), "its own seed, unless told otherwise"
    # Errors are drawn by seed: of 1,024 weights each, they correlate no more than 5 / sqrt(1024) = 0.156.
    nets = [hwsim.deploy(run, noisy, seed=seed) for seed in (1, 2)]
    one, two = (weights(net)["fc1/w"] - weights(run.network)["fc1/w"] for net in nets)
    assert one.size == 1024
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 5 / math.sqrt(1024)
    assert nets[0].devices["*"].spec == "decaying:error=0.02:seed=1"


def test_a_reseeded_device_keeps_its_name_preset_and_parameters(run: Run) -> None:
    asked = {"digital:int8": "digital:int8:seed=3", "digital:int8:sram_kb=512": "digital:int8:sram_kb=512:seed=3"}
    for given, found in asked.items():
        (device,) = hwsim.deploy(run, given, seed=3).devices.values()
        assert (device.spec, device.seed) == (found, 3)
        assert hwsim.device(device.spec).components == device.components


def test_layers_on_several_devices_and_frozen_layers(digits: Dataset) -> None:
    trained = hwsim.fit(MLP, digits, "ideal", epochs=1, frozen=["fc1"])
    one = Decaying()
    both = hwsim.deploy(trained, {"fc1": one, "*": one}, seed=4).devices
    assert both["fc1"] is both["*"] is not one, "one device in two places stays one"
    net = hwsim.deploy(trained, {"fc1": Decaying(nu=1.0), "*": "ideal"}, seed=4)
    assert net.frozen == {"fc1"}
    assert {device.seed for device in net.devices.values()} == {4}
    net.drift(10)
    source = weights(trained.network)
    np.testing.assert_allclose(weights(net)["fc1/w"], source["fc1/w"] / 10, rtol=1e-6)
    assert (weights(net)["fc2/w"] == source["fc2/w"]).all()


def test_a_nonlinearity_of_the_substrates_own_keeps_what_it_learned(digits: Dataset) -> None:
    model = models.mlp([64, 8, 10], activation="device")
    trained = hwsim.fit(model, digits, LearnedAbsorber(), epochs=1, learning_rate=0.1)
    own = trained.network.placed["fc1/activation"]
    assert (own.state["depth"] != 2.0).any(), "training moved it from what it starts with"  # type: ignore[union-attr]
    quiet = LearnedAbsorber(photons=1e30)
    state = hwsim.deploy(trained, quiet).placed["fc1/activation"].state  # type: ignore[union-attr]
    assert (state["depth"] == own.state["depth"]).all()  # type: ignore[union-attr]
    assert (state["gain"] == 1).all(), "what is no parameter starts anew"


def test_what_does_not_fit_is_refused_before_anything_is_read(run: Run) -> None:
    own = Network(models.mlp([4, 3, 2], activation="device"), LearnedAbsorber())
    calls = dict(own.ledger.calls)
    with pytest.raises(DeviceError, match="has no activation of its own"):
        hwsim.deploy(own, "ideal")

    class Other(LearnedAbsorber):
        name = "other"

    says = "fc1/activation: trained with the nonlinearity of learned-absorber, which other does not have"
    with pytest.raises(DeviceError, match=says):
        hwsim.deploy(own, Other())
    assert own.ledger.calls == calls
    with pytest.raises(ConfigError, match=r"no layer \['fc9'\] to place; the network has: fc1, fc2"):
        hwsim.deploy(run, {"fc9": "ideal", "*": "ideal"})
    with pytest.raises(DeviceError, match="no device 'nope'"):
        hwsim.deploy(run, "nope")
    with pytest.raises(ConfigError, match="device 3: needs a device or its string"):
        hwsim.deploy(run, 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"'ideal' to deploy: needs a run of hwsim\.fit, or a network"):
        hwsim.deploy("ideal", "ideal")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a network of shapes alone has no weights to deploy"):
        hwsim.deploy(Network(MLP, Ideal(), shape_only=True), "ideal")


def test_values_to_start_from_must_be_the_networks_own(run: Run) -> None:
    good = weights(run.network)
    short = {name: value for name, value in good.items() if name != "fc2/b"}
    for values in (short, good | {"fc2/b": np.zeros(3)}, good | {"fc3/w": np.zeros((1, 1))}):
        with pytest.raises(ConfigError, match=r"values of shapes .* to start from; the network needs .*fc2/b"):
            Network(MLP, Ideal(), values=values)


# -- ageing ------------------------------------------------------------------------------------------------


def test_accuracy_at_every_age_is_that_of_the_decayed_weights(run: Run, digits: Dataset) -> None:
    ages_s = (1.0, 3600.0, 30 * DAY_S, 365 * DAY_S)
    rows = hwsim.ageing(run, digits, Decaying(nu=0.2), seeds=2)
    assert [(row.seed, row.age_s) for row in rows] == [(seed, age) for seed in (0, 1) for age in ages_s]
    for row in rows:
        y = by_hand(run.network, digits.x_test, row.age_s**-0.2)
        # One of the 360 images may lie on the edge between two answers, to the last bits of single precision.
        assert abs(row.accuracy - np.mean(y.argmax(axis=1) == digits.y_test)) < 1.5 / len(digits.y_test)
        assert row.exact_accuracy == run.test_accuracy
    assert rows[0].accuracy == run.test_accuracy
    assert rows[3].accuracy < run.test_accuracy - 0.1, "0.032 of each weight is left, against biases that stay"


def test_compensation_brings_the_accuracy_back(run: Run, digits: Dataset) -> None:
    for row in hwsim.ageing(run, digits, Decaying(nu=0.2, compensated="yes"), seeds=1):
        assert abs(row.accuracy - run.test_accuracy) < 1.5 / len(digits.y_test)


def test_seeds_program_the_same_weights_anew(run: Run, digits: Dataset) -> None:
    device, ages_s = Decaying(nu=0.0, error=0.2), (1.0, 10.0)
    reads = read_calls(run)
    rows = hwsim.ageing(run, digits, device, ages_s=ages_s, seeds=4)
    assert read_calls(run) == reads + 2, "each of two tiles once, for all seeds and the control"
    assert rows == hwsim.ageing(run, digits, device, ages_s=ages_s, seeds=4)
    found = [row.accuracy for row in rows]
    assert found[0::2] == found[1::2], "one programming for all ages: here, nothing changes with time"
    assert len(set(found)) > 1
    assert rows[0].accuracy != rows[0].exact_accuracy == run.test_accuracy


def test_ageing_refuses_what_does_not_fit(run: Run, digits: Dataset) -> None:
    with pytest.raises(ShapeError, match=r"reads real-valued inputs \[64\], xor has real-valued inputs \[2\]"):
        hwsim.ageing(run, data.load("xor"), "ideal")
    with pytest.raises(ConfigError, match="needs a data set"):
        hwsim.ageing(run, "digits", "ideal")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seeds 0, ages"):
        hwsim.ageing(run, digits, "ideal", seeds=0)
    with pytest.raises(ConfigError, match=r"ages \[\]: needs a whole number of seeds from 1, and an age"):
        hwsim.ageing(run, digits, "ideal", ages_s=())
    with pytest.raises(DeviceError, match="no device 'nope'"):
        hwsim.ageing(run, digits, "nope")


def test_ages_are_written_with_their_unit() -> None:
    asked = "1s, 90min,1h,0.5h,30d,365d"
    by_hand = {"1s": 1.0, "90min": 5400.0, "1h": 3600.0, "0.5h": 1800.0, "30d": 2_592_000.0, "365d": 31_536_000.0}
    assert ages_in(asked) == by_hand
    assert tuple(ages_in("1s,1h,30d,365d").values()) == AGES_S
    assert ages_in("0s") == {"0s": 0.0}


@pytest.mark.parametrize("text", ["", "1", "s", "1s,", "-1s", "1m", "1 s", "1e3s", "nand", "infs", "1S", "1s;1h"])
def test_ages_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"age '.*': needs a number with s, min, h, d, such as 1s,1h,30d"):
        ages_in(text)


def test_an_age_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="ages '1min,1s,60s': 60s is there twice; name each age once"):
        ages_in("1min,1s,60s")
    with pytest.raises(ConfigError, match="needs a finite time from 0"):
        ages_in("9" * 400 + "s")  # beyond what a float holds


def test_a_deployment_is_the_mean_and_deviation_of_its_programmings(run: Run, digits: Dataset) -> None:
    noisy = Decaying(nu=0.0, error=0.3)
    found = deployment(run, digits, noisy, {"1s": 1.0, "1h": 3600.0})
    assert (found["device"], found["trained_seed"]) == ("decaying:nu=0.0:error=0.3", 0)
    assert found["programmings"] == [vars(row) for row in hwsim.ageing(run, digits, noisy, ages_s=[1.0, 3600.0])]
    for row, (age, age_s) in zip(found["by_age"], (("1s", 1.0), ("1h", 3600.0)), strict=True):
        values = [each["accuracy"] for each in found["programmings"] if each["age_s"] == age_s]
        assert (row["age"], row["age_s"], len(values)) == (age, age_s, 5)
        assert row["accuracy"] == pytest.approx({"mean": np.mean(values), "deviation": np.std(values, ddof=1)})
        assert row["accuracy"]["deviation"] > 0
        assert row["exact_accuracy"] == run.test_accuracy


def test_what_cannot_age_is_refused_of_shapes_alone(digits: Dataset) -> None:
    shapes = Network(MLP, Ideal(), shape_only=True)
    require_ageing(shapes, digits, Decaying(), (1.0,))
    with pytest.raises(ShapeError, match=r"reads real-valued inputs \[64\], xor has real-valued inputs \[2\]"):
        require_ageing(shapes, data.load("xor"), Decaying(), (1.0,))
    with pytest.raises(ConfigError, match=r"ages \[\]: needs a whole number of seeds from 1, and an age"):
        require_ageing(shapes, digits, Decaying(), ())
    own = Network(models.mlp([64, 8, 10], activation="device"), LearnedAbsorber(), shape_only=True)
    for device in (LearnedAbsorber(), "ideal"):  # the control, exact arithmetic, has no such nonlinearity either
        with pytest.raises(DeviceError, match="has no activation of its own"):
            require_ageing(own, digits, device, (1.0,))
