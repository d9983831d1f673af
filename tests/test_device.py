"""What is missing of the extra, a driver and a device: by processes without the simulator, and by made-up drivers."""

import ctypes.util
import os
from types import SimpleNamespace

import pytest
from _processes import succeed

import fastbp
from fastbp.backends import _device

TRAIN = """
import contextlib, io, warnings
import numpy as np
import fastbp
from fastbp.backends import _device

def message(call):
    try:
        call()
    except RuntimeError as error:
        print(error)

X, y = np.random.RandomState(0).normal(size=(30, 3)), np.arange(30) % 2
model = fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=0)
message(lambda: fastbp.Trainer(model, loss="mse", backend="cuda"))
message(lambda: model.predict(X, backend="cuda"))
message(lambda: fastbp.MLPClassifier((3,), device="cuda").fit(X, y))
options = {"max_iter": 1, "random_state": 0, "verbose": True, "device": "auto", "solver": "lbfgs"}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    estimator = fastbp.MLPRegressor(hidden_layer_sizes=(3,), **options).fit(X, y)
_device.PREDICT_WORK = 1
assert estimator.predict(X).shape == (30,)
with contextlib.redirect_stdout(io.StringIO()):
    print(fastbp.show_config()["gpu"], file=__import__("sys").__stdout__)
"""


@pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="there is a driver")
def test_a_missing_driver_is_named():
    pytest.importorskip("numba_cuda")
    lines = succeed("-c", TRAIN).stdout.splitlines()
    assert lines[0].startswith("backend='cuda' needs an NVIDIA GPU, but the driver is missing or does not work: ")
    assert "version 580 or newer" in lines[0] and "CUDA driver library cannot be found" in lines[0]
    assert lines[1] == lines[0]
    assert lines[2] == lines[0].replace("backend=", "device=")
    assert lines[3] == f"device='auto' trains on the CPU: {lines[0].split('but ')[1]}"
    assert lines[4] == f"none: {lines[0].split('but ')[1]}"
    assert len(lines) == 5


def test_a_missing_extra_is_named():
    start = "import sys\nsys.modules['numba_cuda'] = None\n"
    end = "assert not [name for name in sys.modules if name.startswith('numba.cuda')]"
    lines = succeed("-c", start + TRAIN + end).stdout.splitlines()
    lacking = 'the extra is missing: install what it needs by pip install "numba-cuda[cu13]>=0.30"'
    assert lines[0] == lines[1] == f"backend='cuda' needs an NVIDIA GPU, but {lacking}"
    assert lines[2] == f"device='cuda' needs an NVIDIA GPU, but {lacking}"
    assert lines[3:] == [f"device='auto' trains on the CPU: {lacking}", f"none: {lacking}"]


def test_nothing_of_cuda_is_imported_before_it_is_asked_for():
    code = """
import sys
import fastbp
from fastbp.backends import _device, get_backend
model = fastbp.MLPClassifier((2,), solver="lbfgs").fit([[0.0], [1.0]], [0, 1])
model.predict([[0.0]])
_device.is_on_device(model)
print([name for name in sys.modules if name.startswith(("numba.cuda", "numba_cuda", "cuda"))])
"""
    assert succeed("-c", code).stdout.splitlines()[-1] == "[]"


# ---------------------------------------------------------------------------------------------------------------------
# Drivers and devices as they might be


class Driver:
    """What ``numba.cuda`` says of a machine."""

    def __init__(self, error=None, usable=True, version=(13, 0), toolkit=(13, 1), devices=1, broken=None, cc=(9, 0)):
        self._error, self._usable, self._broken = error, usable and error is None, broken
        self.gpus = range(devices)
        self.runtime = SimpleNamespace(get_version=lambda: toolkit or 1 / 0)
        self.cudadrv = SimpleNamespace(driver=SimpleNamespace(driver=SimpleNamespace(get_version=lambda: version)))
        self._device = SimpleNamespace(compute_capability=cc, name="NVIDIA Z9")

    def is_available(self):
        return self._usable

    def cuda_error(self):
        return self._error

    def current_context(self):
        if self._broken:
            raise OSError(self._broken)
        late = SimpleNamespace(deallocations=SimpleNamespace(clear=lambda: None))
        return SimpleNamespace(get_memory_info=lambda: (2**33, 2**34), memory_manager=late)

    def get_current_device(self):
        return self._device


