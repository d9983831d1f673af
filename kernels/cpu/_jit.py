"""All compile policy of the CPU kernels: options, vector width, cache, threads and what happens after a fork.

Nothing else in the package calls ``numba.njit``. A kernel is decorated with :func:`kernel`; a function that opens
parallel regions is built by :func:`parallel`, which compiles it twice, on demand: with threads, and as a serial twin.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pickle
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import caching, types
from numba.extending import overload
from numba.misc.appdirs import AppDirs

# error_model="numpy": Numba's default division carries a zero check that stops vectorisation (Adam over 100,000
# parameters: 247 us with it, 44 us without). nsz is the only fast-math flag: contract, reassoc, nnan and ninf change
# bits between CPU models or hide NaN, and measured no faster.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"nsz"}}
# Two neighbouring parallel loops must stay two regions: the second reads what all threads wrote in the first.
PARALLEL = {
    "prange": True,
    "fusion": False,
    "comprehension": False,
    "reduction": False,
    "inplace_binop": False,
    "setitem": False,
    "numpy": False,
    "stencil": False,
}


# ---------------------------------------------------------------------------------------------------------------------
# Vector width


def _assembly(body: str) -> str:
    """Machine code, as text, that LLVM makes of one function for the CPU that Numba compiles for."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name = numba.config.CPU_NAME or llvm.get_host_cpu_name()
    features = numba.config.CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten() if numba.config.CPU_NAME is None else ""
    target = llvm.Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=2)
    return target.emit_assembly(llvm.parse_assembly(body))


@functools.cache
def _target() -> tuple[int, bool]:
    """Widest vector in bits, and whether there is a fused multiply-add, of the CPU that Numba compiles for."""
    text = _assembly(
        "declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)\n"
        "define void @f(ptr %p, ptr %q) {\n"
        "  %x = load <16 x float>, ptr %p\n  %y = load <16 x float>, ptr %q\n"
        "  %z = call <16 x float> @llvm.fma.v16f32(<16 x float> %x, <16 x float> %y, <16 x float> %x)\n"
        "  store <16 x float> %z, ptr %p\n  ret void\n}\n"
    )
    bits = 512 if "zmm" in text else 256 if "ymm" in text else 128
    return bits, "fmaf" not in text  # without the instruction LLVM calls fmaf of the C library


def _vector_bits() -> int:
    widest = _target()[0]
    asked = os.environ.get("FASTBP_VECTOR_BITS")
    if asked is None:
        return widest
    if asked not in {"128", "256", "512"}:
        raise ValueError(f"FASTBP_VECTOR_BITS is {asked!r}: it must be 128, 256 or 512; unset it for the widest")
    if int(asked) > widest:
        raise ValueError(
            f"FASTBP_VECTOR_BITS is {asked}, but this CPU (as Numba compiles for it: {cpu_name()}) has vectors of "
            f"{widest} bits: set it to {widest} or less, or unset it"
        )
    return int(asked)


def cpu_name() -> str:
    """Name of the CPU model that is compiled for, as LLVM calls it."""
    return numba.config.CPU_NAME or llvm.get_host_cpu_name()


VECTOR_BITS = _vector_bits()
HAS_FMA = _target()[1]


# ---------------------------------------------------------------------------------------------------------------------
# Cache


