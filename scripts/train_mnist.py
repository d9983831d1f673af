"""Train 784-128-10 on MNIST and draw what it learns.

    python scripts/train_mnist.py --data mnist.npz     # uint8 x_train, y_train, x_test, y_test
    python scripts/train_mnist.py                      # fetches MNIST from OpenML, once
    python scripts/train_mnist.py --large              # 784-512-256-10, dropout, batch norm, AdamW, one-cycle rate

One line an epoch: training loss, accuracy on held-out training rows, seconds. Writes ``learning_curve.png`` and
``weights.png`` (first-layer weights before, halfway through and after training). Exits with 1 where the data cannot be
had, and where the test accuracy at the default settings is below 97.5 %, or 98.4 % for the large network.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastbp

N_FEATURES = 28 * 28
N_HIDDEN = 128
N_CLASSES = 10
DEFAULT_SEED = 0
HELD_OUT = 12  # one training row in so many is held out: 5,000 of 60,000
NAMES = ("x_train", "y_train", "x_test", "y_test")


class Setting(NamedTuple):
    """How a network is trained, and the test accuracy that it must reach."""

    hidden: tuple[int, ...]
    batch_size: int
    epochs: int
    wanted: float


SMALL, LARGE = Setting((N_HIDDEN,), 64, 10, 0.975), Setting((512, 256), 128, 15, 0.984)


def layers_of(setting: Setting) -> list[Any]:
    """Hidden layers with relu; in the large network with batch norm and dropout."""
    if setting is SMALL:
        return [*(fastbp.Dense(units, "relu") for units in setting.hidden), fastbp.Dense(N_CLASSES)]
    layers: list[Any] = []
    for units in setting.hidden:
        layers += [fastbp.Dense(units, initializer="he_normal"), fastbp.BatchNorm("relu"), fastbp.Dropout(0.3)]
    return [*layers, fastbp.Dense(N_CLASSES)]


def optimizer_of(setting: Setting) -> Any:
    """Adam; for the large network AdamW, with a rate that rises and falls once over the training."""
    if setting is SMALL:
        return fastbp.Adam(learning_rate=1e-3)
    return fastbp.AdamW(fastbp.schedules.OneCycle(4e-3), weight_decay=0.02)


def load_npz(path: Path) -> list[Any]:
    """x_train, y_train, x_test, y_test of a file, images as (n, 784) uint8 and labels as (n,) intp."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in NAMES if name not in file]
            if missing:
                raise SystemExit(f"{path} lacks {', '.join(missing)}: it must hold {', '.join(NAMES)}")
            arrays = [file[name] for name in NAMES]
    except FileNotFoundError:
        raise SystemExit(f"{path} does not exist: give an .npz file with {', '.join(NAMES)}") from None
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{path} cannot be read as an .npz file of plain arrays: {error}") from None
    for part, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:])):
        if images.dtype != np.uint8 or images.ndim < 2 or images[:1].size != N_FEATURES:
            raise SystemExit(
                f"{path}: x_{part} must be uint8 images of 784 pixels, shape (n, 784), but it is {images.dtype} "
                f"of shape {images.shape}"
            )
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise SystemExit(
                f"{path}: y_{part} must be integer labels of shape ({len(images)},), one for each image, but it is "
                f"{labels.dtype} of shape {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= N_CLASSES:
            raise SystemExit(
                f"{path}: y_{part} must hold labels from 0 to 9, but it goes from {labels.min()} to {labels.max()}"
            )
    if len(arrays[0]) < HELD_OUT:
        raise SystemExit(f"{path}: x_train must have at least {HELD_OUT} rows, but it has {len(arrays[0])}")
    x_train, y_train, x_test, y_test = arrays
    return [
        x_train.reshape(-1, N_FEATURES),
        y_train.astype(np.intp),
        x_test.reshape(-1, N_FEATURES),
        y_test.astype(np.intp),
    ]


def fetch() -> list[Any]:
    """The same arrays from OpenML; scikit-learn keeps them on disk."""
    from sklearn.datasets import fetch_openml

    print("fetching MNIST from OpenML ...", flush=True)
    try:
        # this parser is slower than the other one, but needs no pandas
        X, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False, parser="liac-arff")
    except (OSError, ValueError) as error:
        raise SystemExit(f"MNIST cannot be fetched from OpenML ({error}): give a file with --data PATH") from None
    images, labels = X.astype(np.uint8), y.astype(np.intp)
    return [images[:60000], labels[:60000], images[60000:], labels[60000:]]


