"""Errors: what scikit-learn's estimators refuse, ours refuse with the same exception, and a fitted one stays whole."""

import contextlib
import copy
import functools
import pickle
import re
import warnings

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError, generate_invalid_param_val, make_constraint

import fastbp

X, Y = load_iris(return_X_y=True)
REAL = Y.astype(float)
TWO = np.column_stack([Y, Y])
NAMES = ["MLPClassifier", "MLPRegressor"]
# a tolerance that is missed at once ends each fit after three epochs, without a warning
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 20, "tol": 100.0, "n_iter_no_change": 1, "random_state": 0}


class Unknown:
    """A value of a type that no parameter takes."""


def with_value(array, value, place=3):
    """A copy of the array with another value in it."""
    array = array.copy()
    array[place] = value
    return array


@functools.cache
def _fitted(module, name, warm_start, solver):
    model = getattr(module, name)(**SMALL, solver=solver, warm_start=warm_start)
    return model.fit(X, Y)


def fitted(module, name, warm_start=False, solver="adam"):
    return copy.deepcopy(_fitted(module, name, warm_start, solver))


def fresh(module, name, **parameters):
    return getattr(module, name)(**SMALL | parameters)


def state(estimator):
    return pickle.dumps(sorted(vars(estimator).items()))


def words(error):
    text = re.sub(r"\(array\(.*\),\)", "", str(error), flags=re.DOTALL)  # scikit-learn writes all targets there
    return set(re.findall(r"\w[\w.]*", text))


def assert_same_error(make, act, *, ours_says_all=True):
    """The same exception from both, with all that scikit-learn says, after which our estimator is what it was.

    ``make`` takes the module that the estimator comes from.
    """
    errors = []
    for module in (neural_network, fastbp):
        model = make(module)
        before = state(model)
        try:
            act(model)
        except Exception as error:
            errors.append(error)
        else:
            pytest.fail(f"{module.__name__} takes it")
    theirs, ours = errors
    assert type(ours) is type(theirs), f"{theirs!r}, but ours: {ours!r}"
    assert words(theirs) <= words(ours) or not ours_says_all, f"{theirs}, but ours: {ours}"
    assert state(model) == before
    return ours


# ---------------------------------------------------------------------------------------------------------------------
# Parameters

VALUES = [
    Unknown(), "nonsense", b"", None, (), {}, 1j, -1, 0, 2, -0.5, 0.5, 1.5, np.nan, np.inf, -np.inf, np.float32(-2),
    np.int64(-3), np.array(["relu"]),
]  # fmt: skip


def invalid(constraints):
    """Values that meet none of the constraints."""
    constraints, values = [make_constraint(constraint) for constraint in constraints], list(VALUES)
    for constraint in constraints:
        with contextlib.suppress(NotImplementedError):
            values.append(generate_invalid_param_val(constraint))
    return [value for value in values if not any(constraint.is_satisfied_by(value) for constraint in constraints)]


PARAMETERS = [
    (name, parameter, constraints)
    for name in NAMES
    for parameter, constraints in getattr(neural_network, name)._parameter_constraints.items()
]


@pytest.mark.parametrize("name", NAMES)
def test_all_parameters_have_constraints(name):
    assert {parameter for n, parameter, _ in PARAMETERS if n == name} == set(
        getattr(neural_network, name)().get_params()
    )


@pytest.mark.parametrize(("name", "parameter", "constraints"), PARAMETERS, ids=lambda value: str(value)[:20])
def test_invalid_parameters(name, parameter, constraints):
    values = invalid([*constraints, *getattr(fastbp, name)._parameter_constraints[parameter]])  # ours may take more
    assert len(values) >= 5
    for value in values:
        refused = [(fitted, "fit"), (fresh, "fit")]
        if parameter != "solver":  # there is no partial_fit then; of a fitted estimator it validates no parameters
            refused.append((fresh, "partial_fit"))
        for make, method in refused:
            error = assert_same_error(
                lambda module, make=make, value=value: make(module, name).set_params(**{parameter: value}),
                lambda model, method=method: getattr(model, method)(X, Y),
            )
            assert type(error) is InvalidParameterError
            assert f"The '{parameter}' parameter of {name} must be" in str(error)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [(0,), (5, -1), -1, 0, [0, 3], np.array([4, -4])])
def test_hidden_layer_sizes_that_scikit_learn_refuses(name, sizes):
    assert_same_error(
        lambda module: fitted(module, name).set_params(hidden_layer_sizes=sizes), lambda model: model.fit(X, Y)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "sizes",
    [(2.5,), (True,), True, (np.True_,), (np.nan,), ("a",), (None,), [[3]], np.array([4.0]), np.array([[4, 5]])],
    ids=str,
)
def test_hidden_layer_sizes_are_whole_numbers(name, sizes):
    """scikit-learn ends in errors of what it calls with them."""
    model = fitted(fastbp, name).set_params(hidden_layer_sizes=sizes)
    before = state(model)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes.* must be"):
        model.fit(X, Y)
    assert state(model) == before
    with pytest.raises((ValueError, TypeError, OverflowError)):
        fresh(neural_network, name, hidden_layer_sizes=sizes).fit(X, Y)


