"""Searches in processes and threads: the same scores whatever runs them, one thread a worker, and nothing hangs."""

import json

import pytest
from _processes import succeed

# The parent trains on threads first: a child that is forked after that must not open a region of its library
SCRIPT = """
import json, sys, warnings
import numpy as np
from joblib import parallel_backend
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from fastbp import MLPClassifier, MLPRegressor
from fastbp.kernels.cpu import _threads

backend, used_before = sys.argv[1:]
warnings.simplefilter("ignore", ConvergenceWarning)
warnings.filterwarnings("ignore", message="Persisting input arguments took")
X, y = load_digits(return_X_y=True)
X = np.tile(X, (2, 1))  # more than a megabyte: loky hands it over as a read-only memory map
y = np.tile(y, 2)
if used_before == "threads":
    MLPClassifier((200,), max_iter=2, random_state=0).fit(X, y)
    assert _threads.threading_layer() is not None

class Counting(MLPClassifier):
    def fit(self, X, y):
        super().fit(X, y)
        self.threads_ = _threads.usable_threads()
        return self

def threads(estimator, X, y):
    return {"score": estimator.score(X, y), "threads": estimator[-1].threads_}

pipeline = make_pipeline(MinMaxScaler(), Counting((200,), max_iter=3, random_state=0))
grid = {"counting__alpha": [1e-4, 1.0], "counting__solver": ["adam", "sgd"]}
def search():
    found = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, scoring=threads, refit=False).fit(X, y).cv_results_
    return [list(found[f"split{k}_test_{name}"]) for name in ("score", "threads") for k in (0, 1)]
if backend == "serial":
    with parallel_backend("sequential"):
        found = search()
else:
    with parallel_backend(backend, n_jobs=2):
        found = search()
        regression = cross_val_score(MLPRegressor(max_iter=2, random_state=0), X, y, n_jobs=2, cv=2)
        assert np.isfinite(regression).all()
print(json.dumps({"scores": found[:2], "threads": found[2:]}, default=float))
"""
CASES = [(backend, used) for backend in ("loky", "threading", "multiprocessing") for used in ("threads", "nothing")]


def found(*arguments):
    done = succeed("-c", SCRIPT, *arguments)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def serial():
    """What one process finds, without joblib's workers."""
    result = found("serial", "nothing")
    assert min(map(min, result["scores"])) > 0.05
    return result


@pytest.mark.parametrize(("backend", "used"), CASES)
def test_searches_find_the_same_and_use_one_thread_a_worker(serial, backend, used):
    result = found(backend, used)
    assert result["scores"] == serial["scores"]
    assert result["threads"] == [[1.0] * 4] * 2
