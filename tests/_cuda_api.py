"""A GPU as far as fastbp can see, which records what it is told, and arrays that say they lie on it."""

import sys
from types import SimpleNamespace

import numpy as np
from sklearn.datasets import load_iris

import fastbp
from fastbp.backends import Backend, _device, get_backend

X, Y = load_iris(return_X_y=True)
X32 = np.ascontiguousarray(X, np.float32)
OPTIONS = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}
LACKING = "the driver is missing"


class Recording(Backend):
    """The reference under the name of the GPU's backend, and what it was called with."""

    name = "cuda"

    def __init__(self):
        self.opened, self.predicted, self.evaluated = [], [], []

    @staticmethod
    def _of_host(X):
        return X.copy_to_host() if _device.is_on_device(X) else X

    def open(self, network, loss, optimizer, X, y, *, precision="float32", **options):
        self.opened.append((X, precision))
        assert isinstance(y, np.ndarray) and isinstance(options["sample_weight"], np.ndarray | None)
        session = get_backend("reference").open(network, loss, optimizer, self._of_host(X), y, **options)
        evaluation = session.evaluation

        def evaluation_of_host(X, *targets):
            self.evaluated.append(X)
            return evaluation(self._of_host(X), *targets)

        session.evaluation = evaluation_of_host
        return session

    def predictor(self, network, X, *, precision="float32", **options):
        self.predicted.append((X, precision))
        return get_backend("reference").predictor(network, self._of_host(X), **options)


def with_gpu(monkeypatch):
    """The backend that records, in the place of the GPU's."""
    backend = Recording()
    monkeypatch.setitem(sys.modules, "fastbp.backends.cuda", SimpleNamespace(BACKEND=backend))
    monkeypatch.setattr(_device, "_missing", lambda process: None)
    return backend


def without_gpu(monkeypatch):
    monkeypatch.setattr(_device, "_missing", lambda process: LACKING)


def new_model(dtype="float32"):
    return fastbp.Sequential([fastbp.Dense(6, "tanh"), fastbp.Dense(3)], n_features=4, random_state=0, dtype=dtype)


def new_trainer(dtype="float32", **options):
    return fastbp.Trainer(new_model(dtype), loss="softmax_cross_entropy", random_state=0, **options)


def weights_after(trainer, X, y, **options):
    trainer.fit(X, y, epochs=2, **options)
    return trainer.model.get_weights()


def assert_equal(some, others):
    for a, b in zip(some, others, strict=True):
        np.testing.assert_array_equal(a, b)


class Foreign:
    """An array of another library; in the simulator its memory is the host's."""

    def __init__(self, array, **changes):
        self.array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3, **changes}


class Exporter:
    """An array that has DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, *, stream=None, **options):
        assert stream == 1  # what is under way on the array is done before Numba's stream goes on
        return self.array.__dlpack__(**options)


class Unwilling:
    """As PyTorch's tensors are that have gradients."""

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("it requires grad")

    def __dlpack_device__(self):
        return (2, 0)


def address(array):
    return array.__array_interface__["data"][0]
