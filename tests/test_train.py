"""Training: what is learned, what is refused, what is noted at each epoch, and that NaN is named."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

import hwsim
from hwsim import data, models, train
from hwsim.arrays import Array, Shape
from hwsim.cost import STEP_PHASES, Component, Op, Phase, Product, Quantity, Use
from hwsim.data import Dataset
from hwsim.device import Device
from hwsim.devices.ideal import Ideal
from hwsim.errors import ConfigError, PluginError, ShapeError, TrainingError
from hwsim.ledger import Ledger, TileShape
from hwsim.nn import Model, Network, dense
from hwsim.run import TRAINING_PHASES
from hwsim.tape import Value
from hwsim.tile import Tile

MLP = models.mlp([64, 16, 10])


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


class Pulses(Ideal):
    """Counts pulses by value, so that no two epochs cost alike."""

    name = "pulses"

    @property
    def components(self) -> Mapping[str, Component]:
        return {"pulse": Component(energy_j=1e-12, time_s=1e-9)}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        found = super().activity(op)
        if found is None or not isinstance(op, Product) or op.kind != "update":
            return None if isinstance(op, Product) and op.kind == "update_outer" else found
        return {"pulse": Use(op.k * op.n)}

    def update(self, tile: Tile, step: Array) -> None:
        tile.record(pulse=np.count_nonzero(np.abs(step) > 1e-3))
        super().update(tile, step)


class Priced(Ideal):
    """2 pJ and 1 ns a multiply-accumulate, 3 pJ and 0.5 ns a moved weight, free for all else; wears by updates."""

    name = "priced"
    excluded = ("wires", "clocks")

    @property
    def components(self) -> Mapping[str, Component]:
        mac = Component(energy_j=Quantity(1e-12, 2e-12, 8e-12, key="priced/mac"), time_s=1e-9, area_mm2=0.25)
        return {"mac": mac, "mover": Component(energy_j=3e-12, time_s=0.5e-9), "spare": Component(area_mm2=9.0)}

    def installed(self, tiles: Sequence[TileShape]) -> Mapping[str, float]:
        return {"mac": 4 * len(tiles), "mover": 1, "spare": 0}

    def activity(self, op: Op) -> Mapping[str, Use] | None:
        if not isinstance(op, Product):
            return super().activity(op)
        if op.kind in ("forward", "backward", "gradient"):
            return {"mac": Use(op.m * op.k * op.n)}
        return {"mover": Use(op.k * op.n)} if op.kind == "update" else {} if op.kind in ("program", "read") else None

    def update(self, tile: Tile, step: Array) -> None:
        super().update(tile, step)
        tile.state["updates"] = tile.state.get("updates", 0) + 1

    def wear(self, tile: Tile) -> Mapping[str, float]:
        return {"updates": tile.state.get("updates", 0), "sum": self.xp.asarray(tile.k + tile.n)}


class NanWhenEvaluated(Ideal):
    """Trains well, and answers NaN when evaluated."""

    name = "nan-when-evaluated"

    def forward(self, tile: Tile, x: Array) -> Array:
        y = super().forward(tile, x)
        return y * np.float32(math.nan) if tile.ledger.phase is Phase.EVALUATE and tile.name == "fc2/w" else y


class WrongShape(Ideal):
    """A device with a mistake in it."""

    name = "wrong-shape"

    def backward(self, tile: Tile, dy: Array) -> Array:
        raise ShapeError(f"{tile.name}: dy has 3 rows, this array takes 2")


# -- what is learned ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "loss", "rate"),
    [
        ("sgd", "cross_entropy", 0.3),
        ("momentum", "cross_entropy", 0.03),
        ("adam", "cross_entropy", 0.005),
        ("sgd", "mse", 0.1),
        ("momentum", "mse", 0.01),
        ("adam", "mse", 0.005),
    ],
)
def test_every_optimizer_learns_with_every_loss(digits: Dataset, optimizer: str, loss: str, rate: float) -> None:
    # 360 test images: a net that learned nothing gets 10%, with deviation sqrt(0.1 x 0.9 / 360) = 1.6%.
    trained = hwsim.fit(
        models.mlp([64, 32, 10]), digits, hwsim.device("ideal"), epochs=8, learning_rate=rate, optimizer=optimizer,
        loss=loss,
    )  # fmt: skip
    assert trained.test_accuracy > 0.87
    assert [epoch.epoch for epoch in trained.epochs] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert trained.epochs[-1].loss < trained.epochs[0].loss
    assert trained.steps == 8 * (len(digits.x_train) // 32)


def test_mse_on_classes_is_taken_against_one_hot_targets(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(net: Network, x: Array, y: Array, loss: object, optimizer: object) -> float:
        seen.append((x, y))
        return 0.0

    monkeypatch.setattr(train, "learning_rule", lambda name: spy)
    hwsim.fit(MLP, few, hwsim.device("ideal"), epochs=1, batch=20, loss="mse")
    for x, y in seen:
        rows = [int(np.flatnonzero((few.x_train == row).all(axis=1))[0]) for row in x]
        np.testing.assert_array_equal(y, np.eye(10)[few.y_train[rows]])


def test_mini_batches_are_drawn_without_replacement_by_seed_and_epoch_alone(
    few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def orders(device: str, seed: int, optimizer: str) -> list[list[int]]:
        seen: list[int] = []

        def spy(net: Network, x: Array, y: Array, loss: object, optimizer: object) -> float:
            seen.extend(int(np.flatnonzero((few.x_train == row).all(axis=1))[0]) for row in x)
            return 0.0

        with monkeypatch.context() as patch:
            patch.setattr(train, "learning_rule", lambda name: spy)
            hwsim.fit(MLP, few, hwsim.device(device), epochs=2, batch=30, seed=seed, optimizer=optimizer)
        return [seen[:90], seen[90:]]

    first, second = orders("ideal", 0, "sgd")
    assert len(first) == len(set(first)) == 90  # of 100 rows, ten wait: 100 // 30 batches of 30
    assert len(second) == len(set(second)) == 90
    assert first != second
    assert orders("digital:int8", 0, "adam") == [first, second]
    assert orders("ideal", 1, "sgd") != [first, second]


def test_a_batch_larger_than_the_data_is_all_of_it(few: Dataset) -> None:
    trained = hwsim.fit(MLP, few, hwsim.device("ideal"), epochs=3, batch=1000)
    assert trained.batch == 100
    assert trained.steps == 3


def test_until_stops_after_the_epoch_that_reaches_it(digits: Dataset) -> None:
    ideal = hwsim.device("ideal")
    whole = hwsim.fit(MLP, digits, ideal, epochs=6, learning_rate=0.3)
    goal = whole.epochs[2].validation_accuracy
    first = next(i for i, epoch in enumerate(whole.epochs) if epoch.validation_accuracy >= goal)
    stopped = hwsim.fit(MLP, digits, ideal, epochs=6, learning_rate=0.3, until=goal)
    assert stopped.epochs == whole.epochs[: first + 1]
    assert stopped.first_epoch_at(goal) == whole.epochs[first]
    assert stopped.first_epoch_at(1.01) is None


def test_frozen_layers_stay_and_cost_no_update(few: Dataset) -> None:
    device = hwsim.device("digital:int8")
    start = Network(MLP, device).save()
    trained = hwsim.fit(MLP, few, device, epochs=2, frozen=["fc1"])
    end = trained.network.save()
    for name in start:
        same = np.array_equal(start[name], end[name])
        assert same == name.startswith("fc1/"), name
    assert {group[0] for group in trained.ledger.energy(("layer",), phases=[Phase.UPDATE])} == {"fc2"}


def test_one_network_on_two_devices(few: Dataset) -> None:
    placed = {"fc1": hwsim.device("gpu:h100"), "*": hwsim.device("digital:int8")}
    trained = hwsim.fit(MLP, few, placed, epochs=1)
    assert {group[0] for group in trained.ledger.energy(("device",))} == {"gpu:h100", "digital:int8"}


def test_equal_seeds_give_equal_bits_and_others_do_not(few: Dataset) -> None:
    runs = [hwsim.fit(MLP, few, hwsim.device("digital:int8"), epochs=2, seed=seed) for seed in (3, 3, 4)]
    states = [each.network.save() for each in runs]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert runs[0].epochs == runs[1].epochs
    assert not np.array_equal(states[0]["fc1/w:state/w"], states[2]["fc1/w:state/w"])


# -- what is noted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["ideal", "digital:int8", "gpu:h100"])
def test_joules_of_each_epoch_are_those_of_a_run_that_ends_there(few: Dataset, device: str) -> None:
    # Derived afterwards, from calls that were noted: the same bits as the ledger of a run that ends there.
    substrate = hwsim.device(device)
    whole = hwsim.fit(MLP, few, substrate, epochs=5)
    for epochs in range(1, 6):
        part = hwsim.fit(MLP, few, substrate, epochs=epochs)
        assert whole.epochs[epochs - 1].energy_j == part.ledger.total_j(phases=TRAINING_PHASES)
        assert whole.epochs[epochs - 1].time_s == part.ledger.total_s(phases=TRAINING_PHASES)
        assert part.epochs == whole.epochs[:epochs]


def test_joules_are_derived_only_when_they_are_asked_for(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []
    real = Ledger.total_j
    monkeypatch.setattr(Ledger, "total_j", lambda ledger, **options: (derived.append(1), real(ledger, **options))[1])
    trained = hwsim.fit(MLP, few, hwsim.device("gpu:h100"), epochs=3)
    assert trained.steps == 9
    assert trained.validation_accuracy == trained.validation_accuracy
    assert not derived
    assert [epoch.energy_j > 0 for epoch in trained.epochs] == [True, True, True]
    assert len(derived) == 3
    assert trained.epochs is trained.epochs
    assert len(derived) == 3


def test_what_happens_to_the_ledger_later_changes_no_epoch(few: Dataset) -> None:
    runs = [hwsim.fit(MLP, few, hwsim.device(device), epochs=2) for device in ("digital:int8", "gpu:h100")]
    other = hwsim.fit(MLP, few, hwsim.device("digital:int8"), epochs=2)
    runs[0].ledger.merge(runs[1].ledger)
    assert runs[0].epochs == other.epochs


def test_counts_that_depend_on_values_are_noted_at_each_epoch(few: Dataset) -> None:
    whole = hwsim.fit(MLP, few, Pulses(), epochs=4)
    joules = [epoch.energy_j for epoch in whole.epochs]
    for epochs in range(1, 5):
        part = hwsim.fit(MLP, few, Pulses(), epochs=epochs)
        assert joules[epochs - 1] == part.ledger.total_j(phases=TRAINING_PHASES)
    grown = np.diff([0.0, *joules])
    assert len(set(grown.tolist())) == 4  # no two epochs cost alike


def test_energy_of_a_step_is_of_steps_alone(few: Dataset) -> None:
    short, long = (hwsim.fit(MLP, few, hwsim.device("gpu:h100"), epochs=epochs) for epochs in (1, 4))
    assert short.energy_per_step_j == pytest.approx(long.energy_per_step_j, rel=1e-12)
    assert short.time_per_step_s == pytest.approx(long.time_per_step_s, rel=1e-12)
    assert long.energy_per_step_j == pytest.approx(
        math.fsum(long.ledger.energy(("phase",))[phase.value,] for phase in STEP_PHASES) / long.steps, rel=1e-12
    )
    low, nominal, high = short.energy_per_step_interval_j()
    assert low < nominal < high
    assert nominal == pytest.approx(short.energy_per_step_j, rel=1e-12)


def test_the_bill_of_a_step_by_hand(few: Dataset) -> None:
    # 2 steps of 50 rows; fc1 is 64 x 16 and fc2 16 x 10 weights, 1,184 in all. Products: forward 50 x 1,184 = 59,200
    # multiply-accumulates, as many for the gradients, and 50 x 160 = 8,000 for the errors of fc1's outputs.
    bill = hwsim.fit(MLP, few, Priced(), epochs=1, batch=50, seed=3).bill()
    found = {(row["phase"], row["component"]): row["energy_j"] for row in bill["energy_by_part"]}
    by_hand = {("forward", "mac"): 118.4e-9, ("backward", "mac"): 134.4e-9, ("update", "mover"): 3.552e-9}
    assert found == pytest.approx(by_hand, rel=1e-12)
    assert bill["energy_by_part"][1]["share"] == pytest.approx(118.4 / 256.352)
    assert list(found) == [("backward", "mac"), ("forward", "mac"), ("update", "mover")], "largest first"
    assert {(row["device"], row["part"]) for row in bill["energy_by_part"]} == {("priced", "dynamic")}
    # All macs are of one kind, whose 90% interval is 1 to 8 pJ. A 5% quantile of n = 10,000 draws has a deviation of
    # sqrt(0.05 x 0.95 / n) / 0.103 = 0.021 in units of the normal's sigma, which is ln(2) / 1.645 = 0.42 of the
    # logarithm below the median and ln(4) / 1.645 = 0.84 above: 5 sigma are 4.4% and 8.9%.
    macs = 59_200 * 2 + 8_000
    step = bill["energy_per_step_j"]
    assert step["nominal"] == pytest.approx(256.352e-9, rel=1e-12)
    assert step["low"] == pytest.approx(macs * 1e-12 + 3.552e-9, rel=0.044)
    assert step["high"] == pytest.approx(macs * 8e-12 + 3.552e-9, rel=0.089)
    assert [tuple(row.values()) for row in bill["time_by_bound"]] == [
        ("priced", "mac", pytest.approx(macs * 1e-9)),
        ("priced", "mover", pytest.approx(1184 * 0.5e-9)),
    ]
    assert bill["time_per_step_s"] == pytest.approx(macs * 1e-9 + 1184 * 0.5e-9)
    assert bill["area_mm2"] == {"priced": {"mac": 8 * 0.25, "mover": None}}, "what is not installed has no area here"
    assert bill["excluded"] == {"priced": ["wires", "clocks"]}
    assert (bill["seed"], bill["wear"]["fc1"]["updates"]) == (3, 2)


def test_parts_of_a_bill_add_up_to_a_step(few: Dataset) -> None:
    run = hwsim.fit(MLP, few, "gpu:h100", epochs=2, batch=20)
    bill = run.bill()
    assert math.fsum(row["energy_j"] for row in bill["energy_by_part"]) == pytest.approx(run.energy_per_step_j)
    assert math.fsum(row["share"] for row in bill["energy_by_part"]) == pytest.approx(1)
    assert math.fsum(row["time_s"] for row in bill["time_by_bound"]) == pytest.approx(run.time_per_step_s)
    free = hwsim.fit(MLP, few, "ideal", epochs=1).bill()
    assert free["energy_by_part"] == free["time_by_bound"] == []
    assert free["area_mm2"] == {"ideal": {}}
    assert free["wear"] == {}


# -- wear --------------------------------------------------------------------------------------------------


def test_wear_counts_by_layer_and_changes_nothing(few: Dataset) -> None:
    net = hwsim.fit(MLP, few, Priced(), epochs=3, batch=20, frozen=["fc1"]).network
    before, calls = net.save(), dict(net.ledger.calls)
    # 3 epochs of 100 / 20 = 5 steps; a frozen layer is not moved. Sums of 64 + 16 and 16 + 10 rows and columns.
    assert net.wear() == {"fc1": {"updates": 0, "sum": 80}, "fc2": {"updates": 15, "sum": 26}}
    assert all(type(value) is float for found in net.wear().values() for value in found.values())
    assert net.ledger.calls == calls
    after = net.save()
    assert before.keys() == after.keys()
    assert all(np.array_equal(value, after[name]) for name, value in before.items())


def test_wear_of_layers_with_several_tiles_is_told_tile_by_tile() -> None:
    class Twins:
        input_shape = (4,)

        def __call__(self, net: Network, x: Value) -> Value:
            with net.layer("mix"):
                for name in "ab":
                    x = net.linear(net.tile(name, (4, 4), hwsim.nn.zeros), x)
            return dense(net, "out", x, 2)

    assert set(Network(Twins(), Priced()).wear()) == {"mix/a", "mix/b", "out"}
    assert Network(Twins(), Priced(), shape_only=True).wear() == {}
    assert Network(Twins(), Ideal()).wear() == {}, "none by default"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_wear_that_is_no_number_is_refused(value: float) -> None:
    class Endless(Ideal):
        name = "endless"

        def wear(self, tile: Tile) -> Mapping[str, float]:
            return {"pulses_mean": value}

    with pytest.raises(PluginError, match=r"endless: wear\(\) of fc1/w says .*pulses_mean.*; needs finite numbers"):
        Network(MLP, Endless()).wear()


def test_accuracy_of_values_counts_rows_whose_every_output_is_near() -> None:
    class Fixed:
        def __init__(self, outputs: Array) -> None:
            self.outputs = outputs

        def predict(self, x: Array) -> Array:
            return self.outputs[: len(x)]

    # Nearness is 0.4: row 0 is off by 0.3 and 0.1; row 1 by 0.5 in one place; row 2 is exact; row 3 is off by 0.41.
    outputs = np.array([[0.3, 0.9], [0.5, 1.0], [1.0, 0.0], [0.0, 0.59]])
    targets = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert train.accuracy(Fixed(outputs), np.zeros((4, 2)), targets, classes=0) == 2 / 4  # type: ignore[arg-type]
    labels = np.array([1, 0, 0, 1])  # the largest: 1, 1, 0, 1
    assert train.accuracy(Fixed(outputs), np.zeros((4, 2)), labels, classes=2) == 3 / 4  # type: ignore[arg-type]


@pytest.mark.parametrize("shown", [True, False, None])
def test_progress_goes_to_standard_error_and_changes_nothing(
    few: Dataset, shown: bool | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as rich knows
    watched = hwsim.fit(MLP, few, hwsim.device("digital:int8"), epochs=2, progress=shown)
    assert watched.epochs == hwsim.fit(MLP, few, hwsim.device("digital:int8"), epochs=2).epochs
    out, err = capsys.readouterr()
    assert out == ""
    assert ("few on digital:int8" in err) == (shown is True)  # by itself only on a terminal


# -- what is named -----------------------------------------------------------------------------------------


def test_divergence_names_step_and_layer(few: Dataset) -> None:
    with pytest.raises(
        TrainingError, match=r"at step 2: fc2/w: .*NaN or infinite.*a tenth of the learning rate, 1e\+29, may help"
    ):
        hwsim.fit(MLP, few, hwsim.device("ideal"), epochs=3, batch=20, learning_rate=1e30)


def test_a_loss_that_is_nan_names_the_loss(few: Dataset) -> None:
    single = models.mlp([64, 10])
    with pytest.raises(TrainingError, match=r"at step 2: .*(loss|fc1)"):
        hwsim.fit(single, few, hwsim.device("ideal"), epochs=3, batch=20, learning_rate=1e38)


def test_nan_in_evaluation_is_divergence_too(few: Dataset) -> None:
    with pytest.raises(TrainingError, match=r"after step 5: output.*NaN"):
        hwsim.fit(MLP, few, NanWhenEvaluated(), epochs=1, batch=20)


def test_a_wrong_shape_is_not_called_divergence(few: Dataset) -> None:
    with pytest.raises(ShapeError) as caught:
        hwsim.fit(MLP, few, WrongShape(), epochs=1)
    assert "diverged" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "name", "options", "error", "words"),
    [
        (
            models.mlp([63, 10]),
            "digits",
            {},
            ShapeError,
            r"inputs \[63\], digits has real-valued inputs \[64\]$",
        ),
        (models.mlp([64, 9]), "digits", {}, ShapeError, "10 classes, Mlp 9 outputs"),
        (models.mlp([2, 2]), "xor", {}, ShapeError, r"targets \[1\] .*outputs \[2\]"),
        (models.xor(), "xor", {"loss": "cross_entropy"}, ConfigError, "needs class labels"),
        (models.mlp([64, 11]), "digits", {"loss": "mse"}, None, ""),
        (MLP, "digits", {"epochs": 0}, ConfigError, "epochs 0"),
        (MLP, "digits", {"batch": 0}, ConfigError, "batch 0"),
        (MLP, "digits", {"until": 1.5}, ConfigError, "1.5"),
        (MLP, "digits", {"until": math.nan}, ConfigError, "nan"),
        (MLP, "digits", {"learning_rate": -1.0}, ConfigError, "learning rate -1"),
        (MLP, "digits", {"learning_rate": math.inf}, ConfigError, "learning rate inf"),
        (MLP, "digits", {"optimizer": "lion"}, ConfigError, "known: sgd, momentum, adam"),
        (MLP, "digits", {"loss": "hinge"}, ConfigError, "known: cross_entropy, mse"),
        (MLP, "digits", {"rule": "hebb"}, ConfigError, "backprop"),
        (MLP, "digits", {"resume": True}, ConfigError, "needs a checkpoint"),
        (MLP, "digits", {"frozen": ["fc1", "fc2"]}, ConfigError, "all layers are frozen"),
        (MLP, "digits", {"frozen": ["fc9"]}, ConfigError, "fc9"),
        (MLP, "digits", {"seed": -1}, ConfigError, "seed -1"),
        (MLP, "digits", {"checkpoint_every": 3}, ConfigError, "needs a checkpoint"),
        (MLP, "digits", {"checkpoint": __file__}, ConfigError, "exists; give --resume to go on from it, or another"),
        (models.gpt(), "digits", {}, ShapeError, "Gpt reads token ids .*, digits has real-valued .*--data corpus"),
        ("mlp", "digits", {}, ConfigError, r"hwsim\.model\('mlp'\)"),
        (MLP, "digits", {"checkpoint": "no-such-folder/x"}, ConfigError, "no folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_step(
    model: Model, name: str, options: dict[str, object], error: type[Exception] | None, words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    steps = []

    def spy(net: Network, x: Array, y: Array, loss: object, optimizer: object) -> float:
        steps.append(1)
        return 0.0

    real = train.learning_rule
    monkeypatch.setattr(train, "learning_rule", lambda rule: spy if rule == "backprop" else real(rule))
    if error is None:
        hwsim.fit(model, data.load(name), hwsim.device("ideal"), epochs=1, **options)  # type: ignore[arg-type]
        assert steps
        return
    with pytest.raises(error, match=words):
        hwsim.fit(model, data.load(name), hwsim.device("ideal"), **{"epochs": 1, **options})  # type: ignore[arg-type]
    assert not steps


def test_token_windows_train_and_their_shapes_are_checked() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 5, (40, 6))
    text = data.from_arrays(tokens, (tokens + 1) % 5, name="text")

    class Tokens:
        input_shape = (6,)

        def __call__(self, net: Network, x: Value) -> Value:
            x = hwsim.nn.embed(net, "table", x, 5, 8)
            return dense(net, "out", x, 5)

    trained = hwsim.fit(Tokens(), text, hwsim.device("ideal"), epochs=30, batch=8, learning_rate=1.0)
    assert trained.test_accuracy > 0.9  # the next token follows from the present one


def test_devices_may_be_strings(few: Dataset) -> None:
    by_string = hwsim.fit(MLP, few, {"*": "digital:int8"}, epochs=1)
    assert by_string.test_accuracy == hwsim.fit(MLP, few, "digital:int8", epochs=1).test_accuracy
    assert by_string.ledger.energy_j == hwsim.fit(MLP, few, hwsim.device("digital:int8"), epochs=1).ledger.energy_j
    with pytest.raises(ConfigError, match=r"hwsim\.device\('gpu:h100'\)"):
        hwsim.fit(MLP, few, 3, epochs=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"hwsim\.data\.load\('digits'\)"):
        hwsim.fit(MLP, "digits", "ideal", epochs=1)  # type: ignore[arg-type]


def test_the_most_frequent_class_is_counted_on_the_test_split() -> None:
    x, y = np.zeros((10, 1)), np.array([0, 1] * 5)
    found = data.from_arrays(x, y, x_test=np.zeros((4, 1)), y_test=np.array([0, 1, 1, 1]))
    assert train.most_frequent_class_share(found) == 3 / 4
    assert train.most_frequent_class_share(data.load("xor")) is None


def test_a_model_without_repr_reads_alike_in_every_process() -> None:
    class Plain:
        input_shape = (2,)

    assert " at 0x" not in train.model_text(Plain())  # type: ignore[arg-type]
    assert train.model_text(MLP) == repr(MLP)


def test_shapes_are_asked_without_touching_the_ledger(few: Dataset) -> None:
    trained = hwsim.fit(MLP, few, hwsim.device("digital:int8"), epochs=1, batch=50)
    # 2 steps: fc1 and fc2 forward 2 each in training, 1 each for validation and for test rows.
    forward = [
        n for (_, _, _, op), n in trained.ledger.calls.items() if isinstance(op, Product) and op.kind == "forward"
    ]
    assert sum(forward) == 2 * (2 + 1 + 1)
    assert all(not isinstance(value, Shape) for value in trained.network.save().values())


def test_device_is_an_abstract_name_for_all_of_this() -> None:
    assert isinstance(Pulses(), Device)
