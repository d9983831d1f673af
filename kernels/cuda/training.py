"""Many training steps in one launch: all blocks stay on the card, and meet after each phase of each step."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from fastbp.kernels.cuda import layout, memory
from fastbp.kernels.cuda._target import SIMULATED, WIDTH, configured, cuda, kernel
from fastbp.kernels.cuda.clipping import clipping_of
from fastbp.kernels.cuda.crew import meet
from fastbp.kernels.cuda.gemm import shared_size
from fastbp.kernels.cuda.layout import ELEMENTS, LAST, PHASE, SQUARES, UPDATE, Spec
from fastbp.kernels.cuda.optimizers import N_NUMBERS
from fastbp.kernels.cuda.step import step_of
from fastbp.kernels.cuda.tables import near_of
from fastbp.kernels.cuda.update import losses_of, tiles_step_of
from fastbp.kernels.layout import BATCH


class Store(NamedTuple):
    """What else a session has on the card: parts of sums, squares and norms in float64, and the blocks' counter."""

    partials: Any
    squares: Any
    norms: Any
    crew: Any


def _bounded(spec: Spec) -> Any:
    """The decorator of a kernel: two blocks on a multiprocessor where tiles are wide, which bounds the registers."""
    return functools.partial(kernel, launch_bounds=(spec.tile.threads, 2)) if spec.launched else kernel


@functools.cache
def steps_kernel(spec: Spec) -> Any:
    """Steps begin .. end of ``order``, and of each the phases first_phase .. last_phase.

    ``out`` takes the loss of each step (``mode="train"``, see :func:`train_steps`), outputs or losses of rows.
    ``since`` is the first step of a run of launches, and ``closes`` says that this is the last one; ``base`` is what
    the blocks' counter has come to.
    """
    run, updates, follows, clips = step_of(spec), *(phase in spec.phases for phase in (UPDATE, ELEMENTS, SQUARES))
    tiles_step = tiles_step_of(spec) if updates else None
    squares, elements = clipping_of(spec) if follows or clips else (None, None)
    _, add_penalty = losses_of(spec)
    trains, reports, copies = spec.mode == "train", spec.reports and updates, spec.rows_of_tables is not None
    near = near_of(*spec.rows_of_tables, spec.tile.threads) if spec.rows_of_tables else None

    @_bounded(spec)
    def steps(
        program, buffers, store, X, targets, order, places, numbers, out, step, begin, end, since, first_phase,
        last_phase, closes, base,
    ):  # fmt: skip
        tables = program
        if copies:
            tables = near(program)
        batch, target = tables.header[BATCH], base
        meets = (end - begin) * (last_phase - first_phase) > 1
        for s in range(begin, end):
            first, row = s * batch, s * N_NUMBERS if trains else 0  # predictions have one row of numbers
            n_rows = min(batch, order.shape[0] - first)
            for p in range(first_phase, last_phase):
                what, count = tables.phases[p, PHASE], tables.phases[p, LAST]
                if updates:
                    if what == UPDATE:
                        tiles_step(
                            count, n_rows, tables, buffers, store, X, places, first, numbers, row, N_NUMBERS, out,
                            s, since,
                        )  # fmt: skip
                if follows:
                    if what == ELEMENTS:
                        elements(count, tables.items.shape[0], tables, buffers, store, numbers, row, s)
                if clips:
                    if what == SQUARES:
                        squares(count, tables, store)
                run(
                    p, n_rows, tables, buffers, store.partials, X, targets, order, places, first, numbers, row,
                    step + s, out,
                )  # fmt: skip
                if meets:
                    target += cuda.gridDim.x
                    meet(store.crew, target)
        if reports:
            if closes > 0 and cuda.blockIdx.x == 0:
                s, count = end - 1, store.norms.shape[0] // 2
                add_penalty(out, s, store.norms, (s & 1) * count, count, numbers, s * N_NUMBERS)

    return steps


