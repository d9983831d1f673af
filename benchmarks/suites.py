"""The suites: what each measures, and which workloads and peers it knows."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import driver, kernels, show, startup
from benchmarks.datasets import SOURCES, MissingDataError, load
from benchmarks.driver import Options
from benchmarks.machine import scrub
from benchmarks.peers import PEERS
from benchmarks.show import say
from benchmarks.workloads import FEATURES, PUBLISHED, SPARSE, SWEEPS, SYNTHETIC, WORKLOADS, Workload

Results = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """What ``--suite`` chooses.

    Parameters
    ----------
    run : callable
        ``run(args, results)`` measures, prints, and writes the results to ``args.json`` as they come.
    workloads : iterable of str
        What ``--workloads`` may name.
    peers : iterable of str
        Who takes part where ``--peers`` names none; the probe only with ``--probe``.
    rounds : int
    turn_seconds : float
    """

    run: Callable[[argparse.Namespace, Results], None]
    workloads: Iterable[str] = ()
    peers: Iterable[str] = ()
    rounds: int = 7
    turn_seconds: float = 0.4


def write(path: Path, results: Results) -> None:
    """Write a results file; a run that is cut short keeps what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(scrub(results), indent=1) + "\n", encoding="utf-8")


def _options(args: argparse.Namespace) -> Options:
    seconds = 0.05 if args.quick else SUITES[args.suite].turn_seconds
    return Options(
        args.threads, args.dtype, args.rounds, turn_seconds=seconds, quick=args.quick, probe=args.probe,
        mnist=args.mnist,
    )  # fmt: skip


def _measure(workload: Workload, args: argparse.Namespace, **changes: Any) -> Results:
    return scrub(driver.measure(workload, args.peers, replace(_options(args), **changes), say))


def _workload(name: str, args: argparse.Namespace) -> Workload:
    return SYNTHETIC[name].quick() if args.quick else SYNTHETIC[name]


def _train(args: argparse.Namespace, results: Results) -> None:
    """Epochs of the networks of a suite."""
    found = results["workloads"] = {}
    for name in args.workloads:
        found[name] = _measure(_workload(name, args), args)
        show.workload(name, found[name])
        write(args.json, results)
    if args.suite == "cpu":
        show.geometric_means(found)


def _sweep(args: argparse.Namespace, results: Results) -> None:
    """Epochs of many networks, each with another batch or width."""
    found = results["workloads"] = {}
    header = f"{'ms an epoch (min-max)':>28s} {'times fastbp (min-max)':>26s} {'of peak':>8s}"
    say(f"\n{'':12s} {'':20s} {header}")
    for name in args.workloads:
        found[name] = _measure(_workload(name, args), args)
        show.curve(name, found[name])
        write(args.json, results)


def _predict(args: argparse.Namespace, results: Results) -> None:
    """Probabilities of many rows at once, and of one."""
    many = 1000 if args.quick else 100_000
    found = results["workloads"] = {}
    say(f"\n{'probabilities':18s} {'rows':>7s} {'':18s} {'a call (min-max)':>30s} {'times fastbp (min-max)':>26s} "
        f"{'rows a second':>14s} {'MiB at most':>11s}")  # fmt: skip
    for name, n_rows in itertools.product(args.workloads, (many, 1)):
        measured = _measure(WORKLOADS[name], args, predict=n_rows) | {"rows": n_rows}
        found[f"{name}, {n_rows} rows"] = measured
        show.predictions(name, measured)
        write(args.json, results)


def _data_sets(args: argparse.Namespace, results: Results) -> Iterable[tuple[str, Workload]]:
    """Those that can be had; the others are noted."""
    results["workloads"], results["left_out"] = {}, {}
    for name in args.workloads:
        try:
            workload = load(name, args.mnist)
        except MissingDataError as error:
            results["left_out"][name] = str(error)
            say(f"\n{name}: left out, {error}")
            continue
        yield name, workload.quick() if args.quick else workload


def _real(args: argparse.Namespace, results: Results) -> None:
    """Epochs on real data, and the score on test rows after so many; orders of rows change it from round to round."""
    for name, workload in _data_sets(args, results):
        measured = _measure(workload, args) | {"epochs": workload.epochs}
        results["workloads"][name] = measured
        show.real(name, measured)
        write(args.json, results)


def _fit(args: argparse.Namespace, results: Results) -> None:
    """Whole fits on real data that stop early, by the estimators' defaults."""
    for name, workload in _data_sets(args, results):
        results["workloads"][name] = _measure(workload, args, fit=True)
        show.fits(name, results["workloads"][name])
        write(args.json, results)


def thread_counts(most: int) -> list[int]:
    """1, 2, 3, 4, then twice as many each time, and all."""
    doubled = itertools.takewhile(lambda n: n < most, (2**k for k in itertools.count(3)))
    return sorted({*range(1, min(4, most) + 1), *doubled, most})


def _scaling(args: argparse.Namespace, results: Results) -> None:
    """Epochs on one thread, on two, and so on up to ``args.threads``."""
    found = results["workloads"] = {}
    for name in args.workloads:
        by_threads = {}
        for n in thread_counts(args.threads):
            by_threads[n] = _measure(_workload(name, args), args, n_threads=n) | {"threads": n}
            found[f"{name}, {n} threads"] = by_threads[n]
            write(args.json, results)
        show.scaling(name, by_threads)


def _startup(args: argparse.Namespace, results: Results) -> None:
    """Fresh processes."""
    results["startup"] = startup.measure(args.rounds)
    startup.show(results["startup"], say)
    write(args.json, results)


def _kernels(args: argparse.Namespace, results: Results) -> None:
    """Each kernel alone on one thread, after it has been held against its twin."""
    results["kernels"] = kernels.measure(args.quick)
    kernels.show(results["kernels"], say)
    write(args.json, results)


LIBRARIES = ("fastbp", "sklearn", "torch", "torch-compile", "jax")
ESTIMATORS = tuple(name for name, peer in PEERS.items() if peer.estimator)
SUITES = {
    "cpu": Suite(_train, WORKLOADS, PEERS),
    "published": Suite(_train, PUBLISHED, LIBRARIES),
    "features": Suite(_train, FEATURES, ("fastbp", "fastbp-plain", "torch", "torch-compile")),
    "sweep": Suite(_sweep, SWEEPS, LIBRARIES, rounds=3, turn_seconds=0.2),
    "real": Suite(_real, SOURCES, LIBRARIES, rounds=3),
    "fit": Suite(_fit, SOURCES, LIBRARIES, rounds=5),
    "scaling": Suite(_scaling, WORKLOADS, ("fastbp", "sklearn", "torch", "jax"), rounds=5),
    "inference": Suite(_predict, WORKLOADS, tuple(name for name, peer in PEERS.items() if peer.predicts)),
    "sparse": Suite(_train, SPARSE, ESTIMATORS),
    "startup": Suite(_startup),
    "kernels": Suite(_kernels),
}
