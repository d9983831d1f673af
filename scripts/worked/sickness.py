"""Networks that do not learn: what their gradients look like, and what cures them."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp.initializers import Constant


@cache
def rows() -> tuple[Any, Any, Any, Any]:
    """scikit-learn's digits, scaled to mean 0 and variance 1: 500 rows to learn from, the others to test."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = (X - X[:500].mean()) / X[:500].std()
    return X[:500], y[:500], X[500:], y[500:]


def sigmoids():
    return [fastbp.Dense(32, "sigmoid")] * 8


def relus():
    return [fastbp.Dense(32, "relu", initializer="he_normal")] * 8


def normalised():
    return [fastbp.Dense(32), fastbp.BatchNorm("sigmoid")] * 8


def residual():
    block = fastbp.Residual([fastbp.Dense(32, "sigmoid"), fastbp.Dense(32)])
    return [fastbp.Dense(32, "sigmoid"), *[block] * 4]


def exploding():
    he = {"initializer": "he_normal"}
    block = fastbp.Residual([fastbp.Dense(32, "relu", **he), fastbp.Dense(32, **he)])
    return [fastbp.Dense(32, "relu", **he), *[block] * 10]


def dead(activation):
    return [fastbp.Dense(32, activation, "he_normal", bias_initializer=Constant(-3))] * 2


class Outcome(NamedTuple):
    """A network and how its training went."""

    model: fastbp.Sequential
    flows: fastbp.GradientFlow
    losses: list[float]
    moved: float
    accuracy: float
    error: str


def train(hidden, optimizer, epochs=25, every=5, backend="cpu"):
    X, y, X_test, y_test = rows()
    model = fastbp.Sequential([*hidden, fastbp.Dense(10)], n_features=64, random_state=0, dtype="float64")
    flows = fastbp.GradientFlow(X, y, every=every)  # records the gradients before the training and within it
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer, random_state=0, backend=backend)
    W, losses, error = model.get_weights()[0], [], ""
    try:
        losses = trainer.fit(X, y, epochs=epochs, batch_size=50, callbacks=[flows])["loss"]
    except FloatingPointError as caught:  # a loss or a weight is infinite or no number
        error = str(caught)
    moved = np.linalg.norm(model.get_weights()[0] - W) / np.linalg.norm(W)
    accuracy = np.mean(model.predict(X_test, backend=backend).argmax(axis=1) == y_test)
    return Outcome(model, flows, losses, float(moved), float(accuracy), error)


@cache
def vanishing_outcomes(backend: str) -> dict[str, Outcome]:
    """The sick network and its three cures."""
    networks = {"sigmoids": sigmoids, "relus": relus, "normalised": normalised, "residual": residual}
    return {name: train(make(), fastbp.SGD(0.05), backend=backend) for name, make in networks.items()}


@cache
def exploding_outcomes(backend: str) -> dict[str, Outcome]:
    """The same network without and with clipping."""
    optimizers = {"as it is": fastbp.SGD(0.02), "clipped": fastbp.SGD(0.02, clip_norm=1.0)}
    # with a larger rate, or after more epochs, rounding decides about the second digit of the loss
    return {name: train(exploding(), optimizer, 20, every=1, backend=backend) for name, optimizer in optimizers.items()}


@cache
def dead_outcomes(backend: str) -> dict[str, Outcome]:
    """The same start with ReLUs and with leaky ones."""
    return {name: train(dead(name), fastbp.Adam(0.01), backend=backend) for name in ("relu", "leaky_relu")}


def as_relus(model, backend="cpu"):
    X, y, _, _ = rows()
    relu = fastbp.Sequential([*dead("relu"), fastbp.Dense(10)], n_features=64, dtype="float64")
    relu.set_weights(model.get_weights())
    return fastbp.gradient_flow(relu, "softmax_cross_entropy", X, y, backend=backend)


def vanishing_flow(backend: str) -> str:
    """The table of the sick network, before it is trained."""
    return str(vanishing_outcomes(backend)["sigmoids"].flows.flows[0])


def vanishing_table(backend: str) -> str:
    """The sick network and its cures in a line each."""
    head = f"{'':<12}{'first delta':>12}{'first layer':>13}{'loss of':>10}{'loss of':>12}{'test rows':>11}   found"
    below = f"{'':<12}{'/ last':>12}{'moved by':>13}{'epoch 1':>10}{'last epoch':>12}{'right':>11}   at the start"
    lines = [head, below]
    for name, done in vanishing_outcomes(backend).items():
        flow = done.flows.flows[0]
        lines.append(
            f"{name:<12}{flow.delta_norm[0] / flow.delta_norm[-1]:>12.1e}{100 * done.moved:>11.2g} %"
            f"{done.losses[0]:>10.2f}{done.losses[-1]:>12.2f}{100 * done.accuracy:>9.0f} %   {_found(flow)}"
        )
    return "\n".join(lines)


def exploding_table(backend: str) -> str:
    """What is found at the start, and how it goes without and with clipping."""
    sick, cured = exploding_outcomes(backend).values()
    before, after = cured.flows.flows[0], cured.flows.flows[-1]
    ratio = before.delta_norm[0] / before.delta_norm[-1]
    stopped = f"stopped in epoch {len(sick.flows.epochs)}: no longer finite" if sick.error else "it learns"
    return "\n".join(
        [
            f"found at the start: {_found(before)}",
            f"first delta / last: {ratio:.0f}",
            "",
            f"SGD(0.02)                 {stopped}",
            f"SGD(0.02, clip_norm=1.0)  loss {cured.losses[0]:.0f} in epoch 1, {cured.losses[4]:.0f} in epoch 5, "
            f"{cured.losses[-1]:.1f} in epoch {len(cured.losses)}",
            f"                          test rows right: {100 * cured.accuracy:.0f} %",
            f"                          found afterwards: {_found(after)}",
        ]
    )


def dead_table(backend: str) -> str:
    """Dead units before and after training, with and without the leak."""
    outcomes = dead_outcomes(backend)
    lines = [
        f"{'':<12}{'dead at the start':>19}{'dead afterwards':>19}{'loss of':>9}{'loss of':>12}{'test rows':>11}",
        f"{'':<12}{'in layers 1, 2':>19}{'in layers 1, 2':>19}{'epoch 1':>9}{'last epoch':>12}{'right':>11}",
    ]
    start = outcomes["relu"].flows.flows[0]
    for name, done in outcomes.items():
        flow = as_relus(done.model, backend)
        lines.append(
            f"{name:<12}{_shares(start):>19}{_shares(flow):>19}{done.losses[0]:>9.2f}{done.losses[-1]:>12.3f}"
            f"{100 * done.accuracy:>9.0f} %"
        )
    for name, done in outcomes.items():
        for when, flow in (("at the start", done.flows.flows[0]), ("afterwards", done.flows.flows[-1])):
            lines += ["", f"{name}, {when}:", *(flow.words() or ["nothing is wrong"])]
    return "\n".join(lines)


def _shares(flow: fastbp.diagnostics.FlowOfGradients) -> str:
    return ", ".join(f"{100 * share:.0f} %" for share in flow.dead[:2])


def _found(flow: fastbp.diagnostics.FlowOfGradients) -> str:
    """What is wrong with which layers, without the measurements."""
    together: dict[str, list[str]] = {}
    for finding in flow.findings:
        together.setdefault(finding.what, []).append(finding.layer)
    return "; ".join(f"{what} in {', '.join(layers)}" for what, layers in together.items()) or "nothing"
