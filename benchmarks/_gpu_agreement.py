"""The networks by which a GPU backend is held against the NumPy reference before anything is timed.

Every layer, activation, loss and optimizer is in one of them. Adam and its kin have a large epsilon here: with the
usual one the first steps are about the sign of each gradient, which rounding decides where it is nearly zero.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# Largest difference to the reference, by the largest element of the array. With the reference's operands rounded to
# TF32 the cases of that precision differ by 4e-4 to 9e-4. With a batch norm it is 2e-3, and 1e-2 to 8e-2 behind units
# that a rounding pushes across a kink: neither is compared in TF32.
TOLERANCE = {"float32": 1e-5, "tf32": 2e-3, "float64": 1e-12}
EPSILON = 1e-2
DRAWS = 2  # a pre-activation that rounds to the other side of a kink fails one draw in some hundred, a wrong kernel all
EPOCHS = 2


@dataclass(frozen=True)
class Case:
    """A network and how it is trained.

    Parameters
    ----------
    n_features : int
    layers : callable
        Gives the layers.
    loss, optimizer : callable
        Give descriptions.
    targets : str
        ``"labels"``, ``"blocks"`` (3 and 4 classes), ``"soft"``, ``"values"``, ``"shares"`` or ``"counts"``.
    batch, n_rows : int
        The last batch is short.
    weighted : bool
        Whether rows have weights.
    spread : float
        Deviation of the biases of hidden units: units far from their kinks, which TF32 would push many rows across.
    precisions : tuple of str
    """

    n_features: int
    layers: Callable[[], list[Any]]
    loss: Callable[[], Any]
    optimizer: Callable[[], Any]
    targets: str = "values"
    batch: int = 32
    n_rows: int = 90
    weighted: bool = False
    spread: float = 0.0
    precisions: tuple[str, ...] = ("float32",)


def _dense(*units: int, activation: str = "tanh", last: str = "identity") -> Callable[[], list[Any]]:
    def layers() -> list[Any]:
        from fastbp import Dense

        return [*(Dense(n, activation) for n in units[:-1]), Dense(units[-1], last)]

    return layers


def _named(*names: str) -> Callable[[], list[Any]]:
    """A layer of 24 units for each activation, and one of 3 outputs."""

    def layers() -> list[Any]:
        from fastbp import Dense

        return [*(Dense(24, name) for name in names), Dense(3)]

    return layers


def _batch_norms() -> list[Any]:
    from fastbp import BatchNorm, Dense

    return [Dense(96), BatchNorm("gelu"), Dense(64, "silu"), BatchNorm(), Dense(10)]


def _blocks() -> list[Any]:
    from fastbp import BatchNorm, Dense, Dropout, LayerNorm, Residual

    block = Residual([LayerNorm(), Dense(48, "tanh"), Dropout(0.2), Dense(48)], "softplus")
    wider = Residual([Dense(72, "silu"), BatchNorm()])
    return [Dense(48, "elu"), block, wider, LayerNorm("mish"), Dropout(0.3), Dense(5)]


def _loss(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    def loss() -> Any:
        from fastbp.losses import Loss

        return Loss(name, *arguments, **options)

    return loss


def _by(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    def optimizer() -> Any:
        import fastbp

        return getattr(fastbp, name)(*arguments, **options)

    return optimizer


def _adam(name: str = "Adam", **options: Any) -> Callable[[], Any]:
    return _by(name, 1e-2, epsilon=EPSILON, **options)


ALL = ("float32", "tf32", "float64")
SOFTMAX = _loss("softmax_cross_entropy")
SQUARED = _loss("mean_squared_error")
CASES = {
    # what is timed comes first
    "mnist": Case(784, _dense(128, 10, activation="relu"), SOFTMAX, _adam(), "labels", 64, 200),
    "wide": Case(
        300, _dense(520, 260, 130, activation="relu"), SOFTMAX, _by("SGD", 0.05, 0.9), "labels", 256, 600, spread=4.0
    ),
    "wide-gelu": Case(
        300, _dense(520, 260, 130, activation="gelu"), SOFTMAX, _by("SGD", 0.05, 0.9), "labels", 256, 600,
        precisions=("tf32",),
    ),
    "relu-far": Case(
        784, _dense(128, 10, activation="relu"), SQUARED, _by("SGD", 1e-3), batch=64, n_rows=200, spread=8.0,
        precisions=("tf32",),
    ),
    "tanh": Case(260, _dense(384, 256, 40), SQUARED, _by("SGD", 0.05), batch=128, n_rows=300, precisions=ALL),
    "batch-norm": Case(40, _batch_norms, SOFTMAX, _adam("AdamW"), "labels", 64, 150, precisions=("float32", "float64")),
    "blocks": Case(30, _blocks, SOFTMAX, _adam("NAdam"), "labels", 48, 110),
    "large-batch": Case(4, _dense(32, 16, 4), SQUARED, _adam(), batch=2500, n_rows=3000),
    "one-layer": Case(33, _dense(1), SQUARED, _by("Adagrad", 0.05), batch=1, n_rows=7),
    "activations-1": Case(
        20, _named("relu", "leaky_relu", "elu", "selu", "logistic", "exp"), SQUARED, _by("SGD", 0.02, 0.9)
    ),
    "activations-2": Case(
        20, _named("gelu", "gelu_tanh", "silu", "mish", "softplus", "tanh"), SQUARED, _by("RMSprop", 1e-3, epsilon=0.1)
    ),
    "sigmoid": Case(
        20, _dense(16, 3, last="logistic"), _loss("sigmoid_cross_entropy", label_smoothing=0.1),
        _by("SGD", 0.05, 0.9, nesterov=True), "shares", weighted=True,
    ),
    "poisson": Case(
        20, _dense(16, 2), _loss("poisson"), _by("RMSprop", 1e-3, epsilon=0.1, momentum=0.5, centered=True), "counts"
    ),
    "absolute": Case(20, _dense(16, 3), _loss("mean_absolute_error"), _by("Lion", 1e-4)),
    "huber": Case(20, _dense(16, 3), _loss("huber", delta=0.7), _by("Adagrad", 0.02, epsilon=0.1)),
    "quantile": Case(20, _dense(16, 2), _loss("quantile", level=(0.2, 0.9)), _adam("NAdam", clip_norm=0.1)),
    "log-cosh": Case(20, _dense(16, 3), _loss("log_cosh"), _adam("AdamW", ema_decay=0.9)),
    "scikit-learn": Case(
        20, _dense(16, 3), _loss("half_squared_error", "scikit-learn"),
        _adam(l2=0.1, convention="scikit-learn"), weighted=True,
    ),
    "labels-in-blocks": Case(
        20, _dense(16, 7), _loss("softmax_cross_entropy", blocks=(3, 4)),
        _by("SGD", 0.05, 0.5, l1=1e-3, l2=1e-2, weight_decay=1e-2), "blocks",
    ),
    "soft": Case(20, _dense(16, 4, last="softmax"), SOFTMAX, _adam(amsgrad=True), "soft"),
    "class-weights": Case(
        20, _dense(16, 3), _loss("softmax_cross_entropy", class_weight=(0.5, 1.0, 2.0), label_smoothing=0.1),
        _by("SGD", 0.05, clip_value=1e-2), "labels", weighted=True,
    ),
}  # fmt: skip


def names(precision: str) -> list[str]:
    """The cases that are compared in a precision."""
    return [name for name, case in CASES.items() if precision in case.precisions]


def _data(case: Case, n_outputs: int, dtype: str, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    n = case.n_rows
    X = rng.standard_normal((n, case.n_features)).astype(dtype)
    y: Any
    if case.targets == "labels":
        y = rng.integers(0, n_outputs, n)
    elif case.targets == "blocks":
        y = np.stack([rng.integers(0, 3, n), rng.integers(0, 4, n)], axis=1)
    elif case.targets == "soft":
        y = rng.dirichlet(np.ones(n_outputs), n).astype(dtype)
    elif case.targets == "counts":
        y = rng.poisson(2.0, (n, n_outputs)).astype(dtype)
    else:
        y = rng.random((n, n_outputs)) if case.targets == "shares" else rng.standard_normal((n, n_outputs))
        y = y.astype(dtype)
    return X, y, rng.uniform(0.5, 2.0, n).astype(dtype) if case.weighted else None


class Contestants:
    """The same network, data and order of rows for two backends.

    Parameters
    ----------
    case : Case
    precision : str
        ``"float32"``, ``"float64"``, or ``"tf32"`` of the backend ``cuda``; the reference then has float32.
    seed : int
    """

    def __init__(self, case: Case, precision: str, seed: int) -> None:
        import fastbp

        self.case, self.precision, self.dtype = case, precision, "float64" if precision == "float64" else "float32"
        rng, self._fastbp = np.random.default_rng(seed), fastbp
        self.seed = int(rng.integers(2**31))
        self.layers = case.layers()
        model = self._model(None)
        if case.spread:
            arrays = zip(model._described.names, model.get_weights(), strict=True)
            self._weights = [
                (case.spread * rng.choice((-1.0, 1.0), b.shape)).astype(b.dtype) if name[0] == "b" else b
                for name, b in arrays
            ]
        else:
            self._weights = model.get_weights()
        self.data = _data(case, model.n_outputs, self.dtype, rng)
        self.rows = [rng.permutation(case.n_rows) for _ in range(EPOCHS)]
        self.n_steps = -(-case.n_rows // case.batch)
        self.described = model._described

    def _model(self, weights: list[Any] | None) -> Any:
        model = self._fastbp.Sequential(
            self.layers, n_features=self.case.n_features, dtype=self.dtype, random_state=self.seed
        )
        if weights is not None:
            model.set_weights(weights)
        return model

    def open(self, backend: str) -> tuple[Any, Any]:
        """A trainer and a session of it."""
        precise = {"precision": "tf32"} if backend == "cuda" and self.precision == "tf32" else {}
        trainer = self._fastbp.Trainer(
            self._model(self._weights), loss=self.case.loss(), optimizer=self.case.optimizer(), backend=backend,
            random_state=self.seed, **precise,
        )  # fmt: skip
        return trainer, trainer._open(*trainer._checked(*self.data), batch_size=self.case.batch)

    def gradients(self, session: Any) -> list[tuple[float, list[Any]]]:
        """Of a whole batch and of a short one."""
        batch, short = self.case.batch, self.case.n_rows % self.case.batch or self.case.batch
        return [session.loss_and_gradients(self.rows[0][:n]) for n in dict.fromkeys((batch, short))]

    def train(self, session: Any) -> Any:
        """Losses of some epochs, the same for every backend."""
        rate = self.case.optimizer().learning_rate
        return np.concatenate([session.train(rows, np.full(self.n_steps, rate)) for rows in self.rows])

    def predict(self, trainer: Any, session: Any, backend: str) -> Any:
        """Outputs with the session's parameters."""
        from fastbp.backends import get_backend

        activations = (*self.described.activations[:-1], trainer._link)
        network = replace(trainer.model._network, activations=activations)
        return get_backend(backend).predict(network, session.get_parameters(), self.data[0])


