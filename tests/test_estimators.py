"""The estimators' contract: scikit-learn's checks, what is printed and warned, errors, and that state is whole."""

import io
import os
import pickle
import signal
import threading
import warnings
from contextlib import redirect_stdout

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastbp
from fastbp import MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)
ESTIMATORS = [MLPClassifier, MLPRegressor]


@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:Can't check dok sparse matrix:UserWarning")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def fitted(estimator, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator(max_iter=20, random_state=0, **parameters).fit(X, Y)


def state(estimator):
    return pickle.dumps({name: value for name, value in sorted(vars(estimator).items())})


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_are_scikit_learns_in_its_order(name):
    import inspect

    ours = inspect.signature(getattr(fastbp, name)).parameters
    theirs = inspect.signature(getattr(neural_network, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for parameter in theirs.values():
        assert (ours[parameter.name].default, ours[parameter.name].kind) == (parameter.default, parameter.kind)
    assert all(ours[extra].kind == inspect.Parameter.KEYWORD_ONLY for extra in list(ours)[len(theirs) :])
    # and so are the values that each takes
    for parameter, constraint in getattr(neural_network, name)._parameter_constraints.items():
        mine = [described(c) for c in getattr(fastbp, name)._parameter_constraints[parameter]]
        if parameter in ("loss", "activation", "solver"):  # ours have more of them
            assert set(mine[0]) > set(described(constraint[0]))
            continue
        assert mine[: len(constraint)] == [described(c) for c in constraint], parameter
        assert len(mine) == len(constraint) or parameter in ("verbose", "learning_rate"), parameter


def described(constraint):
    """A parameter's constraint, comparable."""
    return sorted(constraint.options) if hasattr(constraint, "options") else str(constraint)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "sgd", "learning_rate": "adaptive"}])
def test_verbose_prints_scikit_learns_lines(estimator, options):
    options = {"max_iter": 60, "random_state": 0, "tol": 0.05, "n_iter_no_change": 2, "verbose": True, **options}
    printed = []
    for module in (fastbp, neural_network):
        with redirect_stdout(io.StringIO()) as out:
            getattr(module, estimator.__name__)(**options).fit(X, Y)
        printed.append(out.getvalue())
    assert printed[0] == printed[1]
    assert "Iteration 2, loss = " in printed[0] and "Stopping." in printed[0]


def test_warnings_are_scikit_learns_and_point_at_the_caller():
    for options, category in (({"max_iter": 2}, ConvergenceWarning), ({"batch_size": 500, "tol": 10}, UserWarning)):
        caught = []
        for estimator in (MLPClassifier(**options), neural_network.MLPClassifier(**options)):
            with pytest.warns(category) as record:
                estimator.fit(X, Y)
            caught.append([str(warning.message) for warning in record if warning.category is category])
            if isinstance(estimator, MLPClassifier):
                assert record[0].filename == __file__
        assert caught[0] == caught[1] or "500 larger than sample size 150" in caught[0][0]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_failed_fit_leaves_a_fitted_estimator_as_it_was(estimator):
    model = fitted(estimator)
    before = state(model)
    bad_X = X.copy()
    bad_X[3, 1] = np.nan
    for arguments in ((bad_X, Y), (X[:, :0], Y), (X, Y[:-1]), (X[:0], Y[:0]), (X, np.full(len(Y), np.nan))):
        with pytest.raises(ValueError):
            model.fit(*arguments)
    with pytest.raises(ValueError):
        model.fit(X[:, :3], Y, sample_weight=[1, 2])
    assert state(model) == before
    np.testing.assert_array_equal(model.predict(X), fitted(estimator).predict(X))


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_weights_that_are_not_finite_are_an_error_and_no_model(solver):
    model = MLPRegressor(solver=solver, learning_rate_init=1e200, max_iter=5, random_state=0, activation="identity")
    with pytest.raises(ValueError, match=r"non-finite parameter weights.*StandardScaler.*learning_rate_init"):
        quietly_fit(model, X, Y)
    assert not hasattr(model, "coefs_")
    with pytest.raises(NotFittedError):
        model.predict(X)
    good = fitted(MLPRegressor)
    before = good.predict(X)
    with pytest.raises(ValueError, match="non-finite"):
        quietly_fit(good.set_params(solver=solver, learning_rate_init=1e200, activation="identity"), X, Y)
    np.testing.assert_array_equal(good.set_params(activation="relu").predict(X), before)


def quietly_fit(model, *data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data)


def test_early_stopping_survives_a_diverging_loss():
    """As scikit-learn's own test has it: the scores are NaN, the best weights are those from before."""
    options = {"activation": "identity", "solver": "sgd", "learning_rate_init": 1, "max_iter": 20, "random_state": 0}
    model = MLPRegressor(early_stopping=True, n_iter_no_change=10, **options)
    quietly_fit(model, X, Y)
    assert np.isnan(model.validation_scores_[-1]) and isinstance(model.validation_scores_[-1], float)
    assert all(np.isfinite(W).all() for W in model.coefs_)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden_layer_sizes": (10, 0)}, r"hidden_layer_sizes must be > 0, whole numbers of units, got \[10, 0\]"),
        ({"hidden_layer_sizes": (2.5,)}, "hidden_layer_sizes must be > 0"),
        ({"hidden_layer_sizes": -1}, "The 'hidden_layer_sizes' parameter of MLPClassifier must be"),
        ({"activation": "relu6"}, "The 'activation' parameter of MLPClassifier must be"),
        ({"batch_size": 0}, "The 'batch_size' parameter of MLPClassifier must be"),
        ({"max_iter": 0}, "The 'max_iter' parameter of MLPClassifier must be"),
        ({"n_jobs": 0}, "The 'n_jobs' parameter of MLPClassifier must be"),
        (
            {"validation_fraction": 0.001, "early_stopping": True},
            "The validation set is too small",
        ),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**parameters).fit(X, Y)


