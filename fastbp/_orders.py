"""An order of rows for each epoch, drawn as scikit-learn draws it."""

from __future__ import annotations

import ctypes

import numpy as np

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
    """

    def __init__(self, n_rows: int, rng: np.random.RandomState, *, compiled: bool) -> None:
        self.rows = np.arange(n_rows)
        self._rng, self._drawn = rng, np.empty(624, np.uint32)
        self._state = twister_state(rng) if compiled and COMPILED_FROM <= n_rows < 2**32 else None

    def draw(self) -> Array:
        """The next order; the array is overwritten by the call after this one."""
        if self._state is None:
            self._rng.shuffle(self.rows)
        else:
            from fastbp.kernels.cpu.shuffle import shuffle

            with self._rng._bit_generator.lock:
                shuffle(self.rows, self._state, self._drawn)
        return self.rows


def twister_state(rng: np.random.RandomState) -> Array | None:
    """The memory of a Mersenne Twister: its 624 words, and how many are used. None where it is not as expected.

    ``ctypes.state_address`` is NumPy's documented way to it, the order of its fields is not, so it is compared with
    what ``get_state`` says.
    """
    generator = getattr(rng, "_bit_generator", None)
    if type(generator) is not np.random.MT19937:
        return None
    state: Array = np.ctypeslib.as_array((ctypes.c_uint32 * 625).from_address(generator.ctypes.state_address))
    known = rng.get_state(legacy=False)["state"]
    return state if np.array_equal(state, [*known["key"], known["pos"]]) else None
