"""What a network is made of, layer by layer: names, widths, places of its arrays, and what its products cost.

Everything that shows a network goes by :func:`describe`. A new kind of layer needs one entry in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parts:
    """One layer's own share of a network.

    Parameters
    ----------
    fan_out : int
    shapes : tuple of tuple of int
        Its own arrays in the order of ``get_weights``; for a layer with layers inside, those after theirs.
    n_fixed : int
        Elements of these arrays that no gradient trains, such as running means.
    product : int
        Elements of the matrix that each sample is multiplied with; 0 where there is none.
    """

    fan_out: int
    shapes: tuple[Shape, ...] = ()
    n_fixed: int = 0
    product: int = 0


@dataclass(frozen=True)
class Described:
    """One layer in its place.

    Attributes
    ----------
    name : str
        Its number, from 1; ``"3.2"`` is the second layer inside the third.
    layer : object
        The description itself.
    kind : str
        Name of its class.
    depth : int
        0, and one more for each layer that it is inside of.
    fan_in, fan_out : int
    arrays : range
        Places of its own arrays in ``get_weights``.
    shapes : tuple of tuple of int
        Theirs.
    n_parameters, n_fixed : int
        All of its own parameters, and those among them that no gradient trains.
    flop_forward, flop_step : int
        Multiplications and additions of its matrix products for one sample: 2 m n forward, and in a training step
        2 m n more for the gradient and, where something below is trained, 2 m n for the deltas.
    """

    name: str
    layer: Any
    kind: str
    depth: int
    fan_in: int
    fan_out: int
    arrays: range
    shapes: tuple[Shape, ...]
    n_parameters: int
    n_fixed: int
    flop_forward: int
    flop_step: int

    @property
    def activation(self) -> str:
        """Name of its activation; empty where it has none."""
        return str(getattr(self.layer, "activation", None) or "")

    @property
    def title(self) -> str:
        """Number, kind and activation.

        >>> from fastbp import Dense
        >>> describe([Dense(3, "relu")], 2)[0].title
        '1 Dense relu'
        """
        return " ".join(filter(None, [self.name, self.kind, self.activation]))


def _dense(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(layer.units, ((fan_in, layer.units), (layer.units,)), product=fan_in * layer.units)


def _same_width(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(fan_in)


def _batch_norm(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(fan_in, ((fan_in,),) * 4, n_fixed=2 * fan_in)  # gamma, beta, running mean and variance


def _layer_norm(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(fan_in, ((fan_in,),) * 2)  # gamma, beta


def _residual(layer: Any, fan_in: int, fan_out: int) -> Parts:
    """``fan_out`` is that of the layers inside; the projection is there where it differs."""
    if fan_in == fan_out:
        return Parts(fan_out)
    return Parts(fan_out, ((fan_in, fan_out),), product=fan_in * fan_out)


KINDS: dict[str, Callable[[Any, int, int], Parts]] = {
    "Dense": _dense,
    "Dropout": _same_width,
    "BatchNorm": _batch_norm,
    "LayerNorm": _layer_norm,
    "Residual": _residual,
}


def describe(
    layers: Sequence[Any], n_features: int, *, prefix: str = "", depth: int = 0, first: int = 0
) -> list[Described]:
    """Every layer of a network in its order, with those inside a layer right after it.

    Parameters
    ----------
    layers : sequence of layers
    n_features : int
        What the first of them takes.
    prefix, depth, first
        Of layers inside another: what their names start with, how deep they are, and the place of their first array.

    Returns
    -------
    list of Described

    Raises
    ------
    TypeError
        For a layer of a class that is not in ``KINDS``.

    Examples
    --------
    >>> from fastbp import Dense
    >>> [(row.name, row.kind, row.n_parameters) for row in describe([Dense(3, "relu"), Dense(2)], 4)]
    [('1', 'Dense', 15), ('2', 'Dense', 8)]
    """
    found: list[Described] = []
    fan_in = n_features
    for k, layer in enumerate(layers):
        kind, name = type(layer).__name__, f"{prefix}{k + 1}"
        if kind not in KINDS:
            raise TypeError(f"layer {name} must be one of {', '.join(KINDS)}, got {layer!r}")
        inside = getattr(layer, "layers", ())
        inner = describe(inside, fan_in, prefix=f"{name}.", depth=depth + 1, first=first)
        below = first > 0  # something is trained below, and waits for deltas
        first += sum(len(row.arrays) for row in inner)
        outer = [row for row in inner if row.depth == depth + 1]
        parts = KINDS[kind](layer, fan_in, outer[-1].fan_out if outer else fan_in)
        places = range(first, first + len(parts.shapes))
        own = _described(name, layer, kind, depth, fan_in, parts, places, below)
        found += [own, *inner]
        first, fan_in = first + len(parts.shapes), parts.fan_out
    return found


def _described(
    name: str, layer: Any, kind: str, depth: int, fan_in: int, parts: Parts, places: range, below: bool
) -> Described:
    size = 0
    for shape in parts.shapes:
        size += shape[0] if len(shape) == 1 else shape[0] * shape[1]
    flop = 2 * parts.product
    return Described(
        name, layer, kind, depth, fan_in, parts.fan_out, places, parts.shapes, size, parts.n_fixed,
        flop, flop * (3 if below else 2),
    )  # fmt: skip
