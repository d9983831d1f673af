"""What :mod:`benchmarks.gpu` measures, part by part, in processes of their own: a kernel that hangs, or a failed launch
that spoils its process, costs one part.

For each line ``PART SECONDS`` that it reads, the process does the part within about so many seconds and writes one line
of JSON: what it found, or ``{"error": ...}``, after which it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.machine import scrub
from benchmarks.peers._worker import Turn, UnavailableError
from benchmarks.workloads import Workload

ROUNDS, QUICK_ROUNDS = 7, 2
TURN_SECONDS, MOST_EPOCHS = 0.4, 200
# 60,000 rows less those that make no whole batch of 1024: the graphs have batches of one size
MNIST_ROWS = 60_000 // 1024 * 1024
WIDE = 4096
WORKLOADS = {
    **{f"mnist/{batch}": Workload("mnist", 784, (128,), 10, batch, MNIST_ROWS) for batch in (64, 256, 1024)},
    **{
        f"wide/{precision}": Workload("wide", WIDE, (WIDE, WIDE), WIDE, WIDE, 8 * WIDE, optimizer="sgd")
        for precision in ("float32", "tf32")
    },
}
VARIANTS = {
    "mnist": ("eager", "graphs", "graphs-many"),
    "wide": ("eager", "graphs"),
    "compiled": ("compile", "compile-graphs"),
}
POISON_BYTES = 2**28


def use_numba_cuda() -> None:
    """Let ``numba.cuda`` be that of the package numba-cuda, not the old one that comes with Numba.

    A ``.pth`` file does so where the package is installed; of a folder that PYTHONPATH names Python reads none.
    """
    os.environ.pop("NUMBA_ENABLE_CUDASIM", None)
    with contextlib.suppress(ImportError):
        import _numba_cuda_redirector  # noqa: F401


def machine(device: str) -> dict[str, Any]:
    """The GPU and what PyTorch and Numba say of it."""
    import torch

    if device != "cuda":
        return {"gpu": None, "torch": torch.__version__}
    if not torch.cuda.is_available():
        raise UnavailableError(f"PyTorch {torch.__version__} sees no GPU")
    from numba import cuda

    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "capability": list(torch.cuda.get_device_capability(0)),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        # "NVIDIA" for the package numba-cuda
        "numba_cuda": getattr(cuda, "implementation", "unknown"),
    }


def _poison_memory(device: str) -> None:
    """Leave NaN in memory that is handed out next."""
    if device != "cuda":
        return
    import torch

    torch.full((POISON_BYTES // 4,), float("nan"), device=device)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def agreement(name: str, precision: str, args: argparse.Namespace) -> dict[str, Any]:
    """One case of :mod:`benchmarks._gpu_agreement`."""
    from benchmarks import _gpu_agreement

    return _gpu_agreement.compare(name, precision, args.backend, args.seed, lambda: _poison_memory(args.device))


def in_rounds(
    turns: dict[str, Turn], n_epochs: dict[str, int], rounds: int, deadline: float, clock: Callable[[], float]
) -> dict[str, list[dict[str, Any]]]:
    """All take a turn each round, another one first each time; no round starts that would end after ``deadline``."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in turns}
    names, longest = list(turns), 0.0
    for k in range(rounds):
        begin = clock()
        if k and begin + longest > deadline:
            break
        for name in names[k % len(names) :] + names[: k % len(names)]:
            found[name].append(turns[name](n_epochs[name]))
        longest = max(longest, clock() - begin)
    return found


def timing(
    workload: Workload, variants: Sequence[str], precision: str, args: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """fastbp and some of PyTorch's variants in turn on one workload; who fails is noted and left out."""
    import torch

    from benchmarks.peers import gpu_

    deadline = time.monotonic() + 0.85 * seconds
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    workload = workload.quick() if args.quick else workload
    X, y = gpu_.on_device(workload, args.device)
    peers: dict[str, dict[str, Any]] = {}
    turns: dict[str, Turn] = {}
    for name in ("fastbp", *variants):
        peers[name] = peer = {"notes": {}}
        begin = time.monotonic()
        try:
            if name == "fastbp":
                turn = gpu_.fastbp_turn(workload, X, y, backend=args.backend, precision=precision, notes=peer["notes"])
            else:
                turn = gpu_.torch_turn(name, workload, X, y)
            first = turn(1)
            peer |= {"setup_seconds": time.monotonic() - begin, "loss": first.get("second_loss", first["loss"])}
            peer["epochs"] = _epochs(turn(1)["seconds"], args.quick)
            turns[name] = turn
        except UnavailableError as error:
            peer["unavailable"] = str(error)
        except Exception as error:
            peer["unavailable"] = f"failed: {type(error).__name__}: {error}"
    rounds = QUICK_ROUNDS if args.quick else ROUNDS
    found = in_rounds(turns, {name: peers[name]["epochs"] for name in turns}, rounds, deadline, time.monotonic)
    for name, taken in found.items():
        peers[name]["rounds"] = taken
    return {
        "dims": workload.dims, "batch": workload.batch, "n_samples": workload.n_samples, "steps": workload.steps,
        "optimizer": workload.optimizer, "precision": precision, "peers": peers,
    }  # fmt: skip


def _epochs(seconds: float, quick: bool) -> int:
    return 1 if quick else max(1, min(MOST_EPOCHS, round(TURN_SECONDS / max(seconds, 1e-6))))


def run_part(part: str, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """``machine``, ``agreement/PRECISION/CASE``, ``mnist/BATCH``, ``wide/PRECISION`` or ``compiled/BATCH``."""
    kind, _, rest = part.partition("/")
    if kind == "machine":
        return machine(args.device)
    if kind == "agreement":
        precision, _, name = rest.partition("/")
        return agreement(name, precision, args)
    workload = WORKLOADS[f"mnist/{rest}" if kind == "compiled" else part]
    if args.tiny:
        workload = replace(workload, n_features=12, hidden=(8,), n_classes=3, batch=16, n_samples=64)
    return timing(workload, VARIANTS[kind], "tf32" if rest == "tf32" else "float32", args, seconds)


def main(argv: list[str] | None = None) -> None:
    """Answer lines until the input ends, or a part fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="networks of a few units, for tests")
    args = parser.parse_args(argv)
    sys.stdout.flush()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed goes to standard error
    use_numba_cuda()
    for line in sys.stdin:
        part, seconds = line.split()
        try:
            answer = run_part(part, args, float(seconds))
        except UnavailableError as error:
            answer = {"error": str(error)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(scrub(answer)), file=channel, flush=True)
        if "error" in answer:
            return


if __name__ == "__main__":
    main()