def poison(session: Any, rows: Any) -> bool:
    """Compute a loss and gradients with weights that are not numbers, and put these back; whether the loss saw it.

    What a step does not write is not a number from then on, and shows in whatever reads it. No step is taken: the
    padding of weights and moments is zero by contract, and an update would leave NaN in it.
    """
    weights = session.get_parameters()
    session.set_parameters([np.full_like(array, np.nan) for array in weights])
    loss, _ = session.loss_and_gradients(rows)
    session.set_parameters(weights)
    return bool(np.isnan(loss))


def _differences(both: Contestants, backend: str) -> Iterator[tuple[str, float]]:
    """Largest relative differences, by what is compared; ``repeated`` is not 0 where two runs differ by a bit."""
    from fastbp._verify import gradient_differences, relative_difference

    (_, reference), (trainer, session) = both.open("reference"), both.open(backend)
    _, again = both.open(backend)
    seen = poison(session, both.rows[0][: both.case.batch])
    pairs = list(zip(both.gradients(session), both.gradients(reference), strict=True))
    for where, ((loss, gradients), (expected_loss, expected)) in zip(("", ", short batch"), pairs, strict=False):
        yield f"loss{where}", relative_difference(np.array(loss), np.array(expected_loss))
        for name, value in gradient_differences(both.described, gradients, expected).items():
            yield f"gradient of {name}{where}", value
    poison(session, both.rows[0][: both.case.batch])
    yield "poison unseen", 0.0 if seen else float("nan")
    losses, expected_losses, fresh = both.train(session), both.train(reference), both.train(again)
    yield "losses in training", relative_difference(losses, expected_losses)
    trained, expected = session.get_parameters(), reference.get_parameters()
    for name, value in gradient_differences(both.described, trained, expected).items():
        yield f"{name} after training", value
    repeated = [np.array_equal(losses, fresh), *map(np.array_equal, trained, again.get_parameters())]
    yield "repeated", 0.0 if all(repeated) else float("nan")
    session.set_parameters(expected)
    outputs, expected_outputs = (
        both.predict(trainer, one, name) for one, name in ((session, backend), (reference, "reference"))
    )
    yield "predictions", relative_difference(outputs, expected_outputs)


