"""The main job in a minute: train 64-100-10 on digits, check it against the reference, time it against scikit-learn.

Prints the test accuracy, the largest relative difference of one step's gradients to the NumPy reference, and the
seconds of the same training (network, batches, epochs, Adam) by fastbp, by its NumPy reference and by scikit-learn.
Writes ``demo.png``. Exits with 1 where the accuracy or the agreement is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import fastbp

N_HIDDEN = 100
BATCH_SIZE = 32
LEARNING_RATE = 1e-3
SEED = 0
LOSS = "softmax_cross_entropy"
WANTED_ACCURACY = 0.97
ALLOWED_DIFFERENCE = 1e-5  # float32


def load_data() -> tuple[Any, Any, Any, Any]:
    """Digits as float32 in [0, 1], split into X_train, X_test, y_train, y_test."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return tuple(train_test_split(X, y, test_size=0.25, stratify=y, random_state=42))


def new_model() -> fastbp.Sequential:
    """64-100-10 with its initial weights."""
    layers = [fastbp.Dense(N_HIDDEN, activation="relu"), fastbp.Dense(10)]
    return fastbp.Sequential(layers, n_features=64, random_state=SEED, dtype="float32")


def train(model: fastbp.Sequential, X: Any, y: Any, epochs: int, *, backend: str = "cpu", **options: Any) -> Any:
    """Train a model with fastbp; its history."""
    trainer = fastbp.Trainer(
        model, loss=LOSS, optimizer=fastbp.Adam(learning_rate=LEARNING_RATE), backend=backend, random_state=SEED
    )
    return trainer.fit(X, y, epochs=epochs, batch_size=BATCH_SIZE, **options)


def train_scikit_learn(X: Any, y: Any, epochs: int) -> None:
    """The same training by scikit-learn: no penalty, and nothing that would stop it early."""
    peer = MLPClassifier(
        (N_HIDDEN,),
        batch_size=BATCH_SIZE,
        max_iter=epochs,
        learning_rate_init=LEARNING_RATE,
        alpha=0.0,
        tol=0.0,
        n_iter_no_change=epochs,
        random_state=SEED,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is told to stop after so many epochs
        peer.fit(X, y)


def time_interleaved(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each job over rounds in which each of them runs once."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


class Accuracies(fastbp.Callback):
    """Test accuracy after each epoch."""

    def __init__(self, model: fastbp.Sequential, X: Any, y: Any) -> None:
        self.model, self.X, self.y = model, X, y
        self.values: list[float] = []

    def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
        self.values.append(float(np.mean(self.model.predict(self.X).argmax(axis=1) == self.y)))


def draw(plt: Any, path: Path, losses: list[float], accuracies: list[float], seconds: dict[str, float]) -> None:
    """Loss by epoch, accuracy by epoch, and a bar for each time."""
    epochs = np.arange(1, len(losses) + 1)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    left.plot(epochs, losses)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    middle.plot(epochs, accuracies)
    middle.axhline(WANTED_ACCURACY, color="tab:gray", linestyle="--")
    middle.set(xlabel="epoch", ylabel="test accuracy")
    bars = right.barh(list(seconds), list(seconds.values()))
    right.bar_label(bars, fmt="%.3f s", padding=3)
    right.margins(x=0.25)  # room for the labels
    right.invert_yaxis()
    right.set(xlabel="seconds of the same training")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def positive(text: str) -> int:
    """A command-line argument that is an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def picture(text: str) -> Path:
    """A command-line argument that is a file which can be written."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} does not exist: make it first")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder: give the name of a file, such as {path / 'demo.png'}")
    return path


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(description="Train on digits, check against the reference, time the peers.")
    parser.add_argument("--epochs", type=positive, default=60, help="default: %(default)s")
    parser.add_argument("--rounds", type=positive, default=5, help="timed runs of each (default: %(default)s)")
    parser.add_argument("--out", type=picture, default=Path("demo.png"), help="the picture (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        import matplotlib
    except ImportError:
        from fastbp._extras import how_to_install

        raise SystemExit(f"the picture needs matplotlib: {how_to_install('plot')}") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    X, X_test, y, y_test = load_data()
    print(f"64-{N_HIDDEN}-10 on {len(X)} digits: ReLU, Adam, batch {BATCH_SIZE}, {args.epochs} epochs, float32")

    model = new_model()
    accuracies = Accuracies(model, X_test, y_test)
    history = train(model, X, y, args.epochs, callbacks=[accuracies], verbose=1)
    test_accuracy = accuracies.values[-1]
    print(f"test accuracy {test_accuracy:.4f} on {len(X_test)} digits (at least {WANTED_ACCURACY})")

    agreement = fastbp.compare_backends(
        new_model(), LOSS, X[:BATCH_SIZE], y[:BATCH_SIZE], backends=("reference", "cpu")
    )
    difference = agreement.max_relative_difference
    print(
        f"gradients of one step, largest relative difference to the NumPy reference: {difference:.1e} "
        f"(at most {ALLOWED_DIFFERENCE:.0e})"
    )

    seconds = time_interleaved(
        {
            "fastbp": lambda: train(new_model(), X, y, args.epochs),
            "NumPy reference": lambda: train(new_model(), X, y, args.epochs, backend="reference"),
            "scikit-learn": lambda: train_scikit_learn(X, y, args.epochs),
        },
        args.rounds,
    )
    print(f"the same training, median of {args.rounds} interleaved rounds, compilation not included:")
    for name, value in seconds.items():
        print(f"  {name:16} {value:7.3f} s   {value / seconds['fastbp']:5.1f} times fastbp's")

    draw(plt, args.out, history["loss"], accuracies.values, seconds)
    print(f"wrote {args.out}")

    missed = []
    if not test_accuracy >= WANTED_ACCURACY:
        missed.append(f"test accuracy {test_accuracy:.4f} is below {WANTED_ACCURACY}")
    if not difference <= ALLOWED_DIFFERENCE:
        missed.append(f"gradients differ from the reference by {difference:.1e}, more than {ALLOWED_DIFFERENCE:.0e}")
    for message in missed:
        print(f"FAILED: {message}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
