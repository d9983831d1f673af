"""How the blocks of a persistent kernel meet: a counter that each of them raises, and waits for.

Every block must be on the card at once; the launch is cooperative, so that a grid too large for that is refused and
does not hang.
"""

from fastbp.kernels.cuda._target import add_release, cuda, device, load_acquire


@device
def meet(crew, target):
    """Wait until ``crew[0]`` has reached ``target``: what any block has written before, every block sees afterwards."""
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        add_release(crew, 0, 1)
        while load_acquire(crew, 0) < target:
            pass
    cuda.syncthreads()
