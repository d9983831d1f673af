"""Two units in a row: every number by hand, formula by formula, and the same by fastbp."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

import fastbp

START = {"x": 2.0, "t": 1.0, "w1": 0.5, "b1": 0.1, "w2": 0.3, "b2": -0.2, "rate": 0.01}
PARAMETERS = ("w1", "b1", "w2", "b2")


def relu_then_sigmoid(x, t, w1, b1, w2, b2, rate):
    z1 = w1 * x + b1  # forward: the first unit,
    h = np.maximum(z1, 0)  # through ReLU
    z2 = w2 * h + b2  # the second unit,
    p = 1 / (1 + np.exp(-z2))  # through the sigmoid
    loss = (p - t) ** 2

    dp = 2 * (p - t)  # backward: dL/dp, from the square
    delta2 = dp * p * (1 - p)  # dL/dz2: times the slope of the sigmoid
    dw2 = delta2 * h  # what w2 was multiplied by
    db2 = delta2 * 1
    dh = delta2 * w2  # back through the weight
    delta1 = dh * (z1 > 0)  # dL/dz1: times the slope of ReLU, 1 or 0
    dw1 = delta1 * x
    db1 = delta1 * 1

    new_w1 = w1 - rate * dw1  # one step downhill
    new_b1 = b1 - rate * db1
    new_w2 = w2 - rate * dw2
    new_b2 = b2 - rate * db2
    return locals()


def two_sigmoids(x, t, w1, b1, w2, b2, rate):
    z1 = w1 * x + b1
    h = 1 / (1 + np.exp(-z1))  # the one line of the forward pass that is another
    z2 = w2 * h + b2
    p = 1 / (1 + np.exp(-z2))
    loss = (p - t) ** 2

    dp = 2 * (p - t)
    delta2 = dp * p * (1 - p)
    dw2 = delta2 * h
    db2 = delta2 * 1
    dh = delta2 * w2
    delta1 = dh * h * (1 - h)  # and the one of the backward pass: the slope of the sigmoid
    dw1 = delta1 * x
    db1 = delta1 * 1

    new_w1 = w1 - rate * dw1
    new_b1 = b1 - rate * db1
    new_w2 = w2 - rate * dw2
    new_b2 = b2 - rate * db2
    return locals()


def by_fastbp(hidden, x, t, w1, b1, w2, b2, rate, backend="cpu"):
    layers = [fastbp.Dense(1, hidden), fastbp.Dense(1, "sigmoid")]
    model = fastbp.Sequential(layers, n_features=1, dtype="float64")
    model.set_weights([[[w1]], [b1], [[w2]], [b2]])
    trainer = fastbp.Trainer(model, loss="mean_squared_error", optimizer=fastbp.SGD(rate), backend=backend)
    loss, gradients = trainer.loss_and_gradients([[x]], [t])
    trainer.fit([[x]], [t], epochs=1)  # one row: one step
    return loss, gradients, model.get_weights()


def worksheet(function: Callable[..., dict[str, Any]], start: dict[str, float]) -> str:
    """Each line of a function with its numbers put in: name = formula = numbers = value."""
    values = function(**start)
    body = ast.parse(inspect.getsource(function)).body[0]
    lines = []
    for node in ast.walk(body):
        if isinstance(node, ast.Assign):
            name, formula = ast.unparse(node.targets[0]), ast.unparse(node.value)
            numbers = re.sub(r"\b[a-z]\w*\b(?![.(])", lambda m: _short(values.get(m[0], m[0])), formula)
            digits = 5 if name.startswith("new_") else 4
            numbers = numbers.replace("np.exp", "exp").replace("np.maximum", "max")
            lines.append(f"{name:<6} = {formula:<27} = {numbers:<33} = {float(values[name]):8.{digits}f}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    """A number as it stands in a formula."""
    if isinstance(value, str):
        return value
    text = f"{float(value):.4f}".rstrip("0").rstrip(".")
    return f"({text})" if text.startswith("-") else text


def side_by_side(function: Callable[..., dict[str, Any]], hidden: str, start: dict[str, float], *, backend: str) -> str:
    """Loss, gradients and the parameters after a step: by hand and by fastbp."""
    values = function(**start)
    loss, gradients, weights = by_fastbp(hidden, **start, backend=backend)
    rows = [("loss", values["loss"], loss, 4)]
    rows += [(f"d{n}", values[f"d{n}"], g.item(), 4) for n, g in zip(PARAMETERS, gradients, strict=True)]
    rows += [(f"new {n}", values[f"new_{n}"], w.item(), 5) for n, w in zip(PARAMETERS, weights, strict=True)]
    lines = [f"{name:<8}{hand:>10.{digits}f}{own:>10.{digits}f}" for name, hand, own, digits in rows]
    return "\n".join([f"{'':<8}{'by hand':>10}{'fastbp':>10}", *lines])
