"""Multilayer perceptrons trained by backpropagation on hand-written Numba kernels."""

from pathlib import Path

if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parents[1]))  # a bare checkout: kernels/ lies beside this package

from fastbp import schedules
from fastbp._config import show_config
from fastbp._gradient_flow_callback import GradientFlow
from fastbp.callbacks import Callback, Checkpoint, CSVLogger, EarlyStopping, LearningRateLogger, ProgressBar
from fastbp.diagnostics import compare_backends, gradient_check, gradient_flow
from fastbp.estimators import MLPClassifier, MLPRegressor
from fastbp.history import History
from fastbp.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual
from fastbp.model import Sequential, load
from fastbp.optimizers import SGD, Adagrad, Adam, AdamW, Lion, NAdam, RMSprop
from fastbp.trainer import Trainer

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "GradientFlow",
    "History",
    "LayerNorm",
    "LearningRateLogger",
    "Lion",
    "MLPClassifier",
    "MLPRegressor",
    "NAdam",
    "ProgressBar",
    "RMSprop",
    "Residual",
    "Sequential",
    "Trainer",
    "__version__",
    "compare_backends",
    "gradient_check",
    "gradient_flow",
    "load",
    "schedules",
    "show_config",
]
