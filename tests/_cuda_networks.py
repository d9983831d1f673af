"""Small networks that between them need everything that the GPU backend has, and what a session does with one."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

import fastbp
from fastbp import BatchNorm, Dense, Dropout, LayerNorm, Residual

N_FEATURES, N_ROWS, BATCH = 5, 20, 7  # the last batch is short


class Case(NamedTuple):
    layers: list
    loss: object
    optimizer: object
    weights: bool = False


CASES = {
    "adam": lambda: Case([Dense(6, "relu"), Dense(3)], "softmax_cross_entropy", fastbp.Adam(0.01)),
    "sgd, scikit-learn": lambda: Case(
        [Dense(9, "tanh"), Dense(10, "gelu"), Dense(9)],
        fastbp.losses.Loss("half_squared_error", convention="scikit-learn"),
        fastbp.SGD(0.01, momentum=0.9, nesterov=True, l2=0.1, convention="scikit-learn"),
        True,
    ),
    "adam, scikit-learn": lambda: Case(
        [Dense(17, "logistic"), Dense(2)],
        fastbp.losses.Loss("softmax_cross_entropy", convention="scikit-learn"),
        fastbp.Adam(0.01, l2=0.3, convention="scikit-learn"),
    ),
    "norms": lambda: Case(
        [Dense(9, "tanh"), BatchNorm("relu"), Dropout(0.3), Dense(9), LayerNorm("tanh"), Dense(3)],
        "softmax_cross_entropy",
        fastbp.Adam(0.01, clip_norm=0.1, ema_decay=0.9),
    ),
    "residual": lambda: Case(
        [Dense(9, "tanh"), Residual([Dense(9, "silu"), Dropout(0.2)]), Dense(4)],
        "sigmoid_cross_entropy",
        fastbp.RMSprop(0.01),
        True,
    ),
    "batch norm behind a skip": lambda: Case(
        [Dense(9, "tanh"), Residual([Dense(9, "silu"), BatchNorm()]), Dense(4)],
        fastbp.losses.Loss("huber", delta=0.5),
        fastbp.Lion(0.01, weight_decay=0.1, clip_value=0.05),
    ),
    "norm of X": lambda: Case(
        [BatchNorm(), Dense(9, "mish"), Dense(4, "softplus")], "poisson", fastbp.NAdam(0.01, clip_norm=0.05), True
    ),
    "one layer": lambda: Case([Dense(3)], "mean_squared_error", fastbp.Adagrad(0.1)),
    "dropout of X": lambda: Case(
        [Dropout(0.4), Dense(33, "elu"), LayerNorm("selu"), Dense(1, "logistic")],
        fastbp.losses.Loss("log_cosh"),
        fastbp.Adam(0.01, amsgrad=True, l1=0.01),
    ),
    "soft targets": lambda: Case(
        [Dense(9, "leaky_relu"), Dense(3)],
        fastbp.losses.Loss("softmax_cross_entropy", label_smoothing=0.1, class_weight=(1.0, 2.0, 0.5)),
        fastbp.RMSprop(0.01, momentum=0.9, centered=True),
    ),
    "wide": lambda: Case(
        [Dense(21, "gelu_tanh"), Dense(19, "softplus"), Dense(11, "exp"), Dense(2)],
        fastbp.losses.Loss("quantile", level=0.3),
        fastbp.RMSprop(0.001, momentum=0.9),
    ),
}


def prepared(case, dtype):
    """A case's trainer, its data and its network as backends take it."""
    rng, case = np.random.default_rng(0), CASES[case]()
    model = fastbp.Sequential(case.layers, n_features=N_FEATURES, dtype=dtype, random_state=0)
    X = rng.normal(size=(N_ROWS, N_FEATURES)).astype(dtype)
    trainer = fastbp.Trainer(model, loss=case.loss, optimizer=case.optimizer, backend="reference", random_state=0)
    if trainer.loss.name == "softmax_cross_entropy":
        y = rng.integers(0, model.n_outputs, N_ROWS)
    elif trainer.loss.name == "sigmoid_cross_entropy":
        y = rng.integers(0, 2, (N_ROWS, model.n_outputs)).astype(dtype)
    else:
        y = np.abs(rng.normal(size=(N_ROWS, model.n_outputs))).astype(dtype)
    data = trainer._checked(X, y, rng.random(N_ROWS) if case.weights else None)
    return trainer, data, replace(model._network, activations=(*model._network.activations[:-1], trainer._link))


def opened(case, backend, dtype, **options):
    """A session of a backend on a case, its data, and its network."""
    trainer, data, network = prepared(case, dtype)
    session = backend.open(
        network, trainer.loss, trainer.optimizer, *data[:2], parameters=trainer.model._weights, batch_size=BATCH,
        sample_weight=data[2], seed=3, **options,
    )  # fmt: skip
    return session, data, network


def everything(case, backend, dtype, epochs=2, **options):
    """What a session returns, by name: two epochs, the gradient, a step with it, losses, outputs and its state."""
    session, data, network = opened(case, backend, dtype, **options)
    order, found = np.random.default_rng(1).permutation(N_ROWS), {}
    n_steps = -(-N_ROWS // BATCH)
    for epoch in range(epochs):
        found[f"losses {epoch}"] = session.train(order, np.full(n_steps, 0.01))
    inspection = session.inspect(order[:BATCH])
    found["loss"] = inspection.loss
    for name in ("gradients", "outputs", "deltas"):
        for k, array in enumerate(getattr(inspection, name)):
            found[f"{name} {k}"] = array
    session.apply_gradients(inspection.gradients, 0.01, BATCH)
    found["evaluation"] = session.evaluation(*data)()
    parameters = session.get_parameters()
    found["outputs of X"] = backend.predict(network, parameters, data[0])
    for k, array in enumerate(parameters):
        found[f"parameters {k}"] = array
    for name, value in session.get_optimizer_state().items():
        for k, array in enumerate(value if isinstance(value, list) else [value]):
            found[f"{name} {k}"] = np.asarray(array)
    return found
