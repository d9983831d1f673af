"""Tests wait for the compiler less often: see ``_features.py``."""

import _features
import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled_together():
    """Networks with features are compiled as one."""
    with pytest.MonkeyPatch.context() as patch:
        _features.compile_together(patch.setattr)
        yield


@pytest.fixture(autouse=True)
def compiled_as_used(request, monkeypatch):
    """The marker ``compiled_as_used``: with no feature but those that a network needs, as users have it."""
    if request.node.get_closest_marker("compiled_as_used"):
        _features.compile_as_used(monkeypatch.setattr)
