"""Each compiled CPU kernel: verified against its NumPy twin on the operands that it is then timed on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks._cases import CASES

ROUNDS, SECONDS = 7, 0.02  # the shortest of so many measurements counts, each of at least so many seconds
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.001


def repetitions(run: Callable[[int], Any], seconds: float) -> int:
    """How many of them take at least so long."""
    n_times = 1
    while True:
        start = time.perf_counter()
        run(n_times)
        if time.perf_counter() - start >= seconds:
            return n_times
        n_times *= 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_kernel(
    name: str, dtype: str, benchmark: Any, peak: Callable[[str], float], results: list[Any], pytestconfig: pytest.Config
) -> None:
    case = CASES[name](dtype=dtype)
    case.check()
    if not benchmark.enabled:
        benchmark.pedantic(case.run, (1,))
        return
    quick = pytestconfig.getoption("--quick")
    n_times = repetitions(case.run, QUICK_SECONDS if quick else SECONDS)
    benchmark.pedantic(case.run, (n_times,), rounds=QUICK_ROUNDS if quick else ROUNDS)
    seconds = benchmark.stats.stats.min / n_times
    gflops = case.flop / seconds / 1e9
    found = {
        "kernel": case.kernel, "shape": case.shape, "dtype": dtype, "microseconds": seconds * 1e6,
        "flop": case.flop, "bytes": case.n_bytes, "gflops": gflops, "gbytes": case.n_bytes / seconds / 1e9,
        "share": gflops / peak(dtype) if case.flop else None, "repetitions": n_times,
    }  # fmt: skip
    benchmark.extra_info.update(found)
    results.append(found)
