"""Values and counts as messages show them."""

from __future__ import annotations

import re
from typing import Any


def shown(value: Any) -> str:
    """``value`` as messages show it: in one line, a short one, and whatever its ``repr`` does.

    >>> shown(2.5), len(shown(10**400)), shown(10**5000)  # Python writes no integer of more than 4300 digits
    ('2.5', 83, '<int>')
    >>> import numpy as np
    >>> shown(np.eye(2))
    'array([[1., 0.], [0., 1.]])'
    """
    try:
        text = re.sub(r"\s*\n\s*", " ", repr(value))
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:80]}..."


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "row"), counted(0, "row"), counted(2, "row")
    ('1 row', '0 rows', '2 rows')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
