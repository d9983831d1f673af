"""Files of numbers and their description: safetensors with one JSON text, written whole or not at all.

Reading one runs no code: it gives numbers, strings, lists, dicts and arrays, and whoever asked for them checks them.
A digest tells whether they are those that were written. A file without one, by an earlier fastbp, is read all the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fastbp._states import DamageError
from fastbp._validation import Array
from fastbp._words import shown

ANOTHER = "Load another copy of the file, or write it anew"
KEY = "fastbp"  # of the JSON text in the file's metadata
DIGEST = "fastbp.sha256"  # of the digest there
VERSION = 1
DTYPES = {"F64": "float64", "F32": "float32", "I64": "int64", "U32": "uint32", "U64": "uint64", "BOOL": "bool"}
TENSOR = "$tensor"  # {"$tensor": name} stands for an array
FLOAT = "$float"  # {"$float": "inf"}, "-inf" or "nan": JSON has no such numbers
DEPTH = 50  # of dicts and lists within each other; what is read goes through Python's stack several times
# Of a file: 6 for each array of 10,000 layers (Adam's, an average, the best weights), and no second to look through
MOST_ARRAYS = 150_000
KINDS_OF_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def as_path(path: Any, name: str = "path") -> Path:
    """``path`` as a Path.

    >>> as_path(3)
    Traceback (most recent call last):
        ...
    TypeError: path must be a string or path-like, got 3: pass the name of a file
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not os.fspath(path):
        raise TypeError(f"{name} must be a string or path-like, got {shown(path)}: pass the name of a file")
    if "\0" in os.fspath(path):
        raise ValueError(f"{name} must be a name that a file can have, got {shown(path)}: leave out its \\0")
    return Path(path)


def special(path: str | os.PathLike[str]) -> str | None:
    """What lies at a path, in words, where that is no regular file; None for one, and where there is nothing.

    >>> special(os.curdir)
    'a folder'
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    return None if stat.S_ISREG(mode) else KINDS_OF_FILES.get(stat.S_IFMT(mode), "no regular file")


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise an OSError where something else than a regular file is at the place of a file to write.

    A file is renamed to its name, and would replace a device or a pipe for every other program.
    """
    there = special(path)
    if there is not None:
        error = IsADirectoryError if there == KINDS_OF_FILES[stat.S_IFDIR] else OSError
        raise error(f"{path} is {there}, which no file is to replace: give the name of a new or of a regular file")


def damaged(path: Path, what: Any) -> ValueError:
    """The error for a file whose contents cannot be those that were written."""
    return ValueError(f"{path} is damaged: {what}. {ANOTHER}")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Errors that come of nothing but the contents of a file are a ValueError that names it."""
    try:
        yield
    except MemoryError:
        raise damaged(path, "it holds more than the memory of this machine") from None
    except UnicodeError as error:
        raise damaged(path, error) from None
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a file to write, which takes the place of ``path`` once the block has ended.

    It lies in the same folder, as ``.<begin of the name>.<random>.part``. A process that is killed within the block
    leaves it there, and nothing reads it.
    """
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")  # no longer than a name may be
    try:
        part.touch(exist_ok=False)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(FileNotFoundError):  # it has been renamed
            part.unlink()
    _sync_folder(path.parent)


