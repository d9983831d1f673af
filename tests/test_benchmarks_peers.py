"""Networks of other kinds: every library does the same updates, in float64, on one batch whose order is no matter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed
try:
    from benchmarks import driver
    from benchmarks.peers import _loops
    from benchmarks.peers._worker import Task
    from benchmarks.workloads import PUBLISHED, Workload, initial_weights, matrix_exponentials
finally:
    sys.path.remove(str(ROOT))

RATE, MOMENTUM = 1e-3, 0.9
# three classes, or three outputs: several of them tell a sum over the outputs from a mean
KINDS = {
    "tanh, sgd": {"activation": "tanh", "optimizer": "sgd", "n_classes": 3},
    "logistic, sgd": {"optimizer": "sgd", "n_classes": 2},
    "regression, sgd": {"activation": "tanh", "optimizer": "sgd", "task": "regression", "n_outputs": 3, "n_classes": 0},
    "regression, adam": {"task": "regression", "n_classes": 0},
}
# losses of the third epoch, and sums of what is predicted after it
CODE = """
import importlib, json, sys
import numpy as np
from benchmarks.peers._worker import Task
from benchmarks.workloads import Workload
module, variant, kinds = json.loads(sys.stdin.read())
prepare = importlib.import_module("benchmarks.peers." + module).prepare
found = {}
for name, kind in kinds.items():
    workload = Workload(name, 5, (7, 6), batch=40, n_samples=40, **kind)
    training = prepare(Task(workload, "float64", 1, variant, None))
    loss = training.turn(2)["loss"]
    found[name] = [loss, float(np.sum(training.predict(workload.data("float64")[0])))]
