"""The epochs of one call of ``Trainer.fit``: what is told to whom, and what is left where they end early."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp._callback_states import Before
from fastbp._checkpoint import Fit, Saved, settings
from fastbp._orders import Orders
from fastbp._run import Run, ctrl_c_waits
from fastbp._validation import Array, on_device
from fastbp._verify import verify_step
from fastbp._warnings import users_level
from fastbp.backends import Session
from fastbp.backends._targets import row_weights, too_few_rows
from fastbp.callbacks import Callback
from fastbp.history import History
from fastbp.kernels.layout import BATCH_NORM

if TYPE_CHECKING:
    from fastbp.trainer import Trainer

Data = tuple[Array, Array, Array | None]  # X, y and sample weights as a backend takes them


def check_batches(trainer: Trainer, data: Data, batch_size: int) -> None:
    """Raise a ValueError where a batch norm would find no variance, in batches of a row or of rows without a weight."""
    n_rows = data[0].shape[0]
    if not trainer.model._described.has(BATCH_NORM):
        return
    if min(batch_size, n_rows) == 1:
        raise ValueError(
            "a BatchNorm needs batches of at least 2 rows, since one row has no variance: got "
            f"batch_size={batch_size} and {n_rows} rows of X"
        )
    weights = row_weights(trainer.loss, *data[1:])
    if weights is not None and too_few_rows(weights):
        raise ValueError(
            "a BatchNorm needs at least 2 rows with a weight above 0, since one row has no variance: got "
            f"{np.count_nonzero(weights)} of {n_rows} rows; give more rows a weight, or take a LayerNorm"
        )


def train(
    trainer: Trainer,
    data: Data,
    validation: Data | None,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    listeners: Sequence[Callback],
    resume_from: Path | None = None,
) -> History:
    """``Trainer.fit`` on arguments that have been checked, without its warning; with ``batch_size`` rows at most."""
    if resume_from is None:
        return _train(trainer, data, validation, epochs, batch_size, shuffle, listeners)
    before = Before(trainer, listeners)
    try:
        return _train(trainer, data, validation, epochs, batch_size, shuffle, listeners, resume_from, before)
    except BaseException:
        if not before.resumed:
            before.restore()
        raise


def _train(
    trainer: Trainer,
    data: Data,
    validation: Data | None,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    listeners: Sequence[Callback],
    resume_from: Path | None = None,
    before: Before | None = None,
) -> History:
    """The same; ``before`` is told when the training has been resumed."""
    orders = Orders(data[0].shape[0], trainer._rng, compiled=trainer.backend != "reference")
    optional = [*["val_loss"] * (validation is not None), *["learning_rate"] * trainer._rates.scheduled]
    history, n_steps = History(["loss", *optional, "epoch_seconds"]), -(-len(orders.rows) // batch_size)
    fit = Fit(settings(data, validation, batch_size, shuffle), epochs, history, orders.rows, listeners)
    session, saved = _begin(trainer, data, fit, n_steps, resume_from)
    if trainer.verify:
        _verify(trainer, data, orders.rows[:batch_size], batch_size)
    validation_loss = None if validation is None else session.evaluation(*validation)
    history, model, stopped = fit.history, trainer.model, saved is not None and saved.stopped
    link, was_trained = model.link, model._trained
    model.link, model._trained, trainer._stop = trainer._link, True, False
    trainer._fit, trainer._epoch = fit, fit.epoch
    run = Run(trainer, session, data, batch_size, n_steps, listeners)
    trainer._session, settled = session, False
    try:
        for listener in listeners:
            listener.on_train_begin(trainer, epochs, n_steps)
        if saved is not None and before is not None:
            saved.hand_out()
            before.resumed = True
        for epoch in range(epochs if stopped else fit.epoch, epochs):
            fit.whole, start = False, time.perf_counter()
            rows = orders.draw() if shuffle else orders.rows
            logs = {"loss": run.epoch(epoch, rows), "epoch_seconds": time.perf_counter() - start}
            if epoch + 1 == epochs and trainer.on_divergence == "raise":
                run.check_outputs()
            run.hand_over()
            if validation_loss is not None:
                logs["val_loss"] = validation_loss()
            if trainer._rates.scheduled:
                logs["learning_rate"] = run.last_rate
            trainer._rates.end_epoch(logs)
            history.append(logs)
            fit.epoch, fit.whole, trainer._epoch = epoch + 1, True, epoch + 1
            for listener in listeners:
                listener.on_epoch_end(trainer, epoch, logs)
            for listener in listeners:
                listener.on_epoch_complete(trainer, epoch, logs)
            if trainer._stop:
                break
        trainer._stop = trainer._stop or stopped
        ended = "stopped by a callback" if trainer._stop else "ended"
        history.message, settled = f"{ended} after {len(history.epochs)} of {epochs} epochs", True
    except KeyboardInterrupt:
        with ctrl_c_waits():
            history.interrupted, history.message = True, f"interrupted {run.place}"
            trainer._fit = None
            run.cut_short()
            settled = True
    finally:
        with ctrl_c_waits():
            if not settled:  # an error
                trainer._fit = None
                run.go_back()
            trainer._optimizer_state, trainer._session = session.get_optimizer_state(), None
            if not run.trained:
                model.link, model._trained = link, was_trained
    try:
        for listener in listeners:
            listener.on_train_end(trainer, history)
    finally:
        fit.close()
    return history


def _begin(
    trainer: Trainer, data: Data, fit: Fit, n_steps: int, resume_from: Path | None
) -> tuple[Session, Saved | None]:
    """Open a session: anew, or at a checkpoint, at which trainer, model and fit then stand too."""
    saved, batch_size = None if resume_from is None else Saved(resume_from, trainer, fit), fit.settings["batch_size"]
    for note in [] if saved is None else saved.notes:
        warnings.warn(note, stacklevel=users_level())
    seed = trainer._mask_seed if saved is None else saved.mask_seed
    session = trainer._open(*data, batch_size=batch_size, seed=seed)
    if saved is not None:
        saved.apply(trainer, fit, session)
    else:
        trainer._rates.begin(fit.epochs, n_steps, validated=fit.settings["validation_rows"] > 0)
        if trainer._optimizer_state is not None:
            session.set_optimizer_state(trainer._optimizer_state)
    return session, saved


def _verify(trainer: Trainer, data: Data, rows: Array, batch_size: int) -> None:
    """Take the first step with the reference too."""
    X: Any = data[0]
    host = X.copy_to_host() if on_device(X) else X
    verify_step(
        trainer._open(*data, batch_size=batch_size),
        trainer._open(host, *data[1:], batch_size=batch_size, backend="reference"),
        rows,
        network=trainer.model._described,
        learning_rate=trainer.learning_rate,
        backend=trainer.backend,
        precision=trainer.precision,
    )
