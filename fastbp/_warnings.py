"""Where a warning points."""

from __future__ import annotations

import sys


def users_level() -> int:
    """``stacklevel`` at which a warning of the caller points at the line that has called fastbp.

    By module: the ways to a warning are of different lengths, and scikit-learn wraps the methods of estimators.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("fastbp", "sklearn"):
        frame, level = frame.f_back, level + 1
    return level
