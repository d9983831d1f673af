"""What a fit ends with is a model: finite weights, and finite outputs for its own rows; otherwise an error says why."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import make_scorer, mean_squared_error

import fastbp
from fastbp import BatchNorm, Dense, Dropout, LayerNorm, MLPClassifier, MLPRegressor, Residual, Sequential
from fastbp._overflow import may_overflow
from fastbp.backends import get_backend

X = np.random.default_rng(0).normal(size=(40, 3))
Y = X.sum(axis=1)
LABELS = np.digitize(Y, [-0.7, 0.7])
WEIGHTS = "Solver produced non-finite parameter weights.*StandardScaler.*learning_rate_init"
OUTPUTS = (
    r"Solver produced parameter weights with which outputs for {} are infinite or NaN; .*StandardScaler.*learning_r"
)
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def assert_refused(kind, data, message, validation=None, **options):
    """A ValueError, after which a fitted estimator is as before."""
    with pytest.raises(ValueError, match=message):
        kind(**SMALL | options).fit(*data, **validation or {})
    model = kind(**SMALL).fit(X, data[1])
    before = {name: value for name, value in vars(model).items() if name.endswith("_")}
    with pytest.raises(ValueError, match=message):
        model.set_params(**options).fit(*data, **validation or {})
    assert all(vars(model)[name] is value for name, value in before.items())


STOPPING = [{}, {"scoring": "r2"}, {"scoring": "neg_mean_absolute_error"}, {"scoring": "loss"}]


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("scoring", STOPPING, ids=str)
@pytest.mark.filterwarnings("ignore:overflow encountered")  # in scikit-learn's metrics
def test_divergence_under_early_stopping(solver, scoring):
    options = {"early_stopping": True, "solver": solver, "learning_rate_init": 1e300, "activation": "identity"}
    assert_refused(MLPRegressor, (X, Y), WEIGHTS, **options, **scoring)


@pytest.mark.parametrize(
    "scoring", [{}, {"scoring": "roc_auc_ovr"}, {"scoring": "neg_log_loss"}, {"scoring": "accuracy"}]
)
def test_divergence_of_a_classifier(scoring):
    """Probabilities that are NaN have no score, not even an accuracy."""
    seen = []

    class Explodes(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            seen.append(trainer.model.get_weights())
            if epoch == 2:
                trainer.model.set_weights([w * 0 + 1e200 for w in trainer.model.get_weights()])

    options = {**SMALL, "max_iter": 20, "early_stopping": True, "activation": "identity", "n_iter_no_change": 4}
    model = MLPClassifier(callbacks=[Explodes()], **options, **scoring).fit(X, LABELS)
    scores = np.array(model.validation_scores_)
    assert np.isfinite(scores[:3]).all() and np.isnan(scores[3:]).all() and len(scores) > 4
    best = int(np.argmax(scores[:3]))
    for a, b in zip(model.coefs_, seen[best][::2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(model.predict_proba(X)).all()


def test_an_error_of_the_scorer_itself_comes_through():
    def fails(estimator, X, y):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        MLPRegressor(**SMALL, early_stopping=True, scoring=fails).fit(X, Y)


def test_a_scorer_that_fails_at_outputs_out_of_range():
    """The outputs overflow, the weights do not; the row has no weight, so that its loss tells nothing."""
    far, weights = X.copy(), np.ones(40)
    far[3], weights[3] = 1.7e308, 0
    scorer = make_scorer(mean_squared_error, greater_is_better=False)
    options = {"early_stopping": True, "scoring": scorer, "solver": "sgd"}
    with (
        pytest.warns(UserWarning, match="no best weights"),
        np.errstate(invalid="ignore", over="ignore"),
        pytest.raises(ValueError, match=OUTPUTS.format("X_val")),
    ):
        MLPRegressor(**SMALL | options).fit(X, Y, X_val=far, y_val=Y, sample_weight_val=weights)


LAST_STEP = {"max_iter": 1, "learning_rate_init": 1e300, "solver": "sgd"}


@pytest.mark.parametrize(
    "options",
    [{}, {"activation": "identity"}, {"normalization": "batch"}, {"residual": True, "hidden_layer_sizes": (8, 8)}],
)
@pytest.mark.parametrize(("kind", "y"), [(MLPRegressor, Y), (MLPClassifier, LABELS)])
def test_weights_whose_outputs_overflow_are_no_model(kind, y, options):
    """All losses are finite, and so are the weights: the last step made them so large."""
    assert_refused(kind, (X, y), OUTPUTS.format("X"), **LAST_STEP | options)


def test_partial_fit_and_sparse_and_float32():
    for data, dtype in ((X, None), (sparse.csr_array(X), None), (X, "float32")):
        options = SMALL | LAST_STEP | {"learning_rate_init": 1e300 if dtype is None else 1e37, "dtype": dtype}
        model = MLPRegressor(**options)
        with pytest.raises(ValueError, match=OUTPUTS.format("X")):
            model.partial_fit(data, Y)
        assert not hasattr(model, "coefs_")


def test_outputs_that_are_an_exponential():
    options = {"loss": "poisson", "solver": "sgd", "learning_rate_init": 1e4, "max_iter": 1}
    assert_refused(MLPRegressor, (X, np.abs(Y)), OUTPUTS.format("X"), **options)


def test_lbfgs_that_cannot_begin():
    far = np.full(X.shape, 1.7e308) * np.sign(X)
    with pytest.raises(ValueError, match=OUTPUTS.format("X")), np.errstate(invalid="ignore"):
        MLPRegressor(**SMALL | {"hidden_layer_sizes": (30,), "solver": "lbfgs", "activation": "identity"}).fit(far, Y)


def test_large_but_finite_outputs_are_taken():
    model = MLPRegressor(**SMALL | {"max_iter": 1, "learning_rate_init": 1e80, "solver": "sgd"}).fit(X, Y)
    assert np.abs(model.predict(X)).max() > 1e80


# ---------------------------------------------------------------------------------------------------------------------
# Trainer


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_trainer_refuses_them_as_well(backend, epochs):
    class Explodes(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            trainer.learning_rate = 1e160

    model = Sequential([Dense(8, "relu"), Dense(1)], n_features=3, random_state=0, dtype="float64")
    optimizer = fastbp.SGD(1e160 if epochs == 1 else 0.1, momentum=0.9)
    trainer = fastbp.Trainer(model, loss="mean_squared_error", optimizer=optimizer, backend=backend, random_state=0)
    first, watch = model.get_weights(), [Explodes()] if epochs == 2 else []
    if epochs == 2:
        plain = fastbp.Sequential(model.layers, n_features=3, random_state=0, dtype="float64")
        other = fastbp.Trainer(plain, loss="mean_squared_error", optimizer=optimizer, backend=backend, random_state=0)
        other.fit(X, Y * 1e6, batch_size=40)
        first = plain.get_weights()
    message = r"an output for X became infinite or NaN after the last step \(of 1\) of epoch \d: try a smaller learning"
    with pytest.raises(FloatingPointError, match=message):
        trainer.fit(X, Y * 1e6, epochs=epochs, batch_size=40, callbacks=watch)
    for a, b in zip(model.get_weights(), first, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trainer_may_ignore_them():
    model = Sequential([Dense(8, "relu"), Dense(1)], n_features=3, random_state=0)
    trainer = fastbp.Trainer(model, loss="mean_squared_error", optimizer=fastbp.SGD(1e30), on_divergence="ignore")
    trainer.fit(X, Y, batch_size=40)
    assert not np.isfinite(model.predict(X)).all()


# ---------------------------------------------------------------------------------------------------------------------
# The bound


NETWORKS = [
    [Dense(4, "relu"), Dense(2)],
    [Dense(4, "selu"), Dense(2, "tanh"), Dense(2)],
    [BatchNorm("relu"), Dense(4), LayerNorm("gelu"), Dense(2)],
    [Dense(4, "softplus"), Residual([Dense(4, "elu"), Dropout(0.1)]), Residual([Dense(6)]), Dense(2, "softmax")],
    [Dense(3), Dense(2, "exp")],
]


@pytest.mark.parametrize("layers", NETWORKS, ids=range(len(NETWORKS)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_bound_that_says_no_is_right(layers, dtype):
    """Weights of all sizes: where it says no, outputs of the largest rows it speaks of are finite."""
    model = Sequential(layers, n_features=3, random_state=0, dtype=dtype)
    largest = float(np.finfo(dtype).max) ** 0.25 / 2
    rows, answers = np.sign(X[:5]) * largest, set()
    for power in np.linspace(0, np.log10(float(np.finfo(dtype).max)) - 1, 40):
        with np.errstate(over="ignore"):
            weights = [np.abs(w) if name.startswith("variance") else w * 10.0**power for name, w in
                       zip(model._described.names, model.get_weights(), strict=True)]  # fmt: skip
            weights = [w.astype(dtype) for w in weights]
        answer = may_overflow(model._network, weights)
        answers.add(answer)
        if not answer:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                outputs = get_backend("reference").predict(model._network, weights, rows.astype(dtype))
            assert np.isfinite(outputs).all()
    assert True in answers and (False in answers or model.link == "exp")


def test_a_bound_finds_what_is_not_finite():
    model = Sequential(NETWORKS[0], n_features=3, random_state=0)
    assert not may_overflow(model._network, model._weights)
    for value in (np.nan, np.inf, -np.inf):
        for k in range(4):
            weights = model.get_weights()
            weights[k].flat[-1] = value
            assert may_overflow(model._network, weights)
