"""Models in files: layers as names and fields, and back through the constructors of classes that are known."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import initializers, layers
from fastbp._files import ANOTHER, Tensors, damage_named, damaged, read, write
from fastbp._validation import Array
from fastbp._words import shown

if TYPE_CHECKING:
    from fastbp.model import Sequential

TYPE = "type"  # the field of a description that names its class
# Layers of a network in a file, those within others too: ten times what anybody trains, and a second to build
MOST_LAYERS = 10_000


@functools.cache
def known_classes() -> dict[str, type[Any]]:
    """The classes that a file may name: the public frozen dataclasses of ``fastbp.layers`` and ``initializers``."""
    return {
        name: kind
        for module in (layers, initializers)
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and kind.__module__ == module.__name__
        and not name.startswith("_")
    }


def describe(value: Any) -> Any:
    """A frozen dataclass as its name and fields, tuples as lists, functions by their name; what JSON holds, as it is.

    >>> describe(layers.Dropout(0.2))
    {'type': 'Dropout', 'rate': 0.2}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
        return {TYPE: type(value).__name__, **fields}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if callable(value):
        return {"function": getattr(value, "__qualname__", type(value).__name__)}
    return value


def build(description: Any, what: str) -> Any:
    """The object that :func:`describe` was given; only classes that are known, through their constructors.

    Raises
    ------
    ValueError
        For an unknown class or field, or a value that the constructor refuses.
    """
    if isinstance(description, list):
        return tuple(build(item, f"{what}[{k}]") for k, item in enumerate(description))
    if not isinstance(description, dict):
        return description
    name, known = description.get(TYPE), known_classes()
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"{what} is of the unknown kind {shown(name)}; this fastbp knows {', '.join(sorted(known))}; upgrade "
            "fastbp where a newer one wrote the file"
        )
    kind, given = known[name], {key: value for key, value in description.items() if key != TYPE}
    unknown = sorted(given.keys() - {field.name for field in dataclasses.fields(kind) if field.init})
    if unknown:
        raise ValueError(
            f"{what} ({name}) has the unknown field {unknown[0]!r}; upgrade fastbp where a newer one wrote the file"
        )
    values = {key: build(value, f"{what}.{key}") for key, value in given.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} ({name}): {error}. {ANOTHER}") from None


def first_difference(saved: Any, here: Any, what: str) -> str | None:
    """Where two descriptions differ first, in words; None where they do not.

    >>> first_difference({"l2": 0.0, "beta": 0.9}, {"l2": 0.0, "beta": 0.8}, "optimizer")
    'optimizer.beta is 0.8 here, but 0.9 there'
    """
    if isinstance(saved, dict) and isinstance(here, dict) and saved.keys() == here.keys():
        pairs = [(f"{what}.{key}", saved[key], here[key]) for key in here]
    elif isinstance(saved, list) and isinstance(here, list) and len(saved) == len(here):
        pairs = [(f"{what}[{k}]", a, b) for k, (a, b) in enumerate(zip(saved, here, strict=True))]
    else:
        same = saved == here or (saved != saved and here != here)
        return None if same else f"{what} is {shown(here)} here, but {shown(saved)} there"
    return next(filter(None, (first_difference(a, b, name) for name, a, b in pairs)), None)


# ---------------------------------------------------------------------------------------------------------------------
# Models


def describe_model(model: Sequential) -> dict[str, Any]:
    """Everything about a model but its weights.

    Raises
    ------
    ValueError
        For more layers than a file can hold.
    """
    layers = describe(model.layers)
    _check_number(layers)
    return {
        "layers": layers,
        "n_features": model.n_features,
        "dtype": model.dtype.name,
        "link": model.link,
    }


