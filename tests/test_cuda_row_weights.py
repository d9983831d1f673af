"""Batch norm of rows with weights on a GPU, in the simulator, against its twins."""

import numpy as np
import pytest
from test_cuda_batch_norm import Network, check_backward, check_forward, each_dtype, turns  # noqa: F401  (a fixture)
from test_row_weights import weights_of

from fastbp.kernels import layout


def network(dtype, n, n_rows, kind, **options):
    """A batch norm with weights of samples, whose batch is not the first one of the order."""
    net, rng = Network(dtype, n, n_rows, **options), np.random.default_rng(n_rows)
    net.weights, net.order, net.at = weights_of(rng, dtype, n_rows + 6, kind), rng.permutation(n_rows + 6), 6
    return net


each_kind = pytest.mark.parametrize("kind", ["some", "zeros", "none"])


@each_dtype
@each_kind
@pytest.mark.parametrize("n", [1, 10, 17])
@pytest.mark.parametrize("n_groups", [1, 3])
@pytest.mark.parametrize("n_rows", [1, 2, 13, 40])
def test_cuda_forward(dtype, n, n_groups, n_rows, kind):
    check_forward(network(dtype, n, n_rows, kind, n_groups=n_groups))


@each_dtype
@each_kind
@pytest.mark.parametrize("n_groups", [1, 3])
@pytest.mark.parametrize("n_rows", [1, 13])
@pytest.mark.parametrize("adds", [0, layout.INPUT_ASKS, layout.INPUT_ASKS | layout.ADDS_TO_INPUT])
def test_cuda_backward(dtype, n_groups, n_rows, adds, kind):
    check_backward(network(dtype, 10, n_rows, kind, adds=adds, n_groups=n_groups))


def test_cuda_running_statistics_stay_without_two_rows():
    for weights, moves in (([0, 1, 0], False), ([0, 2, 0], True), ([0.1, 0.1, 0], True), ([0, 0, 0], False)):
        net = Network(np.float64, 6, 3)
        net.weights, before = np.array(weights, float), net.parameters.copy()
        check_forward(net)
        assert (net.parameters != before).any() == moves
        assert net.statistic(1).any() == moves
