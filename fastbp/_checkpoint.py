"""Checkpoints: a training as it stands after an epoch, written to a file and taken up again, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from fastbp._descriptions import describe, describe_model, first_difference, named_weights, read_weights
from fastbp._files import Tensors, decode, encode, read, write
from fastbp._validation import Array, shown
from fastbp.backends import Session
from fastbp.callbacks._base import Callback, kind_of
from fastbp.history import History
from fastbp.schedules._plateau import Plateau
from fastbp.schedules._rates import Position

if TYPE_CHECKING:
    from fastbp.trainer import Trainer


@dataclass
class Fit:
    """A call of ``fit`` as far as it has come.

    Parameters
    ----------
    settings : dict
        What a training that goes on from here must have in common with it: data, batch_size, shuffle.
    epochs : int
    history : History
    rows : ndarray
        The order of rows; overwritten by each epoch's.
    listeners : sequence of Callback
    epoch : int
        Whole epochs so far.
    whole : bool
        Whether no epoch is under way.
    """

    settings: dict[str, Any]
    epochs: int
    history: History
    rows: Array
    listeners: Sequence[Callback]
    epoch: int = 0
    whole: bool = True
    _states: list[tuple[str, bool, dict[str, Any]]] = field(default_factory=list)

    @property
    def states(self) -> list[tuple[str, bool, dict[str, Any]]]:
        """Of each callback that has a state its class, whether it may be left out, and the state."""
        found = [(kind_of(listener), listener.optional, listener.get_state()) for listener in self.listeners]
        return self._states + [(kind, optional, state) for kind, optional, state in found if state is not None]

    def close(self) -> None:
        """At the end of the training: keep no more than a later ``save`` needs."""
        self._states, self.listeners = self.states, ()


def settings(
    data: tuple[Any, Array, Array | None],
    validation: tuple[Any, Array, Array | None] | None,
    batch_size: int,
    shuffle: bool,
) -> dict[str, Any]:
    """What decides the steps of an epoch, in words that a file can hold."""
    X, y, weights = data
    return {
        "X": {"shape": list(X.shape), "sparse": sparse.issparse(X)},
        "y": {"shape": list(y.shape), "dtype": y.dtype.name},
        "sample_weight": weights is not None,
        "validation_rows": 0 if validation is None else int(validation[0].shape[0]),
        "batch_size": batch_size,
        "shuffle": shuffle,
    }


def _description(trainer: Trainer, fit: Fit) -> dict[str, Any]:
    """What must be the same where the training goes on."""
    return {
        "model": describe_model(trainer.model),
        "loss": describe(trainer.loss),
        "optimizer": describe(trainer.optimizer),
        "fit": fit.settings,
    }


def save(trainer: Trainer, fit: Fit | None, path: Path) -> None:
    """Write a checkpoint.

    Raises
    ------
    RuntimeError
        Where there is no whole epoch to write down.
    """
    if fit is None:
        raise RuntimeError(
            "there is no whole training by steps to save: a checkpoint is what fit can go on from, and fit has not "
            "been called yet, or has ended within an epoch. model.save keeps the model"
        )
    if not fit.whole:
        raise RuntimeError(
            "a checkpoint is of whole epochs: call trainer.save in on_epoch_complete, not within an epoch"
        )
    session = trainer._session
    optimizer = trainer._optimizer_state if session is None else session.get_optimizer_state()
    state = {
        "epoch": fit.epoch,
        "epochs": fit.epochs,
        "stopped": trainer.stopping,
        "history": {name: np.array(values, float) for name, values in fit.history.items()},
        "rows": fit.rows,
        "random_state": trainer._rng.get_state(legacy=False),
        "rates": trainer._rates.position._asdict(),
        "mask_seed": trainer._mask_seed,
        "optimizer": optimizer,
        "callbacks": fit.states,
    }
    tensors = named_weights(trainer.model)
    header = {"kind": "checkpoint", **_description(trainer, fit), "state": encode(state, "state", tensors)}
    write(path, header, tensors)


class Saved:
    """A checkpoint, checked against the training that is to go on from it.

    Parameters
    ----------
    path : Path
    trainer : Trainer
    fit : Fit
        The call that goes on; not changed before :meth:`apply`.

    Attributes
    ----------
    mask_seed : int
        What the session is to be opened with.
    stopped : bool
        Whether a callback had ended the training.
    callbacks : list of callback and state
        For ``set_state``, once the callbacks have had ``on_train_begin``.

    Raises
    ------
    ValueError
        For a file that is no checkpoint or damaged, or of a training that differs.
    OSError
        Where it cannot be read.
    """

    def __init__(self, path: Path, trainer: Trainer, fit: Fit) -> None:
        header, tensors = read(path, "checkpoint")
        self._path, here = path, _description(trainer, fit)
        here["model"]["link"] = trainer._link
        for name, mine in here.items():
            difference = first_difference(header.get(name), mine, name)
            if difference:
                raise ValueError(
                    f"{path} is of another training: {difference}. Resume with the model, loss, optimizer, data, "
                    "batch_size and shuffle of that one"
                )
        with self._named():
            self._take(header, tensors, trainer, fit)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors within the block name the file."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self._path} cannot be resumed: {error}") from None
        except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{self._path} is damaged: {type(error).__name__}: {error}") from error

    def _take(self, header: dict[str, Any], tensors: Tensors, trainer: Trainer, fit: Fit) -> None:
        """Everything but the optimizer's state is checked here."""
        self._weights = read_weights(tensors, trainer.model, alone=False)
        if trainer.on_divergence == "raise" and not all(np.isfinite(array).all() for array in self._weights):
            raise ValueError("it has weights that are infinite or NaN")
        names = [name for name in tensors.kinds if name.startswith("state.")]
        state = decode(header["state"], dict(zip(names, tensors.load(names), strict=True)))
        self._epoch, self.stopped = _whole(state["epoch"], "epoch"), bool(state["stopped"])
        self._position = _position(state["rates"], trainer._rates.position)
        self._check_length(_whole(state["epochs"], "epochs"), trainer, fit)
        self._history = _history(state["history"], list(fit.history), self._epoch)
        self._rows, self.mask_seed = state["rows"], _whole(state["mask_seed"], "mask_seed")
        if not np.array_equal(np.sort(self._rows), np.arange(len(fit.rows))):
            raise ValueError(f"its order of rows is none of {len(fit.rows)} rows")
        self._random_state = state["random_state"]
        _check_random_state(self._random_state, trainer._rng)
        self._optimizer = state["optimizer"]
        self.callbacks = _matched(state["callbacks"], fit.listeners)

    def apply(self, trainer: Trainer, fit: Fit, session: Session) -> None:
        """Make trainer, fit and session stand where the checkpoint was written.

        Raises
        ------
        ValueError
            For an optimizer's state that is not built as the session's; nothing is changed then.
        """
        with self._named():
            check_like(self._optimizer, session.get_optimizer_state(), "the optimizer's state")
        session.set_parameters(self._weights)
        session.set_optimizer_state(self._optimizer)
        trainer.model._weights, trainer.model.link = self._weights, trainer._link
        trainer._rng.set_state(self._random_state)
        trainer._rates.position, trainer._mask_seed = self._position, self.mask_seed
        fit.rows[:] = self._rows
        fit.history, fit.epoch = self._history, self._epoch

    def _check_length(self, epochs: int, trainer: Trainer, fit: Fit) -> None:
        if fit.epochs < self._epoch:
            raise ValueError(
                f"it has {self._epoch} epochs already, and epochs={fit.epochs} counts these too: give more"
            )
        if trainer._rates.spans_fit and epochs != fit.epochs:
            raise ValueError(
                f"the schedule {shown(trainer.optimizer.learning_rate)} spans the fit, which was to have {epochs} "
                f"epochs: give epochs={epochs}, not {fit.epochs}, or from the beginning a schedule with a total"
            )


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {shown(value)}, expected a whole number of at least 0")
    return value


