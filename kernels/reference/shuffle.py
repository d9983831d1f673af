"""The order of rows, by NumPy."""

import numpy as np


def shuffle(order, state, drawn):
    """Shuffle in place; ``state`` is a Mersenne Twister's words and how many are used, ``drawn`` is left as it is."""
    rng = np.random.RandomState()
    rng.set_state(("MT19937", state[:624], int(state[624])))
    rng.shuffle(order)
    _, state[:624], state[624], *_ = rng.get_state()
