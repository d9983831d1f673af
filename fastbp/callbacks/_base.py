"""What a trainer tells of its progress, and who may listen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastbp._arrays import limited
from fastbp._words import shown

if TYPE_CHECKING:
    from fastbp.history import History
    from fastbp.trainer import Trainer


class Callback:
    """Base class of callbacks: override what you need.

    ``trainer.model`` has the weights of the last whole epoch: after an epoch these are its own, within an epoch those
    from before it. Any callback may change them with ``trainer.model.set_weights``, and training goes on from there.
    ``trainer.stop()`` ends the training after the epoch. An exception in a callback ends it at once; the model keeps
    the weights of the last whole epoch, or those that a callback has set since.

    ``fit`` also takes objects of other classes that have some of these methods. A method whose name begins with
    ``on_`` and is none of these is refused: it would never be called.

    Attributes
    ----------
    optional : bool
        Whether a training may be resumed without this callback, though the checkpoint has its state: True of what only
        writes down, False of what decides.

    Examples
    --------
    >>> import fastbp
    >>> class StopBelow(fastbp.Callback):
    ...     def on_epoch_end(self, trainer, epoch, logs):
    ...         if logs["loss"] < 0.1:
    ...             trainer.stop()
    """

    optional = False

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        """Before the first of ``n_epochs`` epochs of ``n_steps`` steps each.

        ``trainer.epoch`` of them are done already, where the training goes on from a checkpoint.
        """

    def on_chunk_end(self, trainer: Trainer, epoch: int, step: int, logs: dict[str, float]) -> None:
        """After some steps, about every 0.2 s; ``step`` of the epoch are done. ``logs["loss"]``: their weighted mean.

        ``trainer.chunk_learning_rates`` has the rates of these steps.
        """

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        """After epoch 0, 1, ...

        ``logs``: ``loss``, ``val_loss`` where there is validation data, ``learning_rate`` where there is a schedule,
        ``epoch_seconds``. What is added to it, callbacks that come later in the list see too: a score to stop by, for
        example.
        """

    def on_epoch_complete(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        """After all callbacks have had ``on_epoch_end``: the moment for ``trainer.save``."""

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        """After the last epoch, also after one that Ctrl-C cut short. Not after an error."""

    def on_close(self, trainer: Trainer) -> None:
        """At the very end, also after an error, even one before ``on_train_begin``: close what you have opened."""

    def get_state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps of this callback; None for nothing.

        A dict of numbers, strings, None, arrays, and lists and dicts of these.
        """
        return None

    def state_key(self) -> dict[str, Any]:
        """What tells this callback from others of its class, where a training is resumed.

        A state goes to the callback of the same class with the same key, by what it watches and where it writes for
        one: a dict of what JSON holds. Of several with the same key the first has the first state, and so on. A state
        that no callback takes is an error, or left out with a warning where it is ``optional``.
        """
        return {}

    def check_state(self, trainer: Trainer, epoch: int, state: dict[str, Any]) -> None:
        """Raise a ValueError for a state that :meth:`set_state` cannot take.

        Called before anything is changed, where a training is to be resumed after ``epoch`` epochs.
        """

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`get_state` gave; called after ``on_train_begin`` where a training is resumed.

        After an error here nothing is resumed: model and trainer are as they were before ``fit``, and callbacks whose
        ``get_state`` gave something then get that back.
        """


MOST = 10**4  # a generator of more callbacks may have no end
HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class _Listener(Callback):
    """An object of another class that has some of the methods."""

    def __init__(self, listener: Any) -> None:
        self.listener, self.optional = listener, bool(getattr(listener, "optional", False))
        for name in (*HOOKS, "get_state", "state_key", "check_state", "set_state"):
            if callable(getattr(listener, name, None)):
                setattr(self, name, getattr(listener, name))


def kind_of(callback: Callback) -> str:
    """Name of the class whose state a checkpoint keeps."""
    return type(callback.listener if isinstance(callback, _Listener) else callback).__name__


def as_listeners(callbacks: Any) -> list[Callback]:
    """The callbacks as a list of :class:`Callback`.

    Raises
    ------
    TypeError
        For what can be none, or has a method that is not known.
    """
    given = limited(callbacks, "callbacks must be a sequence of fastbp.Callback", most=MOST)
    return [_as_listener(callback) for callback in given]


def _as_listener(callback: Any) -> Callback:
    known = ", ".join(HOOKS)
    if isinstance(callback, type):
        raise TypeError(
            f"callbacks must hold instances of fastbp.Callback, got the class {callback.__name__}: "
            f"{callback.__name__}(...) makes one of it"
        )
    if not isinstance(callback, Callback) and not any(callable(getattr(callback, name, None)) for name in HOOKS):
        raise TypeError(
            "callbacks must hold instances of fastbp.Callback, or objects with some of its methods "
            f"({known}), got {shown(callback)}"
        )
    for name in dir(callback):
        if name.startswith("on_") and name not in HOOKS and callable(getattr(callback, name, None)):
            raise TypeError(
                f"the callback {type(callback).__name__} has a method {name}, which would never be called: the methods "
                f"are {known}"
            )
    return callback if isinstance(callback, Callback) else _Listener(callback)
