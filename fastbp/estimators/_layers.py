"""The network that an estimator's parameters describe, and where its arrays stand when it is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastbp._arrays import limited
from fastbp._network import network_of
from fastbp._validation import Array, real_number, scalar
from fastbp._words import counted, shown
from fastbp.backends import Network
from fastbp.backends._targets import too_few_rows
from fastbp.estimators._parameters import layer_activations
from fastbp.initializers import scikit_learn
from fastbp.kernels.layout import ADD, BATCH_NORM, DENSE, DROPOUT, LAYER_NORM
from fastbp.kernels.operations import Operation
from fastbp.layers import BatchNorm, Dense, Dropout, Layer, LayerNorm, Residual
from fastbp.model import Sequential

NORMS = {"batch": BatchNorm, "layer": LayerNorm}
OF_A_NORM = ("gamma", "beta", "mean", "variance")  # in the order of a model's weights


class Description(NamedTuple):
    """The parameters that say what fitted arrays mean.

    Predictions go by those of the fit, whatever the estimator's parameters are now.
    """

    activation: str | tuple[str, ...]
    normalization: str | None
    residual: bool
    dtype: Any
    dropout: Any  # of the fit: a training that goes on may have another
    loss: Any  # of a regressor


def description(estimator: Any) -> Description:
    """What the estimator's present parameters stand for."""
    activation, dropout = estimator.activation, scalar(estimator.dropout)
    return Description(
        activation if isinstance(activation, str) else tuple(activation),
        estimator.normalization,
        bool(estimator.residual),
        estimator.dtype,
        tuple(dropout) if hasattr(dropout, "__len__") else dropout,
        getattr(estimator, "loss", None),
    )


def fitted(estimator: Any) -> Description:
    """What the fitted network is; by the present parameters where the arrays were not fitted, but set by hand."""
    there: Description | None = getattr(estimator, "_description", None)
    return description(estimator) if there is None else there


def dropout_rates(dropout: Any, n_layers: int) -> list[float]:
    """The rate after each hidden layer, from one for all or one for each.

    Raises
    ------
    TypeError, ValueError
        For another number of rates, or one that is not from 0 to below 1.
    """
    dropout = scalar(dropout)
    if not hasattr(dropout, "__len__"):
        return [float(dropout)] * n_layers
    dropout = limited(dropout, "dropout must be a rate, or one for each hidden layer")
    if len(dropout) != n_layers:
        raise ValueError(
            f"dropout has {counted(len(dropout), 'rate')} for {counted(n_layers, 'hidden layer')}: give one rate for "
            "all, or one for each"
        )
    return [real_number(rate, f"dropout[{k}]", below=1) for k, rate in enumerate(dropout)]


def described(estimator: Any, sizes: Sequence[int], output: Dense, *, training: bool = True) -> list[Layer]:
    """The layers that parameters stand for; without dropout where they are for predictions.

    Behind the weights of a hidden layer come its normalisation, its activation and its dropout. A skip connection goes
    around f(x W + b); with normalisation around W, with the activation of the layer before: x + f(norm(x)) W + b.
    """
    activations = layer_activations(estimator.activation, len(sizes))
    rates = dropout_rates(estimator.dropout, len(sizes))
    norm = None if estimator.normalization is None else NORMS[estimator.normalization]
    layers, behind = list[Layer](), list[Layer]()  # behind: what stands between the weights before and the next ones
    for k, (units, name, rate) in enumerate(zip(sizes, activations, rates, strict=True)):
        drop = [Dropout(rate)] if rate > 0 and training else []
        block: list[Layer]
        if norm is None:
            block = [Dense(units, name), *drop]
        else:
            block, behind = [*behind, Dense(units)], [norm(name), *drop]
        layers += [Residual(tuple(block))] if estimator.residual and k else block
    return [*layers, *behind, output]


def is_plain(estimator: Any) -> bool:
    """Whether predictions need dense layers in a chain and nothing else."""
    return estimator.normalization is None and not estimator.residual


