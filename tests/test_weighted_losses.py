"""The loss of an epoch where rows have weights: sum(w loss) / sum(w), whatever the batches are."""

import numpy as np
import pytest
from sklearn import neural_network
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp.losses import Loss

BACKENDS = ("cpu", "reference", "cuda")
OFF = 1e-300  # a rate with which no weight changes: the loss of an epoch is that of the model


def weights_of(n_rows, seed=1):
    weights = np.random.default_rng(seed).uniform(0, 5, n_rows)
    weights[:: n_rows // 7] = 0
    return weights


def trained(loss, batch_size, backend="cpu", sample_weight=None, dtype="float64", n_rows=53, **options):
    name = loss if isinstance(loss, str) else loss.name
    X, y = data(name, n_rows=n_rows)
    model = new_model(name, dtype=dtype)
    trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.SGD(OFF), backend=backend, random_state=0)
    validation = (X, y) if sample_weight is None else (X, y, sample_weight)
    history = trainer.fit(
        X, y, epochs=2, batch_size=batch_size, sample_weight=sample_weight, validation_data=validation, **options
    )
    return trainer, history


CASES = {
    "softmax_cross_entropy": "softmax_cross_entropy",
    "class weights": Loss("softmax_cross_entropy", class_weight=[0.1, 1, 5, 20]),
    "smoothed class weights": Loss("softmax_cross_entropy", class_weight=[0.1, 1, 5, 20], label_smoothing=0.1),
    "sigmoid_cross_entropy": Loss("sigmoid_cross_entropy", class_weight=[1, 7]),
    "mean_squared_error": "mean_squared_error",
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_the_loss_of_an_epoch_is_the_weighted_mean(case, backend):
    for batch_size in (1, 8, 53):
        trainer, history = trained(CASES[case], batch_size, backend, weights_of(53))
        X, y = data(trainer.loss.name)
        whole, _ = trainer.loss_and_gradients(X, y, weights_of(53))
        np.testing.assert_allclose(history["loss"], whole, rtol=1e-12)
        np.testing.assert_allclose(history["val_loss"], whole, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_class_weights_alone_are_weights_too(backend):
    trainer, history = trained(CASES["class weights"], 10, backend)
    whole, _ = trainer.loss_and_gradients(*data())
    np.testing.assert_allclose(history["loss"], whole, rtol=1e-12)
    assert history["loss"][0] != pytest.approx(trained("softmax_cross_entropy", 10, backend)[1]["loss"][0])


def test_soft_targets_have_the_weights_of_rows():
    """Class weights do not count in the mean over soft targets."""
    X, labels = data()
    loss = CASES["class weights"]
    trainer = fastbp.Trainer(new_model(), loss=loss, optimizer=fastbp.SGD(OFF))
    soft, weights = np.eye(4)[labels] * 0.8 + 0.05, weights_of(53)
    for given in (None, weights):
        history = trainer.fit(X, soft, batch_size=10, sample_weight=given)
        np.testing.assert_allclose(history["loss"], trainer.loss_and_gradients(X, soft, given)[0], rtol=1e-12)


def test_in_float32_too():
    trainer, history = trained("mean_squared_error", 8, sample_weight=weights_of(53), dtype="float32")
    X, y = data("mean_squared_error")
    np.testing.assert_allclose(history["loss"], trainer.loss_and_gradients(X, y, weights_of(53))[0], rtol=1e-5)


class Chunks(fastbp.Callback):
    def __init__(self):
        self.losses, self.steps = [], []

    def on_chunk_end(self, trainer, epoch, step, logs):
        self.losses.append(logs["loss"])
        self.steps.append(step)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_running_loss_is_that_of_its_rows(weighted, monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", 0.0)  # a step a chunk
    chunks, weights = Chunks(), weights_of(53) if weighted else None
    trainer, _ = trained("mean_squared_error", 10, sample_weight=weights, shuffle=False, callbacks=[chunks])
    X, y = data("mean_squared_error")
    for k, loss in enumerate(chunks.losses[:6]):
        here = slice(10 * k, 10 * k + 10)
        part = None if weights is None else weights[here]
        assert loss == pytest.approx(trainer.loss_and_gradients(X[here], y[here], part)[0], rel=1e-12)
    assert chunks.steps[:6] == [1, 2, 3, 4, 5, 6]


def test_chunks_do_not_change_a_bit(monkeypatch):
    results = []
    for seconds in (0.0, 100.0):
        monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", seconds)
        X, y = data(n_rows=500)
        trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy", random_state=0)
        history = trainer.fit(X, y, epochs=3, batch_size=7, sample_weight=weights_of(500))
        results.append([*trainer.model.get_weights(), np.array(history["loss"])])
    assert_same(*results)


def test_weights_of_one_are_none():
    for batch_size in (8, 53):
        plain, ones = (trained("softmax_cross_entropy", batch_size, sample_weight=w)[1] for w in (None, np.ones(53)))
        assert plain["loss"] == ones["loss"]


@pytest.mark.parametrize("convention", ["exact", "scikit-learn"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_without_weight_counts_nothing(backend, convention, monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", 0.0)
    X, y = data("mean_squared_error", n_rows=12)
    weights, chunks = np.r_[np.zeros(4), np.linspace(1, 2, 8)], Chunks()
    loss = Loss("half_squared_error", convention)
    losses = []
    for rows, callbacks in ((slice(0, 12), [chunks]), (slice(4, 12), [])):
        model = new_model("mean_squared_error")
        trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.SGD(OFF), backend=backend)
        history = trainer.fit(
            X[rows], y[rows], sample_weight=weights[rows], batch_size=4, shuffle=False, callbacks=callbacks
        )
        losses.append(history["loss"][0])
    assert losses[0] == losses[1]
    assert chunks.losses[0] == 0.0


def test_what_follows_the_loss_sees_the_right_one():
    """By the batches' means the loss of these rows would fall and rise with the order of rows."""
    X, y = data("mean_squared_error")
    weights = np.where(np.arange(53) % 9 == 0, 1e6, 1.0)
    schedule = fastbp.schedules.ReduceOnPlateau(OFF, "loss", patience=0, factor=0.5, threshold=0.0)
    trainer = fastbp.Trainer(new_model("mean_squared_error"), loss="mean_squared_error", optimizer=fastbp.SGD(schedule))
    stopping = fastbp.EarlyStopping("loss", patience=2, min_delta=1e-6)
    history = trainer.fit(X, y, epochs=9, batch_size=4, sample_weight=weights, callbacks=[stopping])
    np.testing.assert_allclose(history["loss"], history["loss"][0], rtol=1e-12)
    assert len(history["loss"]) == 3 and stopping.best_epoch == 0


# ---------------------------------------------------------------------------------------------------------------------
# Estimators


@pytest.mark.parametrize(("name", "y"), [("MLPRegressor", 0), ("MLPClassifier", 1)])
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_estimators_report_what_scikit_learn_does(name, y):
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = X.sum(axis=1) if y == 0 else (X.sum(axis=1) > 0).astype(int)
    weights = np.random.default_rng(1).uniform(0.1, 9, 60)
    curves = []
    for module in (neural_network, fastbp):
        model = getattr(module, name)(hidden_layer_sizes=(6,), batch_size=7, max_iter=4, random_state=0)
        curves.append(model.fit(X, y, sample_weight=weights).loss_curve_)
    np.testing.assert_allclose(*curves, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_losses_that_scikit_learn_lacks_are_the_weighted_mean():
    X = np.random.default_rng(0).normal(size=(60, 3))
    weights = weights_of(60)
    curves = []
    for batch_size in (7, 60):
        model = fastbp.MLPRegressor(
            "huber", (6,), batch_size=batch_size, alpha=0.0, max_iter=2, solver=fastbp.SGD(OFF), random_state=0
        )
        curves.append(model.fit(X, X.sum(axis=1), sample_weight=weights).loss_curve_)
    np.testing.assert_allclose(*curves, rtol=1e-12)
