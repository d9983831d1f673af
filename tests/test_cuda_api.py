"""``backend="cuda"``, ``device`` and ``precision`` as users see them, on a backend that records what it is told."""

import pickle

import numpy as np
import pytest
from _cuda_api import (
    LACKING,
    OPTIONS,
    X32,
    X,
    Y,
    assert_equal,
    new_model,
    new_trainer,
    weights_after,
    with_gpu,
    without_gpu,
)
from numba import config
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.backends import _device, as_precision, get_backend

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def gpu(monkeypatch):
    return with_gpu(monkeypatch)


@pytest.fixture
def no_gpu(monkeypatch):
    without_gpu(monkeypatch)


@pytest.fixture
def always_worth_it(monkeypatch):
    monkeypatch.setattr(_device, "PREDICT_WORK", 1)


# ---------------------------------------------------------------------------------------------------------------------
# Trainer and Sequential


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_a_trainer_hands_its_precision_to_the_backend(gpu, precision):
    trained = weights_after(new_trainer(backend="cuda", precision=precision), X32, Y)
    assert [given[1] for given in gpu.opened] == [precision]
    assert_equal(trained, weights_after(new_trainer(backend="reference"), X32, Y))
    new_model().predict(X32, backend="cuda", precision=precision)
    assert [given[1] for given in gpu.predicted] == [precision]


def test_a_check_against_the_reference_is_one_in_float32(gpu):
    weights_after(new_trainer(backend="cuda", precision="tf32", verify=True), X32, Y)
    assert len(gpu.opened) == 2  # the third session was the reference's own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "tf32"}, "is for backend 'cuda' and the dtype float32, got backend 'cpu' and float32"),
        ({"precision": "tf32", "backend": "reference"}, "got backend 'reference'"),
        ({"precision": "tf32", "backend": "cuda", "dtype": "float64"}, "got backend 'cuda' and float64"),
        ({"precision": "half", "backend": "cuda"}, "precision must be one of 'float32', 'tf32', got 'half'"),
        ({"precision": None}, "precision must be one of 'float32', 'tf32', got None"),
    ],
)
def test_a_precision_that_is_not_to_be_had_is_refused(gpu, options, message):
    with pytest.raises(ValueError, match=message):
        new_trainer(**options)
    model = new_model(options.pop("dtype", "float32"))
    with pytest.raises(ValueError, match=message):
        model.predict(X32, **options)


def test_other_backends_refuse_tf32_themselves():
    trainer = new_trainer()
    trainer.precision = "tf32"
    with pytest.raises(ValueError, match="precision='tf32' is for backend 'cuda': 'cpu' computes in"):
        trainer.fit(X32, Y)
    with pytest.raises(ValueError, match="precision='tf32' is for backend 'cuda'"):
        get_backend("reference").predict(trainer.model._network, trainer.model.get_weights(), X32, precision="tf32")
    assert as_precision("float32", "cpu", np.float64) == "float32"


def test_without_a_gpu_the_error_comes_before_the_data(no_gpu):
    for call in (
        lambda: new_trainer(backend="cuda"),
        lambda: new_model().predict(None, backend="cuda"),
        lambda: get_backend("cuda"),
    ):
        with pytest.raises(RuntimeError, match=f"backend='cuda' needs an NVIDIA GPU, but {LACKING}"):
            call()


def test_a_sparse_X_is_refused_before_the_training(gpu):
    with pytest.raises(ValueError, match="X is sparse, which backend='cuda' does not take"):
        new_trainer(backend="cuda").fit(sparse.csr_array(X32), Y)
    with pytest.raises(ValueError, match="validation_data: X is sparse"):
        new_trainer(backend="cuda").fit(X32, Y, validation_data=(sparse.csr_array(X32), Y))
    with pytest.raises(ValueError, match="X is sparse, which backend='cuda' does not take"):
        new_model().predict(sparse.csr_array(X32), backend="cuda")
    assert not gpu.opened and not gpu.predicted


# ---------------------------------------------------------------------------------------------------------------------
# Estimators


