"""Compiled code on disk: never stale, never half written, and never in the way of an install that cannot be written.

Numba's own cache looks only at the file of the function itself: a change in ``gemm.py``, or another vector width, would
not reach a cached caller in ``step.py``. Here the folder's name is a digest of every source file of the kernels.

Who writes to the folder decides what this process runs. So a folder is read and written only where nobody but this user
and the system can write to it: its owner is one of the two, and neither its group nor others have permission. The same
holds for each folder above it, all links resolved; above it others may write where the sticky bit keeps them from
renaming what is not theirs, as in ``/tmp``. A group that has no other member than this user counts as the user. Where a
folder is not trusted, the next one is taken. Windows has no such owners and permissions: nothing is looked at there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import stat
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
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


def _ours(found: os.stat_result, *, sticky: bool = False) -> bool:
    """Whether only this user or the system can write there; with ``sticky`` others may, to what is theirs."""
    # within a user namespace the system's files have another owner than 0
    if found.st_uid not in (os.getuid(), 0, Path("/").stat().st_uid):
        return False
    if sticky and found.st_mode & stat.S_ISVTX:
        return True
    return not found.st_mode & stat.S_IWOTH and not (found.st_mode & stat.S_IWGRP and not _alone_in(found.st_gid))


def _alone_in(group: int) -> bool:
    """Whether a group is the one that many systems make for each user; the system's own group is none."""
    import grp  # not on Windows
    import pwd

    try:
        user, its = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return 0 != group == user.pw_gid and its.gr_name == user.pw_name and set(its.gr_mem) <= {user.pw_name}


def _all_ours(folders: Iterable[Path]) -> bool:
    """The same of folders above another one, as far as they are there."""
    return not hasattr(os, "getuid") or all(_ours(one.stat(), sticky=True) for one in folders if one.exists())


def _trusted(folder: Path) -> bool:
    """Whether only this user or the system could have put code into a folder, whose links are resolved."""
    return not hasattr(os, "getuid") or (_ours(folder.stat()) and _all_ours(folder.parents))


def _make(folder: Path) -> None:
    """Make a folder and those above it, which nobody else may write to, whatever the umask."""
    for one in reversed([folder, *folder.parents]):
        if not one.exists():
            one.mkdir(mode=0o755, exist_ok=True)


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
        above, folder = (Path(os.path.realpath(one)) for one in (candidate, candidate / sources_digest()))
        with contextlib.suppress(OSError):
            if writable is None and _all_ours(folder.parents) and (not above.exists() or _trusted(above)):
                with contextlib.suppress(OSError):  # it may be there, filled when an image was built by another user
                    _make(folder)
            if _trusted(above) and _trusted(folder):
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
        kept = "no folder can be written, by this user alone, so not kept" if folder is None else f"kept in {folder}"
        print(f"fastbp: compiling {name} and what it calls for this machine, some 10 s ({kept})", file=sys.stderr)
    _announced = True


class Cache(caching.FunctionCache):
    """One file for each function and signature, written under another name and renamed.

    It holds a digest, the key and the code. The digest is that of the two others, and the key that of the function, its
    signature and options, the processor and all sources: a file under the name of another one is not loaded.

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

    def _key(self, sig: Any, codegen: Any) -> bytes:
        key = sources_digest(), self._name, self._options, str(sig), codegen.magic_tuple()
        return hashlib.sha256(repr(key).encode()).digest()

    def _file(self, key: bytes) -> str:
        return f"{self._py_func.__qualname__.rsplit('.', 1)[-1]}-{key.hex()[:24]}.bin"

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        key = self._key(sig, target_context.codegen())
        for folder in _folders()[0]:
            with contextlib.suppress(OSError):
                whole = _read(folder / self._file(key))
                # otherwise cut short, by a full disk for example, or another function's
                if hashlib.sha256(whole[32:]).digest() == whole[:32] and whole[32:64] == key:
                    return self._impl.rebuild(target_context, pickle.loads(whole[64:]))
        _announce(self._py_func.__qualname__)
        return None

    def _save_overload(self, sig: Any, data: Any) -> None:
        folder = cache_folder()
        if folder is None or not self._impl.check_cachable(data):
            return
        key = self._key(sig, data.codegen)
        content = key + caching.dumps(self._impl.reduce(data))
        path = folder / self._file(key)
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            temporary.touch(mode=0o644, exist_ok=False)
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except OSError:  # a full or vanished disk costs a compilation next time, nothing more
            with contextlib.suppress(OSError):
                temporary.unlink()

    def flush(self) -> None:
        """Nothing to do: the key holds everything that could go stale."""


def _read(path: Path) -> bytes:
    """The contents of a file that nobody else can write to; none of another one."""
    with open(path, "rb") as file:
        return file.read() if not hasattr(os, "getuid") or _ours(os.fstat(file.fileno())) else b""


class _Implementation(caching.CompileResultCacheImpl):
    def __init__(self) -> None:
        """Without Numba's locator: the folder is :func:`cache_folder`."""

    def check_cachable(self, cres: Any) -> bool:
        return not any(not lifted.can_cache for lifted in cres.lifted) and not cres.library.has_dynamic_globals
