"""Who is being fitted at the moment: one call of ``fit`` at a time for a trainer, a model and an estimator.

The entries are kept here and not in the objects, so that these can be copied, pickled and forked within a fit. An entry
lives as long as its ``with`` block: an error and Ctrl-C end it too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FITTING = (
    "this Trainer is within a fit, and has one at a time: begin another one when that has ended, not in its callbacks "
    "or in a second thread; or use another Trainer with a model of its own"
)
SHARED = (
    "the model is being trained in another thread: wait for the end of that fit, or give each Trainer a model of its "
    "own"
)
ELSEWHERE = "this Trainer is within a fit, which another thread changes step by step"
SET_ELSEWHERE = (
    "the model is being trained in another thread, which would overwrite these weights: set them in a callback of that "
    "fit, or when it has ended"
)


class Use:
    """A call that has an object to itself.

    Attributes
    ----------
    begun : bool
        Whether calls within this one are refused. Before, a method may call another one of the same object.
    kept : dict
        For the caller.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.begun, self.kept = False, dict[str, Any]()

    @property
    def here(self) -> bool:
        """Whether this thread made the call."""
        return self._thread == threading.get_ident()


_USES: dict[int, Use] = {}  # by id: an object in use is alive
if hasattr(os, "register_at_fork"):  # threads of the parent do not go on in a forked process
    os.register_at_fork(after_in_child=_USES.clear)


def use_of(thing: Any) -> Use | None:
    """The call that has the object now; None where there is none."""
    return _USES.get(id(thing))


@contextmanager
def in_use(thing: Any, refusal: str, *, nests: bool = False) -> Iterator[Use]:
    """Within the block, no other thread has the object, and no call within the block once ``begun`` is set.

    Parameters
    ----------
    thing : object
    refusal : str
        The words of the error.
    nests : bool
        Whether calls of the same thread within the block are taken nevertheless.

    Raises
    ------
    RuntimeError
        Where another call has it.
    """
    key, mine = id(thing), Use()
    try:
        use = _USES.setdefault(key, mine)  # in one step, whatever the threads
        if use is not mine and not (use.here and (nests or not use.begun)):
            raise RuntimeError(refusal)
        yield use
    finally:
        if _USES.get(key) is mine:
            del _USES[key]


def refuse_elsewhere(thing: Any, refusal: str) -> None:
    """Raise a RuntimeError where another thread has the object."""
    use = use_of(thing)
    if use is not None and not use.here:
        raise RuntimeError(refusal)


@contextmanager
def training(trainer: Any) -> Iterator[None]:
    """Within the block the trainer trains; its model may be trained by others in this thread alone, in callbacks.

    Raises
    ------
    RuntimeError
        Where the trainer trains already, or the model does in another thread.
    """
    with in_use(trainer, FITTING) as use, in_use(trainer.model, SHARED, nests=True):
        use.begun = True
        yield