def to_inputs(images: Any) -> Any:
    """Pixels as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def accuracy(model: fastbp.Sequential, X: Any, y: Any) -> float:
    """Share of rows whose most probable class is the label."""
    return float(np.mean(model.predict(X).argmax(axis=1) == y))


class Report(fastbp.Callback):
    """Prints a line an epoch and keeps what is drawn afterwards."""

    def __init__(self, model: fastbp.Sequential, X: Any, y: Any, epochs: int) -> None:
        self.model, self.X, self.y, self.epochs = model, X, y, epochs
        self.accuracies: list[float] = []
        self.weights = {0: model.get_weights()[0]}

    def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
        self.accuracies.append(accuracy(self.model, self.X, self.y))
        done = len(self.accuracies)
        print(
            f"epoch {done:2d}/{self.epochs}   loss {logs['loss']:.4f}   "
            f"validation accuracy {self.accuracies[-1]:.4f}   {logs['epoch_seconds']:.2f} s",
            flush=True,
        )
        if done in (self.epochs // 2, self.epochs):
            self.weights[done] = self.model.get_weights()[0]


def draw_learning_curve(
    plt: Any, path: Path, losses: list[float], accuracies: list[float], test_accuracy: float
) -> None:
    """Loss and accuracy by epoch, side by side."""
    epochs = np.arange(1, len(losses) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.plot(epochs, losses, marker="o")
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.plot(epochs, accuracies, marker="o", label="validation")
    right.axhline(test_accuracy, color="tab:gray", linestyle="--", label=f"test, at the end: {test_accuracy:.4f}")
    right.set(xlabel="epoch", ylabel="accuracy")
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def mosaic(W: Any, columns: int = 16) -> Any:
    """First-layer weights (784, n_hidden) as one picture: a 28 x 28 tile for each unit, NaN between the tiles."""
    rows = -(-W.shape[1] // columns)
    picture = np.full((rows * 29 - 1, columns * 29 - 1), np.nan, W.dtype)
    for unit, tile in enumerate(W.T):
        i, j = divmod(unit, columns)
        picture[29 * i : 29 * i + 28, 29 * j : 29 * j + 28] = tile.reshape(28, 28)
    return picture


def draw_weights(plt: Any, path: Path, weights: dict[int, Any]) -> None:
    """One mosaic for each epoch in ``weights``, on a common scale."""
    limit = max(float(np.quantile(np.abs(W), 0.995)) for W in weights.values())
    figure, axes = plt.subplots(len(weights), 1, figsize=(8, 3.9 * len(weights)), layout="constrained", squeeze=False)
    for axis, (epoch, W) in zip(axes[:, 0], weights.items(), strict=True):
        image = axis.imshow(mosaic(W), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set(title=f"first-layer weights, epoch {epoch}", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, shrink=0.4)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def positive(text: str) -> int:
    """A command-line argument that is an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def seed(text: str) -> int:
    """A command-line argument that can seed a random state."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to 2**32 - 1")
    return value


def folder(text: str) -> Path:
    """A command-line argument that is a folder, or can become one."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a file: give a folder")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} does not exist: make it first")
    return path


def main(argv: list[str] | None = None) -> int:
    """Run the script; the exit status."""
    parser = argparse.ArgumentParser(description="Train 784-128-10 on MNIST.")
    parser.add_argument("--data", type=Path, help="an .npz file (default: fetch MNIST from OpenML)")
    parser.add_argument("--large", action="store_true", help="784-512-256-10 with dropout and batch norm")
    parser.add_argument("--epochs", type=positive, help=f"default: {SMALL.epochs}, with --large {LARGE.epochs}")
    parser.add_argument("--seed", type=seed, default=DEFAULT_SEED, help="default: %(default)s")
    parser.add_argument("--out", type=folder, default=Path(), help="folder for the pictures (default: the current one)")
    args = parser.parse_args(argv)
    setting = LARGE if args.large else SMALL
    epochs = args.epochs or setting.epochs
    try:
        import matplotlib
    except ImportError:
        from fastbp._extras import how_to_install

        raise SystemExit(f"the pictures need matplotlib: {how_to_install('plot')}") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    try:
        args.out.mkdir(exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: {args.out} cannot be made: {error.strerror}")
    x_train, y_train, x_test, y_test = load_npz(args.data) if args.data else fetch()
    cut = len(x_train) - len(x_train) // HELD_OUT
    X, X_val = to_inputs(x_train[:cut]), to_inputs(x_train[cut:])
    y, y_val = y_train[:cut], y_train[cut:]

    model = fastbp.Sequential(
        layers_of(setting), n_features=N_FEATURES, random_state=args.seed, dtype="float32"
    )  # fmt: skip
    trainer = fastbp.Trainer(
        model, loss="softmax_cross_entropy", optimizer=optimizer_of(setting), random_state=args.seed
    )
    report = Report(model, X_val, y_val, epochs)
    history = trainer.fit(X, y, epochs=epochs, batch_size=setting.batch_size, callbacks=[report])
    test_accuracy = accuracy(model, to_inputs(x_test), y_test)
    print(f"test accuracy {test_accuracy:.4f}   training {sum(history['epoch_seconds']):.2f} s")

    curve, weights = args.out / "learning_curve.png", args.out / "weights.png"
    draw_learning_curve(plt, curve, history["loss"], report.accuracies, test_accuracy)
    draw_weights(plt, weights, report.weights)
    print(f"wrote {curve} and {weights}")

    if (epochs, args.seed) == (setting.epochs, DEFAULT_SEED) and test_accuracy < setting.wanted:
        print(f"FAILED: test accuracy {test_accuracy:.4f} is below {setting.wanted}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
