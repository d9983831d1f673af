"""Outputs and losses without an update, batch after batch through one workspace, in one launch."""

from __future__ import annotations

from typing import Any

from fastbp.kernels.cuda.training import Launcher, Store


def predict_rows(
    launcher: Launcher, out: Any, program: Any, buffers: Any, store: Store, X: Any, targets: Any, order: Any,
    places: Any, numbers: Any, n_batches: int, stream: Any = 0,
) -> None:  # fmt: skip
    """Outputs for the rows of ``order``, flat and without padding, to ``out``; they lie at ``places`` in X."""
    arguments = program, buffers, store, X, targets, order, places, numbers, out
    launcher(*arguments, step=0, begin=0, end=n_batches, stream=stream)


def evaluate_rows(
    launcher: Launcher, losses: Any, program: Any, buffers: Any, store: Store, X: Any, targets: Any, order: Any,
    places: Any, numbers: Any, n_batches: int, stream: Any = 0,
) -> None:  # fmt: skip
    """Loss of each row of ``order``, times its weight; float64."""
    arguments = program, buffers, store, X, targets, order, places, numbers, losses
    launcher(*arguments, step=0, begin=0, end=n_batches, stream=stream)
