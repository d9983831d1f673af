"""Searches whose fits run in joblib's workers: the scores of a serial run, one thread in each, none killed or hung."""

import json
import os
import signal
import subprocess

import pytest
from _processes import command

LIMIT = 300  # seconds; a few with compiled kernels, a minute or two where they are compiled first

SETUP = """
import hashlib, json, os, sys, threading, warnings
import joblib
import numpy as np
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from fastbp import MLPClassifier, MLPRegressor
from fastbp.kernels.cpu import _threads

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # what is tried here
X, y = load_digits(n_class=5, return_X_y=True)
"""

# scorers run in the worker, after the fit that they score
SEARCH = (
    SETUP
    + """
def usable(estimator, X, y):
    return _threads.usable_threads()

def region(estimator, X, y):
    return float(_threads.threading_layer() is not None)

def process(estimator, X, y):
    return os.getpid()

def worker(estimator, X, y):
    return threading.get_ident()

SCORING = {"score": "accuracy", "loss": "neg_log_loss"}  # the loss shows every bit
SCORING |= {scorer.__name__: scorer for scorer in (usable, region, process, worker)}

def search(n_jobs, threads=None):
    # a tolerance that is missed at once ends each fit without a warning
    mlp = MLPClassifier((150,), max_iter=15, tol=10.0, random_state=0, n_jobs=threads)
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__solver": ["adam", "sgd"]}
    pipeline = make_pipeline(StandardScaler(), mlp)
    found = GridSearchCV(pipeline, grid, scoring=SCORING, refit="loss", cv=2, n_jobs=n_jobs, error_score="raise")
    results = found.fit(X, y).cv_results_
    said = {name: np.array([results[f"split{k}_test_{name}"] for k in (0, 1)]) for name in SCORING}
    said = {name: np.unique(values).tolist() for name, values in said.items()}
    best = found.best_estimator_[-1]
    weights = b"".join(array.tobytes() for array in best.coefs_ + best.intercepts_)
    return said | {
        "mean_test_score": results["mean_test_score"].tolist(),
        "mean_test_loss": [value.hex() for value in results["mean_test_loss"].tolist()],
        "best": hashlib.sha256(weights).hexdigest(),
    }

backend, order = sys.argv[1:]
said = {"parent": os.getpid(), "thread": threading.get_ident()}
if order == "parent first":
    said["serial"] = search(1, threads=2)
    assert _threads.threading_layer() is not None, "no parallel region has run"
with joblib.parallel_config(backend):
    said["workers"] = search(2)
    if order == "parent first":
        said["workers with threads"] = search(2, threads=2)
said["after"] = search(1, threads=2)
print(json.dumps(said))
"""
)

CROSS_VALIDATION = (
    SETUP
    + """
X, y = load_diabetes(return_X_y=True)
model = MLPRegressor(hidden_layer_sizes=(150,), max_iter=15, tol=1e6, random_state=0)
scores, threads = {}, set()

def scorer(estimator, X, y):
    threads.add((threading.get_ident(), _threads.usable_threads()))
    return estimator.score(X, y)

for n_jobs in (2, 1):
    with joblib.parallel_config("threading"):
        options = {"cv": 4, "n_jobs": n_jobs, "scoring": scorer, "error_score": "raise"}
        scores[n_jobs] = [score.hex() for score in cross_val_score(model, X, y, **options).tolist()]
    if n_jobs == 2:
        in_workers = sorted({usable for ident, usable in threads if ident != threading.get_ident()})
print(json.dumps({"serial": scores[1], "threads": scores[2], "usable": in_workers}))
"""
)


def printed(*arguments):
    """What a fresh process prints, as JSON; past the time limit it is ended with all of its workers."""
    started = command(
        "-c", *arguments,
        NUMBA_NUM_THREADS="2",  # in the workers of loky as well, which sets it only where it is not set
        PYTHONWARNINGS="error",  # in them too
        JOBLIB_START_METHOD="fork" if hasattr(os, "fork") else None,
        OMP_WAIT_POLICY="passive",
    )  # fmt: skip
    process = subprocess.Popen(
        **started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=os.name == "posix"
    )
    try:
        out, err = process.communicate(timeout=LIMIT)
    except BaseException:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, f"{process.returncode}: {out}{err}"
    said = [line for line in err.splitlines() if not line.startswith("fastbp: compiling")]
    assert not said, err
    return json.loads(out)


@pytest.mark.parametrize("order", ["workers first", "parent first"])
@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_grid_search(backend, order):
    """A parent that has trained with threads before is what a fork could hang or kill a worker after."""
    if backend == "multiprocessing" and not hasattr(os, "fork"):
        pytest.skip("no fork on this system, and nothing else takes functions of the main module")
    said = printed(SEARCH, backend, order)
    runs = {name: said[name] for name in ("serial", "workers", "workers with threads", "after") if name in said}
    for name, run in runs.items():
        for result in ("mean_test_score", "mean_test_loss", "best"):
            assert run[result] == said["after"][result], f"{name}: {result}"
    assert min(said["after"]["mean_test_score"]) > 0.3, "nothing has been learnt"
    for name in set(runs) & {"workers", "workers with threads"}:
        # another number of processes were a worker that ended and was replaced
        assert 1 <= len(runs[name]["process"]) <= 2
        assert runs[name]["usable"] == [1]
        if backend == "threading":
            assert runs[name]["process"] == [said["parent"]] and said["thread"] not in runs[name]["worker"]
        else:
            assert said["parent"] not in runs[name]["process"]
    # a forked or a threaded worker has the layer of its parent; any other starts none, for it has one thread
    inherited = backend != "loky" and order == "parent first"
    assert said["workers"]["region"] == [float(inherited)]


def test_cross_validation_of_a_regressor_in_threads():
    said = printed(CROSS_VALIDATION)
    assert said["threads"] == said["serial"] and len(set(said["serial"])) == 4
    assert said["usable"] == [1]
