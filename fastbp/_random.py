"""States of random generators: what NumPy takes for one without a look, and then reads beyond its memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastbp._words import shown

# The largest value of each number in a state, the least is 0: places in a buffer, flags and words
MOST = {
    "pos": 624,  # MT19937 has 624 words
    "buffer_pos": 4,  # Philox has 4
    "has_gauss": 1,
    "has_uint32": 1,
    "uinteger": 2**32 - 1,
    "state": 2**128 - 1,
    "inc": 2**128 - 1,
}


def check_state(state: Mapping[str, Any], what: str) -> None:
    """Raise a ValueError for numbers in the state of a bit generator that are out of their range.

    >>> check_state({"state": {"key": np.zeros(624), "pos": 625}}, "random_state")
    Traceback (most recent call last):
        ...
    ValueError: random_state has pos=625, expected a whole number from 0 to 624
    """
    for name, value in state.items():
        if isinstance(value, Mapping):
            check_state(value, what)
        elif name in MOST and not isinstance(value, np.ndarray):
            if type(value) is not int or not 0 <= value <= MOST[name]:
                raise ValueError(f"{what} has {name}={shown(value)}, expected a whole number from 0 to {MOST[name]}")
        elif name == "gauss" and (not isinstance(value, float | int) or not math.isfinite(value)):
            raise ValueError(f"{what} has gauss={shown(value)}, expected a finite number")


def check_generator(rng: np.random.RandomState) -> None:
    """Raise a ValueError where ``set_state`` has left a generator at a place that it does not have.

    NumPy takes any, and then reads the memory behind the generator's own.
    """
    generator = getattr(rng, "_bit_generator", None)
    if isinstance(generator, np.random.MT19937 | np.random.Philox):
        state: Any = generator.state
        place = {"pos": int(state["state"]["pos"])} if "pos" in state["state"] else {"buffer_pos": state["buffer_pos"]}
        try:
            check_state(place, "the generator of random_state")
        except ValueError as error:
            raise ValueError(f"{error}: give set_state a state that get_state gave") from None