@pytest.mark.parametrize("device", ["cuda", "auto"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_estimators_train_on_the_gpu(gpu, device, solver, capsys):
    for kind in (MLPClassifier, MLPRegressor):
        gpu.opened.clear()
        options = {**OPTIONS, "device": device, "solver": solver, "verbose": True}
        estimator = kind(dtype="float32", precision="tf32", **options).fit(X, Y)
        assert [precision for _, precision in gpu.opened] == ["tf32"]
        assert gpu.opened[0][0].dtype == np.float32
        assert estimator.coefs_[0].dtype == np.float32
        kind(**options).fit(X, Y)
        assert gpu.opened[-1][1] == "float32" and gpu.opened[-1][0].dtype == np.float64
    assert "device=" not in capsys.readouterr().out
    assert not gpu.predicted


def test_partial_fit_trains_on_the_gpu(gpu):
    estimator = MLPClassifier(**OPTIONS, device="cuda")
    for _ in range(3):
        estimator.partial_fit(X, Y, classes=[0, 1, 2])
    assert len(gpu.opened) == 3


def test_many_rows_are_predicted_on_the_gpu_and_few_are_not(gpu, monkeypatch):
    estimator = MLPClassifier(**OPTIONS, device="cuda", dtype="float32", precision="tf32").fit(X, Y)
    n_parameters = sum(array.size for array in estimator.coefs_ + estimator.intercepts_)
    monkeypatch.setattr(_device, "PREDICT_WORK", 100 * n_parameters)
    few = estimator.predict_proba(X[:99])
    assert not gpu.predicted
    many = estimator.predict_proba(X[:100])
    assert [precision for _, precision in gpu.predicted] == ["tf32"]
    np.testing.assert_allclose(few, many[:99], rtol=1e-5)
    estimator.predict(X)
    assert len(gpu.predicted) == 2
    estimator.predict(sparse.csr_array(X))  # for the CPU alone
    estimator.set_params(device="cpu").predict(X)
    assert len(gpu.predicted) == 2


def test_early_stopping_scores_there_too(gpu, always_worth_it):
    options = {**OPTIONS, "early_stopping": True}
    MLPClassifier(**options, device="cuda").fit(X, Y)
    assert len(gpu.opened) == len(gpu.predicted) == 1


def test_a_sparse_X_is_for_the_cpu(gpu, capsys):
    S = sparse.csr_array(X)
    for given in ((S, Y, {}), (X, Y, {"X_val": S, "y_val": Y})):
        with pytest.raises(ValueError, match="X is sparse, which device='cuda' does not take: use device='cpu'"):
            MLPClassifier(**OPTIONS, device="cuda").fit(*given[:2], **given[2])
        MLPClassifier(**OPTIONS, device="auto", verbose=True).fit(*given[:2], **given[2])
        assert capsys.readouterr().out.count("device='auto' trains on the CPU: X is sparse") == 1
    assert not gpu.opened


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_tf32_is_never_taken_for_something_else(gpu, kind):
    with pytest.raises(ValueError, match=r"for device='cuda' or 'auto' and float32, got device='cpu'.*float32"):
        kind(**OPTIONS, precision="tf32").fit(X32, Y)
    with pytest.raises(ValueError, match=r"got device='auto' and an X of float64: give dtype='float32'"):
        kind(**OPTIONS, precision="tf32", device="auto").fit(X, Y)
    for wrong in ({"precision": "bf16"}, {"device": "gpu"}, {"device": None}):
        with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter of {kind.__name__} must be a str"):
            kind(**wrong).fit(X, Y)
    assert not gpu.opened


def test_without_a_gpu_cuda_is_an_error_that_changes_nothing(no_gpu):
    estimator = MLPClassifier(**OPTIONS).fit(X, Y)
    before = pickle.dumps(vars(estimator.set_params(device="cuda")))
    with pytest.raises(RuntimeError, match=f"device='cuda' needs an NVIDIA GPU, but {LACKING}"):
        estimator.fit(X, Y)
    assert pickle.dumps(vars(estimator)) == before


def test_without_a_gpu_auto_is_the_cpu_and_says_so_once(no_gpu, capsys):
    message = f"device='auto' trains on the CPU: {LACKING}"
    estimator = MLPClassifier(**OPTIONS, device="auto", verbose=True).fit(X, Y)
    assert capsys.readouterr().out.splitlines().count(message) == 1
    plain = MLPClassifier(**OPTIONS).fit(X, Y)
    assert_equal(estimator.coefs_, plain.coefs_)
    MLPClassifier(**OPTIONS, device="auto").fit(X, Y)
    assert not capsys.readouterr().out
    estimator = MLPClassifier(**OPTIONS, device="auto", verbose=True, dtype="float32", precision="tf32")
    for _ in range(3):
        estimator.partial_fit(X, Y, classes=[0, 1, 2])
    assert capsys.readouterr().out.count(message) == 1


def test_a_model_of_a_gpu_predicts_where_there_is_none(gpu, always_worth_it, monkeypatch):
    estimator = MLPClassifier(**OPTIONS, device="cuda").fit(X, Y)
    expected = estimator.predict_proba(X)
    kept = pickle.dumps(estimator)
    monkeypatch.setattr(_device, "_missing", lambda process: LACKING)
    loaded = pickle.loads(kept)
    np.testing.assert_allclose(loaded.predict_proba(X), expected, rtol=1e-10)
    assert len(gpu.predicted) == 1
    assert clone(loaded).get_params() == estimator.get_params()
    assert loaded.to_sklearn().score(X, Y) == loaded.score(X, Y)


def test_searches_go_over_devices(gpu):
    grid = {"device": ["cpu", "cuda"], "alpha": [0.0, 1e-3]}
    search = GridSearchCV(MLPClassifier(**OPTIONS), grid, cv=2).fit(X, Y)
    assert len(gpu.opened) == 4 + (search.best_params_["device"] == "cuda")
    by_device = {one["device"]: [] for one in search.cv_results_["params"]}
    for one, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        by_device[one["device"]].append(score)
    np.testing.assert_allclose(by_device["cuda"], by_device["cpu"])


# ---------------------------------------------------------------------------------------------------------------------
# What there is


def test_the_simulator_lacks_nothing():
    assert config.ENABLE_CUDASIM and _device.simulated()
    assert _device.missing() is None
    free, total = _device.device_memory()
    assert 0 < free <= total
    assert _device.description() == "Numba's simulator"


def test_show_config_says_what_is_missing(no_gpu, capsys):
    assert fastbp.show_config()["gpu"] == f"none: {LACKING}"
    assert f"gpu none: {LACKING}" in capsys.readouterr().out.splitlines()
