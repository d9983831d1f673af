"""Skip connections: Y = A + B, and dA = dB = dY; a row for each group of threads."""

from fastbp.kernels.cuda._target import WIDTH, device


@device
def add_row(lane, work, y, a, b, n):
    """work[y : y + n] = work[a : a + n] + work[b : b + n]."""
    for j in range(lane, n, WIDTH):
        work[y + j] = work[a + j] + work[b + j]


@device
def hand_on_row(lane, work, da, d, n, adds):
    """work[da : da + n] = work[d : d + n], or that is added where something else has handed on its part before."""
    for j in range(lane, n, WIDTH):
        work[da + j] = work[da + j] + work[d + j] if adds else work[d + j]
