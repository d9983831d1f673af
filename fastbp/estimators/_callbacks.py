"""scikit-learn's callbacks (``set_callbacks``) as listeners of a training: one task an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastbp.callbacks import Callback
from fastbp.history import History
from fastbp.trainer import Trainer


class SklearnCallbacks(Callback):
    """Opens and ends a task of scikit-learn's callback context for each epoch.

    Parameters
    ----------
    estimator : BaseMLP
    context : sklearn.callback.CallbackContext
        The root task, that of ``fit``.
    data : dict
        ``X``, ``y`` and ``metadata`` as the hooks get them.
    attributes : callable
        What the estimator would have if the training ended now; called where a hook asks for a fitted estimator.
    """

    def __init__(
        self, estimator: Any, context: Any, data: Mapping[str, Any], attributes: Callable[[], dict[str, Any]]
    ) -> None:
        self._context, self._n_epochs = context, 0
        self._task: Any = None
        self._arguments = {"estimator": estimator, **data, "reconstruction_attributes": attributes}

    def _begin(self) -> None:
        self._task = self._context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(**self._arguments)

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        self._n_epochs = n_epochs
        self._begin()

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        task, self._task = self._task, None
        if task.call_on_fit_task_end(**self._arguments):
            trainer.stop()
        if not trainer.stopping and epoch + 1 < self._n_epochs:
            self._begin()

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        if self._task is not None:  # the task of an epoch that another listener or Ctrl-C has kept from being whole
            self._task.call_on_fit_task_end(estimator=self._arguments["estimator"])