def prediction_network(estimator: Any, widths: tuple[int, ...], link: str, dtype: Any) -> Network:
    """What predictions go through; ``widths`` are those of X, of the hidden layers and of the outputs."""
    if is_plain(estimator):  # 50 us less, a third of what a row takes
        return Network(widths, (*layer_activations(estimator.activation, len(widths) - 2), link), dtype)
    layers = described(estimator, widths[1:-1], Dense(widths[-1], link), training=False)
    return network_of(layers, widths[0], np.dtype(dtype))[0]


# ---------------------------------------------------------------------------------------------------------------------
# Arrays


def _projections(operations: Sequence[Operation]) -> set[int]:
    """Dense operations that are projections: each stands directly before the sum that it is for."""
    return {one.source for l, one in enumerate(operations) if one.kind == ADD and one.source == l - 1}


def drawn(estimator: Any, network: Network, rng: Any) -> list[Array]:
    """Initial arrays, in the order of ``get_weights``.

    In scikit-learn every layer's bound follows the activation of the hidden ones, and so does the last one's here.
    Weights in skip connections are divided by the square root of their number: the sum of many would grow with it.
    """
    operations = network.all_operations
    projections, n_blocks = _projections(operations), sum(one.kind == ADD for one in operations)
    n_hidden, dense, arrays = sum(one.kind == DENSE for one in operations) - len(projections) - 1, 0, list[Array]()
    names = layer_activations(estimator.activation, n_hidden)
    names.append(names[-1] if names else str(estimator.activation))
    for l, one in enumerate(operations):
        fan_in, fan_out = network.widths[one.input + 1], network.widths[l + 1]
        if l in projections:
            arrays += scikit_learn(rng, fan_in, fan_out, "identity")
        elif one.kind == DENSE:
            W, b = scikit_learn(rng, fan_in, fan_out, names[dense])
            if n_blocks > 1 and 0 < dense < n_hidden:
                W, b = W / np.sqrt(n_blocks), b / np.sqrt(n_blocks)
            arrays += [W, b]
            dense += 1
        elif one.kind not in (ADD, DROPOUT):
            arrays += [np.ones(fan_out), np.zeros(fan_out)]
            arrays += [np.zeros(fan_out), np.ones(fan_out)] if one.kind == BATCH_NORM else []
    return [array.astype(network.dtype) for array in arrays]


def fitted_arrays(model: Sequential) -> dict[str, Any]:
    """The arrays of a model as attributes of an estimator."""
    weights, operations = model._weights, model._described.operations
    coefs, intercepts = list[Array](), list[Array]()
    norms, projections = list[dict[str, Array]](), list[tuple[Array, Array] | None]()
    projecting, at = _projections(operations), 0
    for l, one in enumerate(operations):
        if one.kind == DENSE and l not in projecting:
            coefs.append(weights[at])
            intercepts.append(weights[at + 1])
        elif one.kind in (BATCH_NORM, LAYER_NORM):
            n = 4 if one.kind == BATCH_NORM else 2
            norms.append(dict(zip(OF_A_NORM[:n], weights[at : at + n], strict=True)))
            at += n - 2
        elif one.kind == ADD:  # the second hidden layer has the first one
            before = projections or [None]
            projections = [*before, (weights[at - 2], weights[at - 1]) if l - 1 in projecting else None]
        at += 2 * (one.kind not in (ADD, DROPOUT))
    if not operations:
        coefs, intercepts = weights[::2], weights[1::2]
    return {"coefs_": coefs, "intercepts_": intercepts, "normalization_": norms, "projections_": projections}