# ---------------------------------------------------------------------------------------------------------------------
# Data

DATA = {
    "NaN in X": (with_value(X, np.nan), Y),
    "inf in X": (with_value(X, np.inf), Y),
    "-inf in X": (with_value(X, -np.inf), Y),
    "NaN in y": (X, with_value(REAL, np.nan)),
    "inf in y": (X, with_value(REAL, np.inf)),
    "None in y": (X, with_value(REAL.astype(object), None)),
    "X of one dimension": (X[:, 0], Y),
    "X of three dimensions": (X[:, :, None], Y),
    "X is a number": (3.0, Y),
    "X is None": (None, Y),
    "X is a dict": ({"a": 1}, Y),
    "X of words": (np.full(X.shape, "a"), Y),
    "X of objects": (np.full(X.shape, "a", dtype=object), Y),
    "complex X": (X + 1j, Y),
    "ragged X": ([[1, 2], [3]], [1, 2]),
    "shorter y": (X, Y[:-1]),
    "no rows": (X[:0], Y[:0]),
    "no columns": (X[:, :0], Y),
    "no y": (X, None),
    "empty y": (X, []),
    "y of three dimensions": (X, np.zeros((len(X), 1, 1))),
    "complex y": (X, Y + 1j),
}
CLASSES = {
    "continuous y": (X, Y + 0.5),
    "labels of several types": (X, np.array([1, "a"] * 75, dtype=object)),
}
# of None among the targets scikit-learn's regressor makes NaN, which it finds in its weights after the fit
BAD_DATA = [(name, case) for name in NAMES for case in DATA if (name, case) != ("MLPRegressor", "None in y")]
BAD_DATA += [("MLPClassifier", case) for case in CLASSES]


@pytest.mark.parametrize(("name", "case"), BAD_DATA)
def test_data_that_cannot_be_fitted(name, case):
    bad_X, bad_y = (DATA | CLASSES)[case]
    classes = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    assert_same_error(lambda module: fresh(module, name), lambda model: model.fit(bad_X, bad_y))
    assert_same_error(lambda module: fresh(module, name), lambda model: model.partial_fit(bad_X, bad_y, **classes))
    for warm_start in (False, True):
        make = functools.partial(fitted, name=name, warm_start=warm_start)
        assert_same_error(make, lambda model: model.fit(bad_X, bad_y))
        assert_same_error(make, lambda model: model.partial_fit(bad_X, bad_y))


def test_words_are_no_targets_of_a_regression():
    """scikit-learn ends in an error of NumPy's."""
    model = fitted(fastbp, "MLPRegressor")
    before = state(model)
    with pytest.raises(ValueError):
        model.fit(X, np.full(len(X), "a"))
    assert state(model) == before


WEIGHTS = {
    "shorter": np.ones(len(X) - 1),
    "a column": np.ones((len(X), 1)),
    "two columns": np.ones((len(X), 2)),
    "NaN": with_value(np.ones(len(X)), np.nan),
    "inf": with_value(np.ones(len(X)), np.inf),
    "zeros": np.zeros(len(X)),
    "words": np.full(len(X), "a"),
    "a word": "a",
    "complex": np.full(len(X), 1j),
    "None": [None] * len(X),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_sample_weights_that_cannot_be_used(name, weights):
    for parameters in ({}, {"solver": "lbfgs"}, {"early_stopping": True}):
        assert_same_error(
            lambda module, parameters=parameters: fitted(module, name).set_params(**parameters),
            lambda model: model.fit(X, Y, sample_weight=WEIGHTS[weights]),
        )
    assert_same_error(
        lambda module: fitted(module, name), lambda model: model.partial_fit(X, Y, sample_weight=WEIGHTS[weights])
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("weights", [with_value(np.ones(len(X)), -1.0), -2.0], ids=["one", "all"])
def test_negative_sample_weights_are_taken_as_scikit_learn_takes_them(name, solver, weights):
    """Even where they sum to a negative number, by which it divides."""
    parameters = {"solver": solver, "tol": 1e-6, "max_iter": 4}
    theirs, ours = (fresh(module, name, **parameters) for module in (neural_network, fastbp))
    for model in (theirs, ours):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, Y, sample_weight=weights)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-9)
    for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Prediction

PREDICTIONS = [("MLPClassifier", m) for m in ("predict", "predict_proba", "predict_log_proba", "score")] + [
    ("MLPRegressor", m) for m in ("predict", "score")
]
UNKNOWN = {
    "NaN": with_value(X, np.nan),
    "inf": with_value(X, np.inf),
    "fewer features": X[:, :3],
    "more features": np.hstack([X, X]),
    "one row of one dimension": X[0],
    "three dimensions": X[:, :, None],
    "no rows": X[:0],
    "complex": X + 1j,
    "words": np.full(X.shape, "a"),
    "None": None,
}


