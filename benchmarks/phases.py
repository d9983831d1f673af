"""Where the time of a training step goes: ``python -m benchmarks.phases WORKLOAD``, from the root of the checkout.

Each phase of a step runs alone on one thread, many times over, on the buffers of a session that has trained some steps;
beside it stand its operations, and what part of one thread's peak they reach. What the whole step takes beyond the sum
of its phases is calls, loops and caches that the phases found warmer than a step does; on several threads, barriers and
uneven shares too.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks._kernels import BACKWARD, FORWARD, GRADIENT, layers, repeated
from benchmarks.machine import pin, usable_cpus
from benchmarks.peak import passes
from benchmarks.peers.fastbp_ import descriptions
from benchmarks.workloads import PUBLISHED, SYNTHETIC, WORKLOADS, Workload, flop_per_epoch, initial_weights
from fastbp.backends import Network, get_backend
from fastbp.kernels.cpu import operations, step, update
from fastbp.kernels.cpu.activations import activation_forward
from fastbp.kernels.cpu.simd import unowned, window
from fastbp.kernels.cpu.sparse import row_values
from fastbp.kernels.cpu.tiles import gather_rows
from fastbp.kernels.layout import (
    ACTIVATION,
    FAN_IN,
    GATHERED,
    GATHERED_LD,
    LAYER,
    OUT_LD,
    RELU,
    SCRATCH,
    SCRATCH_STRIDE,
    SHARD,
    with_next,
)

SECONDS = 0.05  # of one measurement; the shortest of five counts


@dataclass(frozen=True)
class Phase:
    """A part of a step on one thread.

    Parameters
    ----------
    name : str
    microseconds : float
    flop : int
        Of its matrix product; 0 where there is none.
    weights : int
        That it updates.
    elements : int
        That it goes through one by one.
    """

    name: str
    microseconds: float
    flop: int = 0
    weights: int = 0
    elements: int = 0


# ---------------------------------------------------------------------------------------------------------------------
# The phases, repeated within compiled code


@repeated
def _gather(n_times, n_rows, plan, buffers, X, order):
    plan, buffers, X, order = unowned(plan), unowned(buffers), unowned(X), unowned(order)
    ld, n = plan.header[GATHERED_LD], plan.table[0, FAN_IN]
    copy = window(buffers.work, plan.header[GATHERED], n_rows * ld)
    for _ in range(n_times):
        gather_rows(copy, ld, row_values(X), n, order, n_rows, n)


@repeated
def _activation(n_times, layer, n_rows, plan, buffers):
    row = plan.table[layer]
    A = window(buffers.work, operations.outputs(layer, 0, plan), n_rows * row[OUT_LD])
    for _ in range(n_times):
        activation_forward(A, row[ACTIVATION])


@repeated
def _loss(n_times, n_rows, plan, buffers, targets, order):
    plan, buffers, targets, order = unowned(plan), unowned(buffers), unowned(targets), unowned(order)
    for _ in range(n_times):
        step.loss_backward(0, 0, n_rows, 1.0 / n_rows, plan, buffers, targets, order)


@repeated
def _sums(n_times, n_shards, plan, buffers):
    plan, buffers = unowned(plan), unowned(buffers)
    G = window(buffers.work, plan.header[SCRATCH], plan.header[SCRATCH_STRIDE])
    for _ in range(n_times):
        for i in range(plan.items.shape[0]):
            update.sum_of_shards(plan.items[i], G, n_shards, plan, buffers)


@repeated
def _update(n_times, layer, plan, buffers, hyper):
    plan, buffers = unowned(plan), unowned(buffers)
    G = window(buffers.work, plan.header[SCRATCH], plan.header[SCRATCH_STRIDE])
    for _ in range(n_times):
        for i in range(plan.items.shape[0]):
            item = plan.items[i]
            if item[LAYER] == layer:
                update.tile_update(item, G, 1e-9, 1.0, 0.0, plan, buffers, hyper)


def microseconds(function: Callable[..., Any], *arguments: Any) -> float:
    """The shortest time of one repetition; ``function`` takes the number of them first."""
    function(1, *arguments)

    def seconds(n_times: int) -> float:
        start = time.perf_counter()
        function(n_times, *arguments)
        return time.perf_counter() - start

    n_times = 1
    while seconds(n_times) < SECONDS:
        n_times *= 2
    return min(seconds(n_times) for _ in range(5)) / n_times * 1e6


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


def _session(workload: Workload, dtype: str, n_threads: int) -> tuple[Any, Any]:
    """A session that has trained an epoch, without a penalty, and the order of rows."""
    link = "identity" if workload.loss == "squared" else workload.loss
    network = Network(workload.dims, (*[workload.activation] * len(workload.hidden), link), np.dtype(dtype))
    X, y = workload.data(dtype)
    targets = y.astype(np.intp) if link == "softmax" else y.reshape(len(y), -1).astype(dtype)
    loss, optimizer = descriptions(workload, workload.dims[-1])
    session = get_backend("cpu").open(
        network, loss, optimizer, X, targets,
        parameters=initial_weights(workload.dims, dtype), batch_size=workload.batch, n_threads=n_threads,
    )  # fmt: skip
    rows = np.random.default_rng(0).permutation(len(X))
    session.train(rows, np.full(workload.steps, 1e-3))
    return session, rows


def phases(workload: Workload, dtype: str) -> Iterator[Phase]:
    """The phases of a step, in their order within it."""
    session, rows = _session(workload, dtype, 1)
    plan, buffers, X = session._plan, session._buffers, session._X
    n_rows = int(plan.header[SHARD]) or workload.batch
    parts = workload.batch / n_rows  # what is measured is one shard, the step has so many
    order = with_next(rows[:n_rows])
    pairs = list(enumerate(itertools.pairwise(workload.dims)))

    def product(name: str, l: int, what: int, first: int, last: int = 0) -> Phase:
        taken = parts * microseconds(layers, what, first, last, n_rows, plan, buffers, X, order)
        return Phase(name, taken, 2 * workload.batch * workload.dims[l] * workload.dims[l + 1])

    if plan.header[GATHERED]:
        yield Phase("gather", parts * microseconds(_gather, n_rows, plan, buffers, X, order))
    for l, (fan_in, fan_out) in pairs:
        yield product(f"forward {l + 1}, {fan_in}x{fan_out}", l, FORWARD, l)
        if l < len(pairs) - 1 and plan.table[l, ACTIVATION] != RELU:  # relu is the product's own work
            taken = parts * microseconds(_activation, l, n_rows, plan, buffers)
            yield Phase(f"{workload.activation} {l + 1}", taken, elements=workload.batch * fan_out)
    taken = parts * microseconds(_loss, n_rows, plan, buffers, session._targets, order)
    yield Phase("loss", taken, elements=workload.batch * workload.dims[-1])
    for l, (fan_in, fan_out) in reversed(pairs[1:]):
        yield product(f"deltas {l + 1}, {fan_out}x{fan_in}", l, BACKWARD, l)
    for l, (fan_in, fan_out) in pairs:
        items = np.flatnonzero(plan.items[:, LAYER] == l)
        name = f"gradient {l + 1}, {fan_in}x{fan_out}"
        yield product(name, l, GRADIENT, int(items[0]), int(items[-1]) + 1)
    if plan.header[SHARD]:
        yield Phase("sums of shards", microseconds(_sums, math.ceil(parts), plan, buffers))
    for l, (fan_in, fan_out) in pairs:
        taken = microseconds(_update, l, plan, buffers, session._hyper)
        yield Phase(f"update {l + 1}, {fan_in}x{fan_out}", taken, weights=fan_in * fan_out)


def whole_step(workload: Workload, dtype: str, n_threads: int) -> tuple[float, int]:
    """Microseconds of a step within an epoch, the shortest of five, and how many threads the cost model gave it."""
    session, rows = _session(workload, dtype, n_threads)
    rates, best = np.full(workload.steps, 1e-3), float("inf")
    for _ in range(5):
        start = time.perf_counter()
        session.train(rows, rates)
        best = min(best, time.perf_counter() - start)
    return best / workload.steps * 1e6, session._threads


def peak(dtype: str, n_threads: int) -> float:
    """GFLOP/s of the micro-kernel on operands in the first-level cache, the best of some passes."""
    run, flop = passes(n_threads, dtype)
    return flop / min(run(11)[1:]) / 1e9


def bound(phase: Phase, share: float) -> str:
    """What a phase waits for, in words."""
    if phase.weights:
        return f"{phase.microseconds * 1e3 / phase.weights:.2f} ns a weight: divisions, roots, and memory where large"
    if phase.elements:
        return f"{phase.microseconds * 1e3 / phase.elements:.2f} ns an element: functions and memory"
    if not phase.flop:
        return "memory and caches"
    return "the multipliers" if share >= 0.85 else "narrow panels" if share < 0.65 else "loads: caches and addresses"


def main(argv: list[str] | None = None) -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phases", description="Where the time of a step goes.")
    parser.add_argument("workload", choices=[*WORKLOADS, *PUBLISHED])
    parser.add_argument("--threads", type=int, default=len(usable_cpus()), help="of the whole step (default: all)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--quick", action="store_true", help="few batches: to see that it works")
    args = parser.parse_args(argv)
    workload = SYNTHETIC[args.workload].quick() if args.quick else SYNTHETIC[args.workload]
    say = partial(print, flush=True)
    pin(args.threads)
    one, all_of_them = peak(args.dtype, 1), peak(args.dtype, args.threads)
    peaks = f"peak {one:.0f} GFLOP/s on one thread, {all_of_them:.0f} on {args.threads}"
    say(f"{args.workload}, batch {workload.batch}, {args.dtype}; {peaks}")
    total = 0.0
    for phase in phases(workload, args.dtype):
        gflops = phase.flop / phase.microseconds / 1e3
        total += phase.microseconds
        rate = f"{gflops:7.1f} {gflops / one:7.0%}" if phase.flop else " " * 15
        say(f"  {phase.name:24s} {phase.microseconds:9.1f} us {rate}  {bound(phase, gflops / one)}")
    flop = flop_per_epoch(workload.batch, workload.dims)
    serial, _ = whole_step(workload, args.dtype, 1)
    shared, n_threads = whole_step(workload, args.dtype, args.threads)

    def line(name: str, taken: float, most: float, remark: str = "") -> None:
        gflops = flop / taken / 1e3
        say(f"  {name:24s} {taken:9.1f} us {gflops:7.1f} {gflops / most:7.0%}  {remark}")

    line("sum of the phases", total, one)
    line("a step on one thread", serial, one)
    beyond = shared * n_threads - serial
    line(
        f"a step on {n_threads}", shared, all_of_them, f"{beyond:.1f} us of all threads for barriers and uneven shares"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
