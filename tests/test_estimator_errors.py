"""Errors of the estimators beside scikit-learn's: the same types, messages that say as much, and state that stays."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint

import fastbp

X, Y = load_iris(return_X_y=True)
NAMES = ("MLPClassifier", "MLPRegressor")
each_estimator = pytest.mark.parametrize("name", NAMES)


def invalid_values():
    """Estimator, parameter and a value that none of its constraints takes."""
    for name in NAMES:
        for parameter, constraints in getattr(neural_network, name)._parameter_constraints.items():
            made = [make_constraint(constraint) for constraint in constraints]
            values = [object(), None, 1j]
            for constraint in made:
                try:
                    values.append(generate_invalid_param_val(constraint))
                except NotImplementedError:  # there is none for a type
                    continue
            for k, value in enumerate(values):
                if not any(constraint.is_satisfied_by(value) for constraint in made):
                    yield pytest.param(name, parameter, value, id=f"{name}-{parameter}-{k}")


def error_of(function, *arguments, **options):
    with warnings.catch_warnings(), pytest.raises(Exception) as caught:
        warnings.simplefilter("ignore", ConvergenceWarning)
        function(*arguments, **options)
    return caught.value


@pytest.mark.parametrize(("name", "parameter", "value"), list(invalid_values()))
def test_invalid_parameters_raise_what_scikit_learn_raises(name, parameter, value):
    theirs, ours = (
        error_of(getattr(module, name)().set_params(**{parameter: value}).fit, X, Y)
        for module in (neural_network, fastbp)
    )
    assert type(ours) is type(theirs)
    assert f"The '{parameter}' parameter of {name} must be" in str(ours)
    if parameter not in ("activation", "verbose"):  # ours take more there
        assert str(ours) == str(theirs)


def test_there_are_invalid_values_for_every_parameter():
    seen = {(case.values[0], case.values[1]) for case in invalid_values()}
    for name in NAMES:
        assert {parameter for estimator, parameter in seen if estimator == name} == set(
            getattr(neural_network, name)._parameter_constraints
        )


BAD = X.copy()
BAD[3, 1] = np.nan
INFINITE = np.where(X.max() == X, np.inf, X)
# parameters, X, y, further arguments
FITS = {
    "NaN": ({}, BAD, Y, {}),
    "infinity": ({}, INFINITE, Y, {}),
    "NaN in a sparse X": ({}, sparse.csr_array(BAD), Y, {}),
    "one dimension": ({}, X[:, 0], Y, {}),
    "three dimensions": ({}, X[:, :, None], Y, {}),
    "too few targets": ({}, X, Y[:-1], {}),
    "no rows": ({}, X[:0], Y[:0], {}),
    "no columns": ({}, X[:, :0], Y, {}),
    "complex": ({}, X + 1j, Y, {}),
    "text": ({}, np.full(X.shape, "a"), Y, {}),
    "NaN in y": ({}, X, np.where(Y == 1, np.nan, Y), {}),
    "no y": ({}, X, None, {}),
    "weights of another length": ({}, X, Y, {"sample_weight": np.ones(3)}),
    "weights with NaN": ({}, X, Y, {"sample_weight": np.full(len(X), np.nan)}),
    "no units": ({"hidden_layer_sizes": (3, 0)}, X, Y, {}),
    "fewer than no units": ({"hidden_layer_sizes": (-1,)}, X, Y, {}),
    "small validation set": ({"early_stopping": True, "validation_fraction": 0.005}, X, Y, {}),
}


@each_estimator
@pytest.mark.parametrize("case", FITS)
def test_data_that_cannot_be_used(case, name):
    parameters, data, y, further = FITS[case]
    errors = []
    for module in (neural_network, fastbp):
        model = getattr(module, name)(max_iter=5)
        error_of(model.fit, X[:, :0], Y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, Y).set_params(**parameters)
        before = pickle.dumps(model)
        errors.append(error_of(model.fit, data, y, **further))
        if module is fastbp:
            assert pickle.dumps(model) == before
    theirs, ours = errors
    assert type(ours) is type(theirs), (theirs, ours)
    assert len(str(ours)) >= 0.8 * len(str(theirs))


@each_estimator
def test_calls_at_the_wrong_time(name):
    for module in (neural_network, fastbp):
        assert type(error_of(getattr(module, name)().predict, X)) is NotFittedError
        fitted = getattr(module, name)(max_iter=200, tol=10).fit(X, Y)
        error = error_of(fitted.predict, X[:, :3])
        assert type(error) is ValueError and "X has 3 features" in str(error)
        # scikit-learn's regressor means to refuse this too, but tests the method instead of calling it
        if module is fastbp or name == "MLPClassifier":
            error = error_of(getattr, getattr(module, name)(solver="lbfgs"), "partial_fit")
            assert type(error) is AttributeError and "partial_fit" in str(error)


def test_classes_that_do_not_fit():
    for module in (neural_network, fastbp):
        new = module.MLPClassifier
        error = error_of(new().partial_fit, X, Y)
        assert type(error) is ValueError and "classes must be passed on the first call to partial_fit" in str(error)
        model = new().partial_fit(X, Y, classes=[0, 1, 2])
        error = error_of(model.partial_fit, X, Y, classes=[0, 1])
        assert type(error) is ValueError and "not the same as on last call" in str(error)
        error = error_of(model.partial_fit, X, Y + 1)
        assert type(error) is ValueError and "`y` has classes not in `self.classes_`" in str(error)
        model = new(warm_start=True, tol=10).fit(X, Y)
        error = error_of(model.fit, X, Y + 1)
        assert type(error) is ValueError and "warm_start can only be used where `y` has the same classes" in str(error)
        error = error_of(new().fit, X, X[:, 0])
        assert type(error) is ValueError and "Unknown label type" in str(error)


def test_ours_alone():
    for sizes in ((True,), (2.5,), ("10",)):
        error = error_of(fastbp.MLPClassifier(sizes).fit, X, Y)
        assert type(error) is ValueError and "hidden_layer_sizes must be > 0, whole numbers of units" in str(error)
    model = fastbp.MLPClassifier(tol=10).fit(X, Y)
    model.coefs_[0] = model.coefs_[0].astype(np.float16)
    error = error_of(model.predict, X)
    assert type(error) is ValueError and "coefs_ and intercepts_ must be arrays of float32 or float64" in str(error)
    model.coefs_ = [[[1, 2]], 3]
    assert "coefs_ and intercepts_ must be arrays" in str(error_of(model.predict, X))
