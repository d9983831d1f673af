"""``n_jobs`` counts as joblib counts, and ``dtype`` may be whatever Sequential takes."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.backends import cpu

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
BOTH = [MLPClassifier, MLPRegressor]


def fitted(kind, **parameters):
    options = {"hidden_layer_sizes": (4,), "max_iter": 3, "tol": 10.0, "n_iter_no_change": 1, "random_state": 0}
    return kind(**{**options, **parameters}).fit(X, Y)


@pytest.fixture
def asked(monkeypatch):
    """Thread counts that plans are made for, on a machine with 4 usable threads and a pool of 6."""
    found = []

    def threads(n_threads):
        found.append(n_threads)
        return 1

    monkeypatch.setattr(cpu, "usable_threads", lambda: 4)
    monkeypatch.setattr(cpu.numba.config, "NUMBA_NUM_THREADS", 6)
    kernels = cpu.BACKEND._kernels
    monkeypatch.setattr(cpu.BACKEND, "_kernels", kernels.__class__(**{**vars(kernels), "threads": threads}))
    return found


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("n_jobs", "n_threads"),
    [(None, None), (-1, None), (-2, 3), (-3, 2), (-4, 1), (-5, 1), (-(10**9), 1), (1, 1), (6, 6), (np.int64(-2), 3)],
)  # fmt: skip
def test_threads_are_counted_as_joblib_counts(asked, kind, n_jobs, n_threads):
    for parameters in ({}, {"solver": "lbfgs"}, {"early_stopping": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fitted(kind, n_jobs=n_jobs, **parameters)
        model.predict(X)
        assert set(asked) == {n_threads}
        assert model.get_params()["n_jobs"] is n_jobs
        asked.clear()


@pytest.mark.parametrize("kind", BOTH)
def test_more_threads_than_there_are_are_named_as_they_were_given(asked, kind):
    with pytest.warns(UserWarning, match="^n_jobs is 7, but Numba's pool has 6: using 6"):
        model = fitted(kind, n_jobs=7)
    assert set(asked) == {6}
    with pytest.warns(UserWarning, match="^n_jobs is 7") as caught:
        model.predict(X)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("n_jobs", [0, 1.5, "2", 2.0])
def test_no_jobs_are_refused(kind, n_jobs):
    with pytest.raises(InvalidParameterError, match=f"The 'n_jobs' parameter of {kind.__name__} must be an int"):
        fitted(kind, n_jobs=n_jobs)


def test_a_gpu_has_no_threads_to_warn_of(asked):
    from fastbp.estimators._device import threads_of

    assert threads_of(1000, "cuda") is None and threads_of(-2, "cuda") is None


NAMES = {
    "float32": ["float32", np.float32, np.dtype("float32"), "f4", "single", np.dtype("<f4"), np.str_("float32")],
    "float64": ["float64", np.float64, np.dtype("float64"), "f8", "double", float, "d"],
}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("name", "given"), [(name, given) for name, all_ in NAMES.items() for given in all_])
def test_a_dtype_has_the_names_that_sequential_knows(kind, name, given):
    layers = [fastbp.Dense(2)]
    assert fastbp.Sequential(layers, n_features=3, dtype=given).dtype == name
    model = fitted(kind, dtype=given)
    assert model.get_params()["dtype"] is given and clone(model).dtype == given
    want = fitted(kind, dtype=name)
    for a, b in zip(model.coefs_, want.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == name
    np.testing.assert_array_equal(model.predict(X), want.predict(X))
    again = [one.partial_fit(X, Y).coefs_[0] for one in (model, want)]
    np.testing.assert_array_equal(*again)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("given", ["float16", np.float16, int, np.dtype("i4"), "f4,", object, ">f4", "float", 32, True])
def test_other_dtypes_are_refused(kind, given):
    if given == "float":  # NumPy's name of float64
        assert fitted(kind, dtype=given).coefs_[0].dtype == np.float64
        return
    with pytest.raises(ValueError, match=r"dtype must be 'float32' or 'float64', got|The 'dtype' parameter of"):
        fitted(kind, dtype=given)
    model = fitted(kind)
    with pytest.raises(ValueError, match=r"dtype must be 'float32' or 'float64', got|The 'dtype' parameter of"):
        model.set_params(dtype=given, warm_start=True).fit(X, Y)
