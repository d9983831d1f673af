"""An order of rows for each epoch, drawn as scikit-learn draws it."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fastbp._random import MOST, check_generator
from fastbp._validation import Array

# From so many rows on a compiled shuffle is worth its compilation, half a second once
COMPILED_FROM = 2048


class Orders:
    """The rows 0, 1, ... n - 1 in an order that changes from epoch to epoch.

    Each is a permutation of the last one, ``RandomState.permutation``'s, so that ``random_state`` gives the order that
    scikit-learn has. On a Mersenne Twister, which a RandomState is unless it was made of something else, the compiled
    kernel draws the same numbers in a quarter of the time, from the generator's own memory.

    Parameters
    ----------
    n_rows : int
    rng : numpy.random.RandomState
    compiled : bool
        Whether compiled kernels may be used at all.

    Raises
    ------
    ValueError
        For a generator whose state, as ``set_state`` takes it, points beyond its own memory.
    """

    def __init__(self, n_rows: int, rng: np.random.RandomState, *, compiled: bool) -> None:
        check_generator(rng)
        self.rows = np.arange(n_rows)
        self._rng, self._compiled = rng, compiled and COMPILED_FROM <= n_rows < 2**32
        self._twister: Twister | None = None

    def draw(self) -> Array:
        """The next order; the array is overwritten by the call after this one."""
        if self._compiled and self._twister is None:
            self._twister = Twister.of(self._rng)
            self._compiled = self._twister is not None
        # numpy.random.set_bit_generator, in a callback, gives the global generator another one
        if self._twister is None or self._rng._bit_generator is not self._twister.generator:
            self._rng.shuffle(self.rows)
        else:
            self._twister.shuffle(self.rows)
        return self.rows


class Twister:
    """The compiled shuffle on the memory of a Mersenne Twister.

    Parameters
    ----------
    generator : numpy.random.MT19937
        Kept, so that its memory outlives the view of it.
    """

    def __init__(self, generator: Any) -> None:
        from fastbp.kernels.cpu.shuffle import shuffle

        self.generator, self._shuffle, self._drawn = generator, shuffle, np.empty(624, np.uint32)
        words = (ctypes.c_uint32 * 625).from_address(generator.ctypes.state_address)
        self.state: Array = np.ctypeslib.as_array(words)
        # compiled here, not while others wait for the generator's lock
        shuffle(np.arange(2), np.zeros(625, np.uint32), self._drawn)

    @classmethod
    def of(cls, rng: np.random.RandomState) -> Twister | None:
        """That of a RandomState; None where it has another generator or methods of its own.

        ``ctypes.state_address`` is NumPy's documented way to the memory. What lies there is not documented, so it is
        compared with what ``get_state`` says: 624 words, and how many are used.
        """
        generator = getattr(rng, "_bit_generator", None)
        if type(rng) is not np.random.RandomState or type(generator) is not np.random.MT19937:
            return None
        twister, known = cls(generator), generator.state["state"]
        return twister if np.array_equal(twister.state, [*known["key"], known["pos"]]) else None

    def shuffle(self, rows: Array) -> None:
        """As ``RandomState.shuffle`` does."""
        with self.generator.lock:
            if self.state[-1] > MOST["pos"]:  # set_state in a callback
                raise ValueError(
                    f"the generator of random_state has pos={self.state[-1]}, expected a whole number from 0 to "
                    f"{MOST['pos']}: give set_state a state that get_state gave"
                )
            self._shuffle(rows, self.state, self._drawn)
