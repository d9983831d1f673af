"""Seconds of a fresh process that imports fastbp and fits once, beside one that imports ``sklearn.neural_network``.

Cold: with an empty cache folder, so that all kernels are compiled. Warm: with one that an earlier process has filled.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.driver import ROOT
from benchmarks.machine import environment
from benchmarks.summary import Spread

EPOCHS = 10
FIT = f"""
import json, time
start = time.perf_counter()
import warnings
import numpy as np
from fastbp import MLPClassifier
imported = time.perf_counter()
rng = np.random.default_rng(0)
X, y = rng.random((1797, 64), dtype=np.float32), np.arange(1797) % 10
def fit():
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MLPClassifier(max_iter={EPOCHS}, random_state=0).fit(X, y)
    return time.perf_counter() - begin
print(json.dumps({{"import": imported - start, "fit": fit(), "second_fit": fit()}}))
"""
SKLEARN = """
import json, time
start = time.perf_counter()
import sklearn.neural_network
print(json.dumps({"import": time.perf_counter() - start}))
"""


def _fresh(code: str, cache: str) -> dict[str, float]:
    """Seconds of a process from its start to its end, and what it says of itself."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment() | {"NUMBA_CACHE_DIR": cache},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    whole = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"a fresh process failed:\n{done.stderr}")
    said = json.loads(done.stdout)
    # the second fit is there to tell training from starting up
    return {"whole": whole - said.get("second_fit", 0.0), **said}


def measure(rounds: int) -> dict[str, list[dict[str, float]]]:
    """Processes in turn: scikit-learn's import, fastbp warm, and in as many rounds fastbp cold.

    Returns
    -------
    dict
        ``sklearn``, ``warm``, ``cold``: for each round ``whole`` (seconds from start to end of the process, without a
        second fit), ``import``, ``fit`` and ``second_fit``.
    """
    results: dict[str, list[dict[str, float]]] = {"sklearn": [], "warm": [], "cold": []}
    with tempfile.TemporaryDirectory() as filled:
        _fresh(SKLEARN, filled), _fresh(FIT, filled)  # files into the system's cache, kernels into ours
        for _ in range(rounds):
            results["sklearn"].append(_fresh(SKLEARN, filled))
            results["warm"].append(_fresh(FIT, filled))
            with tempfile.TemporaryDirectory() as empty:
                results["cold"].append(_fresh(FIT, empty))
    return results


def show(results: dict[str, list[dict[str, float]]], say: Callable[[str], None]) -> None:
    """Print medians, spreads, and the differences to scikit-learn's import."""
    say(f"seconds of a fresh process (median, min-max); fits are 64-100-10, 1797 rows, {EPOCHS} epochs, float32")
    base = Spread.of([one["whole"] for one in results["sklearn"]])
    say(f"  {'import sklearn.neural_network':32s} {_text(base)}")
    for name in ("warm", "cold"):
        runs: list[dict[str, Any]] = results[name]
        more = Spread.of([a["whole"] - b["whole"] for a, b in zip(runs, results["sklearn"], strict=True)])
        parts = {key: Spread.of([one[key] for one in runs]).median for key in ("import", "fit", "second_fit")}
        whole = _text(Spread.of([one["whole"] for one in runs]))
        say(
            f"  {f'fastbp, import and fit, {name}':32s} {whole}   {_text(more)} more"
            f"   (import {parts['import']:.2f}, first fit {parts['fit']:.2f}, second fit {parts['second_fit']:.2f})"
        )


def _text(spread: Spread) -> str:
    return f"{spread.median:6.2f} ({spread.least:.2f}-{spread.most:.2f})"