def _check_number(layers: list[Any]) -> None:
    """Raise a ValueError for a description of more layers than a file may have, before any of them is built."""
    n_layers, lists = 0, [layers]
    while lists:
        here = lists.pop()
        n_layers += len(here)
        lists += [item["layers"] for item in here if isinstance(item, dict) and isinstance(item.get("layers"), list)]
    if n_layers > MOST_LAYERS:
        raise ValueError(f"a file holds models of at most {MOST_LAYERS} layers, and this one has {n_layers}: use fewer")


def named_weights(model: Sequential) -> dict[str, Array]:
    """A model's weights by the names that a file has for them: ``weights.W1``, ``weights.b1``, ..."""
    return dict(zip(_weight_names(model), model._weights, strict=True))


def _weight_names(model: Sequential) -> list[str]:
    return [f"weights.{name}" for name in model._described.names]


def read_weights(tensors: Tensors, model: Sequential, *, alone: bool) -> list[Array]:
    """The weights of a file, once their names, shapes and dtypes have been found right.

    Raises
    ------
    ValueError
        For arrays that are missing, too many (where nothing else is in the file, ``alone``) or of another kind.
    """
    names, shapes, dtype, kinds = _weight_names(model), model._described.shapes, model.dtype, tensors.kinds
    wanted = set(names)
    missing = [name for name in names if name not in kinds]
    extra = [name for name in kinds if name not in wanted and (alone or name.startswith("weights."))]
    for problem, found in (("lacks", missing), ("has, beyond what its layers need,", extra)):
        if found:
            first = ", ".join(sorted(found)[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
            raise ValueError(f"it {problem} the array{'s' * (len(found) > 1)} {first}. {ANOTHER}")
    for name, shape in zip(names, shapes, strict=True):
        if kinds[name] != (dtype.name, tuple(shape)):
            there = "the shape {1} and the dtype {0}".format(*kinds[name])
            raise ValueError(f"{name} has {there}, but its layers need {tuple(shape)} and {dtype.name}. {ANOTHER}")
    return tensors.load(names)


def _first_function(value: Any, what: str) -> str | None:
    """Where layers hold a function first, in words; None where they do not.

    >>> _first_function((layers.Dropout(0.2), layers.Dense(3, initializer=max)), "layers")
    'layers[1].initializer is a function, <built-in function max>'
    """
    if dataclasses.is_dataclass(value):
        parts = [(f"{what}.{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, tuple):
        parts = [(f"{what}[{k}]", item) for k, item in enumerate(value)]
    else:
        return f"{what} is a function, {shown(value)}" if callable(value) else None
    return next(filter(None, (_first_function(part, name) for name, part in parts)), None)


def save_model(model: Sequential, path: Path) -> None:
    """Write a model to a file."""
    if not all(np.isfinite(array).all() for array in model._weights):
        raise ValueError("the model has weights that are infinite or NaN, which no file is loaded with: train it anew")
    function = _first_function(model.layers, "layers")
    if function is not None:
        raise TypeError(
            f"{function}, which no file holds: give an initializer by its name to save the model, or save its "
            "get_weights(). A checkpoint of the trainer can be resumed with the same function"
        )
    header = {"kind": "model", "model": describe_model(model)}
    write(path, header, named_weights(model))


def load_model(kind: type[Sequential], path: Path) -> Sequential:
    """The model of a file or of a checkpoint."""
    header, tensors = read(path, "model", "checkpoint")
    given = header.get("model")
    names = ("layers", "n_features", "dtype", "link")
    if not isinstance(given, dict) or given.keys() != set(names) or not isinstance(given["layers"], list):
        raise damaged(path, f"a model is described by {', '.join(names)}, got {shown(given)}")
    try:
        _check_number(given["layers"])
        model = kind._without_weights(
            build(given["layers"], "layers"), n_features=given["n_features"], dtype=given["dtype"], link=given["link"]
        )
        with damage_named(path):
            model.set_weights(read_weights(tensors, model, alone=header["kind"] == "model"))
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        if str(error).startswith(f"{path} "):  # of the file itself
            raise
        raise ValueError(f"{path} holds no usable model: {error}") from None
    return model
