"""What an extra of this distribution stands for, and how to install it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires


def how_to_install(extra: str) -> str:
    """What to run for an extra: by the names of what it needs, which an index has, and not by ``fastbp[...]``.

    Nobody has put fastbp itself on the index: under its name there may be anything.

    >>> how_to_install("plot")
    'pip install "matplotlib>=3.9"'
    """
    try:
        needed = requires("fastbp") or []
    except PackageNotFoundError:  # a bare checkout on the path
        needed = []
    found = []
    for requirement in needed:
        name, _, marker = requirement.partition(";")
        if re.fullmatch(rf"""\s*extra\s*==\s*["']{extra}["']\s*""", marker):
            found.append(f'"{name.strip()}"')
    return f"pip install {' '.join(found)}" if found else f"pip install '.[{extra}]' in a clone of fastbp"
