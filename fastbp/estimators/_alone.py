"""One fit of an estimator at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastbp._busy import Use, in_use, use_of

CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
REFUSAL = (
    "this estimator is within a fit, and has one at a time: fit another one, such as sklearn.base.clone of this one, "
    "or wait until that fit has ended"
)


@contextmanager
def alone(estimator: Any) -> Iterator[Use]:
    """Within the block no other call fits the estimator.

    Raises
    ------
    RuntimeError
        Where one does, in another thread or, once that has ``begun``, around this call.
    """
    attributes, use = vars(estimator), use_of(estimator)
    if use is not None and (use.begun or not use.here):
        # scikit-learn's wrapper of this call would tear down the callbacks of the other one
        use.kept |= {name: attributes.pop(name) for name in CALLBACK_STATE if name in attributes}
        raise RuntimeError(REFUSAL)
    with in_use(estimator, REFUSAL) as use:
        try:
            yield use
        finally:
            attributes.update(use.kept)
