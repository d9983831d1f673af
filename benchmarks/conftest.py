"""``pytest benchmarks``: on one processor, with the machine's peak beside it and a table at the end."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks import kernels
from benchmarks.machine import pin

RESULTS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--quick``."""
    parser.addoption("--quick", action="store_true", help="few and short measurements: to see that it works")


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads its options
def pytest_configure(config: pytest.Config) -> None:
    """Say what is missing, instead of a fixture that is not found."""
    if config.getoption("benchmark_quiet", None) is None:
        raise pytest.UsageError(
            "benchmarks/ needs pytest-benchmark, which is not installed or switched off: pip install -e '.[bench]'"
        )
    config.option.benchmark_quiet = True  # its own table has seconds of many repetitions
    from pytest_benchmark.logger import PytestBenchmarkWarning

    # As an error, the warning that there is nothing to save would come in place of the report of what went wrong. It is
    # given outside of what pytest applies the second filter to.
    warnings.filterwarnings("default", category=PytestBenchmarkWarning)
    config.addinivalue_line("filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning")
    config.stash[RESULTS] = []


@pytest.fixture(scope="session", autouse=True)
def one_processor() -> Iterator[None]:
    """Keep to one processor as long as the benchmarks run."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    pin(1)
    yield
    if before is not None:
        os.sched_setaffinity(0, before)


@pytest.fixture(scope="session")
def peak() -> Callable[[str], float]:
    """GFLOP/s of the micro-kernel on operands in the first-level cache, for a dtype; measured when it is asked for."""
    from benchmarks import phases

    return functools.cache(lambda dtype: phases.peak(dtype, 1))


@pytest.fixture
def results(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What the table at the end shows."""
    return request.config.stash[RESULTS]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table."""
    if config.stash[RESULTS]:
        terminalreporter.section("kernels")
        kernels.show(config.stash[RESULTS], terminalreporter.write_line)
