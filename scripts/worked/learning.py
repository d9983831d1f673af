"""Networks that learn: XOR, and handwritten digits with the gradient of each array checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fastbp

XOR_X = [[0, 0], [0, 1], [1, 0], [1, 1]]
XOR_Y = [0, 1, 1, 0]
TOLERANCE = 1e-6  # what central differences in float64 can tell


def learn_xor(seed, backend="cpu"):
    layers = [fastbp.Dense(4, "sigmoid"), fastbp.Dense(1, "sigmoid")]
    model = fastbp.Sequential(layers, n_features=2, random_state=seed, dtype="float64")
    optimizer = fastbp.SGD(0.5, momentum=0.9)
    trainer = fastbp.Trainer(model, loss="sigmoid_cross_entropy", optimizer=optimizer, backend=backend)
    history = trainer.fit(XOR_X, XOR_Y, epochs=500, batch_size=4, shuffle=False)
    return model, history


def learn_digits(X, y, backend="cpu"):
    layers = [fastbp.Dense(128, "relu"), fastbp.Dense(10)]
    model = fastbp.Sequential(layers, n_features=X.shape[1], random_state=0)
    checks = [check_digits(model, X, y, backend)]
    optimizer = fastbp.Adam(1e-3)
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer, random_state=0, backend=backend)
    history = trainer.fit(X, y, epochs=5, batch_size=64)
    checks.append(check_digits(model, X, y, backend))
    return model, history, checks


def check_digits(model, X, y, backend="cpu"):
    return fastbp.gradient_check(
        model, "softmax_cross_entropy", X[:32], y[:32], max_entries=50, random_state=0, backend=backend
    )


class Digits(NamedTuple):
    """Handwritten digits: what they are called, and rows for training and test."""

    name: str
    X: Any
    y: Any
    X_test: Any
    y_test: Any


def stand_in() -> Digits:
    """scikit-learn's digits, 8 x 8 pixels: the last 360 rows are for the test."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return Digits(
        "scikit-learn's digits, which stand in for MNIST (--mnist PATH)", X[:-360], y[:-360], X[-360:], y[-360:]
    )


def xor_table(backend: str) -> str:
    """Loss over epochs from two starts, and what comes out for the four rows."""
    runs = {seed: learn_xor(seed, backend) for seed in (1, 0)}
    lines = ["epoch " + "".join(f"{epoch:>9}" for epoch in (1, 50, 100, 200, 300, 500))]
    for seed, (_, history) in runs.items():
        losses = "".join(f"{history['loss'][epoch - 1]:>9.4f}" for epoch in (1, 50, 100, 200, 300, 500))
        lines.append(f"loss  {losses}   random_state={seed}")
    p = runs[1][0].predict(XOR_X, backend=backend).ravel()
    lines += ["", "  x        target        p   (random_state=1)"]
    lines += [f"  {x[0]}, {x[1]}{t:>11}{value:>13.3f}" for x, t, value in zip(XOR_X, XOR_Y, p, strict=True)]
    return "\n".join(lines)


def digits_table(digits: Digits, backend: str) -> str:
    """The check of each array before and after training, and what the network learns."""
    model, history, checks = learn_digits(digits.X, digits.y, backend)
    lines = [f"{digits.name}: {len(digits.X)} rows to learn from, {len(digits.X_test)} to test"]
    for when, check in zip(("before training", "after training"), checks, strict=True):
        lines += ["", f"{when:<16}{'shape':<12}{'compared':>9}{'dL/dw':>12}{'difference':>12}   largest relative error"]
        lines += [_check_line(check, name) for name in check.relative_errors]
    right = model.predict(digits.X_test, backend=backend).argmax(axis=1) == digits.y_test
    losses = "".join(f"{loss:>9.4f}" for loss in history["loss"])
    return "\n".join([*lines, "", f"loss in epochs 1 to 5: {losses}", f"test rows right: {100 * np.mean(right):.1f} %"])


def _check_line(check: fastbp.diagnostics.GradientCheck, name: str) -> str:
    """An array: how many entries were compared, the largest of them both ways, and the verdict."""
    g, numeric, error = check.gradients[name], check.numeric[name], check.relative_errors[name]
    place = np.unravel_index(np.argmax(np.nan_to_num(np.abs(numeric))), numeric.shape)
    verdict = f"below {TOLERANCE:.0e}" if error < TOLERANCE else f"{error:.1e}: WRONG"
    return (
        f"{name:<16}{' x '.join(map(str, g.shape)):<12}{np.isfinite(numeric).sum():>9}"
        f"{g[place]:>12.3e}{numeric[place]:>12.3e}   {verdict}"
    )
