"""Backward passes of dense networks with one fault each: what faulty gradients are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fastbp._probe import Probe
from fastbp._validation import Array
from fastbp.backends import Inspection, Network, get_backend

# f'(z) from the output a = f(z): what is often applied to z itself
FROM_OUTPUT = {"logistic": lambda a: a * (1 - a), "tanh": lambda a: 1 - a * a, "exp": lambda a: a}


@dataclass(frozen=True)
class Variant:
    """A backward pass with a fault.

    Attributes
    ----------
    cause : str
        The fault, in words.
    gradients : list of ndarray or None
        What it gives for each array; None where it differs from the right one in nothing.
    """

    cause: str
    gradients: list[Array | None]


def apply(name: str, Z: Array) -> Array:
    """f(Z), by the reference's own kernels.

    >>> apply("relu", np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """
    n = Z.shape[1]
    network = Network((n, n), (name,), np.dtype(np.float64))
    return get_backend("reference").predict(network, [np.eye(n), np.zeros(n)], np.ascontiguousarray(Z))


def derivative(name: str, Z: Array) -> Array:
    """f'(Z), by central differences, which is near enough to tell faults apart; not for softmax."""
    h = 1e-6 * np.maximum(1.0, np.abs(Z))
    return (apply(name, Z + h) - apply(name, Z - h)) / (2 * h)


class _Pass:
    """A dense network on some rows, ready to go backward."""

    def __init__(self, probe: Probe, found: Inspection) -> None:
        weights = probe.model.get_weights()
        self.W, self.b = weights[::2], weights[1::2]
        X = probe.X if isinstance(probe.X, np.ndarray) else probe.X.toarray()
        self.inputs = [X, *found.outputs[:-1]]
        self.Z = [A @ W + b for A, W, b in zip(self.inputs, self.W, self.b, strict=True)]
        self.names = [*probe.model._described.activations[:-1], probe.link]
        self.outputs, self.top = found.outputs, found.deltas[-1]
        self.slopes = [derivative(name, Z) for name, Z in zip(self.names[:-1], self.Z, strict=False)]

    def backward(
        self,
        *,
        top: Array | None = None,
        slopes: Sequence[Array] | None = None,
        inputs: Sequence[Array] | None = None,
        straight: int = -1,
    ) -> list[Array]:
        """Gradients of all arrays with other deltas at the top, other f', other inputs, or one W not transposed."""
        delta = self.top if top is None else top
        slopes, inputs = slopes or self.slopes, inputs or self.inputs
        gradients: list[Array] = []
        for l in reversed(range(len(self.W))):
            gradients = [inputs[l].T @ delta, delta.sum(axis=0), *gradients]
            if l:
                delta = (delta @ (self.W[l] if l == straight else self.W[l].T)) * slopes[l - 1]
        return gradients


def variants(probe: Probe, found: Inspection) -> Iterator[Variant]:
    """Backward passes with one fault each; none for networks of other layers than dense ones."""
    if probe.model._described.operations:
        return
    network = _Pass(probe, found)
    right = network.backward()

    def variant(cause: str, gradients: list[Array]) -> Variant:
        return Variant(cause, [None if np.array_equal(a, b) else a for a, b in zip(gradients, right, strict=True)])

    yield from (variant(*fault) for fault in _wrong_slopes(network))
    yield from (variant(*fault) for fault in _wrong_top(network, fused=probe.fused))
    hidden = range(1, len(network.W))
    for l in hidden:
        inputs = [network.Z[l - 1] if k == l else A for k, A in enumerate(network.inputs)]
        cause = f"the inputs of layer {l + 1} are taken before their activation: dW = A^T delta, not Z^T delta"
        yield variant(cause, network.backward(inputs=inputs))
        if network.W[l].shape[0] == network.W[l].shape[1]:
            cause = f"the deltas below layer {l + 1} are delta W where they should be delta W^T"
            yield variant(cause, network.backward(straight=l))


def _kinds(network: _Pass, l: int) -> list[tuple[str, Array]]:
    """Faulty values of f' of one layer, each with what is said of it."""
    name, A, Z = network.names[l], network.outputs[l], network.Z[l]
    kinds = [
        ("the derivative of {} is missing", np.ones_like(A)),
        ("the derivative of {} is taken at its output, f'(A), where its input is meant, f'(Z)", derivative(name, A)),
    ]
    if name in FROM_OUTPUT:
        formula = "the derivative of {} is the formula for its output (such as a (1 - a)) applied to its input Z"
        kinds.append((formula, FROM_OUTPUT[name](Z)))
    return kinds


def _wrong_slopes(network: _Pass) -> Iterator[tuple[str, list[Array]]]:
    """Faults in f' of hidden layers: of all of them, and of each."""
    hidden = range(len(network.slopes))
    if not hidden:
        return
    faulty = [dict(_kinds(network, l)) for l in hidden]
    for text in dict.fromkeys(text for kinds in faulty for text in kinds):
        everywhere = [kinds.get(text, slope) for kinds, slope in zip(faulty, network.slopes, strict=True)]
        for l in hidden:
            if text in faulty[l]:
                slopes = [everywhere[l] if k == l else slope for k, slope in enumerate(network.slopes)]
                yield text.format(f"{network.names[l]} in layer {l + 1}"), network.backward(slopes=slopes)
        if len(hidden) > 1:
            yield text.format("the activation in every hidden layer"), network.backward(slopes=everywhere)


def _wrong_top(network: _Pass, *, fused: bool) -> Iterator[tuple[str, list[Array]]]:
    """Faults in the output's deltas."""
    name, Z, top = network.names[-1], network.Z[-1], network.top
    if name in ("identity", "softmax"):
        if not (fused and name == "softmax"):
            return
        A = network.outputs[-1]
        slope = A * (1 - A)
    else:
        slope = derivative(name, Z)
    last = len(network.W)
    if fused:
        cause = f"the derivative of the output's {name} is applied although the loss has it in it: delta = p - t"
        yield cause, network.backward(top=top * slope)
        return
    if np.abs(slope).min() > 1e-9:
        plain = top / slope
        for text, value in _kinds(network, last - 1):
            yield text.format(f"{name} in layer {last}, the output,"), network.backward(top=plain * value)
