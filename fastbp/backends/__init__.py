"""What computes: ``cpu`` and ``cuda`` (compiled kernels) and ``reference`` (NumPy, to be read and checked against)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastbp._validation import one_of
from fastbp.backends._device import require
from fastbp.backends.base import Backend, Inspection, Network, Session

_MODULES = {
    "cpu": "fastbp.backends.cpu",
    "cuda": "fastbp.backends.cuda",
    "reference": "fastbp.backends.reference",
}
BACKENDS = tuple(_MODULES)
PRECISIONS = ("float32", "tf32")

__all__ = ["BACKENDS", "PRECISIONS", "Backend", "Inspection", "Network", "Session", "as_precision", "get_backend"]


def as_precision(value: Any, backend: str, dtype: Any) -> str:
    """``value`` where it is a precision that a backend has for networks of a dtype.

    >>> as_precision("tf32", "cpu", "float32")
    Traceback (most recent call last):
        ...
    ValueError: precision='tf32' is for backend 'cuda' and the dtype float32, got backend 'cpu' and float32: leave \
precision as it is, or choose both of these
    """
    precision = one_of(value, PRECISIONS, "precision")
    if precision == "tf32" and not (backend == "cuda" and dtype == np.float32):
        raise ValueError(
            f"precision='tf32' is for backend 'cuda' and the dtype float32, got backend {backend!r} and {dtype}: leave "
            "precision as it is, or choose both of these"
        )
    return precision


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Parameters
    ----------
    name : {"cpu", "cuda", "reference"}
        ``"cuda"`` computes on an NVIDIA GPU.

    Returns
    -------
    Backend

    Raises
    ------
    ValueError
        If there is no such backend.
    RuntimeError
        For ``"cuda"`` where the extra, a driver or a device is missing: the message says which.

    Examples
    --------
    >>> from fastbp.backends import get_backend
    >>> get_backend("reference").name
    'reference'
    """
    module = _MODULES[one_of(name, BACKENDS, "backend")]
    if name == "cuda":
        require()
    return importlib.import_module(module).BACKEND
