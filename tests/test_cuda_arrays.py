"""Arrays that lie on the device: used there by trainers and estimators, refused where they cannot be."""

import numpy as np
import pytest
from _cuda_api import (
    LACKING,
    OPTIONS,
    X32,
    Exporter,
    Foreign,
    Unwilling,
    X,
    Y,
    address,
    assert_equal,
    new_model,
    new_trainer,
    weights_after,
    with_gpu,
    without_gpu,
)
from scipy import sparse

from fastbp import MLPClassifier, MLPRegressor
from fastbp.backends import _device
from fastbp.backends import cuda as cuda_backend
from fastbp.kernels.cuda._target import cuda

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def gpu(monkeypatch):
    return with_gpu(monkeypatch)


@pytest.fixture
def no_gpu(monkeypatch):
    without_gpu(monkeypatch)


# ---------------------------------------------------------------------------------------------------------------------
# Trainer and Sequential


def test_what_lies_on_a_device_is_known():
    assert _device.is_on_device(cuda.to_device(X32))
    assert _device.is_on_device(Foreign(X32)) and _device.is_on_device(Exporter(X32))
    assert _device.is_on_device(Unwilling())
    for value in (X32, X32.tolist(), sparse.csr_array(X32), None, "X", np.float32(1)):
        assert not _device.is_on_device(value)


@pytest.mark.parametrize("of", [cuda.to_device, Foreign, Exporter])
def test_device_arrays_are_trained_on_where_they_lie(gpu, of):
    if of is Exporter:
        pytest.importorskip("cuda.core")
    given, weights = of(X32), np.linspace(1, 2, len(Y), dtype=np.float32)
    trainer = new_trainer(backend="cuda", verify=True)
    trained = weights_after(trainer, given, of(Y), sample_weight=of(weights))
    for taken, _ in gpu.opened:
        assert address(taken) == address(getattr(given, "array", given))
    assert_equal(trained, weights_after(new_trainer(backend="reference"), X32, Y, sample_weight=weights))
    assert_equal([trainer.model.predict(given, backend="cuda")], [trainer.model.predict(X32, backend="reference")])
    assert address(gpu.predicted[-1][0]) == address(getattr(given, "array", given))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda: Foreign(X), TypeError, "X must be float32 on the device, where it is used as it is, got float64"),
        (lambda: Foreign(X32[0]), ValueError, r"X must be a matrix with at least one row and column, .* shape \(4,\)"),
        (lambda: cuda.to_device(np.zeros((0, 4), "f4")), ValueError, r"at least one row and column, got .* \(0, 4\)"),
        (lambda: Foreign(X32[:, :3].copy()), ValueError, r"X must have 4 columns, one for each feature, .* \(150, 3\)"),
        (lambda: Foreign(np.asfortranarray(X32)), ValueError, r"X must be C-contiguous on the device, .* \(4, 600\)"),
        (Unwilling, ValueError, "X cannot be taken over from the device: it requires grad"),
    ],
)
def test_device_arrays_of_another_form_are_named(gpu, given, error, message):
    with pytest.raises(error, match=message):
        new_trainer(backend="cuda").fit(given(), Y)
    with pytest.raises(error, match=message):
        new_model().predict(given(), backend="cuda")
    assert not gpu.opened and not gpu.predicted


def test_targets_on_the_device_are_checked(gpu):
    with pytest.raises(ValueError, match="y must hold labels from 0 to 2"):
        new_trainer(backend="cuda").fit(cuda.to_device(X32), cuda.to_device(Y + 1))
    with pytest.raises(ValueError, match="y cannot be taken over from the device: it requires grad"):
        new_trainer(backend="cuda").fit(X32, Unwilling())
    assert not gpu.opened


@pytest.mark.parametrize("of", [cuda.to_device, Foreign, Exporter])
def test_other_backends_refuse_device_arrays(of):
    message = "{} lies on a CUDA device, where only .* backend='cuda': copy it to the host first"
    for backend in ("cpu", "reference"):
        trainer = new_trainer(backend=backend)
        with pytest.raises(TypeError, match=message.format("X")):
            trainer.fit(of(X32), Y)
        with pytest.raises(TypeError, match=message.format("y")):
            trainer.fit(X32, of(Y))
        with pytest.raises(TypeError, match=message.format("sample_weight")):
            trainer.fit(X32, Y, sample_weight=of(np.ones(len(Y))))
        with pytest.raises(TypeError, match=message.format("X")):
            trainer.model.predict(of(X32), backend=backend)


