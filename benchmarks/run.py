"""Measure fastbp and its peers in turn: ``python -m benchmarks.run``, from the root of the checkout."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import driver, startup, summary
from benchmarks.driver import ROOT, Options
from benchmarks.machine import command, describe, scrub, usable_cpus
from benchmarks.peers import BASELINE, PEERS, Peer
from benchmarks.workloads import SPARSE, WORKLOADS

RESULTS = ROOT / "benchmarks" / "results"
BUSY = 0.3  # a load that leaves threads waiting: one busy neighbour on 2 cores made PyTorch's epochs 10 times longer
say = partial(print, flush=True)


def _names(known: Any) -> Any:
    def names(text: str) -> list[str]:
        chosen = list(dict.fromkeys(text.split(",")))
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there is {', '.join(known)}")
        return chosen

    return names


def _arguments(argv: list[str]) -> argparse.Namespace:
    cpus = len(usable_cpus())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--suite", choices=("cpu", "inference", "sparse", "startup"), default="cpu", help="default: %(default)s"
    )
    parser.add_argument("--workloads", type=_names(WORKLOADS | SPARSE), metavar="NAME,...",
                        help=f"of {','.join(WORKLOADS)}, for sparse of {','.join(SPARSE)} (default: all)")  # fmt: skip
    parser.add_argument("--peers", type=_names(PEERS), metavar="NAME,...",
                        help=f"of {','.join(PEERS)} (default: all, the probe only with --probe)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=cpus, help="default: all usable processors, here %(default)s")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, help="default: 7, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="few batches and rounds: to see that it works")
    parser.add_argument("--probe", metavar="PATH", help="step_probe.py, to be measured as well")
    parser.add_argument("--json", type=Path, metavar="PATH", help="default: benchmarks/results/SUITE.json")
    args = parser.parse_args(argv)
    if not 1 <= args.threads <= cpus:
        parser.error(f"--threads must be from 1 to {cpus}, the processors that this process may use")
    args.rounds = (2 if args.quick else 7) if args.rounds is None else args.rounds
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.probe is not None:
        if not Path(args.probe).is_file():
            parser.error("--probe must be the path of step_probe.py")
        args.probe = str(Path(args.probe).resolve())
    known = SPARSE if args.suite == "sparse" else WORKLOADS
    args.workloads = list(known) if args.workloads is None else args.workloads
    if not known.keys() >= set(args.workloads):
        parser.error(f"--workloads of the suite {args.suite} are {', '.join(known)}")
    if args.peers is None:
        args.peers = [name for name, peer in PEERS.items() if _joins(peer, args)]
    args.json = args.json or RESULTS / f"{args.suite}.json"
    return args


def _joins(peer: Peer, args: argparse.Namespace) -> bool:
    """Whether a peer is in a suite where none are named."""
    if args.suite == "inference":
        return peer.predicts
    return peer.estimator if args.suite == "sparse" else bool(args.probe) or not peer.needs_probe


def _show(name: str, workload: dict[str, Any]) -> None:
    """The figures of one workload."""
    say(
        f"\n{name}: {summary.network(workload)}, batch {workload['batch']}, {workload['n_samples']} rows, "
        f"{workload['steps']} steps an epoch; peak {max(workload['peak']):.0f} GFLOP/s "
        f"({min(workload['peak']):.0f}-{max(workload['peak']):.0f})"
    )
    say(f"  {'':20s} {'ms an epoch (min-max)':>28s} {'times fastbp (min-max)':>26s} {'us a step':>11s} "
        f"{'GFLOP/s':>8s} {'of peak':>8s} {'set-up s':>9s} {'MiB at most':>11s}")  # fmt: skip
    for key, peer in summary.summarize(workload).items():
        ms = f"{peer.seconds.median * 1e3:.1f} ({peer.seconds.least * 1e3:.1f}-{peer.seconds.most * 1e3:.1f})"
        ratio = ""
        if peer.ratio is not None:
            ratio = f"{peer.ratio.median:.2f} ({peer.ratio.least:.2f}-{peer.ratio.most:.2f})"
        measured = workload["peers"][key]
        setup, memory = (measured.get(name) or 0 for name in ("setup_seconds", "peak_memory_mib"))
        before = f" ({measured['memory_before_mib']:.0f} before)" if measured.get("memory_before_mib") else ""
        say(f"  {PEERS[key].label:20s} {ms:>28s} {ratio:>26s} {peer.step_us:11.1f} {peer.gflops:8.1f} "
            f"{peer.share:8.0%} {setup:9.1f} {memory:11.0f}{before}")  # fmt: skip
    probe = summary.between(workload, "probe", "fastbp-trainer")
    if probe is not None:
        say(f"  probe by fastbp Trainer, the same network: {probe.median:.2f} ({probe.least:.2f}-{probe.most:.2f})")
    for key, peer in workload["peers"].items():
        notes = peer.get("notes")
        say(f"    {PEERS[key].label}: {_notes(notes) if notes is not None else 'left out, ' + peer['unavailable']}")


def _notes(notes: dict[str, Any]) -> str:
    parts = []
    for key, value in notes.items():
        if key == "blas":
            value = "; ".join(f"{b['of']} {b['internal_api']} {b['version']} {b['architecture']}" for b in value)
        parts.append(f"{key} {value}")
    return ", ".join(parts)


def _options(args: argparse.Namespace, predict: int | None = None) -> Options:
    return Options(
        args.threads, args.dtype, args.rounds, turn_seconds=0.05 if args.quick else 0.4, quick=args.quick,
        probe=args.probe, predict=predict,
    )  # fmt: skip


def _train(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Epochs of the networks of a suite."""
    known = WORKLOADS | SPARSE
    results["workloads"] = {}
    for name in args.workloads:
        workload = known[name].quick() if args.quick else known[name]
        results["workloads"][name] = scrub(driver.measure(workload, args.peers, _options(args), say))
        _show(name, results["workloads"][name])
        _write(args.json, results)  # a run that is cut short keeps what it has


