"""What a network is made of, layer by layer: names, widths, places of its arrays, and what its products cost.

Everything that shows a network goes by :func:`describe`. A new kind of layer needs one entry in ``KINDS``.
"""

from __future__ import annotations

import math
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
        Its own arrays in the order of ``get_weights``.
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
        Its number, from 1; ``"3.2"`` is the second layer inside the third, ``"3.p"`` its projection.
    layer : object
        The description itself.
    kind : str
        Name of its class, or ``"Projection"``.
    operation : int
        Its place among the operations that backends see; that of a layer with layers inside is after theirs. Of a
        layer that changes nothing that of the one before, -1 for X.
    computed : bool
        Whether it has an operation of its own: a dropout of rate 0 has none.
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
    operation: int
    depth: int
    fan_in: int
    fan_out: int
    arrays: range
    shapes: tuple[Shape, ...]
    n_parameters: int
    n_fixed: int
    flop_forward: int
    flop_step: int
    computed: bool = True

    @property
    def activation(self) -> str:
        """Name of its activation; empty where it has none."""
        return "" if self.kind == PROJECTION else str(getattr(self.layer, "activation", ""))

    @property
    def title(self) -> str:
        """Number, kind and activation.

        >>> from fastbp import BatchNorm, Dense
        >>> [row.title for row in describe([Dense(3, "relu"), BatchNorm()], 2)]
        ['1 Dense relu', '2 BatchNorm']
        """
        shown = self.activation if self.kind == "Dense" or self.activation != "identity" else ""
        return " ".join(filter(None, [self.name, self.kind, shown]))


def _dense(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(layer.units, ((fan_in, layer.units), (layer.units,)), product=fan_in * layer.units)


def _same_width(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(fan_in)


def _batch_norm(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(fan_in, ((fan_in,),) * 4, n_fixed=2 * fan_in)  # gamma, beta, running mean and variance


def _layer_norm(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(fan_in, ((fan_in,),) * 2)  # gamma, beta


def _residual(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(fan_out)


def _projection(layer: Any, fan_in: int, fan_out: int) -> Parts:
    return Parts(fan_out, ((fan_in, fan_out), (fan_out,)), product=fan_in * fan_out)


PROJECTION = "Projection"


KINDS: dict[str, Callable[[Any, int, int], Parts]] = {
    "Dense": _dense,
    "Dropout": _same_width,
    "BatchNorm": _batch_norm,
    "LayerNorm": _layer_norm,
    "Residual": _residual,
    PROJECTION: _projection,
}


def is_computed(layers: Sequence[Any]) -> list[bool]:
    """Whether each of the layers in a row has an operation: a dropout of rate 0 has none.

    Where there is nothing else, in a block that a connection skips, all have one.

    >>> from fastbp import Dense, Dropout
    >>> is_computed([Dropout(0), Dense(3), Dropout(0.1)]), is_computed([Dropout(0)])
    ([False, True, True], [True])
    """
    found = [type(layer).__name__ != "Dropout" or layer.rate > 0 for layer in layers]
    return found if any(found) else [True] * len(found)


def describe(layers: Sequence[Any], n_features: int) -> list[Described]:
    """Every layer of a network in its order, with those inside a layer right after it.

    Parameters
    ----------
    layers : sequence of layers
    n_features : int
        What the first of them takes.

    Returns
    -------
    list of Described

    Raises
    ------
    TypeError
        For a layer of a class that is not in ``KINDS``.

    Examples
    --------
    >>> from fastbp import Dense, Residual
    >>> rows = describe([Dense(3, "relu"), Residual([Dense(3)]), Residual([Dense(2)])], 4)
    >>> [(row.name, row.kind, row.operation, row.n_parameters) for row in rows]  # doctest: +NORMALIZE_WHITESPACE
    [('1', 'Dense', 0, 15), ('2', 'Residual', 2, 0), ('2.1', 'Dense', 1, 12),
     ('3', 'Residual', 5, 0), ('3.1', 'Dense', 3, 8), ('3.p', 'Projection', 4, 8)]
    """
    walk = _Walk()
    walk.layers(layers, n_features, "", 0)
    return walk.rows


class _Walk:
    """Through layers, in the order in which they are computed."""

    def __init__(self) -> None:
        self.rows: list[Described] = []
        self._operations = self._arrays = 0

    def layers(self, layers: Sequence[Any], fan_in: int, prefix: str, depth: int) -> int:
        """Describe layers in a row; the width of their output."""
        for k, (layer, computed) in enumerate(zip(layers, is_computed(layers), strict=True)):
            fan_in = self.layer(layer, fan_in, f"{prefix}{k + 1}", depth, computed)
        return fan_in

    def layer(self, layer: Any, fan_in: int, name: str, depth: int, computed: bool) -> int:
        """Describe one with what is inside it; the width of its output."""
        kind, place, fan_out = type(layer).__name__, len(self.rows), fan_in
        if kind not in KINDS:
            raise TypeError(f"layer {name} must be one of {', '.join(KINDS)}, got {layer!r}")
        trained = self._arrays > 0  # something below is, and waits for deltas
        if hasattr(layer, "layers"):
            fan_out = self.layers(layer.layers, fan_in, f"{name}.", depth + 1)
            if fan_out != fan_in:
                self.rows.append(self._row(layer, fan_in, fan_out, f"{name}.p", PROJECTION, depth + 1, trained))
        row = self._row(layer, fan_in, fan_out, name, kind, depth, trained, computed)
        self.rows.insert(place, row)
        return row.fan_out

    def _row(
        self, layer: Any, fan_in: int, fan_out: int, name: str, kind: str, depth: int, trained: bool,
        computed: bool = True,
    ) -> Described:  # fmt: skip
        parts = KINDS[kind](layer, fan_in, fan_out)
        self._operations += computed
        operation, first = self._operations - 1, self._arrays
        self._arrays = first + len(parts.shapes)
        return Described(
            name, layer, kind, operation, depth, fan_in, parts.fan_out, range(first, self._arrays), parts.shapes,
            sum(math.prod(shape) for shape in parts.shapes), parts.n_fixed,
            2 * parts.product, (6 if trained else 4) * parts.product, computed,
        )  # fmt: skip