def _position(given: dict[str, Any], here: Position) -> Position:
    """Where the rates stand; ``here`` says of which kind they are."""
    counts = {name: _whole(given[name], name) for name in Position._fields if name not in ("rate", "plateau")}
    rate, plateau = given["rate"], given["plateau"]
    if (rate is None) != (here.rate is None) or (plateau is None) != (here.plateau is None):
        raise ValueError("its learning rate is of another kind")
    if plateau is not None:
        first, best, n_bad, n_cooldown = plateau
        plateau = Plateau(float(first), float(best), _whole(n_bad, "n_bad"), _whole(n_cooldown, "n_cooldown"))
    return Position(**counts, rate=None if rate is None else float(rate), plateau=plateau)


def _history(columns: dict[str, Array], names: list[str], epochs: int) -> History:
    if list(columns) != names or any(values.shape != (epochs,) for values in columns.values()):
        raise ValueError(
            f"its history has the values {', '.join(columns)}, expected {', '.join(names)} of {epochs} epochs"
        )
    history = History(names)
    for k in range(epochs):
        history.append({name: float(values[k]) for name, values in columns.items()})
    return history


def _check_random_state(state: Any, rng: np.random.RandomState) -> None:
    """Raise a ValueError where the generator cannot take this state."""
    generator = type(rng._bit_generator)
    if state["bit_generator"] != generator.__name__:
        raise ValueError(
            f"its random numbers are those of {shown(state['bit_generator'])}, and random_state here is a "
            f"{generator.__name__}: give the trainer one of the same kind"
        )
    np.random.RandomState(generator()).set_state(state)


