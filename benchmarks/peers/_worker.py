"""The protocol that all peers speak, so that a driver can let them take turns.

A peer sets up, compiles, trains twice and writes one line of JSON, its greeting: ``{"ready": true, ...}`` or
``{"unavailable": reason}``. Then, for each line ``epoch`` or ``epochs K`` that it reads, it trains 1 + K epochs from
the initial weights and writes ``{"seconds": an epoch of the last K, "epochs": K, "loss": the last one's, ...}``. It
ends with its input. With ``--predict ROWS`` an epoch is one prediction of so many rows, and the greeting has
probabilities in place of a loss to compare. With ``--fit`` it is one whole ``fit`` that stops early. Where a data set
has rows to be tested on, each answer has the ``score`` on them.

The first epoch of a turn wakes threads and fills caches, so nobody's is timed. Training starts anew each turn since
scikit-learn's ``fit`` does, and since random labels learnt by heart end in denormal gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import SOURCES, MissingDataError, load
from benchmarks.machine import pin, scrub
from benchmarks.workloads import SYNTHETIC, Workload, flop_of_outputs, flop_per_epoch

CHECKED_ROWS = 16  # of a prediction, for the driver to compare

Turn = Callable[[int], dict[str, Any]]  # K -> {"seconds": ..., "loss": ...}


class UnavailableError(Exception):
    """This peer cannot do what is asked here; the text says why."""


@dataclass(frozen=True)
class Task:
    """What a peer is asked to time."""

    workload: Workload
    dtype: str
    n_threads: int
    variant: str
    probe: str | None
    predict: int | None = None  # time predictions of so many rows instead of epochs
    fit: bool = False  # time whole fits that stop early


@dataclass(frozen=True)
class Training:
    """What a peer answers with.

    Parameters
    ----------
    turn : callable
        ``turn(K)`` trains 1 + K epochs from the initial weights and gives ``seconds`` an epoch of the last K, and the
        last epoch's mean ``loss``.
    dims : tuple of int
        Widths of the network that is trained.
    notes : dict
        What a reader should know: threads, vector width, the variant that was chosen.
    flop : float, optional
        Operations of an epoch; those of ``dims`` by default.
    probabilities : list of list of float, optional
        Of some rows, where predictions are timed.
    memory_before_mib : float, optional
        Largest memory of the process before the first ``fit``, with the data in place.
    predict : callable, optional
        Labels, or a regression's values, for rows, by the network that the last turn has trained.
    """

    turn: Turn
    dims: tuple[int, ...]
    notes: dict[str, Any] = field(default_factory=dict)
    flop: float | None = None
    probabilities: list[list[float]] | None = None
    memory_before_mib: float | None = None
    predict: Callable[[Any], Any] | None = None


def turns(start: Callable[[], object], epoch: Callable[[], float]) -> Turn:
    """A turn of a library that trains epoch by epoch: ``start`` puts the initial weights in place."""

    def turn(n_epochs: int) -> dict[str, Any]:
        start()
        loss = epoch()
        begin = time.perf_counter()
        for _ in range(n_epochs):
            loss = epoch()
        return {"seconds": (time.perf_counter() - begin) / n_epochs, "loss": loss}

    return turn


def fastest(candidates: dict[str, Turn], n_turns: int = 3) -> tuple[str, Turn]:
    """The variant with the shortest epoch: a peer runs at its best."""
    best = dict.fromkeys(candidates, float("inf"))
    for k in range(1 + n_turns):
        for name, turn in candidates.items():
            seconds = turn(1)["seconds"]
            if k:  # the first turn compiles
                best[name] = min(best[name], seconds)
    name = min(best, key=best.__getitem__)
    return name, candidates[name]


def prediction_rows(task: Task) -> Any:
    """The rows that every library predicts."""
    assert task.predict is not None
    return task.workload.rows(task.predict, task.dtype, np.random.default_rng(1))


def prediction(task: Task, predict: Callable[[], Any], notes: dict[str, Any]) -> Training:
    """Calls of ``predict``, which gives the probabilities of :func:`prediction_rows` from the initial weights."""
    assert task.predict is not None
    spread = np.linspace(0, task.predict - 1, min(CHECKED_ROWS, task.predict)).astype(int)  # every thread has some
    checked = np.asarray(predict())[spread].astype(np.float64)
    if task.workload.loss == "logistic":  # of the second of two classes
        checked = np.hstack([1 - checked, checked])
    value = float(checked[:, 0].mean())

    def turn(n_calls: int) -> dict[str, Any]:
        predict()
        begin = time.perf_counter()
        for _ in range(n_calls):
            predict()
        return {"seconds": (time.perf_counter() - begin) / n_calls, "loss": value}

    dims = task.workload.dims
    return Training(turn, dims, notes, flop_of_outputs(task.predict, dims), probabilities=checked.tolist())


def peak_memory() -> float | None:
    """Largest memory of this process so far, in MiB."""
    try:  # Linux keeps ru_maxrss through exec: a child of a process of 480 MiB says 484 where it has had 11
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass
    try:
        import resource
    except ModuleNotFoundError:  # there is none on Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a greeting, then a line of JSON for each line 'epochs K'.")
    known = [*SYNTHETIC, *SOURCES]
    parser.add_argument("workload", nargs="?", choices=known, default="mnist", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--variant", default="")
    parser.add_argument("--probe", metavar="PATH", help="step_probe.py")
    parser.add_argument("--quick", action="store_true", help="few batches")
    parser.add_argument("--predict", type=int, metavar="ROWS", help="time predictions of so many rows")
    parser.add_argument("--fit", action="store_true", help="time whole fits that stop early")
    parser.add_argument("--mnist", metavar="PATH", help="the images of mnist-real: x_train, y_train, x_test, y_test")
    return parser.parse_args(argv)


def _task(args: argparse.Namespace) -> Task:
    name = args.workload
    workload = SYNTHETIC[name] if name in SYNTHETIC else load(name, args.mnist)
    workload = workload.quick() if args.quick else workload
    return Task(workload, args.dtype, args.threads, args.variant, args.probe, args.predict, args.fit)


def _scored(task: Task, training: Training) -> Turn:
    """Turns whose answers have a score, where there is something to predict."""
    test = None if training.predict is None else task.workload.test_data(task.dtype)
    if test is None:
        return training.turn
    X, y = test

    def turn(n_epochs: int) -> dict[str, Any]:
        answer = training.turn(n_epochs)
        assert training.predict is not None
        return answer | {"score": task.workload.score(training.predict(X), y)}

    return turn


def serve(prepare: Callable[[Task], Training], argv: list[str] | None = None) -> None:
    """Speak the protocol on standard input and output; whatever else is printed goes to standard error."""
    args = _arguments(argv)
    sys.stdout.flush()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(scrub(message)), file=channel, flush=True)

    pin(args.threads)  # before a library counts the processors
    try:
        task = _task(args)
        begin = time.perf_counter()
        training = prepare(task)
        first = training.turn(1)
    except ModuleNotFoundError as error:
        say({"unavailable": f"not installed: {error}"})
        return
    except (UnavailableError, MissingDataError) as error:
        say({"unavailable": str(error)})
        return
    setup = time.perf_counter() - begin
    warm, turn = training.turn(1), _scored(task, training)
    say(
        {
            "ready": True,
            "setup_seconds": setup,
            "seconds": warm["seconds"],
            "loss": first["loss"],
            "dims": training.dims,
            "peak_memory_mib": peak_memory(),
            "memory_before_mib": training.memory_before_mib,
            "probabilities": training.probabilities,
            "flop": training.flop or flop_per_epoch(task.workload.n_samples, training.dims),
            "notes": training.notes,
        }
    )
    for line in sys.stdin:
        words = line.split()
        if words == ["epoch"]:
            n_epochs = 1
        elif len(words) == 2 and words[0] == "epochs" and words[1].isdecimal() and int(words[1]) > 0:
            n_epochs = int(words[1])
        else:
            raise SystemExit(f"expected 'epoch' or 'epochs K' with K of at least 1, got {line.strip()!r}")
        say({"epochs": n_epochs, **turn(n_epochs)})
