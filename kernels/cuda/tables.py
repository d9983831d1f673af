"""Tables near the threads: copies in shared memory, which a meeting of all blocks leaves as they are."""

import functools

import numpy as np

from fastbp.kernels.cuda._target import cuda, inlined
from fastbp.kernels.cuda.layout import PHASE_SIZE, WIDE_TABLE_SIZE, Program
from fastbp.kernels.layout import HEADER_SIZE


@functools.cache
def near_of(n_layers, n_phases, n_tasks, n_threads):
    """near(program): the same, with its short tables in shared memory.

    Behind a meeting the first-level cache holds nothing, and each phase would start by looking up, in three loads that
    wait for each other and the second-level cache, what it is. What that saves is to be measured on a card. Of items
    and chunks each is looked up once.
    """

    room = max(n_tasks, 1)  # an array without rows would be a dynamic one

    @inlined
    def near(program):
        header = cuda.shared.array(HEADER_SIZE, np.int64)
        table = cuda.shared.array((n_layers, WIDE_TABLE_SIZE), np.int64)
        phases = cuda.shared.array((n_phases, PHASE_SIZE), np.int64)
        tasks = cuda.shared.array((room, 2), np.int64)
        for k in range(cuda.threadIdx.x, HEADER_SIZE, n_threads):
            header[k] = program.header[k]
        for k in range(cuda.threadIdx.x, n_layers * WIDE_TABLE_SIZE, n_threads):
            table[k // WIDE_TABLE_SIZE, k % WIDE_TABLE_SIZE] = program.table[k // WIDE_TABLE_SIZE, k % WIDE_TABLE_SIZE]
        for k in range(cuda.threadIdx.x, n_phases * PHASE_SIZE, n_threads):
            phases[k // PHASE_SIZE, k % PHASE_SIZE] = program.phases[k // PHASE_SIZE, k % PHASE_SIZE]
        for k in range(cuda.threadIdx.x, 2 * n_tasks, n_threads):
            tasks[k // 2, k % 2] = program.tasks[k // 2, k % 2]
        cuda.syncthreads()
        return Program(header, table, phases, tasks, program.items, program.chunks, program.constants)

    return near
