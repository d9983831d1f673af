"""What the suites print."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks import summary
from benchmarks.peers import PEERS
from benchmarks.summary import Spread

say = partial(print, flush=True)


def spread(values: Spread | None, scale: float = 1.0, digits: int = 2) -> str:
    """Median, smallest and largest; nothing for None."""
    if values is None:
        return ""
    median, least, most = (f"{scale * value:.{digits}f}" for value in (values.median, values.least, values.most))
    return f"{median} ({least}-{most})"


def workload(name: str, measured: dict[str, Any]) -> None:
    """The figures of one workload, and what the peers say of themselves."""
    say(
        f"\n{name}: {summary.network(measured)}, batch {measured['batch']}, {measured['n_samples']} rows, "
        f"{measured['steps']} steps an epoch; peak {max(measured['peak']):.0f} GFLOP/s "
        f"({min(measured['peak']):.0f}-{max(measured['peak']):.0f})"
    )
    say(f"  {'':20s} {'ms an epoch (min-max)':>28s} {'times fastbp (min-max)':>26s} {'us a step':>11s} "
        f"{'GFLOP/s':>8s} {'of peak':>8s} {'set-up s':>9s} {'MiB at most':>11s}")  # fmt: skip
    for key, peer in summary.summarize(measured).items():
        ms, ratio = spread(peer.seconds, 1e3, 1), spread(peer.ratio)
        own = measured["peers"][key]
        setup, memory = (own.get(name) or 0 for name in ("setup_seconds", "peak_memory_mib"))
        before = f" ({own['memory_before_mib']:.0f} before)" if own.get("memory_before_mib") else ""
        say(f"  {PEERS[key].label:20s} {ms:>28s} {ratio:>26s} {peer.step_us:11.1f} {peer.gflops:8.1f} "
            f"{peer.share:8.0%} {setup:9.1f} {memory:11.0f}{before}")  # fmt: skip
    probe = summary.between(measured, "probe", "fastbp-trainer")
    if probe is not None:
        say(f"  probe by fastbp Trainer, the same network: {spread(probe)}")
    for key, peer in measured["peers"].items():
        notes = peer.get("notes")
        say(f"    {PEERS[key].label}: {_notes(notes) if notes is not None else 'left out, ' + peer['unavailable']}")


def _notes(notes: dict[str, Any]) -> str:
    parts = []
    for key, value in notes.items():
        if key == "blas":
            value = "; ".join(f"{b['of']} {b['internal_api']} {b['version']} {b['architecture']}" for b in value)
        parts.append(f"{key} {value}")
    return ", ".join(parts)


def geometric_means(workloads: dict[str, Any]) -> None:
    """How many times fastbp's seconds each library takes, over all workloads together."""
    say("\ntimes fastbp, geometric mean over the workloads:")
    for key, (mean, n_workloads) in summary.geometric_means(workloads).items():
        say(f"  {PEERS[key].label:20s} {mean:6.2f}  over {n_workloads}")


def predictions(name: str, measured: dict[str, Any]) -> None:
    """A line for each peer."""
    n_rows = measured["rows"]
    unit, scale = ("us", 1e6) if n_rows == 1 else ("ms", 1e3)
    for key, peer in summary.summarize(measured).items():
        median, least, most = (x * scale for x in (peer.seconds.median, peer.seconds.least, peer.seconds.most))
        call = f"{median:.1f} {unit} ({least:.1f}-{most:.1f})"
        memory = measured["peers"][key].get("peak_memory_mib") or 0
        say(f"{name:18s} {n_rows:7d} {PEERS[key].label:18s} {call:>30s} {spread(peer.ratio):>26s} "
            f"{n_rows / peer.seconds.median:14,.0f} {memory:11.0f}")  # fmt: skip


def curve(name: str, measured: dict[str, Any]) -> None:
    """A line for each peer: time of an epoch and share of the peak."""
    for key, peer in summary.summarize(measured).items():
        say(f"{name:12s} {PEERS[key].label:20s} {spread(peer.seconds, 1e3, 1):>28s} {spread(peer.ratio):>26s} "
            f"{peer.share:8.1%}")  # fmt: skip


def real(name: str, measured: dict[str, Any]) -> None:
    """A line for each peer: time of an epoch and score on the test rows."""
    rows = f"{measured['n_samples']} rows, {measured['epochs']} epochs, {_score(measured)}"
    say(f"\n{name}: {summary.network(measured)}, batch {measured['batch']}, {rows}")
    for key, peer in summary.summarize(measured).items():
        scores = Spread.of([turn["score"] for turn in measured["peers"][key]["rounds"]])
        say(f"  {PEERS[key].label:20s} {spread(peer.seconds, 1e3):>28s} ms an epoch {spread(peer.ratio):>26s} "
            f"times fastbp, score {spread(scores, 1, 4)}")  # fmt: skip


def fits(name: str, measured: dict[str, Any]) -> None:
    """A line for each peer: time of a whole fit, its epochs and its score."""
    say(f"\n{name}: {summary.network(measured)}, {measured['n_samples']} rows, {_score(measured)}")
    for key, peer in summary.summarize(measured).items():
        last = measured["peers"][key]["rounds"][-1]
        say(f"  {PEERS[key].label:20s} {spread(peer.seconds, 1, 3):>28s} s a fit {spread(peer.ratio):>26s} "
            f"times fastbp, {last['epochs_fitted']:4d} epochs, score {last['score']:.4f}")  # fmt: skip


def _score(measured: dict[str, Any]) -> str:
    return "R2" if measured["task"] == "regression" else "accuracy"


def scaling(name: str, by_threads: dict[int, dict[str, Any]]) -> None:
    """A line for each peer and number of threads: time of an epoch, how many times less than on one, share of peak."""
    one = summary.summarize(by_threads[1])
    say(f"\n{name}: {summary.network(by_threads[1])}, batch {by_threads[1]['batch']}")
    for n_threads, measured in by_threads.items():
        for key, peer in summary.summarize(measured).items():
            faster = f"{one[key].seconds.median / peer.seconds.median:.2f}" if key in one else ""
            say(f"  {n_threads:3d} threads {PEERS[key].label:20s} {spread(peer.seconds, 1e3, 1):>28s} ms an epoch "
                f"{faster:>6s} times one thread {peer.share:8.1%} of peak")  # fmt: skip
