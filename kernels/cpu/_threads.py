"""Threads: which library runs them, how many help, and when there may be none."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding as llvm
import numba

GIVE_WAY = "fastbp_give_way"  # what compiled code calls to let another thread have its processor
_forked = False
_workqueue = threading.Lock()


def _load_tbb() -> None:
    """Load the TBB library of the ``tbb`` distribution, which lies where Numba's loader does not look.

    TBB survives a fork and calls from several threads; OpenMP and workqueue do not. Once the library is loaded, Numba
    finds it by name and prefers it.
    """
    suffixes = {"win32": ("tbb12.dll",), "darwin": ("libtbb.12.dylib",)}.get(sys.platform, ("libtbb.so.12",))
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
        for file in importlib.metadata.files("tbb") or ():
            if file.name in suffixes:
                ctypes.CDLL(str(file.locate()), mode=getattr(ctypes, "RTLD_GLOBAL", 0))
                return


_load_tbb()


def _give_compiled_code_a_way_to_wait() -> None:
    """Tell LLVM where the system's call is under our own name, before cached code is loaded."""
    if sys.platform == "win32":
        function = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    llvm.add_symbol(GIVE_WAY, ctypes.cast(function, ctypes.c_void_p).value)


_give_compiled_code_a_way_to_wait()


def usable_threads() -> int:
    """Threads that help: the smallest of Numba's pool, the processors this process may use and the cgroup's quota.

    One inside a joblib worker, whatever its backend: the other workers have the other processors.
    """
    if _in_joblib_worker():
        return 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(numba.config.NUMBA_NUM_THREADS, affinity, _cgroup_quota() or affinity))


def _in_joblib_worker() -> bool:
    joblib = sys.modules.get("joblib.parallel")  # a worker of any backend has imported it to get its work
    # 0 outside of any worker; a worker of loky, multiprocessing or threading runs at level 1 or deeper
    return joblib is not None and getattr(joblib.get_active_backend()[0], "nesting_level", 0) > 0


@functools.cache
def _cgroup_quota() -> int | None:
    """Whole processors that the control groups grant, at least one; None where there is no limit.

    A quota holds for all groups below it: the smallest counts, from the process's own group up to the root.
    """
    granted = (_granted(group) for group in _groups())
    return min((max(1, int(processors)) for processors in granted if processors is not None), default=None)


def _groups() -> Iterator[Path]:
    """Folders of the process's own control groups and of all above them, cgroup v2 and v1."""
    roots = {"": "/sys/fs/cgroup", "cpu": "/sys/fs/cgroup/cpu"}
    lines = ["0::/", "1:cpu:/"]  # in a container the roots may be all that is mounted
    with contextlib.suppress(OSError, ValueError):
        lines += Path("/proc/self/cgroup").read_text().splitlines()
    for line in lines:
        controllers, _, group = line.partition(":")[2].partition(":")
        names = [name for name in group.split("/") if name]
        for controller in set(controllers.split(",")) & roots.keys():
            # a group outside of the container's own part of the tree has names such as ".."
            for depth in range(0 if ".." in names else len(names), -1, -1):
                yield Path(roots[controller]).joinpath(*names[:depth])


def _granted(group: Path) -> float | None:
    """Processors that one control group grants, or None."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        granted, every = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return granted / every if granted > 0 else None
    return None


def parallel_allowed() -> bool:
    """Whether this process may open a parallel region.

    In a child forked from a process that had used OpenMP, its own or another library's, a region kills the child or
    hangs. TBB makes new threads there.
    """
    return not _forked or threading_layer() == "tbb"


def _after_fork() -> None:
    global _forked, _workqueue
    _forked, _workqueue = True, threading.Lock()  # another thread of the parent may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def threads(n_threads: int) -> Iterator[None]:
    """Run parallel regions on ``n_threads`` threads, and restore what was set before."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
    # workqueue aborts the process when two Python threads are in parallel regions at once
    lock = _workqueue if threading_layer() in (None, "workqueue") else contextlib.nullcontext()
    try:
        with lock:
            yield
    finally:
        numba.set_num_threads(before)


def threading_layer() -> str | None:
    """Name of Numba's threading layer, or None as long as no parallel region has run."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None
