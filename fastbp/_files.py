"""Files of numbers and their description: safetensors with one JSON text, written whole or not at all.

Reading one runs no code: it gives numbers, strings, lists, dicts and arrays, and whoever asked for them checks them.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fastbp._validation import Array, shown

KEY = "fastbp"  # of the JSON text in the file's metadata
VERSION = 1
DTYPES = {"F64": "float64", "F32": "float32", "I64": "int64", "U32": "uint32", "U64": "uint64", "BOOL": "bool"}
TENSOR = "$tensor"  # {"$tensor": name} stands for an array


def as_path(path: Any, name: str = "path") -> Path:
    """``path`` as a Path.

    >>> as_path(3)
    Traceback (most recent call last):
        ...
    TypeError: path must be a string or path-like, got 3
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not os.fspath(path):
        raise TypeError(f"{name} must be a string or path-like, got {shown(path)}")
    return Path(path)


def write(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write a file of arrays under ``path``, which has the old contents or the new ones at any moment.

    The file is written under another name in the same folder, brought to the disk and renamed. A process that is killed
    on the way leaves a file ``.<name>.<random>.part``, which nothing reads.

    Raises
    ------
    OSError
        Where it cannot be written; what was there is there.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to: make it first")
    text = json.dumps({"version": VERSION, **header})
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.touch(exist_ok=False)
        mode = part.stat().st_mode  # as the system makes files here; safetensors has some that others cannot read
        save_file({name: np.require(array, requirements="C") for name, array in tensors.items()}, part, {KEY: text})
        part.chmod(mode)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from None
    finally:
        with suppress(FileNotFoundError):  # it has been renamed
            part.unlink()
    _sync_folder(path.parent)


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
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = Tensors(path, {name: _kind(file.get_slice(name)) for name in file.keys()})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no whole safetensors file: it was cut short or is something else ({error})"
        ) from None
    if text is None:
        raise ValueError(f"{path} was not written by fastbp: its metadata have no {KEY!r}")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its description is no JSON ({error})") from None
    if not isinstance(header, dict) or type(header.get("version")) is not int:
        raise ValueError(f"{path} is damaged: its description has no version")
    if header["version"] != VERSION:
        raise ValueError(
            f"{path} has the version {header['version']} of the format, this fastbp reads {VERSION}: "
            f"{'a newer' if header['version'] > VERSION else 'an older'} fastbp wrote it, and reads it"
        )
    if header.get("kind") not in kinds:
        raise ValueError(f"{path} holds {shown(header.get('kind'))}, expected {' or '.join(map(repr, kinds))}")
    return header, tensors


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

    Attributes
    ----------
    kinds : dict
    """

    def __init__(self, path: Path, kinds: dict[str, tuple[str, tuple[int, ...]]]) -> None:
        self.path, self.kinds = path, kinds

    def load(self, names: list[str]) -> list[Array]:
        """Some of the arrays, each a writable one of its own."""
        try:
            with safe_open(self.path, framework="numpy") as file:
                return [np.array(file.get_tensor(name), order="C") for name in names]
        except SafetensorError as error:
            raise ValueError(f"{self.path} is no whole safetensors file: {error}") from None


def encode(value: Any, name: str, tensors: dict[str, Array]) -> Any:
    """``value`` as JSON can hold it; its arrays go to ``tensors``, under names that begin with ``name``.

    >>> tensors = {}
    >>> encode({"step": 3, "moments": [np.zeros(2)]}, "optimizer", tensors), list(tensors)
    ({'step': 3, 'moments': [{'$tensor': 'optimizer.moments.0'}]}, ['optimizer.moments.0'])
    """
    if isinstance(value, np.ndarray):
        if value.dtype.name not in DTYPES.values():
            raise TypeError(f"{name} is an array of {value.dtype}, which has no place in a file")
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{name} is a dict whose keys are not all strings: {shown(list(value))}")
        return {key: encode(item, f"{name}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item, f"{name}.{k}", tensors) for k, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is {shown(value)}, and a file holds numbers, strings, arrays, lists and dicts of these")


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
                raise ValueError(f"the array {shown(name)} is missing")
            return arrays[name]
        return {key: decode(item, arrays) for key, item in value.items()}
    return [decode(item, arrays) for item in value] if isinstance(value, list) else value
