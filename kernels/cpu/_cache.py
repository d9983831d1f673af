"""Compiled code on disk: never stale, never half written, and never in the way of an install that cannot be written.

Numba's own cache looks only at the file of the function itself: a change in ``gemm.py``, or another vector width, would
not reach a cached caller in ``step.py``. Here the folder's name is a digest of every source file of the kernels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching
from numba.misc.appdirs import AppDirs


@functools.cache
def sources_digest() -> str:
    """Digest of the compilers' versions and of every source file of the kernels."""
    digest = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, sys.version_info[:2])).encode())
    root = Path(__file__).resolve().parent
    for path in sorted([*root.glob("*.py"), root.parent / "layout.py"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def _trusted(folder: Path) -> bool:
    """Whether only this user or the system could have put code there."""
    return not hasattr(os, "getuid") or folder.stat().st_uid in (os.getuid(), 0)


def _candidates() -> Iterator[Path]:
    """Folders that compiled code may be kept in, the best one first."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    own = Path(given) / "fastbp" if given else Path(AppDirs("fastbp", appauthor=False).user_cache_dir)
    # a user without HOME and without an entry in passwd has a folder that is literally called "~"
    if given or own.is_absolute():
        yield own
    # os.getlogin fails without a terminal
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    with contextlib.suppress(OSError):  # there may be no temporary folder
        yield Path(tempfile.gettempdir()) / f"fastbp-{user}"


@functools.cache
def _folders() -> tuple[list[Path], Path | None]:
    """Folders to read compiled code from, and the first of them that can be written."""
    readable, writable = [], None
    for candidate in _candidates():
        folder = candidate / sources_digest()
        with contextlib.suppress(OSError):
            if writable is None:
                with contextlib.suppress(OSError):  # it may be there, filled when an image was built by another user
                    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if _trusted(candidate) and _trusted(folder):
                readable.append(folder)
                if writable is None and os.access(folder, os.W_OK | os.X_OK):
                    writable = folder
    return readable, writable


def cache_folder() -> Path | None:
    """Where newly compiled code is kept, or None where nothing can be written."""
    return _folders()[1]


_announced = False


def _announce(name: str) -> None:
    """Say once what the wait is for."""
    global _announced
    folder = cache_folder()
    if not _announced and sys.stderr is not None:
        kept = "no folder can be written, so not kept" if folder is None else f"kept in {folder}"
        print(f"fastbp: compiling {name} and what it calls for this machine, some 10 s ({kept})", file=sys.stderr)
    _announced = True


class Cache(caching.FunctionCache):
    """One file for each function and signature, written under another name and renamed.

    Numba keeps an index beside numbered files; two processes that compile different signatures at the same time can
    leave an index that names the other one's code. A file whose name is the key has no index to go wrong.
    """

    def __init__(self, py_func: Callable[..., Any], options: Any) -> None:
        self._py_func = py_func
        self._name = f"{py_func.__module__}.{py_func.__qualname__}"
        self._options = repr(options)
        self._impl = _Implementation()
        self._cache_path = str(cache_folder() or "")
        self.enable()

    def _file(self, sig: Any, codegen: Any) -> str:
        key = repr((self._name, self._options, str(sig), codegen.magic_tuple()))
        short = self._py_func.__qualname__.rsplit(".", 1)[-1]
        return f"{short}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.bin"

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        file = self._file(sig, target_context.codegen())
        for folder in _folders()[0]:
            with contextlib.suppress(OSError):
                payload = (folder / file).read_bytes()
                digest, payload = payload[:32], payload[32:]
                if hashlib.sha256(payload).digest() == digest:  # otherwise cut short, by a full disk for example
                    return self._impl.rebuild(target_context, pickle.loads(payload))
        _announce(self._py_func.__qualname__)
        return None

    def _save_overload(self, sig: Any, data: Any) -> None:
        folder = cache_folder()
        if folder is None or not self._impl.check_cachable(data):
            return
        payload = caching.dumps(self._impl.reduce(data))
        path = folder / self._file(sig, data.codegen)
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except OSError:  # a full or vanished disk costs a compilation next time, nothing more
            with contextlib.suppress(OSError):
                temporary.unlink()

    def flush(self) -> None:
        """Nothing to do: the key holds everything that could go stale."""


class _Implementation(caching.CompileResultCacheImpl):
    def __init__(self) -> None:
        """Without Numba's locator: the folder is :func:`cache_folder`."""

    def check_cachable(self, cres: Any) -> bool:
        return not any(not lifted.can_cache for lifted in cres.lifted) and not cres.library.has_dynamic_globals
