"""Outputs and losses without an update: against the twins and NumPy, row by row the same bits."""

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, Net, assert_close, lanes, read_only, surrounded
from scipy import special

from fastbp.backends import Network, get_backend
from fastbp.kernels import layout
from fastbp.kernels.cpu import predict, simd
from fastbp.kernels.reference import predict as twins

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
CASES = {
    "softmax": ((19, 37, 21, 10), ("relu", "tanh", "softmax"), "softmax_cross_entropy"),
    "labels": ((5, 16, 17), ("logistic", "logistic"), "sigmoid_cross_entropy"),
    "regression": ((33, 65, 1), ("tanh", "identity"), "mean_squared_error"),
    "probabilities": ((7, 1, 9, 33), ("identity", "relu", "softmax"), "half_squared_error"),
    "one layer": ((40, 69), ("relu",), "half_squared_error"),
}
FUNCTIONS = {
    "identity": lambda Z: Z,
    "relu": lambda Z: np.maximum(Z, 0),
    "logistic": special.expit,
    "tanh": np.tanh,
    "softmax": lambda Z: special.softmax(Z, axis=1),
}
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_case = pytest.mark.parametrize("case", CASES)
with_threads = pytest.mark.parametrize("n_threads", [1, 2])


def net_of(case, dtype, *, batch=13, n_rows=31, **options):
    widths, activations, loss = CASES[case]
    return Net(widths, activations, dtype, batch=batch, n_rows=n_rows, loss=loss, update=False, **options)


def outputs(net, module=predict, order=None):
    """Outputs for the rows that ``order`` names; nothing around them is touched."""
    # an array that can be written is another type, for which everything would be compiled again
    order, n = net.order if order is None else read_only(order), net.widths[-1]
    whole, out = surrounded(len(order) * n, net.dtype)
    parameters = net.buffers.parameters.copy()
    module.predict_rows(out, net.plan, net.buffers, net.X, order, n_threads=net.plan.shares.shape[1] - 1)
    assert (whole[:64] == SENTINEL).all() and (whole[-64:] == SENTINEL).all()
    np.testing.assert_array_equal(net.buffers.parameters, parameters)
    return out.reshape(-1, n)


def losses(net, module=predict, order=None):
    order = net.order if order is None else read_only(order)
    whole, out = surrounded(len(order), np.float64)
    parameters = net.buffers.parameters.copy()
    module.evaluate_rows(out, net.plan, net.buffers, net.X, net.targets, order, n_threads=net.plan.shares.shape[1] - 1)
    assert (whole[:64] == SENTINEL).all() and (whole[-64:] == SENTINEL).all()
    np.testing.assert_array_equal(net.buffers.parameters, parameters)
    return out


@each_dtype
@each_case
@with_threads
@pytest.mark.parametrize("n_rows", [1, 5, 13, 31])
def test_outputs_agree_with_their_twin(case, dtype, n_threads, n_rows):
    net = net_of(case, dtype, n_threads=n_threads)
    twin, order = net.copy(), net.order[:n_rows]
    assert_close(outputs(net, order=order), outputs(twin, twins, order), TOLERANCE[dtype])
    net.assert_close(twin, TOLERANCE[dtype])


@each_dtype
@each_case
def test_outputs_are_those_of_the_formulas(case, dtype):
    net = net_of(case, dtype)
    A = net.X.reshape(31, -1)[net.order].astype(float)
    arrays = [array.astype(float) for array in net.unpack()]
    for W, b, activation in zip(arrays[::2], arrays[1::2], CASES[case][1], strict=True):
        A = FUNCTIONS[activation](A @ W + b)
    assert_close(outputs(net), A.astype(dtype), TOLERANCE[dtype])


@each_dtype
@each_case
@with_threads
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_agree_with_their_twin(case, dtype, n_threads, weighted):
    for convention in (layout.PYTORCH, layout.SCIKIT_LEARN):
        net = net_of(case, dtype, n_threads=n_threads, weighted=weighted, loss_convention=convention)
        twin = net.copy()
        assert_close(losses(net), losses(twin, twins), TOLERANCE[dtype])
        net.assert_close(twin, TOLERANCE[dtype])


@each_dtype
def test_losses_are_multiplied_by_their_weights(dtype):
    net = net_of("softmax", dtype, weighted=True)
    weighted = losses(net)
    net.targets = net.targets._replace(weights=read_only(np.zeros(0, dtype)))
    np.testing.assert_allclose(weighted, losses(net) * weights_of(net), rtol=TOLERANCE[dtype])


def weights_of(net):
    """The weights that a network of the same seed has."""
    return net_of("softmax", net.dtype, weighted=True).targets.weights[net.order]


