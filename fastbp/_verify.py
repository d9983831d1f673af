"""One step by a backend and by the reference, held against each other: ``Trainer(verify=True)``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastbp._validation import Array
from fastbp.backends import Network, Session
from fastbp.kernels.layout import BATCH_NORM, DENSE
from fastbp.kernels.operations import inputs_of

# Largest difference to the reference, max |a - b| / max |b| by array, that is let pass. Rounding gives 1e-6 and 1e-14;
# a unit whose pre-activation rounds to the other side of a ReLU's kink gives more, a wrong kernel far more. TF32
# keeps 10 bits of each factor.
TOLERANCE = {"float32": 1e-4, "float64": 1e-9, "tf32": 2e-2}


def without_gradient(network: Network) -> set[str]:
    """Biases that a batch norm subtracts again: their gradient is 0, and what is computed is rounding.

    >>> from fastbp.kernels.layout import BATCH_NORM, DENSE
    >>> from fastbp.kernels.operations import Operation
    >>> operations = Operation(DENSE, -1), Operation(BATCH_NORM, 0), Operation(DENSE, 1)
    >>> without_gradient(Network((4, 3, 3, 2), ("identity", "relu", "identity"), np.dtype("f4"), operations))
    {'b1'}
    """
    found, dense, operations = set(), 0, network.all_operations
    for l, one in enumerate(operations):
        if one.kind == DENSE:
            dense += 1
            readers = {other.kind for other in operations if l in inputs_of(other)}
            if readers == {BATCH_NORM} and network.activations[l] == "identity":
                found.add(f"b{dense}")
    return found


def relative_difference(a: Array, b: Array, beside: Array | None = None) -> float:
    """max |a - b| / max |b|, of ``beside`` too where given; 0 where both are equal, NaN where one of them has a NaN.

    >>> relative_difference(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    0.2
    """
    if np.array_equal(a, b):
        return 0.0
    a, b = np.asarray(a, float), np.asarray(b, float)
    largest = max(np.abs(b).max(initial=0), 0 if beside is None else np.abs(beside).max(initial=0))
    return float(np.abs(a - b).max(initial=0) / (largest if largest > 0 else 1.0))


def gradient_differences(network: Network, gradients: Sequence[Array], expected: Sequence[Array]) -> dict[str, float]:
    """Relative difference of each gradient, by name.

    A bias without a gradient is measured by the weights that it stands beside: rounding has no scale of its own.

    >>> from fastbp.kernels.layout import BATCH_NORM, DENSE
    >>> from fastbp.kernels.operations import Operation
    >>> operations = Operation(DENSE, -1), Operation(BATCH_NORM, 0)
    >>> network = Network((1, 2, 2), ("identity", "relu"), np.dtype("f8"), operations)
    >>> expected = np.array([[3.0, 4.0]]), np.zeros(2), *np.ones((4, 2))
    >>> gradients = np.array([[3.0, 5.0]]), np.array([0.0, 0.1]), *np.ones((4, 2))
    >>> gradient_differences(network, gradients, expected)
    {'W1': 0.25, 'b1': 0.025, 'gamma1': 0.0, 'beta1': 0.0, 'mean1': 0.0, 'variance1': 0.0}
    """
    none = without_gradient(network)
    return {
        name: relative_difference(gradients[k], expected[k], expected[k - 1] if name in none else None)
        for k, name in enumerate(network.names)
    }


def verify_step(
    mine: Session,
    reference: Session,
    rows: Array,
    *,
    network: Network,
    learning_rate: float,
    backend: str,
    precision: str = "float32",
) -> None:
    """Compare loss, gradients and updated parameters of one step on ``rows``; both sessions are used up.

    Both update with the reference's gradients: Adam's first step is about the sign of the gradient, so that rounding
    would decide it where the gradient is nearly zero.

    Raises
    ------
    FloatingPointError
        Where they disagree.
    """
    (loss, gradients), (expected_loss, expected) = mine.loss_and_gradients(rows), reference.loss_and_gradients(rows)
    differences = {"the loss": relative_difference(np.array(loss), np.array(expected_loss))}
    found = gradient_differences(network, gradients, expected)
    differences |= {f"the gradient of {name}": difference for name, difference in found.items()}
    for session in (mine, reference):
        session.apply_gradients(expected, learning_rate, len(rows))
    after = zip(network.names, mine.get_parameters(), reference.get_parameters(), strict=True)
    differences |= {f"{name} after the step": relative_difference(got, want) for name, got, want in after}
    allowed = TOLERANCE["tf32" if precision == "tf32" else expected[0].dtype.name]
    for what, difference in differences.items():
        if not difference <= allowed:
            raise FloatingPointError(
                f"verify: {what} by backend {backend!r} differs from the NumPy reference by {difference:.1e} of its "
                f"largest element, more than {allowed:.0e}. Please report this with the output of "
                "fastbp.show_config(); backend='reference' trains without compiled kernels"
            )
