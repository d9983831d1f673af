"""States of callbacks in a checkpoint: whose each of them is, and what happens where one cannot be taken over."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from fastbp._states import DamageError
from fastbp._words import shown
from fastbp.callbacks._base import Callback, _Listener, kind_of

if TYPE_CHECKING:
    from fastbp.trainer import Trainer


class CallbackState(NamedTuple):
    """A callback's state.

    Attributes
    ----------
    kind : str
        Its class.
    optional : bool
        Whether a training may be resumed without it.
    state : dict
    key : dict or None
        What tells it from others of its class; None in a file by an earlier fastbp.
    """

    kind: str
    optional: bool
    state: dict[str, Any]
    key: dict[str, Any] | None

    @property
    def title(self) -> str:
        """Class and key, in words."""
        settings = ", ".join(f"{name}={value!r}" for name, value in (self.key or {}).items())
        return f"{self.kind}({settings})" if settings else self.kind


def key_of(callback: Callback) -> dict[str, Any]:
    """A callback's key as a file holds it."""
    try:
        key: Any = json.loads(json.dumps(callback.state_key(), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"state_key of {kind_of(callback)} must give what JSON can hold ({error}): numbers, strings, lists or dicts"
        ) from None
    if not isinstance(key, dict):
        raise TypeError(f"state_key of {kind_of(callback)} must give a dict, got {shown(key)}: put it under a name")
    return key


def collected(listeners: Sequence[Callback]) -> list[CallbackState]:
    """Those of all callbacks that have one."""
    found = [(listener, listener.get_state()) for listener in listeners]
    return [
        CallbackState(kind_of(one), bool(one.optional), state, key_of(one)) for one, state in found if state is not None
    ]


def written(states: Sequence[CallbackState]) -> dict[str, Any]:
    """Entries of a checkpoint; the keys are one of their own, which an earlier fastbp does not look at."""
    return {
        "callbacks": [(one.kind, one.optional, one.state) for one in states],
        "callback_keys": [one.key for one in states],
    }


def read_back(states: Any, keys: Any) -> list[CallbackState]:
    """What :func:`written` gave; ``keys`` is None in a file by an earlier fastbp.

    Raises
    ------
    ValueError
        For what it never gives.
    """
    if not isinstance(states, list) or not (keys is None or (isinstance(keys, list) and len(keys) == len(states))):
        raise DamageError(f"its states of callbacks are {shown(states)} and their keys {shown(keys)}, expected lists")
    found = []
    for k, entry in enumerate(states):
        key = None if keys is None else keys[k]
        if not isinstance(entry, list) or list(map(type, entry)) != [str, bool, dict]:
            raise DamageError(f"its callback {k} is {shown(entry)}, expected a class, True or False, and a state")
        if not isinstance(key, dict | None):
            raise DamageError(f"its callback {k} has the key {shown(key)}, expected a dict")
        found.append(CallbackState(entry[0], entry[1], entry[2], key))
    return found


def matched(
    states: Sequence[CallbackState], listeners: Sequence[Callback]
) -> tuple[list[tuple[Callback, dict[str, Any]]], list[str]]:
    """Each state with the callback that it is for: of its class and with its key, in the order of the list.

    Returns
    -------
    pairs : list of callback and state
    notes : list of str
        On states that no callback here has a use for, though there are some of that class.

    Raises
    ------
    ValueError
        For a state that no callback takes, where it may not be left out.
    """
    free, pairs, left = [(one, kind_of(one), key_of(one)) for one in listeners], [], []
    for state in states:
        same = (k for k, (_, kind, key) in enumerate(free) if kind == state.kind and state.key in (None, key))
        place = next(same, None)
        if place is None:
            left.append(state)
        else:
            pairs.append((free.pop(place)[0], state.state))
    for state in left:
        if not state.optional:
            listed = ", ".join(one.title if one.kind == state.kind else one.kind for one in states)
            raise ValueError(
                f"it has the state of the callbacks {listed}, and there is no {state.title} for one of them: give the "
                "same callbacks"
            )
    notes = []
    for state in left:
        others = [CallbackState(kind, True, {}, key).title for _, kind, key in free if kind == state.kind]
        if others:
            notes.append(
                f"it has the state of {state.title}, which is left out: there is {', '.join(others)}, which begins anew"
            )
    return pairs, notes


def own(callback: Callback) -> bool:
    """Whether a callback is one of fastbp's."""
    return type(callback).__module__.startswith("fastbp.") and not isinstance(callback, _Listener)


class Before:
    """A trainer, its model and its callbacks as they are, to go back to where a training cannot be resumed.

    Of the callbacks of fastbp the attributes are kept, of others what ``get_state`` gives.
    """

    def __init__(self, trainer: Trainer, listeners: Sequence[Callback]) -> None:
        model = trainer.model
        self._trainer, self._model = trainer, (model._weights, model.link, model._trained)
        self._random_state = trainer._rng.get_state(legacy=False)
        names = ("_mask_seed", "_optimizer_state", "_session", "_fit", "_stop", "_epoch", "chunk_learning_rates")
        self._attributes = {name: getattr(trainer, name) for name in names}
        self._position, self.resumed = trainer._rates.position, False
        self._callbacks = [_kept(listener, trainer) for listener in listeners]

    def restore(self) -> None:
        """Go back."""
        trainer = self._trainer
        model = trainer.model
        model._weights, model.link, model._trained = self._model
        trainer._rng.set_state(self._random_state)
        trainer._rates.position = self._position
        for name, value in self._attributes.items():
            setattr(trainer, name, value)
        for undo in self._callbacks:
            undo()


def _kept(callback: Callback, trainer: Trainer) -> Callable[[], None]:
    """What brings a callback back to where it is now."""
    if own(callback):
        attributes = {name: value.copy() if type(value) is list else value for name, value in vars(callback).items()}

        def undo() -> None:
            callback.on_close(trainer)
            vars(callback).clear()
            vars(callback).update(attributes)

        return undo
    state = None
    with suppress(Exception):  # it may have none before on_train_begin
        state = copy.deepcopy(callback.get_state())

    def give_back() -> None:
        if state is not None:
            with suppress(Exception):  # the error that is under way tells more
                callback.set_state(state)

    return give_back