@each_dtype
@each_case
def test_a_row_has_the_same_bits_in_every_batch(case, dtype):
    net = net_of(case, dtype)
    out, loss = outputs(net), losses(net)
    for i, row in enumerate(net.order):  # in a batch of its own, so the micro-kernel of one row does it
        alone = np.array([row])
        np.testing.assert_array_equal(outputs(net, order=alone)[0], out[i])
        np.testing.assert_array_equal(losses(net, order=alone), loss[i : i + 1])
    for batch, n_threads in ((1, 1), (7, 2), (31, 2), (64, 1)):
        other = net_of(case, dtype, batch=batch, n_threads=n_threads)
        np.testing.assert_array_equal(outputs(other), out)
        np.testing.assert_array_equal(losses(other), loss)


@each_dtype
@with_threads
@pytest.mark.parametrize("place", [0, simd.MR + 1, 2 * simd.MR + 4])  # tall, tall, and what is left over
def test_a_row_with_nan_stays_by_itself(dtype, n_threads, place):
    for column in (0, 18):
        net = net_of("softmax", dtype, batch=2 * simd.MR + 5, n_threads=n_threads)
        order = np.arange(2 * simd.MR + 5)
        out, loss = outputs(net, order=order), losses(net, order=order)
        X = net.X.copy()
        X[place * 19 + column] = np.nan
        net.X = read_only(X)
        got, got_loss = outputs(net, order=order), losses(net, order=order)
        assert np.isnan(got[place]).all() and np.isnan(got_loss[place])
        np.testing.assert_array_equal(np.delete(got, place, axis=0), np.delete(out, place, axis=0))
        np.testing.assert_array_equal(np.delete(got_loss, place), np.delete(loss, place))


@each_dtype
@with_threads
def test_no_rows_have_no_outputs(dtype, n_threads):
    net = net_of("softmax", dtype, n_threads=n_threads)
    nothing = np.zeros(0, np.intp)
    assert outputs(net, order=nothing).shape == (0, 10) and losses(net, order=nothing).shape == (0,)


def test_some_panels_are_narrow_and_some_are_not():
    """So that the cases above reach both micro-kernels."""
    for dtype in DTYPES:
        panels = {
            width
            for widths, _, _ in CASES.values()
            for n in widths[1:]
            for _, width in layout.panel_columns(n, lanes(dtype))
        }
        assert panels == {lanes(dtype), simd.NV * lanes(dtype)}


@each_dtype
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity", "exp"])
@pytest.mark.parametrize("widths", [(1, 1), (7, 33, 10), (150, 65, 17, 3), (4, 16, 1)])
def test_a_few_rows_have_the_bits_of_many(widths, activation, dtype):
    rng = np.random.default_rng(0)
    for link in ("identity", "softmax", "logistic"):
        network = Network(widths, (*[activation] * (len(widths) - 2), link), np.dtype(dtype))
        parameters = [(rng.normal(size=shape) / 4).astype(dtype) for shape in network.shapes]
        X = rng.normal(size=(40, widths[0])).astype(dtype)
        for raw in (False, True):
            many = get_backend("cpu").predict(network, parameters, X, raw=raw)
            for n_rows in range(1, 10):  # from 9 on the weights are laid out in panels
                few = get_backend("cpu").predict(network, parameters, X[3 : 3 + n_rows], raw=raw)
                np.testing.assert_array_equal(few, many[3 : 3 + n_rows])
            reference = get_backend("reference").predict(network, parameters, X[:2], raw=raw)
            np.testing.assert_allclose(many[:2], reference, rtol=1e-3 if dtype == np.float32 else 1e-10, atol=1e-5)


@each_dtype
def test_layer_rows_agrees_with_its_twin_and_keeps_to_its_place(dtype):
    rng = np.random.default_rng(0)
    for m, n, K, code in ((1, 1, 1, layout.RELU), (3, 17, 6, layout.LOGISTIC), (8, 40, 33, layout.TANH)):
        ld = layout.padded(n)
        A, W, b = (rng.normal(size=size).astype(dtype) for size in (m * (K + 2), K * n, n))
        A[K - 1] = np.nan
        (whole, Z), (_, twin) = surrounded(m * ld, dtype, 64), surrounded(m * ld, dtype, 64)
        for module, out in ((predict, Z), (twins, twin)):
            out[:] = 0
            module.layer_rows(out, ld, read_only(A), K + 2, read_only(W), read_only(b), m, n, K, code)
        got, want = (array.reshape(m, ld)[:, :n] for array in (Z, twin))
        assert_close(got, want, TOLERANCE[dtype])
        assert np.isnan(got[0]).all() and np.isfinite(got[1:]).all()
        assert (whole[:64] == SENTINEL).all() and (whole[-64:] == SENTINEL).all()
