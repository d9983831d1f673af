"""Every compiled kernel has a NumPy twin with its name and its arguments."""

import importlib
import inspect

import pytest

from fastbp.kernels.cpu import _jit

MODULES = [
    "activations",
    "adaptive",
    "batch_norm",
    "clipping",
    "dropout",
    "gemm",
    "losses",
    "normalization",
    "operations",
    "optimizers",
    "output_losses",
    "rectifiers",
    "residual",
    "robust_losses",
    "row_weights",
    "rules",
    "shuffle",
    "soft_targets",
    "sparse",
    "special",
    "tiles",
    "step",
    "update",
    "training",
    "predict",
]


def own_functions(module):
    """Public functions that a module defines, compiled or not."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    }


def parameters(function):
    """Names of the parameters without a default."""
    return [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]


@pytest.mark.parametrize("name", MODULES)
def test_every_kernel_has_a_twin(name):
    compiled = own_functions(importlib.import_module(f"fastbp.kernels.cpu.{name}"))
    twins = own_functions(importlib.import_module(f"fastbp.kernels.reference.{name}"))
    assert compiled
    assert set(compiled) == set(twins)
    for kernel, function in compiled.items():
        if parameters(function) == ["real"]:  # a scalar function, chosen by its type
            assert parameters(twins[kernel]) == ["x"]
        else:
            assert parameters(function) == parameters(twins[kernel]), kernel


def test_kernels_are_seen():
    step = importlib.import_module("fastbp.kernels.cpu.step")
    training = importlib.import_module("fastbp.kernels.cpu.training")
    assert isinstance(training.train_steps, _jit.parallel)
    assert {"rows_step", "layer_forward"} <= set(own_functions(step))
    assert "gemm" not in own_functions(step)
    assert parameters(step.batch_weight) == ["weights", "order"]
