"""Callbacks: what a trainer tells of its progress, and who listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastbp.history import History
    from fastbp.trainer import Trainer


class Callback:
    """Base class of callbacks: override what you need.

    ``trainer.model`` has the weights of the last whole epoch: after an epoch these are its own, within an epoch those
    from before it. Any callback may change them with ``trainer.model.set_weights``, and training goes on from there.
    ``trainer.stop()`` ends the training after the epoch. An exception in a callback ends it at once; the model keeps
    the weights of the last whole epoch, or those that a callback has set since.

    Examples
    --------
    >>> import fastbp
    >>> class StopBelow(fastbp.Callback):
    ...     def on_epoch_end(self, trainer, epoch, logs):
    ...         if logs["loss"] < 0.1:
    ...             trainer.stop()
    """

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        """Before the first of ``n_epochs`` epochs of ``n_steps`` steps each."""

    def on_chunk_end(self, trainer: Trainer, epoch: int, step: int, logs: Mapping[str, float]) -> None:
        """After some steps, about every 0.2 s; ``step`` of the epoch are done. ``logs["loss"]``: their mean."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        """After epoch 0, 1, ...; ``logs``: ``loss``, ``val_loss`` where there is validation data, ``epoch_seconds``."""

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        """After the last epoch, also after one that Ctrl-C cut short. Not after an error."""

    def on_close(self, trainer: Trainer) -> None:
        """At the very end, also after an error, even one before ``on_train_begin``: close what you have opened."""


class ProgressBar(Callback):
    """A tqdm bar over all steps, with the loss behind it; ``fit(verbose=1)`` adds one.

    Parameters
    ----------
    **options
        Passed on to ``tqdm.tqdm``, for example ``file`` or ``mininterval``.
    """

    def __init__(self, **options: Any) -> None:
        self.options, self._n_steps = options, 0
        self._bar: Any = None

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        from tqdm.auto import tqdm

        self._n_steps = n_steps
        self._bar = tqdm(total=n_epochs * n_steps, unit="step", **{"dynamic_ncols": True, **self.options})

    def on_chunk_end(self, trainer: Trainer, epoch: int, step: int, logs: Mapping[str, float]) -> None:
        self._bar.set_description(f"epoch {epoch + 1}", refresh=False)
        self._bar.update(epoch * self._n_steps + step - self._bar.n)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        shown = {name: f"{value:.4g}" for name, value in logs.items() if name.endswith("loss")}
        self._bar.set_postfix(shown, refresh=False)

    def on_close(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
