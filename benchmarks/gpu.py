"""fastbp on a GPU: agreement with the NumPy reference, then times beside PyTorch's: ``python -m benchmarks.gpu``.

One call under ten minutes. Exit status: 0; 1 where something disagrees, failed or had no time; 2 where there is no GPU
or a package is missing. The results file is written anew after each part.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import re
import secrets
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks import _gpu_agreement, _gpu_results
from benchmarks.driver import ALLOWED_LOSS_DIFFERENCE, ROOT, PeerError, Process
from benchmarks.machine import command, cpu_model, scrub, usable_cpus, version
from benchmarks.show import say

SECONDS = 540.0  # of the whole call, so that ten minutes have room for its start and its end
LEAST_SECONDS = 8.0  # that a part is started with
DISTRIBUTIONS = (
    "numpy", "scipy", "scikit-learn", "numba", "llvmlite", "numba-cuda", "cuda-core", "cuda-bindings", "torch",
    "triton",
)  # fmt: skip
OPTIONAL = ("tqdm", "tbb")  # a progress bar, and threads of the CPU


@dataclass(frozen=True)
class Stage:
    """Parts that are done one after the other, or a few at a time where nothing is timed.

    Parameters
    ----------
    name : str
    parts : tuple of str
    seconds : float
        For all of them.
    part_seconds : float
        At most for one, the start of its process included.
    workers : int
    """

    name: str
    parts: tuple[str, ...]
    seconds: float
    part_seconds: float
    workers: int = 1


def stages(quick: bool) -> list[Stage]:
    """All of them, in order; ``quick`` leaves out cases that nothing of what is timed depends on."""
    cases = [
        (precision, name) for precision in ("float32", "tf32", "float64") for name in _gpu_agreement.names(precision)
    ]
    cases = [case for case in cases if not quick or case[1] in ("mnist", "relu-far", "wide", "wide-gelu", "batch-norm")]
    return [
        # compiling is what takes time there, and the GPU's share of it is small
        Stage("agreement", tuple(f"agreement/{precision}/{name}" for precision, name in cases), 240, 150, workers=8),
        Stage("mnist", tuple(f"mnist/{batch}" for batch in (64, 256, 1024)), 180, 75),
        Stage("wide", ("wide/float32", "wide/tf32"), 130, 75),
        Stage("compiled", tuple(f"compiled/{batch}" for batch in (64, 256, 1024)), 200, 100),
    ]


class Answering(Protocol):
    """What a stage asks."""

    def ask(self, part: str, seconds: float) -> dict[str, Any]:
        """The part's result; a PeerError where the process ended, or took longer."""

    def close(self) -> None:
        """End it."""


