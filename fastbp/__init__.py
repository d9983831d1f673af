"""Multilayer perceptrons trained by backpropagation on hand-written Numba kernels."""

from pathlib import Path

if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parents[1]))  # a bare checkout: kernels/ lies beside this package

from fastbp._config import show_config
from fastbp.callbacks import Callback, ProgressBar
from fastbp.diagnostics import compare_backends, gradient_check
from fastbp.estimators import MLPClassifier, MLPRegressor
from fastbp.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual
from fastbp.model import Sequential
from fastbp.optimizers import SGD, Adam
from fastbp.trainer import History, Trainer

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "Adam",
    "BatchNorm",
    "Callback",
    "Dense",
    "Dropout",
    "History",
    "LayerNorm",
    "MLPClassifier",
    "MLPRegressor",
    "ProgressBar",
    "Residual",
    "Sequential",
    "Trainer",
    "__version__",
    "compare_backends",
    "gradient_check",
    "show_config",
]
