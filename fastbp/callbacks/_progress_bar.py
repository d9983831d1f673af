"""The bar that ``verbose=1`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastbp.callbacks._base import Callback

if TYPE_CHECKING:
    from fastbp.trainer import Trainer


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
        # `initial` for the speed, which is that of this process
        fixed = {"total": n_epochs * n_steps, "initial": trainer.epoch * n_steps, "unit": "step"}
        self._bar = tqdm(**{**fixed, "dynamic_ncols": True, **self.options})

    def on_chunk_end(self, trainer: Trainer, epoch: int, step: int, logs: dict[str, float]) -> None:
        self._bar.set_description(f"epoch {epoch + 1}", refresh=False)
        self._bar.update(epoch * self._n_steps + step - self._bar.n)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        shown = {name: f"{value:.4g}" for name, value in logs.items() if name.endswith("loss")}
        self._bar.set_postfix(shown, refresh=False)

    def on_close(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