def _predict(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Probabilities of many rows at once, and of one."""
    many = 1000 if args.quick else 100_000
    results["workloads"] = {}
    say(f"\n{'probabilities':18s} {'rows':>7s} {'':18s} {'a call (min-max)':>30s} {'times fastbp (min-max)':>26s} "
        f"{'rows a second':>14s} {'MiB at most':>11s}")  # fmt: skip
    for name, n_rows in itertools.product(args.workloads, (many, 1)):
        measured = scrub(driver.measure(WORKLOADS[name], args.peers, _options(args, n_rows), say))
        results["workloads"][f"{name}, {n_rows} rows"] = measured | {"rows": n_rows}
        unit, scale = ("us", 1e6) if n_rows == 1 else ("ms", 1e3)
        for key, peer in summary.summarize(measured).items():
            median, least, most = (x * scale for x in (peer.seconds.median, peer.seconds.least, peer.seconds.most))
            call = f"{median:.1f} {unit} ({least:.1f}-{most:.1f})"
            ratio = peer.ratio and f"{peer.ratio.median:.2f} ({peer.ratio.least:.2f}-{peer.ratio.most:.2f})"
            memory = measured["peers"][key].get("peak_memory_mib") or 0
            say(f"{name:18s} {n_rows:7d} {PEERS[key].label:18s} {call:>30s} {ratio or '':>26s} "
                f"{n_rows / peer.seconds.median:14,.0f} {memory:11.0f}")  # fmt: skip
        _write(args.json, results)


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(scrub(results), indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run a suite; the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args = _arguments(argv)
    machine = describe(args.threads)
    results: dict[str, Any] = {
        "suite": args.suite,
        "command": command("benchmarks.run", argv),
        "machine": machine,
        "dtype": args.dtype,
        "rounds": args.rounds,
        "quick": args.quick,
        "baseline": BASELINE,
    }
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    results["load_before"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if (results["load_before"] or 0) > BUSY:
        say(f"something else runs here (load {results['load_before']:.1f}): the figures will not mean much")
    say(f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {args.dtype}; {versions}")
    if args.suite == "startup":
        results["startup"] = startup.measure(args.rounds)
        startup.show(results["startup"], say)
        _write(args.json, results)
    elif args.suite == "inference":
        _predict(args, results)
    else:
        _train(args, results)
    say(f"\nwrote {args.json.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
