"""What computes: ``cpu`` (compiled kernels) and ``reference`` (NumPy, to be read and to be checked against)."""

from __future__ import annotations

import importlib

from fastbp._validation import one_of
from fastbp.backends.base import Backend, Inspection, Network, Session

_MODULES = {"cpu": "fastbp.backends.cpu", "reference": "fastbp.backends.reference"}
BACKENDS = tuple(_MODULES)

__all__ = ["BACKENDS", "Backend", "Inspection", "Network", "Session", "get_backend"]


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Parameters
    ----------
    name : {"cpu", "reference"}

    Returns
    -------
    Backend

    Raises
    ------
    ValueError
        If there is no such backend.

    Examples
    --------
    >>> from fastbp.backends import get_backend
    >>> get_backend("reference").name
    'reference'
    """
    return importlib.import_module(_MODULES[one_of(name, BACKENDS, "backend")]).BACKEND