class Child(Process):
    """A process of :mod:`benchmarks._gpu_parts`."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__("benchmarks._gpu_parts", arguments, SECONDS)

    def ask(self, part: str, seconds: float) -> dict[str, Any]:
        """See :class:`Answering`."""
        assert self._process.stdin is not None
        self._timeout = seconds
        with suppress(OSError):  # it has ended; the answer says how
            self._process.stdin.write(f"{part} {seconds:.1f}\n")
            self._process.stdin.flush()
        return self._answer()


def run_stage(
    stage: Stage,
    start: Callable[[], Answering],
    record: Callable[[str, dict[str, Any]], None],
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Do the parts of a stage, each in a process that has not failed; ``record`` has all of them in the end."""
    deadline, parts, lock = min(deadline, clock() + stage.seconds), list(stage.parts), threading.Lock()

    def work() -> None:
        child: Answering | None = None
        try:
            while True:
                with lock:
                    if not parts:
                        return
                    part = parts.pop(0)
                left = min(deadline - clock(), stage.part_seconds)
                if left < LEAST_SECONDS:
                    answer: dict[str, Any] = {"skipped": "no time was left"}
                else:
                    try:
                        child = child or start()
                        answer = child.ask(part, left)
                    except (PeerError, OSError, ValueError) as error:
                        answer = {"error": str(error)}
                    if "error" in answer and child is not None:
                        child.close()
                        child = None
                with lock:
                    record(part, answer)
        finally:
            if child is not None:
                child.close()

    threads = [threading.Thread(target=work) for _ in range(min(stage.workers, len(parts)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def requirements() -> dict[str, str]:
    """Least version of each package that a machine must have, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["cuda"], *(one for one in extras["bench"] if one.startswith("torch"))]
    found = (re.match(r"([\w.-]+)(?:\[.*?\])?>=([\d.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match and match[1] not in OPTIONAL}


def missing(needed: dict[str, str]) -> list[str]:
    """What of it is not installed, or too old, in words."""
    found = []
    for name, least in needed.items():
        have = version(name)
        if have is None:
            found.append(f"{name}>={least} is missing")
        elif _numbers(have) < _numbers(least):
            found.append(f"{name}>={least} is needed, there is {have}")
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.split("+")[0])[:3])


def gpu_count() -> int:
    """How many GPUs the driver has; 0 without a driver."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def describe() -> dict[str, Any]:
    """CPU, driver and versions; a process adds what PyTorch knows."""
    driver = None
    with suppress(OSError, subprocess.SubprocessError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.split("\n")[0].strip()
    versions = {name: version(name) for name in DISTRIBUTIONS}
    return {"cpu": cpu_model(), "cores": len(usable_cpus()), "driver": driver or None, "versions": versions}


def _strict(value: Any) -> Any:
    """The same with what JSON has no number for as text."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write(results: dict[str, Any], path: Path) -> None:
    """The whole file at once, so that whoever reads it never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(_strict(scrub(results)), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def measure(
    args: argparse.Namespace, results: dict[str, Any], start: Callable[[], Answering], every: Sequence[Stage]
) -> int:
    """All stages; the exit status."""
    deadline, parts = time.monotonic() + args.seconds, results["parts"]

    def record(part: str, answer: dict[str, Any]) -> None:
        parts[part] = answer
        results["goals"] = _gpu_results.judged(parts)
        for warning in _gpu_results.losses_apart(answer, ALLOWED_LOSS_DIFFERENCE):
            results["warnings"].append(f"{part}: {warning}")
            say(f"  {part}: {warning}")
        write(results, args.out)
        why = answer.get("error") or answer.get("skipped")
        say(f"  {part}: {why or _gist(answer)}")

    for stage in every:
        say(f"{stage.name} ({deadline - time.monotonic():.0f} s left)")
        begin = time.monotonic()
        # what was compared comes back in any order
        parts |= {part: {"skipped": "not reached"} for part in stage.parts}
        run_stage(stage, start, record, deadline)
        results["stage_seconds"][stage.name] = time.monotonic() - begin
        write(results, args.out)
        off = _gpu_results.disagreements(parts)
        if stage.name == "agreement" and off:
            say("backend and reference disagree" + ("" if args.keep_going else "; nothing is timed"))
            for line in off:
                say(line)
            if not args.keep_going:
                return 1
    return int(any(part.keys() & {"error", "skipped"} or part.get("agrees") is False for part in parts.values()))


def _gist(answer: dict[str, Any]) -> str:
    if "worst" in answer:
        return f"{'agrees' if answer['agrees'] else 'OFF'}, {answer['worst']:.1e} ({answer['what']})"
    peers = answer.get("peers", {})
    return ", ".join(
        f"{name} {spread.median / answer['steps'] * 1e6:.1f} us"
        for name in peers
        if (spread := _gpu_results.seconds(answer, name)) is not None
    ) or "nothing was timed"  # fmt: skip


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.json", metavar="PATH",
                        help="default: benchmarks/results/gpu.json")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="few cases, batches and rounds: to see that it works")
    parser.add_argument("--seed", type=int, help="of the data that are compared (default: drawn and printed)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the whole call (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=[stage.name for stage in stages(True)], metavar="STAGE",
                        help="some of: %(choices)s (default: all)")  # fmt: skip
    parser.add_argument("--keep-going", action="store_true", help="time also what disagrees: the status is 1 still")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run all; the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args = _arguments(argv)
    if gpu_count() == 0:
        say("there is no GPU here: the driver (libcuda.so.1) is missing or shows none. Nothing was measured.")
        return 2
    lacking = missing(requirements())
    if lacking:
        say(
            f"this Python lacks what fastbp or its peer needs: {'; '.join(lacking)}. Where nothing can be installed, "
            "add NAME==VERSION to the list that pack_site.sh downloads (and what that wheel needs: it is called with "
            "--no-deps), pack again, unpack the archive and name its folder first in PYTHONPATH."
        )
        return 2
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed
    say(f"seed {seed}")
    results: dict[str, Any] = {
        "suite": "gpu", "command": command("benchmarks.gpu", argv), "machine": describe(), "seed": seed,
        "quick": args.quick, "seconds": args.seconds, "parts": {}, "goals": [], "warnings": [], "stage_seconds": {},
        "tolerance": _gpu_agreement.TOLERANCE,
    }  # fmt: skip
    options = ["--seed", str(seed), *(["--quick"] if args.quick else [])]
    begin = time.monotonic()
    child = Child(options)
    try:
        found = child.ask("machine", 120)
    except PeerError as error:
        found = {"error": str(error)}
    child.close()
    if "error" in found:
        say(f"the GPU cannot be used: {found['error']}")
        return 2
    results["machine"] |= found
    if found["numba_cuda"] != "NVIDIA":
        say("numba.cuda is not that of the package numba-cuda")
    args.seconds -= time.monotonic() - begin
    every = [stage for stage in stages(args.quick) if args.only is None or stage.name in args.only]
    status = measure(args, results, lambda: Child(options), every)
    results["status"] = status
    write(results, args.out)
    say("")
    for line in _gpu_results.table(results):
        say(line)
    return status


if __name__ == "__main__":
    sys.exit(main())