def compare(name: str, precision: str, backend: str, seed: int, forget: Callable[[], object] = bool) -> dict[str, Any]:
    """One case: ``worst`` difference of the best draw, ``what`` it is, and whether all is within the tolerance.

    A poisoned session and a fresh one must agree to the last bit in every draw, so that a race between threads is not
    taken for a rounding; ``forget`` poisons free memory before each draw.
    """
    allowed, draws, case = TOLERANCE[precision], [], CASES[name]
    for draw in range(DRAWS):
        forget()
        entropy = np.random.SeedSequence([seed, zlib.crc32(f"{name} {precision}".encode()), draw])
        both = Contestants(case, precision, int(entropy.generate_state(1)[0]))
        found = dict(_differences(both, backend))
        poisoned = not np.isnan(found.pop("poison unseen"))
        draws.append(_draw(found, allowed) | {"poison_seen": poisoned})
        if draws[-1]["agrees"] or not draws[-1]["repeatable"]:
            break
    last = draws[-1]
    return {**last, "allowed": allowed, "draws": [draw["worst"] for draw in draws]}


def _draw(found: dict[str, float], allowed: float) -> dict[str, Any]:
    off = {what: value for what, value in found.items() if not value <= allowed}
    # a NaN is worse than all numbers
    what = max(found, key=lambda key: np.inf if np.isnan(found[key]) else found[key])
    return {
        "agrees": not off, "repeatable": not np.isnan(found["repeated"]), "what": what, "worst": found[what],
        "off": dict(sorted(off.items(), key=lambda item: -np.nan_to_num(item[1], nan=np.inf))[:8]),
    }  # fmt: skip
