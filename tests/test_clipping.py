"""Clipping by the norm of the whole gradient, and steps with what else is around an optimizer, against their twins."""

import numpy as np
import pytest
from _kernels import DTYPES, ULPS, Net, assert_close, read_only

from fastbp.kernels import layout, packing, planning
from fastbp.kernels.cpu import clipping, training
from fastbp.kernels.layout import (
    BETA_1,
    CENTERED_RMSPROP,
    CLIP_NORM,
    GRADIENT,
    N_SQUARES,
    NADAM,
    SCIKIT_LEARN,
    SGD,
    SQUARES,
)
from fastbp.kernels.reference import clipping as clipping_twins
from fastbp.kernels.reference import training as training_twins
from fastbp.kernels.reference.update import tile_place

pytestmark = pytest.mark.compiled_as_used  # in shards, which a batch norm has not
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

ACTIVATIONS = ("relu", "tanh", "softmax")


def clipping_net(dtype, clip_norm=0.05):
    """A network whose weights are zero and, after a step with given gradients and rate 1, these gradients, negative."""
    net = Net(
        (37, 101, 19, 5), ACTIVATIONS, dtype, batch=24, n_rows=24, loss="softmax_cross_entropy", n_threads=2,
        clipping=True, optimizer=SGD, n_moments=1,
    )  # fmt: skip
    net.buffers.parameters[:] = 0
    net.hyper[[BETA_1, CLIP_NORM]] = 0, clip_norm
    return net


