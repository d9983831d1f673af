"""Processes of their own for tests: what they try is fixed at import, ends a process, or must not reach other tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def command(*arguments, path=(), **changes):
    """Arguments of ``subprocess`` for a fresh Python that turns warnings into errors.

    Modules come from ``path`` and what is installed, not from the current folder. Of the variables that steer Numba and
    fastbp it sees ``changes`` alone, and where compiled code is kept; None unsets one.
    """
    steering = ("NUMBA_", "FASTBP_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(steering) or k == "NUMBA_CACHE_DIR"}
    kept |= {"PYTHONPATH": os.pathsep.join(map(str, path))} | changes
    environment = {key: str(value) for key, value in kept.items() if value is not None}
    return {"args": [sys.executable, "-P", "-W", "error", *map(str, arguments)], "env": environment, "text": True}


def run(*arguments, **changes):
    """A finished process; arguments as for :func:`command`."""
    return subprocess.run(**command(*arguments, **changes), capture_output=True, timeout=500)


def succeed(*arguments, **changes):
    """A finished process that succeeded."""
    done = run(*arguments, **changes)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done


def kernels_alone(folder):
    """A folder for the path in which ``fastbp`` is nothing but a copy of the kernels, laid out as in a wheel."""
    shutil.copytree(ROOT / "kernels", folder / "fastbp/kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "fastbp/__init__.py").touch()
    return folder
