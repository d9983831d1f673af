"""The link of a model, what its predictions go through: from the layer, from the Trainer that is made, from a fit."""

import numpy as np
import pytest
from test_trainer import assert_same, data, new_model

import fastbp

X, Y = data()


def probabilities(model):
    raw = model.predict(X, raw=True)
    raw = np.exp(raw - raw.max(axis=1, keepdims=True))
    return raw / raw.sum(axis=1, keepdims=True)


def test_before_a_trainer_predictions_are_those_of_the_last_layer():
    model = new_model()
    assert model.link == "identity"
    assert_same([model.predict(X)], [model.predict(X, raw=True)])
    ready = fastbp.Sequential([fastbp.Dense(4, "softmax")], n_features=5, random_state=0)
    np.testing.assert_allclose(ready.predict(X), probabilities(ready), rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "link"),
    [
        ("softmax_cross_entropy", "softmax"),
        ("sigmoid_cross_entropy", "logistic"),
        ("poisson", "exp"),
        ("mean_squared_error", "identity"),
    ],
)
def test_a_new_model_has_the_link_of_its_trainer(loss, link):
    model = new_model(loss)
    raw = model.predict(X, raw=True)
    fastbp.Trainer(model, loss=loss)
    assert model.link == link
    np.testing.assert_array_equal(model.predict(X, raw=True), raw)
    if link == "softmax":
        np.testing.assert_allclose(model.predict(X), probabilities(model), rtol=1e-12)


def test_the_last_trainer_of_a_new_model_and_then_the_last_fit():
    model = new_model(n_outputs=2)
    softmax = fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=0)
    assert model.link == "softmax"
    values = fastbp.Trainer(model, loss="mean_squared_error", random_state=0)
    assert model.link == "identity"
    softmax.fit(X, Y % 2)
    assert model.link == "softmax"
    before = model.predict(X)
    fastbp.Trainer(model, loss="mean_squared_error")  # predictions of a trained one do not change by that
    assert_same([before], [model.predict(X)])
    values.fit(X, X[:, :2])
    assert model.link == "identity"


def test_a_trainer_that_is_refused_changes_nothing():
    model = new_model(n_outputs=1)
    with pytest.raises(ValueError):
        fastbp.Trainer(model, loss="softmax_cross_entropy")
    with pytest.raises(ValueError):
        fastbp.Trainer(model, loss="sigmoid_cross_entropy", backend="gpu")
    assert model.link == "identity"


def test_a_fit_that_fails_leaves_the_link():
    model = new_model(n_outputs=2)
    values = fastbp.Trainer(model, loss="mean_squared_error", random_state=0)
    values.fit(X, X[:, :2])
    other = fastbp.Trainer(model, loss="softmax_cross_entropy")

    class Fails(fastbp.Callback):
        def on_chunk_end(self, trainer, epoch, step, logs):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        other.fit(X, Y % 2, callbacks=[Fails()])
    with pytest.raises(ValueError):
        other.fit(X * np.nan, Y % 2)
    assert model.link == "identity"


def test_a_trainer_that_is_made_within_a_fit_leaves_the_link():
    class Makes(fastbp.Callback):
        def on_train_begin(self, trainer, n_epochs, n_steps):
            fastbp.Trainer(trainer.model, loss="mean_squared_error").loss_and_gradients(X, X[:, :4])

        def on_epoch_end(self, trainer, epoch, logs):
            self.on_train_begin(trainer, 0, 0)

    model = new_model()
    fastbp.Trainer(model, loss="softmax_cross_entropy").fit(X, Y, callbacks=[Makes()])
    assert model.link == "softmax"


def test_files_keep_the_link(tmp_path):
    path = tmp_path / "model.safetensors"
    for trained in (False, True):
        model = new_model()
        trainer = fastbp.Trainer(model, loss="softmax_cross_entropy")
        if trained:
            trainer.fit(X, Y)
        model.save(path)
        again = fastbp.load(path)
        assert again.link == "softmax"
        assert_same([again.predict(X)], [model.predict(X)])
    fastbp.Trainer(again, loss="mean_squared_error")
    assert again.link == "softmax"  # until that fits
    fastbp.Trainer(again, loss="mean_squared_error").fit(X, X[:, :4])
    assert again.link == "identity"


def test_diagnostics_and_predictions_do_not_change_it():
    model = new_model()
    fastbp.gradient_flow(model, "softmax_cross_entropy", X, Y)
    fastbp.gradient_check(model, "softmax_cross_entropy", X[:5], Y[:5])
    fastbp.compare_backends(model, "softmax_cross_entropy", X[:5], Y[:5], backends=("reference", "cpu"))
    assert model.link == "identity"