def check_like(value: Any, example: Any, what: str) -> None:
    """Raise a ValueError where ``value`` is not built as ``example``: keys, lengths, shapes, dtypes, kinds of numbers.

    >>> check_like({"step": 1}, {"step": 0, "first": []}, "state")
    Traceback (most recent call last):
        ...
    ValueError: state has the entries 'step', expected 'step', 'first'
    """
    if isinstance(example, dict):
        if not isinstance(value, dict) or value.keys() != example.keys():
            there = ", ".join(map(repr, value)) if isinstance(value, dict) else shown(value)
            raise ValueError(f"{what} has the entries {there}, expected {', '.join(map(repr, example))}")
        for key in example:
            check_like(value[key], example[key], f"{what}[{key!r}]")
    elif isinstance(example, list | tuple):
        if not isinstance(value, list) or len(value) != len(example):
            raise ValueError(f"{what} must be a list of {len(example)} entries, got {shown(value)}")
        for k, (a, b) in enumerate(zip(value, example, strict=True)):
            check_like(a, b, f"{what}[{k}]")
    elif isinstance(example, np.ndarray):
        if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (example.shape, example.dtype):
            raise ValueError(f"{what} must be an array of {example.dtype} and the shape {example.shape}")
    elif isinstance(value, np.ndarray | dict | list) or isinstance(value, str) != isinstance(example, str):
        raise ValueError(f"{what} is {shown(value)}, expected something like {shown(example)}")


def _matched(states: list[Any], listeners: Sequence[Callback]) -> list[tuple[Callback, dict[str, Any]]]:
    """Each state with the callback that it is for: of its class, in the order of the list."""
    free, found = list(listeners), []
    for kind, optional, state in states:
        listener = next((listener for listener in free if kind_of(listener) == kind), None)
        if listener is None:
            if optional:
                continue
            raise ValueError(
                f"it has the state of the callbacks {', '.join(kind for kind, _, _ in states)}, and there is no {kind} "
                "for one of them: give the same callbacks"
            )
        free.remove(listener)
        found.append((listener, state))
    return found