def test_layers_cannot_change_under_a_warm_start():
    model = fitted(MLPClassifier, warm_start=True)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes is .* fit without warm_start"):
        model.set_params(hidden_layer_sizes=(7,)).fit(X, Y)


def test_outputs_cannot_change_under_a_warm_start_and_coefficients_must_fit():
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=3, tol=10, random_state=0, warm_start=True)
    quietly_fit(model, X, Y)
    with pytest.raises(ValueError, match="y has 2 outputs, but the fitted network has 1"):
        model.fit(X, X[:, :2])
    model.coefs_ = [model.coefs_[0][:, :1], *model.coefs_[1:]]
    with pytest.raises(ValueError, match="coefs_ and intercepts_ do not fit together"):
        model.predict(X)


def test_a_failed_first_partial_fit_fixes_no_classes():
    model = MLPClassifier()
    with pytest.raises(ValueError, match="contains NaN"):
        model.partial_fit(X * np.nan, Y, classes=[0, 1])
    model.partial_fit(X, Y, classes=[0, 1, 2])


def test_unknown_classes_and_early_stopping_in_partial_fit_are_refused():
    model = MLPClassifier().partial_fit(X[:100], Y[:100], classes=[0, 1])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        model.partial_fit(X, Y)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        MLPRegressor(early_stopping=True).partial_fit(X, Y)
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'"):
        MLPClassifier(solver="lbfgs").partial_fit(X, Y)


def test_partial_fit_by_another_solver_starts_with_a_state_of_its_own():
    """Adam's moments are no velocity."""
    model, other = (MLPClassifier(random_state=0).partial_fit(X, Y, classes=[0, 1, 2]) for _ in range(2))
    del other._optimizer_state
    for estimator in (model, other):
        estimator.set_params(solver="sgd").partial_fit(X, Y)
    for a, b in zip(model.coefs_, other.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pickle_and_clone(estimator):
    model = fitted(estimator)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    model.partial_fit(X, Y)
    copy.partial_fit(X, Y)
    for a, b in zip(copy.coefs_, model.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not hasattr(clone(model), "coefs_")


@pytest.mark.parametrize("n_jobs", [None, -1, 1, 2])
def test_n_jobs_does_not_change_the_model(n_jobs):
    model, other = (MLPClassifier((150,), max_iter=15, tol=1.0, random_state=0, n_jobs=n) for n in (n_jobs, 1))
    for a, b in zip(model.fit(X, Y).coefs_, other.fit(X, Y).coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_grid_search_in_processes_gives_the_scores_of_one():
    """joblib hands large arrays to its workers as read-only memory maps."""
    digits, labels = load_digits(return_X_y=True)
    grid = {"hidden_layer_sizes": [(10,), (30,)]}
    scores = []
    for n_jobs in (1, 2):
        search = GridSearchCV(MLPClassifier(max_iter=10, random_state=0), grid, cv=2, n_jobs=n_jobs)
        scores.append(search.fit(np.tile(digits, (2, 1)), np.tile(labels, 2)).cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*scores)


def test_keyboard_interrupt_is_a_warning_and_the_model_so_far():
    model = MLPClassifier(max_iter=10**7, tol=0, n_iter_no_change=10**7, random_state=0)
    fitted(MLPClassifier)  # compiles
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model.fit(X, Y)
    assert model.n_iter_ > 1 and len(model.loss_curve_) == model.n_iter_
    assert model.score(X, Y) > 0.9


# ---------------------------------------------------------------------------------------------------------------------
# Real data


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_digits(dtype):
    digits, labels = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split((digits / 16).astype(dtype), labels, random_state=0)
    model = quietly_fit(MLPClassifier((100,), max_iter=60, random_state=0), train, y_train)
    assert model.score(test, y_test) >= 0.965
    assert model.predict_proba(test).dtype == dtype
    np.testing.assert_allclose(model.predict_proba(test).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(test[:50])), model.predict_proba(test[:50]), rtol=1e-5)


def test_breast_cancer_in_a_pipeline_with_string_labels():
    data = load_breast_cancer()
    y = data.target_names[data.target]
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier((30,), solver="lbfgs", alpha=1.0, max_iter=2000, random_state=0)
    )
    assert cross_val_score(pipeline, data.data, y, cv=3).mean() > 0.96
    assert set(pipeline.fit(data.data, y).predict(data.data)) == {"benign", "malignant"}


def test_diabetes_against_scikit_learn():
    data, y = load_diabetes(return_X_y=True)
    options = {"hidden_layer_sizes": (20,), "max_iter": 300, "learning_rate_init": 0.01, "random_state": 0}
    ours, theirs = (
        quietly_fit(module.MLPRegressor(**options), data, y).score(data, y) for module in (fastbp, neural_network)
    )
    assert ours == pytest.approx(theirs, abs=1e-9) and ours > 0.4
