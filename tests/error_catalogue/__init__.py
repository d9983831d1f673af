"""Every error and warning that a user can meet, each with the lines that provoke it, its cause and its remedy.

``docs/errors.md`` is written from here, by ``PYTHONPATH=tests python -m error_catalogue``. ``tests/test_errors.py``
holds the page to it, and the catalogue to the sources: each ``raise`` and each ``warnings.warn`` is reached by an
entry, or exempt.
"""

from __future__ import annotations

import os
from importlib import import_module

from ._entry import Entry, Exempt, Section

# Modules in the order of the page; each has a SECTION
MODULES = (
    "layers", "model", "initializers", "arrays", "sparse", "data", "losses", "optimizers", "schedules", "trainer",
    "fits", "callbacks", "files", "damaged_files", "checkpoints", "damaged_checkpoints", "estimators", "parameters",
    "estimator_data", "targets", "diagnostics", "plotting", "device", "environment", "warned",
)  # fmt: skip

os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")  # before Numba is imported: kernels for a GPU run in its simulator

SECTIONS: tuple[Section, ...] = tuple(import_module(f".{name}", __name__).SECTION for name in MODULES)
ENTRIES: tuple[Entry, ...] = tuple(entry for section in SECTIONS for entry in section.entries)
EXEMPT: tuple[Exempt, ...] = tuple(exempt for section in SECTIONS for exempt in section.exempt)
