"""Peers as processes, and the rounds in which they take turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import environment, scrub
from benchmarks.peers import BASELINE, PEERS, Peer
from benchmarks.workloads import Workload

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.05  # OpenBLAS's threads spin for some 30 ms after their last call, and would take the next peer's processor
MAX_EPOCHS = 50  # or more, where an epoch has few steps
LONGEST, FEW_STEPS = 500, 20_000  # at most so many epochs then, and so many steps
MAX_CALLS = 2000  # of a prediction
PEAK_PASSES = 5
ALLOWED_PROBABILITY_DIFFERENCE = 1e-4  # from the same weights; float32 rounds to some 1e-6
ALLOWED_LOSS_DIFFERENCE = 0.02  # after two epochs from the same weights; other orders of rows change it by less
ALLOWED_LOSS_DIFFERENCE_REAL = 0.2  # they change that of diamonds by 9 %, and there is a score to compare as well


@dataclass(frozen=True)
class Options:
    """How a run measures."""

    n_threads: int
    dtype: str
    rounds: int
    turn_seconds: float
    quick: bool = False
    probe: str | None = None
    timeout: float = 900.0
    predict: int | None = None
    fit: bool = False
    mnist: str | None = None


class PeerError(Exception):
    """A peer ended, or did not answer in time."""


class Process:
    """A peer that is running.

    Parameters
    ----------
    module : str
        Speaks the protocol of :mod:`benchmarks.peers._worker`.
    arguments : sequence of str
    timeout : float
        Seconds for each answer.
    """

    def __init__(self, module: str, arguments: Sequence[str], timeout: float) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._timeout = timeout
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=environment(),
            text=True,
        )
        self.greeting: dict[str, Any] = {}

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def greet(self) -> dict[str, Any]:
        """What it can do: waits until it has set up."""
        self.greeting = self._answer()
        return self.greeting

    def train(self, n_epochs: int) -> dict[str, Any]:
        """Seconds of an epoch and what else it says of this turn."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"epochs {n_epochs}\n")
            self._process.stdin.flush()
        except OSError:  # it has ended; the answer says how
            pass
        return self._answer()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(self._timeout, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timed_out = not timer.is_alive()
            timer.cancel()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            why = f"no answer within {self._timeout:.0f} s" if timed_out else f"ended with status {status}"
            raise PeerError(": ".join([why, *last]))
        return json.loads(line)


def _arguments(workload: Workload, options: Options) -> list[str]:
    arguments = [workload.name, "--threads", str(options.n_threads), "--dtype", options.dtype]
    arguments += ["--quick"] if options.quick else []
    arguments += ["--fit"] if options.fit else []
    arguments += ["--mnist", options.mnist] if options.mnist else []
    return arguments + (["--predict", str(options.predict)] if options.predict else [])


def _start(
    name: str, module: str, arguments: Sequence[str], timeout: float, stack: ExitStack, say: Callable[[str], None]
) -> tuple[Process | None, dict[str, Any]]:
    """A peer that has set up, and what goes into the results; or None, and why not."""
    process = stack.enter_context(Process(module, arguments, timeout))
    try:
        greeting = process.greet()
    except PeerError as error:
        greeting = {"unavailable": f"failed: {error}"}
    if "unavailable" in greeting:
        say(f"  {name}: left out, {scrub(greeting['unavailable'])}")
        return None, {"unavailable": greeting["unavailable"]}
    kept = ("setup_seconds", "loss", "dims", "flop", "notes", "peak_memory_mib", "memory_before_mib")
    return process, {key: greeting.get(key) for key in kept} | {"rounds": []}


def _unfit(peer: Peer, workload: Workload, options: Options) -> str | None:
    """Why a peer cannot do what is asked, or None."""
    if options.predict and not peer.predicts:
        return "its predictions are not timed"
    if workload.nonzeros and not peer.estimator:
        return "it takes no sparse X"
    if (workload.extra or workload.activation == "gelu") and not peer.features:
        return f"it does not know {workload.extra or workload.activation}"
    return None


def measure(workload: Workload, peers: Sequence[str], options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """Let the peers take turns on one workload.

    In each round every peer has a turn, each right after one of fastbp's, and the peak is measured once. A peer that
    is not installed or fails is noted and left out; it does not stop the others.

    Returns
    -------
    dict
        ``peak``: GFLOP/s, one value a round. ``peers``: by name ``unavailable``, or ``rounds``, each with ``seconds``
        of an epoch, and ``fastbp``, those of fastbp's turn just before.
    """
    results: dict[str, Any] = {
        "batch": workload.batch, "n_samples": workload.n_samples, "steps": workload.steps, "dims": workload.dims,
        "activation": workload.activation, "task": workload.task, "optimizer": workload.optimizer,
        "peak": [], "peers": {}, "warnings": [],
    }  # fmt: skip
    found, running = results["peers"], {}
    with ExitStack() as stack:
        for name in [BASELINE, *(name for name in peers if name != BASELINE)]:
            peer, arguments = PEERS[name], _arguments(workload, options)
            arguments += [*peer.arguments, *(["--probe", options.probe or ""] if peer.needs_probe else [])]
            reason = _unfit(peer, workload, options)
            if reason is not None:
                found[name] = {"unavailable": reason}
                say(f"  {name}: left out, {reason}")
                continue
            process, found[name] = _start(name, peer.module, arguments, options.timeout, stack, say)
            if process is not None:
                running[name] = process
        if BASELINE not in running:
            raise SystemExit(f"fastbp itself cannot be measured: {scrub(found[BASELINE]['unavailable'])}")
        arguments = ["--threads", str(options.n_threads), "--dtype", options.dtype]
        peak, greeting = _start("peak", "benchmarks.peak", arguments, options.timeout, stack, say)
        if peak is None:
            raise SystemExit(f"the peak cannot be measured: {scrub(greeting['unavailable'])}")
        if options.predict:
            results["warnings"] = _probability_warnings({name: one.greeting for name, one in running.items()})
        elif not options.fit:  # which stops after as many epochs as it sees fit
            results["warnings"] = _loss_warnings(found, workload)
        for warning in results["warnings"]:
            say(f"  {warning}")
        n_epochs = {name: _epochs(process.greeting["seconds"], workload, options) for name, process in running.items()}
        for _ in range(options.rounds):
            _round(running, found, n_epochs, say)
            time.sleep(PAUSE)
            results["peak"].append(peak.train(PEAK_PASSES)["gflops"])
    return results


def _epochs(seconds: float, workload: Workload, options: Options) -> int:
    """Epochs that fill a turn, or those after the first where the score after so many is asked for."""
    if options.fit:
        return 1
    if workload.epochs is not None:
        return max(1, workload.epochs - 1)
    most = MAX_CALLS if options.predict else max(MAX_EPOCHS, min(LONGEST, FEW_STEPS // workload.steps))
    return max(1, min(most, round(options.turn_seconds / max(seconds, 1e-6))))


def _round(
    running: dict[str, Process], found: dict[str, Any], n_epochs: dict[str, int], say: Callable[[str], None]
) -> None:
    """fastbp, peer, fastbp, peer, ...: a peer that fails is taken out."""

    def turn(name: str) -> dict[str, Any]:
        time.sleep(PAUSE)
        return running[name].train(n_epochs[name])

    others = [name for name in running if name != BASELINE]
    if not others:
        found[BASELINE]["rounds"].append(turn(BASELINE))
    for name in others:
        ours = turn(BASELINE)
        found[BASELINE]["rounds"].append(ours)
        try:
            theirs = turn(name)
        except PeerError as error:
            running.pop(name)
            found[name] = {"unavailable": f"failed: {error}"}
            say(f"  {name}: left out, {scrub(found[name]['unavailable'])}")
            continue
        found[name]["rounds"].append(theirs | {"fastbp": ours["seconds"]})


def _loss_warnings(found: dict[str, Any], workload: Workload) -> list[str]:
    """Whoever has another loss after the same training of the same network does not do the same work."""
    ours, messages = found[BASELINE], []
    allowed = ALLOWED_LOSS_DIFFERENCE if workload.epochs is None else ALLOWED_LOSS_DIFFERENCE_REAL
    for name, peer in found.items():
        # the probe starts from larger weights
        if "unavailable" in peer or peer["dims"] != ours["dims"] or PEERS[name].needs_probe:
            continue
        if not abs(peer["loss"] - ours["loss"]) <= allowed * ours["loss"]:
            messages.append(f"{name}: the loss after two epochs is {peer['loss']:.4g}, fastbp's is {ours['loss']:.4g}")
    return messages


def _probability_warnings(greetings: dict[str, Any]) -> list[str]:
    """Whoever gives the same rows other probabilities has another network."""
    ours, messages = np.array(greetings[BASELINE]["probabilities"]), []
    for name, greeting in greetings.items():
        theirs = np.array(greeting["probabilities"])
        if theirs.shape != ours.shape:
            messages.append(f"{name}: its probabilities are {theirs.shape}, fastbp's {ours.shape}")
        elif not (difference := float(abs(theirs - ours).max())) <= ALLOWED_PROBABILITY_DIFFERENCE:  # NaN as well
            messages.append(f"{name}: its probabilities differ from fastbp's by up to {difference:.2g}")
    return messages
