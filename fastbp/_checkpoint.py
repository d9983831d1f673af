"""Checkpoints: a training as it stands after an epoch, written to a file and taken up again, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from fastbp._callback_states import CallbackState, collected, matched, own, read_back, written
from fastbp._descriptions import describe, describe_model, first_difference, named_weights, read_weights
from fastbp._files import Tensors, damage_named, decode, encode, read, write
from fastbp._random import check_state
from fastbp._states import DamageError, array_of, check_like, entries, real, whole
from fastbp._validation import Array
from fastbp._words import shown
from fastbp.backends import Session
from fastbp.callbacks._base import Callback, kind_of
from fastbp.history import History
from fastbp.schedules._plateau import Plateau
from fastbp.schedules._rates import Position

if TYPE_CHECKING:
    from fastbp.trainer import Trainer


# Of the state in a file
ENTRIES = (
    "epoch", "epochs", "stopped", "history", "rows", "random_state", "rates", "mask_seed", "optimizer", "callbacks",
    "callback_keys",
)  # fmt: skip
SQUARES = ("second", "largest_second", "mean_square", "sum_of_squares")


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
    _states: list[CallbackState] = field(default_factory=list)

    @property
    def states(self) -> list[CallbackState]:
        """Those of all callbacks that have one."""
        return self._states + collected(self.listeners)

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
        **written(fit.states),
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
    notes : list of str
        What the user is to be warned of.

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
        with damage_named(path):
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
        with damage_named(self._path):
            try:
                yield
            except ValueError as error:
                if isinstance(error, UnicodeError) or str(error).startswith(f"{self._path} "):  # of the file itself
                    raise
                cure = ": resume from another checkpoint" if isinstance(error, DamageError) else ""
                raise ValueError(f"{self._path} cannot be resumed: {error}{cure}") from None

    def _take(self, header: dict[str, Any], tensors: Tensors, trainer: Trainer, fit: Fit) -> None:
        """Everything but the optimizer's state is checked here."""
        self._weights = read_weights(tensors, trainer.model, alone=False)
        finite = trainer.on_divergence == "raise"
        if finite and not all(np.isfinite(array).all() for array in self._weights):
            raise ValueError(
                "its weights must be finite, got infinity or NaN: resume from an earlier checkpoint, or go on with "
                "on_divergence='ignore'"
            )
        for name, array in zip(trainer.model._described.names, self._weights, strict=True):
            if name.startswith("variance") and (array < 0).any():
                raise DamageError(f"its {name} must be at least 0, got {array.min()!s}")
        names = [name for name in tensors.kinds if name.startswith("state.")]
        state = decode(header.get("state"), dict(zip(names, tensors.load(names), strict=True)))
        if isinstance(state, dict) and "callback_keys" not in state:  # by an earlier fastbp
            state["callback_keys"] = None
        entries(state, ENTRIES, "its state")
        self._epoch, self.stopped = whole(state["epoch"], "epoch"), state["stopped"]
        if not isinstance(self.stopped, bool):
            raise DamageError(f"stopped is {shown(self.stopped)}, expected True or False")
        n_steps = -(-len(fit.rows) // fit.settings["batch_size"])
        self._position = _position(state["rates"], trainer._rates.position, self._epoch, n_steps)
        epochs = whole(state["epochs"], "epochs")
        if epochs < self._epoch:
            raise DamageError(f"epochs is {epochs}, and {self._epoch} of them were finished")
        self._check_length(epochs, trainer, fit)
        if trainer._rates.spans_fit and self._position.n_epochs != epochs:
            raise DamageError(f"n_epochs is {self._position.n_epochs}, and the fit was to have {epochs} epochs")
        self._history = _history(state["history"], list(fit.history), self._epoch)
        self._rows = array_of(state["rows"], "its order of rows", dtype=fit.rows.dtype)
        if not np.array_equal(np.sort(self._rows), np.arange(len(fit.rows))):
            raise DamageError(f"its order of rows must hold each of {len(fit.rows)} rows once")
        self.mask_seed = whole(state["mask_seed"], "mask_seed", most=2**62 - 1)
        self._random_state = state["random_state"]
        _check_random_state(self._random_state, trainer._rng)
        self._optimizer = state["optimizer"]
        states = read_back(state["callbacks"], state["callback_keys"])
        self._callbacks, notes = matched(states, fit.listeners)
        self.notes = [f"{self._path}: {note}" for note in notes]
        for listener, its_state in self._callbacks:
            listener.check_state(trainer, self._epoch, its_state)

    def apply(self, trainer: Trainer, fit: Fit, session: Session) -> None:
        """Make trainer, fit and session stand where the checkpoint was written.

        Raises
        ------
        ValueError
            For an optimizer's state that is not built as the session's; nothing is changed then.
        """
        with self._named():
            check_like(self._optimizer, session.get_optimizer_state(), "the optimizer's state")
            _check_optimizer(self._optimizer, finite=trainer.on_divergence == "raise")
        session.set_parameters(self._weights)
        session.set_optimizer_state(self._optimizer)
        model = trainer.model
        model._weights, model.link, model._trained = self._weights, trainer._link, True
        trainer._rng.set_state(self._random_state)
        trainer._rates.position, trainer._mask_seed = self._position, self.mask_seed
        fit.rows[:] = self._rows
        fit.history, fit.epoch = self._history, self._epoch

    def hand_out(self) -> None:
        """Give the callbacks their states, once they have had ``on_train_begin``.

        First those of other classes than fastbp's, whose states nobody could check.

        Raises
        ------
        ValueError
            Where a callback does not take its state.
        """
        for listener, state in sorted(self._callbacks, key=lambda pair: own(pair[0])):
            try:
                listener.set_state(state)
            except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
                raise ValueError(
                    f"{self._path} cannot be resumed: the callback {kind_of(listener)} does not take its state "
                    f"({type(error).__name__}: {error}). Let set_state read it, or leave the callback out"
                ) from error

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


def _position(given: Any, here: Position, epoch: int, n_steps: int) -> Position:
    """Where the rates stand; ``here`` says of which kind they are."""
    entries(given, Position._fields, "its position of the learning rate")
    counts = {name: whole(given[name], name) for name in Position._fields if name not in ("rate", "plateau")}
    done = counts["epoch"] - counts["first_epoch"], counts["step"] - counts["first_step"]
    if done != (epoch, epoch * n_steps) or counts["n_steps"] != n_steps:
        raise DamageError(f"its counts must be those of {epoch} epochs with n_steps={n_steps}, got {counts}")
    rate, plateau = given["rate"], given["plateau"]
    if (rate is None) != (here.rate is None) or (plateau is None) != (here.plateau is None):
        raise DamageError(
            f"its learning rate must be of the kind of the optimizer's, got rate={shown(rate)} and "
            f"plateau={shown(plateau)}"
        )
    if plateau is not None:
        if not isinstance(plateau, list) or len(plateau) != len(Plateau._fields):
            raise DamageError(f"plateau is {shown(plateau)}, expected {', '.join(Plateau._fields)}")
        first, best, n_bad, n_cooldown = plateau
        plateau = Plateau(
            real(first, "the plateau's rate", least=0),
            real(best, "the plateau's best", infinite=True),
            whole(n_bad, "n_bad"),
            whole(n_cooldown, "n_cooldown"),
        )
    return Position(**counts, rate=None if rate is None else real(rate, "rate", least=0), plateau=plateau)


def _history(columns: Any, names: list[str], epochs: int) -> History:
    if not isinstance(columns, dict) or list(columns) != names:
        there = shown(list(columns)) if isinstance(columns, dict) else shown(columns)
        raise DamageError(f"its history has the values {there}, expected {names}")
    values = {
        name: array_of(column, f"its history of {name}", dtype=np.float64, shape=(epochs,)).tolist()
        for name, column in columns.items()
    }
    history = History(names)
    for k in range(epochs):
        history.append({name: column[k] for name, column in values.items()})
    return history


def _check_random_state(state: Any, rng: np.random.RandomState) -> None:
    """Raise a ValueError where the generator cannot take this state."""
    generator = type(rng._bit_generator)
    if not isinstance(state, dict) or state.get("bit_generator") != generator.__name__:
        there = state.get("bit_generator") if isinstance(state, dict) else state
        raise ValueError(
            f"its random numbers are those of {shown(there)}, and random_state here is a "
            f"{generator.__name__}: give the trainer one of the same kind"
        )
    check_like(state, rng.get_state(legacy=False), "its random state")
    try:
        check_state(state, "its random state")
    except ValueError as error:
        raise DamageError(str(error)) from None
    copy.deepcopy(rng).set_state(state)


def _check_optimizer(state: dict[str, Any], *, finite: bool) -> None:
    """Raise a ValueError for numbers that no optimizer comes to."""
    for name, value in state.items():
        what = f"the optimizer's state[{name!r}]"
        if name == "step":
            whole(value, what)
        elif isinstance(value, list):
            if finite and any(np.isnan(array).any() for array in value):
                raise DamageError(f"{what} must hold numbers, got NaN")
            if name in SQUARES and any((array < 0).any() for array in value):
                raise DamageError(f"{what} must be at least 0, as all squares are")
        else:
            real(value, what, least=0, most=1)  # a product of decay rates