@pytest.mark.parametrize(("name", "method"), PREDICTIONS)
def test_predictions_of_what_is_no_such_data(name, method):
    y = (Y,) if method == "score" else ()
    for case, data in UNKNOWN.items():
        assert_same_error(
            lambda module: fitted(module, name),
            lambda model, data=data: getattr(model, method)(data, *y),
            ours_says_all=case not in ("words", "None"),
        )
    error = assert_same_error(lambda module: fresh(module, name), lambda model: getattr(model, method)(X, *y))
    assert type(error) is NotFittedError
    if method == "score":
        assert_same_error(lambda module: fitted(module, name), lambda model: model.score(X, Y[:-1]))


@pytest.mark.parametrize(("name", "method"), PREDICTIONS)
def test_numbers_written_as_words_are_no_data(name, method):
    y = (Y,) if method == "score" else ()
    assert_same_error(
        lambda module: fitted(module, name),
        lambda model: getattr(model, method)(X.astype(str), *y),
        ours_says_all=False,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Incremental and warm fits, early stopping


@pytest.mark.parametrize(
    ("classes", "y"), [(None, Y), ([0, 1], Y), ([], Y), (3, Y), ([[0, 1, 2]], Y), ([0, 1, np.nan], Y)]
)
def test_first_classes_of_partial_fit(classes, y):
    assert_same_error(
        lambda module: fresh(module, "MLPClassifier"), lambda model: model.partial_fit(X, y, classes=classes)
    )


@pytest.mark.parametrize(
    ("data", "classes"), [((X, Y + 1), None), ((X, Y.astype(str)), None), ((X, Y), [0, 1]), ((X, TWO), None)]
)
def test_later_classes_of_partial_fit(data, classes):
    def incremental(module):
        return fresh(module, "MLPClassifier").partial_fit(X, Y, classes=[0, 1, 2])

    for make in (incremental, functools.partial(fitted, name="MLPClassifier")):
        assert_same_error(make, lambda model: model.partial_fit(*data, classes=classes))


@pytest.mark.parametrize("name", NAMES)
def test_partial_fit_of_other_features_and_outputs(name):
    def incremental(module):
        return fresh(module, name).partial_fit(X, Y, **({"classes": [0, 1, 2]} if name == "MLPClassifier" else {}))

    assert_same_error(incremental, lambda model: model.partial_fit(X[:, :3], Y))
    # scikit-learn's regressor ends in a multiplication of matrices
    assert_same_error(incremental, lambda model: model.partial_fit(X, TWO), ours_says_all=name == "MLPClassifier")


def test_partial_fit_by_a_solver_that_has_none():
    for solver in ("lbfgs", "nonsense"):
        assert_same_error(
            lambda module, solver=solver: fitted(module, "MLPClassifier").set_params(solver=solver),
            lambda model: model.partial_fit(X, Y),
        )
        # scikit-learn's regressor has it nevertheless, and fits from the start
        assert not hasattr(fresh(fastbp, "MLPRegressor", solver=solver), "partial_fit")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    "data", [(X[:100], Y[:100]), (X, Y.astype(str)), (X, np.arange(len(X)) % 4), (X, TWO), (X[:, :3], Y)]
)
def test_warm_start_with_other_classes_or_features(solver, data):
    make = functools.partial(fitted, name="MLPClassifier", warm_start=True, solver=solver)
    assert_same_error(make, lambda model: model.fit(*data))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_warm_start_of_a_regressor_with_other_features_or_outputs(solver):
    make = functools.partial(fitted, name="MLPRegressor", warm_start=True, solver=solver)
    assert_same_error(make, lambda model: model.fit(X[:, :3], Y))
    assert_same_error(make, lambda model: model.fit(X, TWO), ours_says_all=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fraction, rows", [(0.001, 150), (0.0, 150), (0.999, 150), (0.1, 10)])
def test_validation_sets_of_no_use(name, fraction, rows):
    step = len(X) // rows
    assert_same_error(
        lambda module: fitted(module, name).set_params(early_stopping=True, validation_fraction=fraction),
        lambda model: model.fit(X[::step], Y[::step]),
    )


def test_a_class_of_one_row_cannot_be_on_both_sides_of_a_stratified_split():
    """scikit-learn's message names our encoding of the class, True or False."""
    for names in (np.array(["ham", "spam"]), np.array([3, 7])):
        for rare in (0, 1):
            y, name = names[[1 - rare] * 50 + [rare]], names.tolist()[rare]
            with pytest.raises(
                ValueError, match=f"holds out rows of each class, but y has 1 row of the class {name!r}: "
            ):
                fitted(fastbp, "MLPClassifier").set_params(early_stopping=True).fit(X[:51], y)
