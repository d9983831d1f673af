"""Measure fastbp and its peers in turn: ``python -m benchmarks.run``, from the root of the checkout."""

from __future__ import annotations

import argparse
import copy
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.datasets import SOURCES
from benchmarks.driver import ROOT
from benchmarks.machine import command, describe, usable_cpus
from benchmarks.peers import BASELINE, PEERS
from benchmarks.show import say
from benchmarks.suites import SUITES
from benchmarks.workloads import SYNTHETIC

RESULTS = ROOT / "benchmarks" / "results"
BUSY = 0.3  # a load that leaves threads waiting: one busy neighbour on 2 cores made PyTorch's epochs 10 times longer


def _names(known: Any) -> Any:
    def names(text: str) -> list[str]:
        chosen = list(dict.fromkeys(text.split(",")))
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there is {', '.join(known)}")
        return chosen

    return names


def _parser() -> argparse.ArgumentParser:
    cpus = len(usable_cpus())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--suite", choices=SUITES, help="default: all in turn, each into its own file")
    parser.add_argument("--workloads", type=_names([*SYNTHETIC, *SOURCES]), metavar="NAME,...",
                        help="some of a suite's (default: all of them)")  # fmt: skip
    parser.add_argument("--peers", type=_names(PEERS), metavar="NAME,...",
                        help=f"of {','.join(PEERS)} (default: the suite's, the probe with --probe only)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=cpus, help="default: all usable processors, here %(default)s")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, help="default: 3 to 7, by suite; with --quick 2")
    parser.add_argument("--quick", action="store_true", help="few batches and rounds: to see that it works")
    parser.add_argument("--probe", metavar="PATH", help="step_probe.py, to be measured as well")
    parser.add_argument("--mnist", metavar="PATH", help=".npz with x_train, y_train, x_test, y_test, for mnist-real")
    parser.add_argument("--json", type=Path, metavar="PATH", help="default: benchmarks/results/SUITE.json")
    return parser


def _file(parser: argparse.ArgumentParser, option: str, path: str | None, what: str) -> str | None:
    if path is None:
        return None
    if not Path(path).is_file():
        parser.error(f"{option} must be the path of {what}")
    return str(Path(path).resolve())


def _arguments(argv: list[str]) -> list[argparse.Namespace]:
    """Arguments for each suite that is to run."""
    parser = _parser()
    args = parser.parse_args(argv)
    cpus = len(usable_cpus())
    if not 1 <= args.threads <= cpus:
        parser.error(f"--threads must be from 1 to {cpus}, the processors that this process may use")
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds must be at least 1")
    args.probe = _file(parser, "--probe", args.probe, "step_probe.py")
    args.mnist = _file(parser, "--mnist", args.mnist, "an .npz file")
    if args.suite is None and (args.workloads is not None or args.json is not None):
        parser.error("--workloads and --json need one --suite")
    known = list(SUITES[args.suite].workloads) if args.suite else []
    if not set(args.workloads or []) <= set(known):
        parser.error(f"--workloads of the suite {args.suite} are {', '.join(known) or 'none'}")
    return [_for_suite(args, name) for name in ([args.suite] if args.suite else SUITES)]


def _for_suite(args: argparse.Namespace, name: str) -> argparse.Namespace:
    """The same arguments with a suite's defaults."""
    args, suite = copy.copy(args), SUITES[name]
    args.suite = name
    args.workloads = list(suite.workloads) if args.workloads is None else args.workloads
    args.json = args.json or RESULTS / f"{name}.json"
    if args.rounds is None:
        args.rounds = 2 if args.quick else suite.rounds
    if args.peers is None:
        args.peers = [peer for peer in suite.peers if _joins(peer, args)]
    return args


def _joins(peer: str, args: argparse.Namespace) -> bool:
    """Whether a peer of a suite has something to add where none are named."""
    twice = peer == "fastbp-float64" and args.dtype == "float64"
    return not twice and (args.probe is not None or not PEERS[peer].needs_probe)


def _run(args: argparse.Namespace, argv: list[str]) -> None:
    """One suite."""
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
    say(f"suite {args.suite}")
    if (results["load_before"] or 0) > BUSY:
        say(f"something else runs here (load {results['load_before']:.1f}): the figures will not mean much")
    say(f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {args.dtype}; {versions}")
    SUITES[args.suite].run(args, results)
    say(f"\nwrote {args.json.name}")


def main(argv: list[str] | None = None) -> int:
    """Run a suite, or all of them; the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    for number, args in enumerate(_arguments(argv)):
        if number:
            say("")
        _run(args, argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
