"""From layers, as users describe them, to operations in a row, as backends see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from fastbp._describe import is_computed
from fastbp._validation import Array
from fastbp.backends.base import Network
from fastbp.initializers import Constant, Initializer, layer_weights
from fastbp.kernels.layout import ADD, BATCH_NORM, DENSE, DROPOUT, LAYER_NORM
from fastbp.kernels.operations import Operation, reads_rows
from fastbp.layers import BatchNorm, Dense, Dropout, Layer, LayerNorm, Residual

Initializers = tuple[str | Initializer, str | Constant | None]  # of W and b, and of b alone
NONE: Initializers = ("", None)  # of what is not dense


class _Lowering:
    """Operations of a network, layer by layer."""

    def __init__(self, n_features: int) -> None:
        self.widths, self.activations, self.operations = [n_features], list[str](), list[Operation]()
        self.initializers: list[Initializers] = []

    def add(
        self, operation: Operation, width: int, activation: str = "identity", initializers: Initializers = NONE
    ) -> int:
        """Append an operation; its number."""
        self.widths.append(width)
        self.activations.append(activation)
        self.operations.append(operation)
        self.initializers.append(initializers)
        return len(self.operations) - 1

    def layers(self, layers: Sequence[Layer], fed_by: int) -> int:
        """Append layers in a row, the first of them fed by an operation (-1: X); the number of the last one."""
        computed = is_computed(layers)
        for layer, has_operation in zip(layers, computed, strict=True):
            fed_by = self.layer(layer, fed_by) if has_operation else fed_by
        return fed_by

    def layer(self, layer: Layer, fed_by: int) -> int:
        """Append one."""
        width = self.widths[fed_by + 1]
        if isinstance(layer, Dense):
            initializers = layer.initializer, layer.bias_initializer
            return self.add(Operation(DENSE, fed_by), layer.units, layer.activation, initializers)
        if isinstance(layer, Dropout):
            return self.add(Operation(DROPOUT, fed_by, constant=layer.rate), width)
        if isinstance(layer, BatchNorm):
            norm = Operation(BATCH_NORM, fed_by, constant=layer.epsilon, momentum=layer.momentum)
            return self.add(norm, width, layer.activation)
        if isinstance(layer, LayerNorm):
            return self.add(Operation(LAYER_NORM, fed_by, constant=layer.epsilon), width, layer.activation)
        assert isinstance(layer, Residual)
        end, source = self.layers(layer.layers, fed_by), fed_by
        if self.widths[end + 1] != width:
            source = self.add(Operation(DENSE, fed_by), self.widths[end + 1], initializers=(layer.initializer, None))
        return self.add(Operation(ADD, end, source), self.widths[end + 1], layer.activation)


def network_of(layers: Sequence[Layer], n_features: int, dtype: np.dtype[Any]) -> tuple[Network, list[Initializers]]:
    """A network, and the initializers of each operation.

    Raises
    ------
    ValueError
        For layers without weights, or a softmax before the output.
    """
    lowering = _Lowering(n_features)
    lowering.layers(layers, -1)
    kinds = [one.kind for one in lowering.operations]
    if DENSE not in kinds:
        raise ValueError("layers must hold at least one fastbp.Dense, the output layer for one, got none")
    if "softmax" in lowering.activations[:-1]:
        raise ValueError("'softmax' is for the last layer only; hidden layers have relu, tanh, ...")
    plain = all(kind == DENSE for kind in kinds)
    network = Network(
        tuple(lowering.widths), tuple(lowering.activations), dtype, () if plain else tuple(lowering.operations)
    )
    return network, lowering.initializers


def initial_weights(network: Network, initializers: Sequence[Initializers], rng: np.random.RandomState) -> list[Array]:
    """All arrays of a network, drawn layer by layer."""
    weights: list[Array] = []
    for l, (one, (both, bias)) in enumerate(zip(network.all_operations, initializers, strict=True)):
        fan_in, fan_out = network.widths[one.input + 1], network.widths[l + 1]
        if one.kind == DENSE:
            weights += layer_weights(both, bias, rng, (fan_in, fan_out), network.activations[l], network.dtype)
        elif one.kind in (BATCH_NORM, LAYER_NORM):
            weights += [np.ones(fan_out), np.zeros(fan_out)]
            weights += [np.zeros(fan_out), np.ones(fan_out)] if one.kind == BATCH_NORM else []
    return [array.astype(network.dtype) for array in weights]


def check_sparse(network: Network, X: Any, name: str, backend: str = "cpu") -> None:
    """Raise a ValueError for a sparse X that something else than a dense layer reads, or a device."""
    if not sparse.issparse(X):
        return
    if backend == "cuda":
        raise ValueError(f"{name} is sparse, which backend='cuda' does not take: use 'cpu', or pass {name}.toarray()")
    if reads_rows(network.operations):
        raise ValueError(
            f"{name} is sparse, which only a fastbp.Dense can read: begin the network with one and let no Residual "
            f"begin at {name}, or pass {name}.toarray()"
        )
