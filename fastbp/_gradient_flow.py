"""How gradients flow through a network, layer by layer, and in words what is wrong with that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastbp._describe import Described, describe
from fastbp._probe import Probe
from fastbp._validation import Array
from fastbp.losses import Loss
from fastbp.model import Sequential

PERCENTILES = (5, 25, 50, 75, 95)

# Deltas of a layer against those of the last one. Where layers keep the variance of what goes back through them this is
# about 1 at any depth (Glorot & Bengio 2010; He et al. 2015); a sigmoid's slope of at most 1/4 takes it to 1/100 within
# four layers. One learning rate cannot serve both of two layers that are a hundredfold apart.
VANISHING, EXPLODING = 1e-2, 1e2
# Norm of the gradient over that of the weights: a step with the usual rate of 0.01 would change them by more than they
# are. Beyond some such threshold the norm is to be clipped (Pascanu et al. 2013).
EXPLODING_RATIO = 1e2
# A ReLU's unit that is 0 on all rows gets no gradient from them (Maas et al. 2013; Lu et al. 2019). Some always are:
# with He's weights 12 % after 5 layers and up to 39 % after 20 of 64 units on 300 rows. Half of a layer is a fault.
DEAD_SHARE = 0.5
# Slopes below a twentieth of the steepest count as saturated: |a| > 0.975 of tanh, a < 0.013 or a > 0.987 of logistic.
# Glorot & Bengio (2010) saw layers stop learning once most of their units were there.
FLAT, SATURATED_SHARE = 0.05, 0.5
# An output may be saturated where that is right. More than so many that are saturated and wrong do not learn.
WRONG_SHARE = 0.1

RELU_LIKE = ("relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish")
NORMALISE = "batch or layer normalisation, or residual connections"
REMEDIES = {
    "vanishing": f"use relu with initializer='he_normal', {NORMALISE}",
    "vanishing relu": f"use initializer='he_normal' (or a larger one), zero biases at the start, {NORMALISE}",
    "exploding": (
        "clip the gradient's norm, take a smaller learning rate or smaller initial weights (Glorot, He), and scale "
        "inputs and targets to about 1"
    ),
    "dead": "use leaky_relu, a smaller learning rate, zero biases at the start, and inputs scaled to about 1",
    "saturated": "take smaller initial weights (Glorot), scale inputs to about 1, normalise before it, or use relu",
    "saturated output": "use the cross-entropy that goes with this output: its delta is p - t, without the slope",
}


class Finding(NamedTuple):
    """One thing that is wrong with one layer.

    Attributes
    ----------
    layer : str
        Its number, from 1, as in ``model.summary()``.
    what : str
        ``"vanishing"``, ``"exploding"``, ``"dead"`` or ``"saturated"``.
    detail : str
        The measurement that says so.
    remedy : str
    """

    layer: str
    what: str
    detail: str
    remedy: str


@dataclass(frozen=True)
class FlowOfGradients:
    """What :func:`gradient_flow` found: arrays with one entry a layer; as a string, a table and the findings in words.

    Attributes
    ----------
    loss : float
    layers : tuple of str
        Number, kind and activation of each, in the order of computation.
    gradient_mean : ndarray of shape (n_layers,)
        Mean of |dL / dw| over the weights (of a normalisation, gamma), without biases; NaN for a layer without.
    gradient_percentiles : ndarray of shape (n_layers, 5)
        The 5th, 25th, 50th, 75th and 95th percentile of the same.
    ratio : ndarray of shape (n_layers,)
        Norm of the gradient of the weights over the norm of the weights.
    delta_norm : ndarray of shape (n_layers,)
        Root mean square, over the rows, of the norm of dL / dZ of the row's own loss: it does not depend on their
        number, and where layers keep variances not on widths either.
    delta_percentiles : ndarray of shape (n_layers, 5)
        Of |dL / dZ| of single units and rows.
    dead : ndarray of shape (n_layers,)
        Share of units whose output is above 0 on no row; NaN but for relu.
    saturated : ndarray of shape (n_layers,)
        Share of outputs where the activation's slope is below a twentieth of its steepest; NaN but for logistic, tanh
        and softmax, and for an output whose loss brings the link. Of an output layer only those count that are wrong
        by more than half their range.
    findings : list of Finding
    """

    loss: float
    layers: tuple[str, ...]
    gradient_mean: Array
    gradient_percentiles: Array
    ratio: Array
    delta_norm: Array
    delta_percentiles: Array
    dead: Array
    saturated: Array
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        head = ("layer", "mean |gradient|", "5 % .. 95 %", "gradient/weight", "delta norm", "dead", "saturated")
        rows = [
            (
                name,
                _number(self.gradient_mean[k]),
                _range(self.gradient_percentiles[k]),
                _number(self.ratio[k]),
                _number(self.delta_norm[k]),
                _percent(self.dead[k]),
                _percent(self.saturated[k]),
            )
            for k, name in enumerate(self.layers)
        ]
        widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
        lines = [
            "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in [head, *rows]
        ]
        return "\n".join([*lines, *(self.words() or ["Nothing is wrong: no gradient vanishes or explodes."])])

    def words(self) -> list[str]:
        """The findings as sentences, layers with the same one together.

        Returns
        -------
        list of str
        """
        together: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            together.setdefault((finding.what, finding.remedy), []).append(finding)
        sentences = []
        for (what, remedy), same in together.items():
            layers = ", ".join(finding.layer for finding in same)
            worst = same[0].detail
            where = f"layer {layers}: {worst}" if len(same) == 1 else f"layers {layers} (in {same[0].layer}: {worst})"
            sentences.append(f"{what}: {where}. Remedy: {remedy}.")
        return sentences


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1e}"


def _range(percentiles: Array) -> str:
    low, high = _number(percentiles[0]), _number(percentiles[-1])
    return low if low == "-" else f"{low} .. {high}"


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.0f} %"


def gradient_flow(
    model: Sequential, loss: str | Loss, X: Any, y: Any, *, sample_weight: Any = None, backend: str = "cpu"
) -> FlowOfGradients:
    """How large gradients and deltas are in each layer, and whether they vanish or explode or units are dead.

    Parameters
    ----------
    model : Sequential
        In its own dtype; it stays as it is.
    loss : str or Loss
    X, y, sample_weight
        As in :meth:`fastbp.Trainer.fit`; some hundred rows are enough, and are one batch (1024 of them at most).
    backend : {"cpu", "reference"}, default="cpu"

    Returns
    -------
    FlowOfGradients

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot be used.

    Notes
    -----
    A layer is called

    - *vanishing* where its deltas are below a hundredth of the last layer's, and *exploding* where they are above a
      hundred times those, or the norm of its gradient is above a hundred times that of its weights, or one is not
      finite;
    - *dead* where half of its units or more are 0 on all rows, for relu;
    - *saturated* where the slope of more than half of its outputs is below a twentieth of its steepest, for logistic
      and tanh; of an output layer, where more than a tenth is so and wrong.

    Sources: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010;
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", 2013; A. Maas,
    A. Hannun, A. Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013; K. He, X. Zhang, S. Ren,
    J. Sun, "Delving deep into rectifiers", 2015; L. Lu, Y. Shin, Y. Su, G. Karniadakis, "Dying ReLU and
    initialization", 2019.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> X, y = np.random.default_rng(0).normal(size=(100, 20)), np.arange(100) % 2
    >>> layers = [fastbp.Dense(20, "logistic") for _ in range(6)] + [fastbp.Dense(2)]
    >>> model = fastbp.Sequential(layers, n_features=20, random_state=0)
    >>> flow = fastbp.gradient_flow(model, "softmax_cross_entropy", X, y)
    >>> flow.findings[0].layer, flow.findings[0].what
    ('1', 'vanishing')
    """
    probe = Probe(model, loss, X, y, sample_weight, backend=backend)
    found, weights = probe.inspect(), probe.model.get_weights()
    described = describe(probe.model.layers, probe.model.n_features)
    # as they are computed: a skip connection's sum comes last
    rows = sorted((row for row in described if row.computed), key=lambda row: row.operation)
    shape = (len(rows), len(PERCENTILES))
    means, ratios, norms, dead, saturated = (np.full(len(rows), np.nan) for _ in range(5))
    gradient_percentiles, delta_percentiles = np.full(shape, np.nan), np.full(shape, np.nan)
    with np.errstate(all="ignore"):  # an exploding network has what is not finite
        for k, row in enumerate(rows):
            if row.arrays:
                g, w = found.gradients[row.arrays[0]].astype(float), weights[row.arrays[0]].astype(float)
                means[k], gradient_percentiles[k] = np.abs(g).mean(), np.percentile(np.abs(g), PERCENTILES)
                ratios[k] = _norm_ratio(g, w)
            delta = found.deltas[k].astype(float) * probe.weight  # of each row's own loss
            largest = np.abs(delta).max() or 1.0  # squares of what is far from 1 are no numbers
            norms[k] = largest * np.sqrt(((delta / largest) ** 2).sum(axis=1).mean())
            delta_percentiles[k] = np.percentile(np.abs(delta), PERCENTILES)
            is_last = k == len(rows) - 1
            dead[k] = _dead(probe.link if is_last else row.activation, found.outputs[k])
            saturated[k] = _saturated(probe, row.activation, found.outputs[k], is_last)
    flow = FlowOfGradients(
        found.loss,
        tuple(row.title for row in rows),
        means,
        gradient_percentiles,
        ratios,
        norms,
        delta_percentiles,
        dead,
        saturated,
    )
    flow.findings.extend(_findings(flow, rows))
    return flow


def _norm_ratio(g: Array, w: Array) -> Any:
    """|g| / |w|, also where squares leave the range of float64."""
    of_g, of_w = (np.abs(array).max() or 1.0 for array in (g, w))
    return of_g / of_w * (np.linalg.norm(g / of_g) / np.linalg.norm(w / of_w))


def _dead(activation: str, outputs: Array) -> float:
    """Share of units that are above 0 on no row; NaN where that does not stop gradients."""
    return float((outputs.max(axis=0) <= 0).mean()) if activation == "relu" else float("nan")


def _saturated(probe: Probe, activation: str, outputs: Array, is_last: bool) -> float:
    """Share of outputs on the flat parts of their activation; NaN where there is none."""
    if is_last and probe.fused:
        return float("nan")
    if activation == "tanh":
        flat = 1 - outputs * outputs < FLAT
    elif activation == "logistic" or (activation == "softmax" and is_last):
        flat = outputs * (1 - outputs) < FLAT / 4
    else:
        return float("nan")
    if is_last:
        flat &= np.abs(outputs - probe.y) > (1.0 if activation == "tanh" else 0.5)
    return float(flat.mean())


def _findings(flow: FlowOfGradients, rows: list[Described]) -> list[Finding]:
    """What is wrong, layer by layer."""
    found: list[Finding] = []
    last = len(rows) - 1
    for k, row in enumerate(rows):
        what, detail = _strength(flow, k) if row.arrays else ("", "")
        if what:
            is_relu = what == "vanishing" and row.activation in RELU_LIKE
            found.append(Finding(row.name, what, detail, REMEDIES[f"{what} relu" if is_relu else what]))
        if flow.dead[k] >= DEAD_SHARE:
            detail = f"{100 * flow.dead[k]:.0f} % of its units are 0 on all rows"
            found.append(Finding(row.name, "dead", detail, REMEDIES["dead"]))
        if flow.saturated[k] > (WRONG_SHARE if k == last else SATURATED_SHARE):
            detail = (
                f"{100 * flow.saturated[k]:.0f} % of its outputs are where the slope of {row.activation} is nearly 0"
            )
            detail, kind = (f"{detail}, and wrong", "saturated output") if k == last else (detail, "saturated")
            found.append(Finding(row.name, "saturated", detail, REMEDIES[kind]))
    return found


def _strength(flow: FlowOfGradients, k: int) -> tuple[str, str]:
    """Whether the gradients of a layer explode or vanish, and what says so."""
    delta, of_last, ratio = (float(value) for value in (flow.delta_norm[k], flow.delta_norm[-1], flow.ratio[k]))
    mean = float(flow.gradient_mean[k])
    if not (np.isfinite(delta) and np.isfinite(mean)):
        return "exploding", "its gradients are not finite"
    relative = delta / of_last if of_last > 0 else 1.0
    if relative > EXPLODING:
        return "exploding", f"its deltas are {relative:.2g} times those of the last layer"
    if EXPLODING_RATIO < ratio < np.inf:  # infinite for weights that are all 0
        return "exploding", f"the norm of its gradient is {ratio:.2g} times that of its weights"
    no_way = relative == 0 and bool((flow.dead[k:] == 1).any())  # a layer of dead units lets no gradient pass
    if relative < VANISHING and not no_way:
        return "vanishing", f"its deltas are {relative:.1e} of those of the last layer"
    return "", ""