@functools.cache
def cache_key() -> str:
    """Digest of all that compiled code depends on, so that cached code is never stale.

    Numba looks only at the file of the function itself: a change in ``gemm.py`` would not reach a cached caller in
    ``step.py``. Here every source file of the kernels, the versions of the compilers, and the vector width count.
    """
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent
    for path in sorted([*root.glob("*.py"), root.parent / "layout.py"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    fixed = (numba.__version__, llvmlite.__version__, sys.version_info[:2], VECTOR_BITS, HAS_FMA, OPTIONS, PARALLEL)
    digest.update(repr(fixed).encode())
    return digest.hexdigest()[:20]


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled code is kept, or None where nothing can be written."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    candidates = [
        Path(given) / "fastbp" if given else Path(AppDirs("fastbp", appauthor=False).user_cache_dir),
        Path(tempfile.gettempdir()) / f"fastbp-{os.getuid() if hasattr(os, 'getuid') else os.getlogin()}",
    ]
    for candidate in candidates:
        folder = candidate / cache_key()
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mine = not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
            if mine and os.access(folder, os.W_OK | os.X_OK):
                return folder
    return None


class _Cache(caching.FunctionCache):
    """One file for each function and signature, written under another name and renamed.

    Numba keeps an index beside numbered files; two processes that compile different signatures at the same time can
    leave an index that names the other one's code. A file whose name is the key has no index to go wrong.
    """

    def __init__(self, py_func: Callable[..., Any], options: dict[str, Any]) -> None:
        self._py_func = py_func
        self._name = f"{py_func.__module__}.{py_func.__qualname__}"
        self._options = repr(sorted(options.items(), key=str))
        self._impl = _CacheImpl()
        self._cache_path = str(cache_folder() or "")
        self.enable()

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        folder = cache_folder()
        if folder is None:
            return None
        key = repr((self._name, self._options, str(sig), codegen.magic_tuple()))
        short = self._py_func.__qualname__.rsplit(".", 1)[-1]
        return folder / f"{short}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.bin"

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        path = self._path(sig, target_context.codegen())
        if not self._enabled or path is None:
            return None
        try:
            payload = path.read_bytes()
        except OSError:
            return None
        digest, payload = payload[:32], payload[32:]
        if hashlib.sha256(payload).digest() != digest:  # cut short by a full disk, say: compile again
            return None
        return self._impl.rebuild(target_context, pickle.loads(payload))

    def _save_overload(self, sig: Any, data: Any) -> None:
        path = self._path(sig, data.codegen)
        if not self._enabled or path is None or not self._impl.check_cachable(data):
            return
        payload = caching.dumps(self._impl.reduce(data))
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except OSError:  # a full or vanished disk costs a compilation next time, nothing more
            with contextlib.suppress(OSError):
                temporary.unlink()

    def flush(self) -> None:
        """Nothing to do: the key holds everything that could go stale."""


class _CacheImpl(caching.CompileResultCacheImpl):
    def __init__(self) -> None:
        """Without Numba's locator: the folder is :func:`cache_folder`."""

    def check_cachable(self, cres: Any) -> bool:
        return not any(not lifted.can_cache for lifted in cres.lifted) and not cres.library.has_dynamic_globals


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(**OPTIONS, **options)(function)
    dispatcher._cache = _Cache(function, options)
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel: the one decorator of ``kernels/cpu``."""
    return _compile(function)


def by_dtype(make: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    """A scalar function with one body for float32 and one for float64, chosen when the caller is compiled.

    ``make(real)`` returns the body for ``real`` being ``numpy.float32`` or ``numpy.float64``, with its constants in
    that type: a float64 constant would silently turn the arithmetic of a float32 kernel into float64.
    """
    import numpy as np

    bodies = {types.float32: make(np.float32), types.float64: make(np.float64)}

    def stub(x: Any) -> Any:
        raise NotImplementedError("only for use inside kernels")

    functools.update_wrapper(stub, make)
    # forceinline leaves the pasting to LLVM; Numba's own inline="always" warns about variables out of scope
    overload(stub, jit_options={**OPTIONS, "forceinline": True})(lambda x: bodies.get(x))
    return stub


# ---------------------------------------------------------------------------------------------------------------------
# Threads

_started_in: int | None = None  # process in which a parallel region first ran
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


def usable_threads() -> int:
    """Threads that help: the smallest of Numba's pool, the processors this process may use and the cgroup's quota.

    One inside a joblib worker, whatever its backend: the other workers have the other processors.
    """
    if _in_joblib_worker():
        return 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(numba.config.NUMBA_NUM_THREADS, affinity, _cgroup_quota() or affinity))


def _in_joblib_worker() -> bool:
    parallel_module = sys.modules.get("joblib.parallel")
    if parallel_module is None:  # a worker of any backend has imported joblib to get its work
        return False
    backend, _ = parallel_module.get_active_backend()
    # At nesting level 0 nothing runs in parallel around us; inside a worker the level is at least 1. A loky or
    # multiprocessing worker is a fresh process that starts at level 0 and is marked by its environment or name.
    import multiprocessing

    return (
        getattr(backend, "nesting_level", 0) > 0
        or multiprocessing.current_process().name.startswith(("LokyProcess", "ForkPoolWorker", "SpawnPoolWorker"))
        or bool(getattr(multiprocessing.current_process(), "_config", {}).get("daemon"))
    )


@functools.cache
def _cgroup_quota() -> int | None:
    """Whole processors that the control group grants, at least one; None where there is no limit."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        relative = Path("/proc/self/cgroup").read_text().strip().rsplit(":", 1)[-1].lstrip("/")
        for path in (Path("/sys/fs/cgroup") / relative / "cpu.max", Path("/sys/fs/cgroup/cpu.max")):
            if path.exists():
                quota, period = path.read_text().split()[:2]
                return None if quota == "max" else max(1, int(quota) // int(period))
    with contextlib.suppress(OSError, ValueError):
        quota = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
        return max(1, quota // period) if quota > 0 else None
    return None


def parallel_allowed() -> bool:
    """Whether this process may open a parallel region.

    In a child forked from a process whose threads had started, OpenMP kills the child or hangs.
    """
    return _started_in is None or _started_in == os.getpid()


@contextlib.contextmanager
def threads(n_threads: int) -> Iterator[None]:
    """Run parallel regions on ``n_threads`` threads, and restore what was set before."""
    global _started_in
    if _started_in is None:
        _started_in = os.getpid()
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


class parallel:  # noqa: N801  (used as a decorator)
    """A function with ``prange`` regions: ``f.serial(...)`` and ``f.threaded(...)`` are compiled from one body.

    The serial twin has no parallel region at all: tiny steps, one thread and forked children use it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.serial = _compile(function)
        self.threaded = _compile(function, parallel=PARALLEL)

    def __call__(self, *args: Any, n_threads: int = 1) -> Any:
        if n_threads == 1 or not parallel_allowed():
            return self.serial(*args)
        with threads(n_threads):
            return self.threaded(*args)
