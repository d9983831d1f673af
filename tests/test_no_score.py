"""NaN and infinite scores: never an improvement, an epoch without one, and the last weights where none was better."""

import contextlib
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning

import fastbp
from fastbp import MLPClassifier, MLPRegressor, schedules

X = np.random.default_rng(0).normal(size=(40, 3))
Y = X.sum(axis=1)
LABELS = (Y > 0).astype(int)
NO_BEST = "Early stopping has no best weights"
ONE_CLASS = {"X_val": X[LABELS == 1], "y_val": LABELS[LABELS == 1]}


class Scores:
    """A scorer that says what it is told to, epoch by epoch, and then the last of it."""

    def __init__(self, *values):
        self.values, self.n_calls = values, 0

    def __call__(self, estimator, X, y):
        self.n_calls += 1
        return self.values[min(self.n_calls, len(self.values)) - 1]


def new(kind=MLPRegressor, **options):
    given = {
        "hidden_layer_sizes": (8,),
        "random_state": 0,
        "early_stopping": True,
        "max_iter": 30,
        "n_iter_no_change": 4,
    }
    return kind(**given | options)


@contextlib.contextmanager
def told(*messages):
    """Exactly these warnings beside those of scikit-learn about metrics and convergence."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    other = (ConvergenceWarning, UndefinedMetricWarning)
    mine = [warning for warning in seen if not issubclass(warning.category, other)]
    assert len(mine) == len(messages), [str(warning.message) for warning in mine]
    for warning, message in zip(mine, messages, strict=True):
        assert message in str(warning.message) and warning.filename == __file__


def after(n_epochs, kind=MLPRegressor, **options):
    """Weights after so many epochs on the same rows of the training, whatever their scores."""
    scores = Scores(*range(n_epochs))
    with told():
        return new(kind, max_iter=n_epochs, scoring=scores, **options)


def assert_same(one, other):
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize(("kind", "y"), [(MLPRegressor, Y), (MLPClassifier, LABELS)])
def test_without_a_score_the_last_weights_stay(kind, y, value):
    with told(NO_BEST):
        model = new(kind, scoring=Scores(value)).fit(X, y)
    assert model.n_iter_ == 5 and model.stopped_early_ and model.history_.message == "stopped early"
    with told():
        assert_same(model, after(5, kind).fit(X, y))
    assert len(model.validation_scores_) == 5


@pytest.mark.parametrize(
    ("options", "data", "validation"),
    [
        ({}, (MLPRegressor, Y), {"X_val": X[:1], "y_val": Y[:1]}),
        ({"scoring": "r2"}, (MLPRegressor, Y), {"X_val": X[:1], "y_val": Y[:1]}),
        ({"scoring": "roc_auc"}, (MLPClassifier, LABELS), ONE_CLASS),
    ],
)
def test_metrics_that_are_not_defined(options, data, validation):
    kind, y = data
    with told(NO_BEST):
        model = new(kind, **options).fit(X, y, **validation)
    assert np.isnan(model.validation_scores_).all() and model.n_iter_ == 5
    with told():
        assert_same(model, after(5, kind).fit(X, y, **validation))


def test_a_nan_among_scores_counts_and_the_best_weights_are_taken():
    with told():
        model = new(scoring=Scores(1, 2, np.nan, 2, np.nan, np.nan, np.nan)).fit(X, Y)
    assert model.n_iter_ == 7 and model.best_validation_score_ == 2
    with told():
        assert_same(model, after(2).fit(X, Y))


@pytest.mark.parametrize(
    ("values", "n_iter", "best"),
    [
        ((np.nan, 1, np.nan, np.nan, np.nan, np.nan, np.nan), 7, 2),
        ((np.inf,), 6, 1),  # nothing is better than that
        ((1, np.inf, np.inf, np.inf, np.inf, np.inf, np.inf), 7, 2),
        ((-np.inf, -np.inf, 1, 0, 0, 0, 0, 0), 8, 3),
    ],
)
def test_scores_that_are_not_finite(values, n_iter, best):
    with told():
        model = new(scoring=Scores(*values)).fit(X, Y)
        assert_same(model, after(best).fit(X, Y))
    assert model.n_iter_ == n_iter


def test_the_loss_of_validation_rows_may_be_the_score():
    far = np.full((4, 3), 1e300)  # outputs are finite, their squared errors are not
    with told(NO_BEST):
        model = new(scoring="loss").fit(X, Y, X_val=far, y_val=np.zeros(4))
    assert model.validation_scores_ == [-np.inf] * 5
    with told():
        assert_same(model, after(5).fit(X, Y, X_val=X, y_val=Y))


def test_a_training_loss_that_is_nan_ends_the_training_too(monkeypatch):
    """scikit-learn takes each NaN for an improvement, and goes on to max_iter."""
    right, losses = fastbp.backends._planned.PlannedSession.train, []

    def train(session, *arguments):
        result = right(session, *arguments)
        losses.append(len(losses))
        return result * np.nan if len(losses) > 3 else result

    monkeypatch.setattr("fastbp.backends._planned.PlannedSession.train", train)
    with told():
        model = new(early_stopping=False, tol=0).fit(X, Y)
    assert model.n_iter_ == 3 + 5 and model.stopped_early_
    assert np.isfinite(model.best_loss_)


def test_partial_fit_without_a_score_ends_with_the_last_weights():
    model = new(scoring=Scores(np.nan))
    for k in range(5):
        with told(*[NO_BEST] * (k == 4)):
            model.partial_fit(X, Y, X_val=X, y_val=Y)
        assert model.stopped_early_ == (k == 4)
    last = [array.copy() for array in model.coefs_]
    with told():
        model.partial_fit(X, Y, X_val=X, y_val=Y)
    for a, b in zip(last, model.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(model.validation_scores_) == 5


def test_partial_fit_counts_a_nan_and_keeps_the_best():
    model, weights = new(scoring=Scores(1, 3, np.nan, np.nan, 2, np.nan, np.nan)), []
    with told():
        while not getattr(model, "stopped_early_", False):
            model.partial_fit(X, Y, X_val=X, y_val=Y)
            weights.append(model.coefs_[0].copy())
    assert len(weights) == 7
    np.testing.assert_array_equal(model.coefs_[0], weights[1])


def test_a_warm_start_without_a_score():
    model = new(warm_start=True, scoring=Scores(1, 2, 3), max_iter=3)
    with told():
        model.fit(X, Y)
    before = model.coefs_[0].copy()
    with told(NO_BEST):
        model.set_params(scoring=Scores(np.nan), max_iter=30).fit(X, Y)
    assert model.n_iter_ == 5 and (model.coefs_[0] != before).any()


def test_lbfgs_goes_by_no_score():
    with told():
        model = new(solver="lbfgs", scoring=Scores(np.nan), max_iter=3).fit(X, Y)
    assert model.score(X, Y) > 0.5


# ---------------------------------------------------------------------------------------------------------------------
# Callbacks and schedules


class Says(fastbp.Callback):
    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, trainer, epoch, logs):
        logs["value"] = self.values[min(epoch, len(self.values) - 1)]


def new_trainer(optimizer=None):
    model = fastbp.Sequential([fastbp.Dense(4, "tanh"), fastbp.Dense(1)], n_features=3, random_state=0)
    return fastbp.Trainer(
        model, loss="mean_squared_error", optimizer=optimizer or fastbp.SGD(0.01), backend="reference", random_state=0
    )


@pytest.mark.parametrize(("mode", "value"), [("min", np.nan), ("max", np.nan), ("min", np.inf), ("max", -np.inf)])
def test_early_stopping_keeps_the_last_weights_and_says_so(mode, value):
    trainer, other = new_trainer(), new_trainer()
    stopping = fastbp.EarlyStopping("value", mode=mode, patience=3)
    with told("EarlyStopping has no best weights, since 'value' was never better than"):
        history = trainer.fit(X, Y, epochs=9, callbacks=[Says(value), stopping])
    assert len(history["loss"]) == 3 and stopping.best_epoch is None
    other.fit(X, Y, epochs=3)
    for a, b in zip(trainer.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with told():  # nothing is to be restored
        new_trainer().fit(
            X, Y, epochs=2, callbacks=[Says(value), fastbp.EarlyStopping("value", mode=mode, restore_best=False)]
        )


def test_early_stopping_with_a_patience_of_zero_is_one_of_one():
    for patience in (0, 1):
        stopping = fastbp.EarlyStopping("value", mode="min", patience=patience)
        history = new_trainer().fit(X, Y, epochs=9, callbacks=[Says(3, 2, 1, 1, 0), stopping])
        assert len(history["loss"]) == 4 and stopping.best_epoch == 2


def test_a_checkpoint_of_the_best_says_where_there_is_none(tmp_path):
    path = tmp_path / "best.safetensors"
    best = fastbp.Checkpoint(path, best=True, monitor="value", mode="min")
    with told("Checkpoint(best=True) has written no file, since 'value' was never better than inf"):
        new_trainer().fit(X, Y, epochs=3, callbacks=[Says(np.nan), best])
    assert not path.exists()
    with told():
        new_trainer().fit(X, Y, epochs=3, callbacks=[Says(np.nan, 1, np.nan), best])
    assert best.best_value == 1 and path.exists()


def test_a_plateau_is_no_less_one_for_nan():
    schedule = schedules.ReduceOnPlateau(1.0, "loss", factor=0.5, patience=1)
    state = schedule.start()
    for value in (np.nan, np.nan):
        state = schedule.after(state, value)
    assert state.rate == 0.5 and state.best == np.inf
    for value in (3.0, np.nan, np.nan):
        state = schedule.after(state, value)
    assert state.rate == 0.25 and state.best == 3.0
