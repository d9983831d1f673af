"""What the figures were measured on, in words that name no user, folder or host."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# settings that would slow a peer down behind our back, or give it other threads than the rest
CLEARED = (
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "XLA_FLAGS",
)  # fmt: skip
KEPT = ("FASTBP_VECTOR_BITS", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_THREADING_LAYER")
DISTRIBUTIONS = ("fastbp", "numpy", "numba", "llvmlite", "tbb", "scikit-learn", "torch", "jax")
_ABSOLUTE = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:\\(?:[^\\\s'\"]+\\)*|/(?:[^/\s'\":,;()]+/)+)")


def environment() -> dict[str, str]:
    """The environment for a peer's process: ours without what :data:`CLEARED` names."""
    return {name: value for name, value in os.environ.items() if name not in CLEARED}


def cpu_model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cpus() -> list[int]:
    """Processors that this process may use, one of each core first."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    seen: set[str] = set()
    first, others = [], []
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            siblings = str(cpu)
        (others if siblings in seen else first).append(cpu)
        seen.add(siblings)
    return first + others


def pin(n_threads: int) -> None:
    """Keep this process on ``n_threads`` processors: for JAX this is the only way to limit its threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, usable_cpus()[:n_threads])


def version(distribution: str) -> str | None:
    """Installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe(n_threads: int) -> dict[str, Any]:
    """CPU, cores, threads, versions and the settings that change what is measured."""
    return {
        "cpu": cpu_model(),
        "cores": len(usable_cpus()),
        "threads": n_threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in DISTRIBUTIONS},
        "environment": {name: os.environ[name] for name in KEPT if name in os.environ},
    }


def openblas() -> list[dict[str, Any]]:
    """Which kernels the loaded BLAS libraries run, and on how many threads."""
    from threadpoolctl import threadpool_info

    keys = ("internal_api", "version", "architecture", "num_threads")
    return [
        {key: pool.get(key) for key in keys} | {"of": _owner(pool.get("filepath", ""))}
        for pool in threadpool_info()
        if pool.get("user_api") == "blas"
    ]


def _owner(path: str) -> str:
    """The package that brought a library along, from the folder it lies in."""
    folders = [part for part in Path(path).parts if part.endswith(".libs")]
    return folders[-1].removesuffix(".libs") if folders else ""


def scrub(value: Any) -> Any:
    """The same value without the folders of absolute paths and without this host's name."""
    if isinstance(value, dict):
        return {scrub(key): scrub(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    if isinstance(value, str):
        host = platform.node()
        value = _ABSOLUTE.sub("", value)
        return re.sub(rf"\b{re.escape(host)}\b", "host", value) if len(host) > 3 else value
    return value


def command(module: str, arguments: Iterable[str]) -> str:
    """The command line that is written beside the figures."""
    return " ".join(scrub([f"python -m {module}", *arguments]))