def write(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write a file of arrays under ``path``, which has the old contents or the new ones at any moment.

    The file is written under another name in the same folder, brought to the disk and renamed: :func:`replacing`.

    Raises
    ------
    OSError
        Where it cannot be written; what was there is there.
    ValueError
        For a description that JSON cannot hold.
    """
    check_target(path)
    path = Path(os.path.realpath(path))  # a link stays one
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to: make it first")
    if len(tensors) > MOST_ARRAYS:
        raise ValueError(f"a file holds at most {MOST_ARRAYS} arrays, and these are {len(tensors)}: stack some of them")
    text = json.dumps(_without_constants({"version": VERSION, **header}), allow_nan=False)
    arrays = {name: np.require(a, a.dtype.newbyteorder("<"), "C") for name, a in tensors.items()}
    digest = _Digest(text)
    for name in sorted(arrays):
        digest.add(name, arrays[name])
    try:
        with replacing(path) as part:
            mode = part.stat().st_mode  # as the system makes files here; safetensors has some that others cannot read
            save_file(arrays, part, {KEY: text, DIGEST: digest.text()})
            part.chmod(mode)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from None


class _Digest:
    """SHA-256 of a description, and of the name, dtype, shape and elements of each array in the order of the names."""

    def __init__(self, text: str) -> None:
        self._digest = hashlib.sha256()
        self._add(text)

    def _add(self, text: str) -> None:
        self._digest.update(f"{len(text)}:{text}".encode())

    def add(self, name: str, array: Array) -> None:
        self._add(name)
        self._add(f"{array.dtype.name} {array.shape}")
        self._digest.update(array.reshape(-1).view(np.uint8).data)

    def text(self) -> str:
        return self._digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Bring a renaming to the disk, where the system can do that for a folder."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def read(path: Path, *kinds: str) -> tuple[dict[str, Any], Tensors]:
    """The header of a file, and its arrays, which are not read yet.

    Raises
    ------
    ValueError
        For a file that is not whole, not one of ours, of another version or of another kind.
    OSError
        Where it cannot be read.
    """
    if not path.exists() or path.is_dir():
        raise FileNotFoundError(f"there is no file {path}: give the path of one that fastbp has written")
    if special(path) is not None:  # to open a pipe waits for whoever writes to it
        raise OSError(f"{path} is {special(path)}: models and checkpoints are read from regular files; copy it to one")
    with damage_named(path):
        text, tensors = _open(path)
    strict = tensors.digest is not None  # earlier files have the names that Python writes for infinity and NaN
    try:
        header = json.loads(text, parse_constant=_refuse if strict else None, object_hook=_with_constants)
    except (ValueError, RecursionError, MemoryError) as error:
        raise damaged(path, f"its description is no JSON ({error})") from None
    if not isinstance(header, dict) or type(header.get("version")) is not int:
        raise damaged(path, "its description has no version")
    if header["version"] != VERSION:
        raise ValueError(
            f"{path} has the version {header['version']} of the format, this fastbp reads {VERSION}: "
            f"read it with the {'newer' if header['version'] > VERSION else 'older'} fastbp that wrote it"
        )
    if header.get("kind") not in kinds:
        expected = " or ".join(map(repr, kinds))
        raise ValueError(f"{path} holds {shown(header.get('kind'))}, expected {expected}: give the path of such a file")
    return header, tensors


def _open(path: Path) -> tuple[str, Tensors]:
    """The description, and the arrays, which are those that were written as far as a digest can tell."""
    before = _stamp(path)
    _check_number(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            kinds = {name: _kind(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
            if KEY not in metadata:
                raise ValueError(
                    f"{path} was not written by fastbp: its metadata have no {KEY!r}. Read its arrays by "
                    "safetensors.numpy.load_file, and give them to set_weights"
                )
            text, wanted = metadata[KEY], metadata.get(DIGEST)
            if wanted is not None:
                digest = _Digest(text)
                for name in sorted(kinds):
                    digest.add(name, _array(file, path, name, kinds[name]))
                if digest.text() != wanted:
                    raise damaged(path, "its contents have another SHA-256 digest than when it was written")
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no whole safetensors file: it was cut short or is something else ({error}). {ANOTHER}"
        ) from None
    return text, Tensors(path, kinds, wanted, before)


def _array(file: Any, path: Path, name: str, kind: tuple[str, tuple[int, ...]]) -> Array:
    """An array of an open file, of a dtype that fastbp writes."""
    if kind[0] not in DTYPES.values():
        raise damaged(path, f"the array {shown(name)} has the dtype {kind[0]}")
    try:
        array: Array = file.get_tensor(name)
    except (ValueError, OverflowError) as error:  # no element, and sides whose product no array has
        raise damaged(path, f"the array {shown(name)} has the shape {kind[1]} ({error})") from None
    return array


def _check_number(path: Path) -> None:
    """Raise a ValueError for more arrays than a file may have, before a list of them is made."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        n_arrays = file.read(min(size, 2**27)).count(b'"data_offsets"')  # safetensors takes no header above 10^8 bytes
    if n_arrays > MOST_ARRAYS:
        raise ValueError(f"{path} has {n_arrays} arrays, and a file of fastbp has at most {MOST_ARRAYS}. {ANOTHER}")


def _stamp(path: Path) -> tuple[int, ...]:
    """Which file lies at a path, and when it was written last."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _kind(tensor: Any) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of an array in a file, which is not read for it."""
    return DTYPES.get(tensor.get_dtype(), tensor.get_dtype()), tuple(tensor.get_shape())


class Tensors:
    """Arrays of a file, by name.

    Parameters
    ----------
    path : Path
    kinds : dict
        Name: dtype and shape.
    digest : str or None
        Where the file has one.
    stamp : tuple of int
        Of the file whose kinds these are.

    Attributes
    ----------
    kinds : dict
    digest : str or None
    """

    def __init__(
        self, path: Path, kinds: dict[str, tuple[str, tuple[int, ...]]], digest: str | None, stamp: tuple[int, ...]
    ) -> None:
        self.path, self.kinds, self.digest, self._stamp = path, kinds, digest, stamp

    def load(self, names: list[str]) -> list[Array]:
        """Some of the arrays, each a writable one of its own.

        Raises
        ------
        ValueError
            For arrays of other dtypes than a file of fastbp has.
        OSError
            Where another file has taken the place of the one that was looked at.
        """
        try:
            with damage_named(self.path), safe_open(self.path, framework="numpy") as file:
                arrays = [np.array(_array(file, self.path, name, self.kinds[name]), order="C") for name in names]
        except SafetensorError as error:
            if _stamp(self.path) == self._stamp:
                raise ValueError(f"{self.path} is no whole safetensors file: {error}. {ANOTHER}") from None
        if _stamp(self.path) != self._stamp:
            raise OSError(f"{self.path} was replaced while it was read: try again")
        return arrays


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _with_constants(value: dict[str, Any]) -> Any:
    """``value`` as it was, where JSON could not hold it."""
    if value.keys() == {FLOAT}:
        if value[FLOAT] not in ("inf", "-inf", "nan"):
            raise ValueError(f"{FLOAT} stands for {shown(value[FLOAT])}")
        return float(value[FLOAT])
    return value


def _without_constants(value: Any) -> Any:
    """``value`` without the numbers that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: str(value)}
    if isinstance(value, dict):
        return {key: _without_constants(item) for key, item in value.items()}
    return [_without_constants(item) for item in value] if isinstance(value, list | tuple) else value


def encode(value: Any, name: str, tensors: dict[str, Array]) -> Any:
    """``value`` as JSON can hold it; its arrays go to ``tensors``, under names that begin with ``name``.

    >>> tensors = {}
    >>> encode({"step": 3, "moments": [np.zeros(2)]}, "optimizer", tensors), list(tensors)
    ({'step': 3, 'moments': [{'$tensor': 'optimizer.moments.0'}]}, ['optimizer.moments.0'])
    """
    return _encode(value, name, tensors, DEPTH)


def _encode(value: Any, name: str, tensors: dict[str, Array], depth: int) -> Any:
    if depth < 0:
        raise TypeError(f"{name[:80]}... is nested deeper than {DEPTH} dicts and lists: make it flat")
    if isinstance(value, np.ndarray):
        if value.dtype.name not in DTYPES.values():
            raise TypeError(f"{name} is an array of {value.dtype}, which has no place in a file: convert it to numbers")
        while name in tensors:  # {"a.b": array, "a": {"b": array}}
            name += "'"
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, np.generic):
        value = value.item()  # a long double stays one
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{name} must have strings as keys, got {shown(list(value))}: convert them by str")
        if value.keys() in ({TENSOR}, {FLOAT}):
            raise TypeError(f"{name} is a dict whose only key is {next(iter(value))!r}: choose another key")
        return {key: _encode(item, f"{name}.{_plain(key)}", tensors, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{name}.{k}", tensors, depth - 1) for k, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is {shown(value)}, expected numbers, strings, arrays, or lists and dicts of these")


def _plain(key: str) -> str:
    """A key as a part of a name that UTF-8 can hold."""
    return key.encode("utf-8", "backslashreplace").decode()


def decode(value: Any, arrays: Mapping[str, Array]) -> Any:
    """What :func:`encode` was given, with tuples as lists.

    Raises
    ------
    ValueError
        For an array that is not there.
    """
    if isinstance(value, dict):
        if set(value) == {TENSOR}:
            name = value[TENSOR]
            if not isinstance(name, str) or name not in arrays:
                raise DamageError(f"the array {shown(name)} is missing")
            return arrays[name]
        return {key: decode(item, arrays) for key, item in value.items()}
    return [decode(item, arrays) for item in value] if isinstance(value, list) else value
