"""The loss of a row and dL / dZ of the last operation, with nothing compiled but what a network needs."""

import functools

from fastbp.kernels.cuda._target import WIDTH, device, group_sync, like
from fastbp.kernels.cuda.activations import softmax_backward, softmax_forward
from fastbp.kernels.cuda.losses import (
    block_softmax_cross_entropy,
    poisson,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from fastbp.kernels.cuda.output_losses import output_loss
from fastbp.kernels.cuda.rectifiers import element_functions
from fastbp.kernels.cuda.soft_targets import (
    block_soft_cross_entropy,
    soft_cross_entropy,
    soft_sigmoid_cross_entropy,
)
from fastbp.kernels.layout import (
    BY_SLOPE,
    IDENTITY,
    POISSON,
    SIGMOID_CROSS_ENTROPY,
    SOFTMAX,
    SOFTMAX_CROSS_ENTROPY,
)

# In makers, branches on what they close over are taken before types are: nested, not joined by ``and``.


def link_functions(link, codes):
    """(link_forward, link_backward): A = f(Z) in place, and dL / dZ from dL / dA in place, for one row.

    They take (lane, work, z, n, slope) and (lane, work, d, z, n, slope). Softmax goes by row, everything else by
    element; f'(Z) is kept at work[slope : slope + n] where it does not follow from A, and nowhere for ``slope`` < 0.
    """
    element_forward, element_backward = element_functions(codes)
    by_row, by_element, by_slope = link == SOFTMAX, link != IDENTITY, link in BY_SLOPE.values()

    @device
    def link_forward(lane, work, z, n, slope):
        if by_row:
            softmax_forward(lane, work, z, n)
        elif by_element:
            for j in range(lane, n, WIDTH):
                a, derivative = element_forward(work[z + j], link)
                work[z + j] = a
                if by_slope:
                    if slope >= 0:
                        work[slope + j] = derivative

    @device
    def link_backward(lane, work, d, z, n, slope):
        if by_row:
            group_sync()
            softmax_backward(lane, work, d, work, z, n)
        elif by_element:
            for j in range(lane, n, WIDTH):
                a = work[z + j]
                if by_slope:
                    work[d + j] = element_backward(work[d + j], a, work[slope + j], link)
                else:
                    work[d + j] = element_backward(work[d + j], a, like(a, 0), link)

    return link_forward, link_backward


@functools.lru_cache
def link_of(link, codes, real):
    """last_forward(lane, work, z, n): the last operation's activation of work[z : z + n], in place, by its code.

    Parameters as those of :func:`loss_of`.
    """
    link_forward, _ = link_functions(link, codes)

    @device
    def last_forward(lane, work, z, n):
        link_forward(lane, work, z, n, -1)

    return last_forward


def softmax_loss_of(loss_convention, soft_targets, n_blocks):
    """The softmax cross-entropy for what the targets are: labels or soft targets, of one block or of several."""
    soft, blocks = bool(soft_targets), bool(n_blocks)

    @device
    def softmax_loss(lane, work, d, z, n, targets, sample, factor):
        labels, values, ends, numbers = targets.labels, targets.values, targets.blocks, targets.coefficients
        if soft:
            if blocks:
                return block_soft_cross_entropy(
                    lane, work, d, work, z, labels, values, ends, numbers, sample, factor, loss_convention
                )
            else:
                return soft_cross_entropy(
                    lane, work, d, work, z, labels, values, numbers, sample, n, factor, loss_convention
                )
        elif blocks:
            at = sample * (ends.shape[0] - 1)
            return block_softmax_cross_entropy(lane, work, d, work, z, labels, at, ends, factor, loss_convention)
        else:
            return softmax_cross_entropy(lane, work, d, work, z, n, labels[sample], factor, loss_convention)

    return softmax_loss


def sigmoid_loss_of(loss_convention, soft_targets):
    """The sigmoid cross-entropy, with label smoothing and class weights where the network needs them."""
    soft = bool(soft_targets)

    @device
    def sigmoid_loss(lane, work, d, z, n, targets, sample, factor):
        values, at = targets.values, sample * n
        if soft:
            numbers = targets.coefficients
            return soft_sigmoid_cross_entropy(lane, work, d, work, z, values, at, numbers, n, factor, loss_convention)
        else:
            return sigmoid_cross_entropy(lane, work, d, work, z, values, at, n, factor, loss_convention)

    return sigmoid_loss


@device
def poisson_loss(lane, work, d, z, n, targets, sample, factor):
    """Poisson on e^z."""
    return poisson(lane, work, d, work, z, targets.values, sample * n, n, factor)


def pre_activation_loss_of(loss, loss_convention, soft_targets, n_blocks):
    """The loss of Z that brings its link, as a function of row, targets and factor; None for a loss of outputs."""
    if loss == SOFTMAX_CROSS_ENTROPY:
        return softmax_loss_of(loss_convention, soft_targets, n_blocks)
    if loss == SIGMOID_CROSS_ENTROPY:
        return sigmoid_loss_of(loss_convention, soft_targets)
    return poisson_loss if loss == POISSON else None


def weight_of(loss, soft_targets, n_blocks):
    """Weight of a row of X in the loss and in its gradient, in the type of ``scale``; 1 where there are none.

    With labels and class weights ``values`` has it: ``weights`` then has the class weight in it, for the mean alone.
    """
    by_values = loss == SOFTMAX_CROSS_ENTROPY and bool(soft_targets) and not n_blocks

    @device
    def row_weight(targets, sample, scale):
        if by_values:
            if targets.labels.shape[0] > 0 and targets.values.shape[0] > 0:
                return targets.values[sample]
        return targets.weights[sample] if targets.weights.shape[0] > 0 else like(scale, 1.0)

    return row_weight


@functools.lru_cache
def loss_of(loss, loss_convention, soft_targets, n_blocks, link, codes, real):
    """loss_backward(lane, work, z, d, slope, n, targets, sample, scale): weight times loss of a row, and dL / dZ.

    Z stands at work[z : z + n], the gradient goes to work[d : d + n], and a loss of outputs leaves A in the place of Z,
    and f'(Z) at work[slope : slope + n] where it does not follow from A.

    Parameters
    ----------
    loss, loss_convention, soft_targets, n_blocks : int
        As in the header.
    link : int
        Activation of the last operation.
    codes : frozenset of int
        Activations of the network.
    real : dtype
        Part of the cache's key: two types then share no function.
    """
    row_weight = weight_of(loss, soft_targets, n_blocks)
    fused = pre_activation_loss_of(loss, loss_convention, soft_targets, n_blocks)
    if fused is not None:

        @device
        def loss_backward(lane, work, z, d, slope, n, targets, sample, scale):
            weight = row_weight(targets, sample, scale)
            return weight * fused(lane, work, d, z, n, targets, sample, weight * scale)

        return loss_backward
    link_forward, link_backward = link_functions(link, codes)

    @device
    def loss_backward(lane, work, z, d, slope, n, targets, sample, scale):
        weight, at = row_weight(targets, sample, scale), sample * n
        link_forward(lane, work, z, n, slope)
        value = output_loss(
            lane, work, d, work, z, targets.values, at, targets.coefficients, n, weight * scale, loss, loss_convention
        )
        link_backward(lane, work, d, z, n, slope)
        return weight * value

    return loss_backward
