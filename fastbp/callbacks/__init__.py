"""Callbacks: what a trainer tells of its progress, and who listens."""

from fastbp.callbacks._base import HOOKS, Callback
from fastbp.callbacks._checkpoint import Checkpoint
from fastbp.callbacks._early_stopping import EarlyStopping
from fastbp.callbacks._loggers import CSVLogger, LearningRateLogger
from fastbp.callbacks._progress_bar import ProgressBar

__all__ = [
    "HOOKS",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LearningRateLogger",
    "ProgressBar",
]