def fitted_parameters(estimator: Any) -> list[Array]:
    """The arrays of a fitted estimator in the order of its model's weights."""
    norms, projections = getattr(estimator, "normalization_", ()), getattr(estimator, "projections_", ())
    arrays: list[Array] = []
    for k, (W, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
        if k and norms:
            arrays += [norms[k - 1][name] for name in OF_A_NORM if name in norms[k - 1]]
        arrays += [W, b]
        if k < len(projections) and projections[k] is not None:
            arrays += projections[k]
    return arrays


def check_goes_on(estimator: Any, widths: Sequence[int], out_activation: str, n_targets: int | None = None) -> None:
    """Raise a ValueError where parameters and targets stand for another network than the fitted one.

    Parameters
    ----------
    estimator : BaseMLP
        Fitted.
    widths : sequence of int
        Of X, of the hidden layers and of the outputs.
    out_activation : str
        As scikit-learn calls it.
    n_targets : int, optional
        Columns of a regressor's y.
    """
    n_outputs, shapes = len(estimator.intercepts_[-1]), [array.shape for array in estimator.coefs_]
    fitted_targets = getattr(estimator, "_n_targets", n_outputs)
    if n_targets is not None and n_targets == fitted_targets and n_outputs != widths[-1]:
        raise ValueError(
            f"loss is {shown(estimator.loss)}, which needs {counted(widths[-1], 'output')} for this y, but the fitted "
            f"network has {n_outputs}: set loss back, or fit anew with warm_start=False"
        )
    if n_outputs != widths[-1] or n_targets not in (None, fitted_targets):
        raise ValueError(
            f"y has {counted(widths[-1] if n_targets is None else n_targets, 'output')}, but the fitted network has "
            f"{n_outputs if n_targets is None else fitted_targets}: fit without warm_start, or give targets of the "
            "same kind as before"
        )
    if [shape[0] for shape in shapes] != list(widths[:-1]):
        raise ValueError(
            f"hidden_layer_sizes is {shown(estimator.hidden_layer_sizes)}, but the fitted network has the layers "
            f"{shown(shapes)}: fit without warm_start, or leave the sizes as they were"
        )
    now, before, dtype, n_hidden = description(estimator), fitted(estimator), estimator.coefs_[0].dtype, len(shapes) - 1
    of_weights = dtype.name if now.dtype is None else np.dtype(now.dtype).name  # without one, X is taken as the weights
    different = [
        ("activation", now.activation, before.activation)
        if layer_activations(now.activation, n_hidden) != layer_activations(before.activation, n_hidden)
        else None,
        ("normalization", now.normalization, before.normalization)
        if n_hidden and now.normalization != before.normalization
        else None,
        ("residual", now.residual, before.residual) if n_hidden > 1 and now.residual != before.residual else None,
        ("dtype", now.dtype, dtype.name) if of_weights != dtype.name else None,
        ("loss", now.loss, before.loss) if out_activation != estimator.out_activation_ else None,
    ]
    for name, given, there in filter(None, different):
        why = f", whose output activation is {out_activation!r}" if name == "loss" else ""
        raise ValueError(
            f"{name} is {shown(given)}{why}, but the network was fitted with {name}={shown(there)}: set it back, or "
            "fit anew with warm_start=False"
        )


def check_row_weights(network: Network, weights: Array | None) -> None:
    """Raise a ValueError where a batch norm would find no variance, since one sample at most has a weight."""
    if weights is not None and network.has(BATCH_NORM) and too_few_rows(weights):
        raise ValueError(
            "normalization='batch' needs at least 2 samples with a weight above 0, since one has no variance: got "
            f"{np.count_nonzero(weights)} of {len(weights)} samples; normalization='layer' takes single ones"
        )


def check_solver(estimator: Any, n_layers: int) -> None:
    """Raise a ValueError for layers that the solver cannot train."""
    if estimator.solver != "lbfgs" or not n_layers:
        return
    if any(dropout_rates(estimator.dropout, n_layers)):
        raise ValueError(
            "solver='lbfgs' minimises one function of the weights, and dropout makes another one of it in each step: "
            "use dropout=0, or a stochastic solver such as 'adam'"
        )
    if estimator.normalization == "batch":
        raise ValueError(
            "solver='lbfgs' takes all rows at once, and the running statistics of normalization='batch' come from "
            "steps on batches: use normalization='layer', or a stochastic solver such as 'adam'"
        )
