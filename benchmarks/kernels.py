"""Each compiled CPU kernel alone on one thread: ``pytest benchmarks``, in a process of its own, and its table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.driver import ROOT
from benchmarks.machine import environment

KEYS = ("kernel", "shape", "dtype", "microseconds", "gflops", "gbytes", "share")
TIMEOUT = 1200.0


def measure(quick: bool, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Verify and time all kernels.

    Parameters
    ----------
    quick : bool
        Few and short measurements: to see that it works.
    options : tuple of str
        Of pytest; ``("-k", "adam")`` for some of the kernels.

    Returns
    -------
    list of dict
        :data:`KEYS` of each kernel. ``share`` is of one thread's peak, None where nothing is calculated.

    Raises
    ------
    SystemExit
        With all that pytest has said, where a kernel is not what its twin is, or pytest-benchmark is not there.
    """
    # options of an outer pytest, and the mark of its worker, would switch the measurements off
    env = {name: value for name, value in environment().items() if not name.startswith("PYTEST_")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.json"
        command = [sys.executable, "-m", "pytest", "benchmarks", "-q", "-p", "no:cacheprovider"]
        command += [f"--benchmark-json={path}", *(["--quick"] if quick else []), *options]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
        if done.returncode:
            raise SystemExit(f"{' '.join(command[1:4])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        found = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return [{key: one["extra_info"][key] for key in KEYS} for one in found]


def show(results: list[dict[str, Any]], say: Callable[[str], Any]) -> None:
    """Print the table."""
    say("one thread; bytes are those that must be read and written, share is of the peak that this run has measured")
    say(f"  {'kernel':28s} {'shape':28s} {'dtype':7s} {'us':>10s} {'GFLOP/s':>8s} {'GB/s':>7s} {'of peak':>7s}")
    for one in results:
        rate, share = "", ""
        if one["share"] is not None:
            rate, share = f"{one['gflops']:.1f}", f"{one['share']:.0%}"
        say(
            f"  {one['kernel']:28s} {one['shape']:28s} {one['dtype']:7s} {one['microseconds']:10.2f} {rate:>8s} "
            f"{one['gbytes']:7.1f} {share:>7s}"
        )
