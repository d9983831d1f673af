"""Tests wait for the compiler less often: see ``_features.py``. Kernels for a GPU run in Numba's simulator."""

import os

os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")  # before Numba is imported, also in the processes of tests

import _features
import pytest

from fastbp.backends import cpu


@pytest.fixture(scope="session", autouse=True)
def compiled_together():
    """Networks with features are compiled as one, and with threads where a test asks for them."""
    with pytest.MonkeyPatch.context() as patch:
        _features.compile_together(patch.setattr)
        patch.setattr(cpu, "usable_threads", lambda: 1)
        yield


@pytest.fixture(autouse=True)
def compiled_as_used(request, monkeypatch):
    """The marker ``compiled_as_used``: with no feature but those that a network needs, as users have it."""
    if request.node.get_closest_marker("compiled_as_used"):
        _features.compile_as_used(monkeypatch.setattr)
