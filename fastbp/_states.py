"""Checks of states that come out of a file: each number, array and entry before it is used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastbp._validation import Array
from fastbp._words import shown

LARGEST = 2**53  # of counts, of steps for one: a float holds each of them, and an int64 twice as many and more

KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", type(None): "None"}


class DamageError(ValueError):
    """What no training writes: the file was changed, and no argument of the user is wrong."""


def entries(state: Any, names: Any, what: str) -> dict[str, Any]:
    """``state`` where it is a dict with exactly these entries.

    >>> entries({"rate": 1.0}, ["rate", "step"], "the state")
    Traceback (most recent call last):
        ...
    fastbp._states.DamageError: the state has the entries 'rate', expected 'rate', 'step'
    """
    if not isinstance(state, dict) or state.keys() != set(names):
        there = ", ".join(map(shown, list(state)[:20])) or "none" if isinstance(state, dict) else shown(state)
        raise DamageError(f"{what} has the entries {there}, expected {', '.join(map(repr, names))}")
    return state


def whole(value: Any, name: str, *, most: int = LARGEST) -> int:
    """``value`` where it is a whole number from 0 to ``most``."""
    if type(value) is not int or not 0 <= value <= most:
        limit = f"from 0 to {most}" if type(value) is int and value > most else "of at least 0"
        raise DamageError(f"{name} is {shown(value)}, expected a whole number {limit}")
    return value


def real(value: Any, name: str, *, least: float = -math.inf, most: float = math.inf, infinite: bool = False) -> float:
    """``value`` as a float, where it is a number between two others, and finite or at least no NaN."""
    number = float(value) if type(value) is float or (type(value) is int and abs(value) <= LARGEST) else math.nan
    if not least <= number <= most or not (infinite or math.isfinite(number)):
        limits = "" if least == -math.inf else f" of at least {least:g}"
        limits += f" and at most {most:g}" if most < math.inf else ""
        raise DamageError(f"{name} is {shown(value)}, expected a {'' if infinite else 'finite '}number{limits}")
    return number


def array_of(value: Any, name: str, *, dtype: Any, shape: tuple[int, ...] | None = None) -> Array:
    """``value`` where it is an array of this dtype and shape; of one dimension, where none is given."""
    right = isinstance(value, np.ndarray) and value.dtype == dtype
    if not right or (value.ndim != 1 if shape is None else value.shape != shape):
        wanted = "of one dimension" if shape is None else f"of the shape {shape}"
        got = f"{value.dtype} of the shape {value.shape}" if isinstance(value, np.ndarray) else shown(value)
        raise DamageError(f"{name} must be an array of {np.dtype(dtype)} {wanted}, got {got}")
    return value


def check_like(value: Any, example: Any, what: str) -> None:
    """Raise a ValueError where ``value`` is not built as ``example``: keys, lengths, shapes, dtypes, kinds of numbers.

    >>> check_like({"step": 1}, {"step": 0, "first": []}, "state")
    Traceback (most recent call last):
        ...
    fastbp._states.DamageError: state has the entries 'step', expected 'step', 'first'
    """
    if isinstance(example, dict):
        entries(value, example, what)
        for key in example:
            check_like(value[key], example[key], f"{what}[{key!r}]")
    elif isinstance(example, list | tuple):
        if not isinstance(value, list) or len(value) != len(example):
            raise DamageError(f"{what} must be a list of {len(example)} entries, got {shown(value)}")
        for k, (a, b) in enumerate(zip(value, example, strict=True)):
            check_like(a, b, f"{what}[{k}]")
    elif isinstance(example, np.ndarray):
        if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (example.shape, example.dtype):
            there = f"{value.dtype} and {value.shape}" if isinstance(value, np.ndarray) else shown(value)
            raise DamageError(f"{what} must be an array of {example.dtype} and the shape {example.shape}, got {there}")
    elif isinstance(example, float) and type(value) in (int, float):
        pass  # JSON keeps 1.0, other tools may not
    elif type(value) is not type(example):
        raise DamageError(f"{what} must be {KINDS.get(type(example), shown(example))}, got {shown(value)}")