def gradient_of(net):
    """Arrays of a gradient, and how they are laid out as the parameters."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=array.shape).astype(net.dtype) for array in net.unpack()]
    flat = np.zeros_like(net.buffers.parameters)
    packing.pack(arrays, flat, net.plan.table, net.lanes)
    return arrays, flat


@each_dtype
@pytest.mark.parametrize("module", [training, training_twins])
def test_given_gradients_are_clipped_to_the_norm(dtype, module):
    arrays, flat = gradient_of(clipping_net(dtype))
    norm = np.sqrt(sum((array.astype(float) ** 2).sum() for array in arrays))
    for clip_norm, factor in ((0.05, 0.05 / (norm + 1e-6)), (2 * norm, 1.0)):
        net = clipping_net(dtype, clip_norm)
        module.apply_gradients(flat.copy(), net.plan, net.buffers, net.hyper, 1.0, 1, 24.0)
        np.testing.assert_allclose(-net.buffers.parameters, flat * factor, rtol=20 * ULPS[dtype])
        if factor == 1:
            np.testing.assert_array_equal(-net.buffers.parameters, flat)


@pytest.mark.parametrize(("bad", "expected"), [(np.nan, np.nan), (np.inf, 0.0)])
def test_the_factor_of_a_gradient_that_is_not_finite(bad, expected):
    for module, kernels in ((training, clipping), (training_twins, clipping_twins)):
        net = clipping_net(np.float64)
        _, flat = gradient_of(net)
        flat[37] = bad
        module.apply_gradients(flat.copy(), net.plan, net.buffers, net.hyper, 1.0, 1, 24.0)
        np.testing.assert_equal(kernels.clip_factors(flat, net.plan, net.buffers, net.hyper), (1, expected))
        w = net.buffers.parameters
        assert np.isnan(w[37]) and np.isnan(w[38]) == np.isnan(bad)  # inf times 0 is NaN, what is beside it 0
        header = net.plan.header.copy()
        header[layout.OPTIMIZER] = GRADIENT  # is not clipped
        assert kernels.clip_factors(flat, net.plan._replace(header=header), net.buffers, net.hyper) == (1, 1)


def test_the_norm_has_the_same_bits_for_any_tiles():
    """Panels of other widths are other tiles: the sums by column do not see them."""
    net = clipping_net(np.float32)
    arrays, _ = gradient_of(net)
    factors, sums = [], []
    for lanes in (4, 8, 16):
        plan, work_size = planning.plan(
            net.widths, ACTIVATIONS, dtype=net.dtype, lanes=lanes, batch=24, clipping=True, optimizer=SGD, n_moments=1
        )
        flat = np.zeros(int(plan.header[layout.N_PARAMETERS]), np.float32)
        packing.pack(arrays, flat, plan.table, lanes)
        buffers = net.buffers._replace(work=layout.aligned_zeros(work_size, np.float32))
        for item in plan.items:
            start, size = tile_place(item, plan)
            clipping.item_squares(item, flat[start : start + size], plan, buffers)
        sums.append(buffers.work[plan.header[SQUARES] :][: plan.header[N_SQUARES]])
        factors.append(clipping.clip_factors(flat, plan, buffers, net.hyper))
    assert factors[0] == factors[1] == factors[2] < (1, 0.001)
    np.testing.assert_array_equal(sums[0], sums[1])
    np.testing.assert_array_equal(sums[0], sums[2])
    np.testing.assert_allclose(sums[0].sum(), sum((array * array).sum() for array in arrays), rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Whole steps

# beta_1, beta_2, epsilon, l2, l1, weight decay, clip_value, clip_norm, decay of the average, momentum, mu's decay
NUMBERS = (0.9, 0.99, 0.1, 0.05, 0.01, 0.2, 0.03, 0.1, 0.5, 0.4, 0.004)
EVERYTHING = {"n_moments": 3, "adjusts": 1, "averages": 1, "clipping": True, "hyper": NUMBERS}
UPDATES = {
    "nadam": {"optimizer": NADAM, **EVERYTHING},
    "centered": {"optimizer": CENTERED_RMSPROP, **EVERYTHING, "n_moments": 4, "convention": SCIKIT_LEARN},
    "sgd": {"optimizer": SGD, "n_moments": 1, "clipping": True, "hyper": NUMBERS},
    "gradient": {"optimizer": GRADIENT, "n_moments": 1, "clipping": True, "hyper": NUMBERS},
}
WAYS = {
    "threaded": {"n_threads": 2, "weighted": True},
    "owned by three": {"n_threads": 3, "owners": True},
    "gathered": {"n_threads": 2, "gathered": True},
    "in shards of three threads": {"n_threads": 3, "shard": 4, "weighted": True},
}


def assert_steps_agree(dtype, tolerance, update, **way):
    net = Net((37, 101, 19, 5), ACTIVATIONS, dtype, batch=13, n_rows=31, loss="softmax_cross_entropy", **update, **way)
    twin, n_threads = net.copy(), net.plan.shares.shape[1] - 1
    for module, one in ((training, net), (training_twins, twin)):
        for taken in (0, 3):  # the second call goes on from the first
            module.train_steps(
                np.zeros(3), one.plan, one.buffers, one.X, one.targets, read_only(layout.with_next(one.order)),
                np.array([0.1, 0.05, 0.02]), one.hyper, taken, n_threads=n_threads,
            )  # fmt: skip
    net.assert_close(twin, tolerance)
    np.testing.assert_allclose(net.hyper, twin.hyper, rtol=1e-12)
    if update["optimizer"] != GRADIENT:
        header, work = net.plan.header, net.buffers.work
        here = slice(header[layout.SHARDS], header[layout.SHARDS] + header[layout.N_PARAMETERS])
        assert_close(work[here], twin.buffers.work[here], tolerance)
        assert clipping.clip_factors(work[here], net.plan, net.buffers, net.hyper) < (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("update", UPDATES)
def test_shared_steps_agree_with_their_twin(update, way):
    assert_steps_agree(np.float32, 1e-4, UPDATES[update], **WAYS[way])


@pytest.mark.slow
@pytest.mark.parametrize("update", UPDATES)
def test_serial_steps_agree_with_their_twin(update):
    assert_steps_agree(np.float64, 1e-12, UPDATES[update])
