"""Medians, spreads and shares, from the raw figures of a results file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.peers import BASELINE


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class PeerSummary:
    """A peer on one workload.

    Parameters
    ----------
    seconds : Spread
        Of an epoch.
    ratio : Spread or None
        Its seconds by those of fastbp's turn just before, round by round; None for fastbp itself.
    step_us : float
        Median microseconds of a step.
    gflops : float
        Of the matrix products, at the median.
    share : float
        ``gflops`` by the best peak of the same run.
    """

    seconds: Spread
    ratio: Spread | None
    step_us: float
    gflops: float
    share: float


def summarize(workload: dict[str, Any]) -> dict[str, PeerSummary]:
    """The peers of one workload that were measured, by name."""
    peak, summaries = max(workload["peak"]), {}
    for name, peer in workload["peers"].items():
        if not peer.get("rounds"):
            continue
        seconds = Spread.of([turn["seconds"] for turn in peer["rounds"]])
        ratio = None
        if name != BASELINE:
            ratio = Spread.of([turn["seconds"] / turn["fastbp"] for turn in peer["rounds"]])
        gflops = peer["flop"] / seconds.median / 1e9
        step_us = seconds.median / workload["steps"] * 1e6
        summaries[name] = PeerSummary(seconds, ratio, step_us, gflops, gflops / peak)
    return summaries


def geometric_means(workloads: dict[str, Any]) -> dict[str, tuple[float, int]]:
    """By peer: the geometric mean of its median ratios, and over how many workloads."""
    ratios: dict[str, list[float]] = {}
    for workload in workloads.values():
        for name, peer in summarize(workload).items():
            if peer.ratio is not None:
                ratios.setdefault(name, []).append(peer.ratio.median)
    return {name: (statistics.geometric_mean(values), len(values)) for name, values in ratios.items()}


def between(workload: dict[str, Any], name: str, other: str) -> Spread | None:
    """Seconds of ``name`` by those of ``other``, round by round; None where one of them was not measured."""
    both = [workload["peers"].get(key, {}).get("rounds") or [] for key in (name, other)]
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(*both, strict=False)]
    return Spread.of(ratios) if ratios else None


def network(workload: dict[str, Any]) -> str:
    """784-128-10; equal hidden layers in a row as 6x128."""
    dims, parts = list(workload["dims"]), []
    while dims:
        run = 1
        while run < len(dims) and dims[run] == dims[0]:
            run += 1
        parts += [f"{run}x{dims[0]}"] if run > 2 else [str(dims[0])] * run
        dims = dims[run:]
    return "-".join(parts)