# ---------------------------------------------------------------------------------------------------------------------
# Estimators


@pytest.mark.parametrize("of", [cuda.to_device, Foreign, Exporter])
@pytest.mark.parametrize("device", ["cuda", "auto"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_estimators_use_device_arrays_where_they_lie(gpu, kind, device, of):
    if of is Exporter:
        pytest.importorskip("cuda.core")
    given, weights = of(X32), np.linspace(1, 2, len(Y), dtype=np.float32)
    start, y, w = address(getattr(given, "array", given)), of(Y), of(weights)
    estimator, plain = kind(**OPTIONS, device=device), kind(**OPTIONS, device="cuda").fit(X32, Y, weights)
    assert estimator.fit(given, y, w).n_features_in_ == 4
    assert address(gpu.opened[-1][0]) == start
    assert_equal(estimator.coefs_ + estimator.intercepts_, plain.coefs_ + plain.intercepts_)
    for name in ("predict", "predict_proba", "predict_log_proba")[: 3 if kind is MLPClassifier else 1]:
        predicted = getattr(estimator, name)(given)
        assert type(predicted) is np.ndarray
        np.testing.assert_allclose(predicted, getattr(plain, name)(X32), rtol=1e-4)
    assert estimator.score(given, y, w) == pytest.approx(plain.score(X32, Y, weights))
    assert len(gpu.predicted) == (4 if kind is MLPClassifier else 2)  # however few rows
    assert all(address(taken) == start for taken, _ in gpu.predicted)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_estimators_fit_again_to_device_arrays(gpu, solver):
    def fitted(given):
        estimator = MLPClassifier(**OPTIONS, solver=solver, device="cuda", warm_start=True)
        for _ in range(2):
            estimator.fit(given, Y)
        return estimator if solver == "lbfgs" else estimator.partial_fit(given, cuda.to_device(Y))

    on_device = cuda.to_device(X)
    assert_equal(fitted(on_device).coefs_, fitted(X).coefs_)
    half = len(gpu.opened) // 2
    assert {address(taken) for taken, _ in gpu.opened[:half]} == {address(on_device)}


@pytest.mark.parametrize("scoring", [None, "loss", "accuracy"])
def test_validation_rows_may_lie_on_the_device(gpu, scoring):
    def fitted(of):
        estimator = MLPClassifier(**OPTIONS, device="cuda", early_stopping=True, scoring=scoring)
        validation = {"X_val": of(rows), "y_val": of(Y[::3].copy()), "sample_weight_val": of(np.linspace(1, 2, 50))}
        return estimator.fit(of(X32), of(Y), **validation)

    rows = X32[::3].copy()
    given, plain = fitted(Foreign), fitted(np.asarray)
    assert _device.is_on_device(gpu.evaluated[0]) and address(gpu.evaluated[0]) == address(rows)
    assert_equal(given.coefs_, plain.coefs_)
    np.testing.assert_allclose(given.validation_loss_curve_, plain.validation_loss_curve_)
    if scoring != "loss":
        np.testing.assert_allclose(given.validation_scores_, plain.validation_scores_)
        assert gpu.predicted and all(address(taken) == address(rows) for taken, _ in gpu.predicted)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_the_gpu_itself_reads_their_memory(monkeypatch, kind):
    taken = []

    class Watched(cuda_backend.Feed):
        def __init__(self, X, budget):
            super().__init__(X, budget)
            taken.append(address(self._resident))

    monkeypatch.setattr(cuda_backend, "Feed", Watched)
    options = {"hidden_layer_sizes": (3,), "max_iter": 1, "batch_size": 10, "random_state": 0, "device": "cuda"}
    few, y = np.ascontiguousarray(X32[::8]), Y[::8]
    given = cuda.to_device(few)
    estimator = kind(**options).fit(given, y)
    predicted = estimator.predict(given)
    assert taken == [address(given)] * 2
    plain = kind(**options).fit(few, y)
    assert_equal(estimator.coefs_ + estimator.intercepts_, plain.coefs_ + plain.intercepts_)
    np.testing.assert_allclose(predicted, plain.predict(few), rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (lambda: Foreign(X), {"dtype": "float32"}, TypeError, "X must be float32 on the device, .* got float64"),
        (lambda: Foreign(X.astype("i8")), {}, TypeError, "X must be float64 or float32 on the device, .* got int64"),
        (lambda: Foreign(X[0].copy()), {}, ValueError, r"X must be a matrix with at least one row and column"),
        (lambda: Foreign(np.zeros((150, 0))), {}, ValueError, r"at least one row and column, got .* \(150, 0\)"),
        (lambda: Foreign(np.asfortranarray(X)), {}, ValueError, "X must be C-contiguous on the device"),
        (lambda: Foreign(X[1:]), {}, ValueError, r"inconsistent numbers of samples: \[149, 150\]"),
        (Unwilling, {}, ValueError, "X cannot be taken over from the device: it requires grad"),
        (
            lambda: Foreign(X), {"early_stopping": True, "validation_fraction": 0.2}, ValueError,
            r"early_stopping=True holds out validation_fraction=0\.2 of the rows of X, which lies on a CUDA device .*: "
            "give X_val and y_val, or an X of the host",
        ),
        (lambda: Foreign(X), {"device": "cpu"}, TypeError, "X lies on a CUDA device, where only estimators with devi"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_estimators_name_what_is_wrong_with_device_arrays(gpu, kind, given, options, error, message):
    estimator = kind(**{**OPTIONS, "device": "cuda", **options})
    with pytest.raises(error, match=message):
        estimator.fit(given(), Y)
    assert not gpu.opened and not hasattr(estimator, "n_features_in_") and not hasattr(estimator, "coefs_")


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_later_device_arrays_are_compared_with_the_first(gpu, kind):
    estimator = kind(**OPTIONS, device="auto", dtype="float32").fit(X, Y)
    narrow = Foreign(X32[:, :3].copy())
    for call in (
        lambda: estimator.predict(narrow),
        lambda: estimator.partial_fit(narrow, Y),
        lambda: estimator.fit(X, Y, X_val=narrow, y_val=Y),
    ):
        with pytest.raises(ValueError, match=r"X has 3 features, but MLP\w+ is expecting 4 features"):
            call()
    with pytest.raises(TypeError, match="X must be float32 on the device"):
        estimator.predict(Foreign(X))
    with pytest.raises(TypeError, match="X_val must be float32 on the device"):
        estimator.fit(X, Y, X_val=Foreign(X), y_val=Y)
    with pytest.raises(ValueError, match="X or X_val is sparse, which does not go with one on a CUDA device"):
        estimator.fit(Foreign(X32), Y, X_val=sparse.csr_array(X), y_val=Y)
    with pytest.raises(ValueError, match="requires y to be passed"):
        estimator.fit(Foreign(X32), None)
    assert len(gpu.opened) == 1 and not gpu.predicted


@pytest.mark.parametrize("device", ["cpu", "auto"])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("X", lambda e, of: e.fit(of(X), Y)),
        ("X", lambda e, of: e.partial_fit(of(X), Y)),
        ("X", lambda e, of: e.predict(of(X))),
        ("y", lambda e, of: e.fit(X, of(Y))),
        ("y", lambda e, of: e.partial_fit(X, of(Y))),
        ("y", lambda e, of: e.score(X, of(Y))),
        ("sample_weight", lambda e, of: e.fit(X, Y, of(np.ones(150)))),
        ("sample_weight", lambda e, of: e.score(X, Y, of(np.ones(150)))),
        ("X_val", lambda e, of: e.fit(X, Y, X_val=of(X), y_val=Y)),
        ("y_val", lambda e, of: e.fit(X, Y, X_val=X, y_val=of(Y))),
        ("sample_weight_val", lambda e, of: e.fit(X, Y, X_val=X, y_val=Y, sample_weight_val=of(np.ones(150)))),
    ],
)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_estimators_without_a_gpu_refuse_device_arrays(no_gpu, kind, device, name, call):
    estimator = kind(**OPTIONS, device=device).fit(X, Y)
    with pytest.raises(
        TypeError, match=f"^{name} lies on a CUDA device, where only estimators with device='cuda' read it"
    ):
        call(estimator, Foreign)


def test_device_cuda_without_a_gpu_is_the_error_for_device_arrays_too(no_gpu):
    estimator = MLPClassifier(**OPTIONS).fit(X, Y).set_params(device="cuda")
    for call in (lambda: estimator.predict(Foreign(X)), lambda: estimator.fit(Foreign(X), Y)):
        with pytest.raises(RuntimeError, match=f"device='cuda' needs an NVIDIA GPU, but {LACKING}"):
            call()