print("found " + json.dumps(found))
"""


def workload_of(kind):
    return Workload("x", 5, (7, 6), batch=40, n_samples=40, **KINDS[kind])


def by_formula(workload):
    """Loss of the third of three steps, and the sum of what is predicted after it, in NumPy."""
    X, y = workload.data("float64")
    weights = initial_weights(workload.dims, "float64")
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    f, slope = (
        (np.tanh, lambda A: 1 - A * A)
        if workload.activation == "tanh"
        else (lambda Z: np.maximum(Z, 0), lambda A: (A > 0) * 1.0)
    )

    def forward():
        layers = [X]
        for k in range(0, len(weights), 2):
            Z = layers[-1] @ weights[k] + weights[k + 1]
            layers.append(f(Z) if k < len(weights) - 2 else Z)
        return layers

    for t in range(1, 4):
        layers = forward()
        Z = layers[-1]
        if workload.loss == "squared":
            loss, delta = ((Z - y) ** 2).mean() / 2, Z - y
        elif workload.loss == "logistic":
            T, P = y[:, None], 1 / (1 + np.exp(-Z))
            loss, delta = -(T * np.log(P) + (1 - T) * np.log(1 - P)).mean(), P - T
        else:
            T, P = np.eye(3)[y], np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
            loss, delta = -(T * np.log(P)).sum(axis=1).mean(), P - T
        delta, gradients = delta / len(X), [None] * len(weights)
        for k in reversed(range(0, len(weights), 2)):
            A = layers[k // 2]
            gradients[k : k + 2] = A.T @ delta, delta.sum(axis=0)
            delta = (delta @ weights[k].T) * slope(A)
        for w, m, v, g in zip(weights, first, second, gradients, strict=True):
            if workload.optimizer == "sgd":
                v[...] = MOMENTUM * v - RATE * g
                w += v
            else:
                m[...], v[...] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                w -= RATE * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return loss, workload.decide(forward()[-1]).sum()


@pytest.mark.parametrize(
    ("module", "variant", "needs"),
    [
        ("fastbp_", "", None), ("fastbp_", "trainer", None), ("fastbp_", "reference", None), ("sklearn_", "", None),
        ("torch_", "", "torch"), ("jax_", "", "jax"),
    ],
)  # fmt: skip
def test_updates_are_the_same(module, variant, needs):
    if needs:
        pytest.importorskip(needs)
    kinds = {name: kind for name, kind in KINDS.items() if (variant, kind["n_classes"]) != ("trainer", 2)}  # softmax's
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=json.dumps([module, variant, kinds]), cwd=ROOT, env=os.environ,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1].removeprefix("found "))
    for name, theirs in found.items():
        # epsilon of scikit-learn's Adam stands before the correction of the second moment
        assert theirs == pytest.approx(by_formula(workload_of(name)), rel=1e-4 if "adam" in name else 1e-9), name


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"activation": "mish"}, "activation must be one of relu, tanh, gelu"),
        ({"optimizer": "lbfgs"}, "optimizer must be one of adam, sgd"),
        ({"task": "ranking"}, "task must be one of"),
        ({"task": "regression"}, "a regression cannot have n_classes=3"),
        ({"n_classes": 0}, "a classification cannot have n_classes=0"),
        ({"batch": 7}, "no whole batches of 7"),
    ],
)
def test_workloads_refuse_what_they_do_not_know(kind, message):
    with pytest.raises(ValueError, match=message):
        Workload(**{"name": "x", "n_features": 5, "hidden": (7,), "n_classes": 3, "batch": 10, "n_samples": 40} | kind)


def test_published_networks():
    X, y = PUBLISHED["matexp"].data("float64")
    assert X.shape == y.shape == (10_000, 4) and PUBLISHED["matexp"].dims == (4, 32, 16, 4)
    series, term = np.eye(2), np.eye(2)
    for k in range(1, 60):
        term = term @ X[3].reshape(2, 2) / k
        series = series + term
    np.testing.assert_allclose(y[3].reshape(2, 2), series, rtol=1e-9)
    np.testing.assert_array_equal(matrix_exponentials(np.zeros((2, 4))), [[1, 0, 0, 1]] * 2)
    assert PUBLISHED["higgs"].dims == (28, *[300] * 5, 1) and PUBLISHED["higgs"].loss == "logistic"
    assert PUBLISHED["matexp"].quick().data("float32")[1].dtype == np.float32


def test_other_losses_are_told_with_more_patience_on_real_data():
    found = {"fastbp": {"dims": [1], "loss": 1.0}, "jax": {"dims": [1], "loss": 1.1}}
    workload = workload_of("regression, sgd")
    assert len(driver._loss_warnings(found, workload)) == 1
    assert not driver._loss_warnings(found, Workload("x", 5, (7,), 3, 10, 40, epochs=4))


class Scripted:
    """A workload whose scores are given."""

    task, loss, dims = "classification", "logistic", (3, 4, 1)

    def __init__(self, scores):
        self.scores = iter(scores)

    def data(self, dtype):
        return np.zeros((50, 3), dtype), np.arange(50) % 2

    def score(self, predicted, y):
        return next(self.scores)


@pytest.mark.parametrize(
    ("scores", "epochs", "best"),
    [
        ([0.5, 0.7] + [0.70005] * 20, 13, 3),  # too little an improvement counts for the weights, not for going on
        ([0.5] * 5 + [0.9] + [0.1] * 20, 17, 6),
        ([k / 500 for k in range(300)], 200, 200),
    ],
)
def test_loops_stop_as_scikit_learn_does(scores, epochs, best):
    seen, back = [], []
    learner = _loops.Learner(
        start=seen.clear, train=lambda order, batch: seen.append((np.sort(order), batch)) or 0.5,
        predict=lambda X: X, keep=lambda: len(seen), put_back=back.append,
    )  # fmt: skip
    task = Task(Scripted(scores), "float32", 1, "", None, fit=True)
    answer = _loops.fits_turn(task, learner)(1)
    assert (answer["epochs_fitted"], back) == (epochs, [best])
    rows, batches = zip(*seen, strict=True)
    assert set(batches) == {45} and all(np.array_equal(one, rows[0]) for one in rows) and len(set(rows[0])) == 45