class Launcher:
    """The kernels of a program on their way to the card: one for all phases, or one for each kind of them.

    Parameters
    ----------
    spec : Spec
    program : Program
        On the host.
    units : list of int
        Of each phase: more blocks than that would have nothing to do.
    n_blocks : int
        In the simulator, where blocks run one after another: with several, each phase is a launch of its own.
    """

    def __init__(self, spec: Spec, program: layout.Program, units: list[int], n_blocks: int = 1) -> None:
        self._spec, self._units, self._base = spec, units, 0
        self._phases = program.phases[:, PHASE].tolist()
        self._launched = spec.launched or n_blocks > 1
        self._shared = shared_size(spec.tile) * np.dtype(spec.real).itemsize
        self._blocks = n_blocks if SIMULATED else 0  # 0: not known before the kernel is compiled
        self._kernels: dict[int, Any] = {}

    def _kernel(self, what: int) -> Any:
        """The kernel for a kind of phase; -1 for all of them."""
        if what not in self._kernels:
            spec = self._spec if what < 0 else self._spec._replace(phases=frozenset([what]))
            self._kernels[what] = steps_kernel(spec)
        return self._kernels[what]

    def _resident(self, arguments: tuple[Any, ...]) -> int:
        """Blocks that are on the card at once, and no more than have something to do.

        The launch becomes cooperative: a grid that is too large is refused then, and does not hang.
        """
        kernel = self._kernel(-1).specialize(*arguments)
        (compiled,) = kernel.overloads.values()
        compiled.cooperative = True
        blocks = compiled.max_cooperative_grid_blocks(self._spec.tile.threads, self._shared)
        if blocks < 1:
            raise RuntimeError(
                f"the card has no room for a block of {self._spec.tile.threads} threads with {self._shared} bytes of "
                "shared memory: train with backend='cpu', and tell the developers which card this is"
            )
        self._kernels[-1] = kernel
        return min(max(self._units), blocks)

    def _launch(self, what: int, blocks: int, stream: Any) -> Any:
        """A kernel, ready to be launched."""
        return configured(self._kernel(what), blocks, self._spec.tile.threads, stream, self._shared)

    def __call__(self, *arguments: Any, step: int, begin: int, end: int, stream: Any = 0) -> None:
        """Steps begin .. end; ``step`` is how many there were before step 0."""
        n_phases = len(self._phases)
        if self._launched:
            for s in range(begin, end):
                for p, what in enumerate(self._phases):
                    blocks = self._blocks or self._units[p]
                    self._launch(what, blocks, stream)(*arguments, step, s, s + 1, begin, p, p + 1, 0, 0)
            if self._spec.reports:
                self._launch(UPDATE, 1, stream)(*arguments, step, end - 1, end, begin, 0, 0, 1, 0)
            return
        if self._base < 0:  # the last launch was interrupted, and may be under way or not
            memory.overwrite(arguments[2].crew, np.zeros(1, np.int64))
            self._base = 0
        scalars = step, begin, end, begin, 0, n_phases, 1, self._base
        self._blocks = self._blocks or self._resident((*arguments, *scalars))
        meetings, self._base = (end - begin) * n_phases, -1
        self._launch(-1, self._blocks, stream)(*arguments, *scalars)
        self._base = scalars[-1] + (meetings * self._blocks if meetings > 1 else 0)


def train_steps(
    launcher: Launcher, losses: Any, program: Any, buffers: Any, store: Store, X: Any, targets: Any, order: Any,
    places: Any, numbers: Any, step: int, begin: int, end: int, stream: Any = 0,
) -> None:  # fmt: skip
    """One optimizer step on each of the batches begin .. end of ``order``.

    All arrays are on the card. ``places`` has where the rows of ``order`` lie in X; ``numbers`` is flat and has a row
    for each batch of ``order``, as ``losses`` has a place: the loss of each batch before its update.
    """
    arguments = program, buffers, store, X, targets, order, places, numbers, losses
    launcher(*arguments, step=step, begin=begin, end=end, stream=stream)


@functools.cache
def _finite_kernel() -> Any:
    @kernel
    def look(found, values):
        """found[0] = 1 where a value is infinite or NaN; whoever finds one writes the same."""
        first = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        for k in range(first, values.shape[0], cuda.gridDim.x * cuda.blockDim.x):
            if not abs(values[k]) < np.inf:
                found[0] = 1

    return look


def all_finite(values: Any) -> bool:
    """Whether every number of an array on the card is finite."""
    found, threads = memory.zeros(1, np.int64), WIDTH if SIMULATED else 256
    blocks = max(1, min(-(-values.size // threads), 1024)) if not SIMULATED else 1
    configured(_finite_kernel(), blocks, threads)(found, values)
    return not memory.to_host(found)[0]