@pytest.fixture
def machine(monkeypatch):
    """A function that makes a machine and says what is missing there."""

    def made(**options):
        monkeypatch.setattr(_device, "simulated", lambda: False)
        monkeypatch.setattr(_device, "_without_extra", lambda: None)
        monkeypatch.setattr(_device, "_target", lambda: SimpleNamespace(cuda=Driver(**options)))
        _device._missing.cache_clear()
        return _device.missing()

    yield made
    _device._missing.cache_clear()


def test_a_whole_machine_lacks_nothing(machine):
    assert machine() is None
    assert machine(toolkit=None) is None  # without NVRTC
    assert _device.device_memory() == (2**33, 2**34)
    assert fastbp.show_config()["gpu"] == "NVIDIA Z9, 16.0 GiB, compute capability 9.0, driver for CUDA 13.0"
    assert _device.worth_it(10**5, 10**3) and not _device.worth_it(10**5, 10**3 - 1)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"error": "Call to cuInit results in CUDA_ERROR_NO_DEVICE (100)"}, ["a device is missing", "CUDA_ERROR_NO_D"]),
        ({"devices": 0}, ["a device is missing (CUDA counts 0 devices)", "CUDA_VISIBLE_DEVICES may hide it"]),
        ({"broken": "CUDA initialized before forking"}, ["a device is missing (OSError: CUDA initialized before"]),
        ({"cc": (7, 5)}, ["the device is too old: NVIDIA Z9 has the compute capability 7.5, and 8.0 is needed"]),
        (
            {"error": "\nlibrary cannot\n be found"},
            ["the driver is missing or does not work", "(library cannot be found"],
        ),
        (
            {"error": "CUDA is disabled due to setting NUMBA_DISABLE_CUDA=1"},
            ["the driver is not used: CUDA is disabled"],
        ),
        ({"version": (12, 4)}, ["the driver is too old: it is for CUDA 12.4, and the compiler for CUDA 13.1", "cu12]"]),
        ({"usable": False}, ["the extra is not whole (no NVVM", 'by pip install "numba-cuda[cu13]']),
    ],
)
def test_what_is_missing_is_named(machine, options, parts):
    lacking = machine(**options)
    assert all(part in lacking for part in parts), lacking
    with pytest.raises(RuntimeError) as caught:
        _device.require("device='cuda'")
    assert str(caught.value) == f"device='cuda' needs an NVIDIA GPU, but {lacking}"
    assert _device.description() == f"none: {lacking}"
    assert not _device.worth_it(10**9, 10**9)


def test_a_broken_extra_is_named_and_nothing_is_raised(monkeypatch):
    def broken():
        raise ImportError("no module named cuda.bindings")

    _device._missing.cache_clear()
    monkeypatch.setattr(_device, "_target", broken)
    lacking = _device.missing()
    monkeypatch.setattr(_device, "_without_extra", broken)
    _device._missing.cache_clear()
    assert _device.missing() == "CUDA does not start: ImportError: no module named cuda.bindings"
    _device._missing.cache_clear()
    assert lacking.startswith("the extra is not whole (ImportError: no module named cuda.bindings)")


def test_a_fork_is_another_process(machine, monkeypatch):
    assert machine() is None
    monkeypatch.setattr(_device, "_target", lambda: SimpleNamespace(cuda=Driver(broken="before forking")))
    assert _device.missing() is None
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    assert "before forking" in _device.missing()
