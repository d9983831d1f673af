"""Training steps: whole ones and their parts against the twins, gradients, and what may not depend on threads."""

import itertools

import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, Net, assert_close, few, lanes, read_only, seeds, surrounded
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels import layout
from fastbp.kernels.cpu import operations, predict, tiles, training
from fastbp.kernels.cpu import step as step_module
from fastbp.kernels.cpu import update as update_module
from fastbp.kernels.layout import ADAM, GRADIENT, PYTORCH, SCIKIT_LEARN, SGD
from fastbp.kernels.reference import operations as operations_twins
from fastbp.kernels.reference import predict as predict_twins
from fastbp.kernels.reference import step as step_twins
from fastbp.kernels.reference import tiles as tiles_twins
from fastbp.kernels.reference import training as training_twins
from fastbp.kernels.reference import update as update_twins


class Parts:
    """Functions of several modules."""

    def __init__(self, *modules):
        for module in modules:
            vars(self).update(vars(module))


step = Parts(operations, step_module, update_module)
twins = Parts(operations_twins, step_twins, update_twins)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

CASES = {
    "deep": ((19, 37, 21, 10), ("relu", "tanh", "softmax"), "softmax_cross_entropy"),
    "labels": ((5, 16, 17), ("logistic", "identity"), "sigmoid_cross_entropy"),
    "one output": ((33, 65, 1), ("tanh", "identity"), "mean_squared_error"),
    "one unit": ((7, 1, 9, 17), ("identity", "relu", "softmax"), "half_squared_error"),
    "relu output": ((50, 33, 15), ("identity", "relu"), "half_squared_error"),
    "one layer": ((40, 69), ("logistic",), "mean_squared_error"),
    "one layer of labels": ((40, 69), ("logistic",), "sigmoid_cross_entropy"),
    "exponentials": ((9, 18, 5, 7, 3), ("exp", "logistic", "exp", "identity"), "half_squared_error"),
    "rectifiers": ((9, 70, 21, 18, 17, 7, 5, 33, 6, 3), (*layout.RECTIFIERS, "gelu"), "half_squared_error"),
    "counts": ((12, 33, 3), ("relu", "exp"), "poisson"),
    "several labels": ((12, 33, 9), ("relu", "identity"), "softmax_cross_entropy"),
    "smallest": ((1, 1), ("tanh",), "half_squared_error"),
}
BLOCKS = {"several labels": (3, 4, 2)}
# Adam's first step is nearly the sign of the gradient: with so large an epsilon it is smooth
UPDATES = {
    "gradient": {"optimizer": GRADIENT},
    "sgd": {"optimizer": SGD, "nesterov": 1, "hyper": (0.9, 0, 0, 0.1)},
    "sgd of scikit-learn": {"optimizer": SGD, "convention": SCIKIT_LEARN, "hyper": (0.9, 0, 0, 0.1)},
    "adam": {"optimizer": ADAM, "hyper": (0.9, 0.99, 0.1, 0.1)},
    "adam of scikit-learn": {
        "optimizer": ADAM, "convention": SCIKIT_LEARN, "loss_convention": SCIKIT_LEARN, "hyper": (0.9, 0.99, 0.1, 0.1),
    },
}  # fmt: skip
WAYS = {
    "serial": {"n_threads": 1},
    "weighted": {"n_threads": 1, "weighted": True},
    "threaded": {"n_threads": 2},
    "owned": {"n_threads": 2, "owners": True, "weighted": True},
    "owned by three": {"n_threads": 3, "owners": True},
    "gathered": {"n_threads": 2, "gathered": True},
    "in shards": {"n_threads": 1, "shard": 8},
    "in shards of three threads": {"n_threads": 3, "shard": 4, "weighted": True},
    "gathered in shards": {"n_threads": 2, "shard": 4, "gathered": True},
}
# Those that a plain network does not compile: by one dtype where threads are many, by the other where there is one
WITH_FEATURES = {"rectifiers", "several labels"}


def each_case(*ways):
    """Each dtype and case, with each way of those given; of the cases with features about half.

    All features at once are no network that goes in shards: a batch norm needs the whole batch.
    """
    kept = []
    for dtype, case, way in itertools.product(DTYPES, CASES, ways or ("threaded",)):
        alone = WAYS[way]["n_threads"] == 1
        if case not in WITH_FEATURES or ("shard" not in WAYS[way] and alone == (dtype == np.float64)):
            marks = pytest.mark.slow if case in WITH_FEATURES and dtype == np.float32 else ()
            kept.append(pytest.param(dtype, case, *((way,) if ways else ()), marks=marks))
    return pytest.mark.parametrize(("dtype", "case", "way") if ways else ("dtype", "case"), kept)


def net_of(case, dtype, *, batch=13, n_rows=31, **options):
    """31 rows in batches of 13: two whole ones, and one of 5."""
    widths, activations, loss = CASES[case]
    blocks = BLOCKS.get(case, ())
    return Net(widths, activations, dtype, batch=batch, n_rows=n_rows, loss=loss, blocks=blocks, **options)


TRAINING = {step: training, twins: training_twins}


def train(net, module=step, *, rate=0.1, taken=0, order=None):
    """The losses of one pass over the rows of a network, which it changes."""
    order = net.order if order is None else order
    losses = np.full(-(-len(order) // net.batch), np.nan)
    rates, order = np.full(len(losses), rate), read_only(layout.with_next(order))
    arguments = (losses, net.plan, net.buffers, net.X, net.targets, order, rates, net.hyper, taken)
    TRAINING[module].train_steps(*arguments, n_threads=net.plan.shares.shape[1] - 1)
    return losses


@each_case(*WAYS)
def test_training_agrees_with_its_twin(case, way, dtype):
    for name, update in UPDATES.items():
        net = net_of(case, dtype, **WAYS[way], **update)
        twin, start = net.copy(), net.copy()
        assert_close(train(net), train(twin, twins), TOLERANCE[dtype], f"{name}, losses")
        net.assert_close(twin, TOLERANCE[dtype], name)
        changed = (net.buffers.parameters != start.buffers.parameters).any()
        assert changed == (name != "gradient")


@pytest.mark.slow
@pytest.mark.compiled_as_used
@pytest.mark.parametrize("way", ["in shards of three threads", "gathered in shards"])
def test_rectifiers_in_shards_agree_with_their_twin(way):
    test_training_agrees_with_its_twin("rectifiers", way, np.float32)


@each_case()
def test_padding_stays_zero(case, dtype):
    net = net_of(case, dtype, n_threads=2, owners=len(CASES[case][0]) > 2, **UPDATES["adam"])
    for _ in range(3):
        train(net)
    ones = net.copy()
    for array in ones.buffers:
        array[:] = 0
    ones.pack([np.ones_like(array) for array in net.unpack()])
    pad = ones.buffers.parameters == 0
    size = int(net.plan.header[layout.N_PARAMETERS])
    for part in (net.buffers.parameters, net.buffers.moments[:size], net.buffers.moments[size:]):
        assert (part[pad] == 0).all() and (part[~pad] != 0).any()
    header, work = net.plan.header, net.buffers.work
    for l, row in enumerate(net.plan.table):
        deltas = work[header[layout.DELTAS] + row[layout.OUT] :][: net.batch * row[layout.OUT_LD]]
        assert (deltas.reshape(net.batch, -1)[:, row[layout.FAN_OUT] :] == 0).all()
        if l > 0:
            size = layout.padded(int(row[layout.FAN_IN])) * row[layout.TRANSPOSED_ROWS]
            W_T, used = (array[row[layout.TRANSPOSED] :][:size] for array in (work, ones.buffers.work))
            assert (W_T[used == 0] == 0).all() and (W_T[used != 0] != 0).any()
    assert (work[header[layout.ZEROS] :][: max(layout.padded(int(n)) for n in net.widths)] == 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# Gradients

OUTPUTS = ["identity", "relu", "logistic", "tanh", "exp", "softmax"]
PAIRS = [
    ("softmax_cross_entropy", "softmax"),
    ("sigmoid_cross_entropy", "logistic"),
    ("poisson", "exp"),
    *itertools.product(("mean_squared_error", "half_squared_error"), OUTPUTS),
]


@pytest.mark.parametrize("hidden", ["identity", "relu", "logistic", "tanh", "exp"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_gradient_against_central_differences(hidden, loss, output):
    net = Net(
        (4, 5, 6, 3), (hidden, hidden, output), np.float64, batch=7, n_rows=7, loss=loss, weighted=True,
        optimizer=GRADIENT,
    )  # fmt: skip
    # exponentials of exponentials overflow
    arrays, h = [array / (4 if hidden == "exp" else 1) for array in net.unpack()], 1e-6
    net.pack(arrays)

    def loss_with(p, q, by):
        moved = [array.copy() for array in arrays]
        moved[p].flat[q] += by
        net.pack(moved)
        return train(net)[0]

    train(net)
    gradients = net.unpack(moment=0)
    for p, gradient in enumerate(gradients):
        want = [(loss_with(p, q, h) - loss_with(p, q, -h)) / (2 * h) for q in range(gradient.size)]
        largest = max(np.abs(array).max() for array in gradients)
        np.testing.assert_allclose(gradient.ravel(), want, rtol=0, atol=1e-6 * largest)


@each_dtype
@pytest.mark.parametrize("update", list(UPDATES)[1:])
def test_a_step_is_its_gradient_applied(update, dtype):
    net = net_of("deep", dtype, n_rows=13, weighted=True, **UPDATES[update])
    other = net_of("deep", dtype, n_rows=13, weighted=True, **{**UPDATES[update], "optimizer": GRADIENT})
    train(net, taken=4)
    train(other)
    gradients = other.buffers.moments.copy()
    other.buffers.moments[:] = 0
    other.plan.header[layout.OPTIMIZER] = net.plan.header[layout.OPTIMIZER]
    twin, weight = other.copy(), step.batch_weight(net.targets.weights, net.order)
    for module, target in ((step, other), (twins, twin)):
        TRAINING[module].apply_gradients(gradients, target.plan, target.buffers, target.hyper, 0.1, 5, weight)
    for name in ("parameters", "moments"):
        np.testing.assert_array_equal(getattr(other.buffers, name), getattr(net.buffers, name))
    other.assert_close(twin, TOLERANCE[dtype])


# ---------------------------------------------------------------------------------------------------------------------
# The same bits


@each_case()
def test_threads_and_owners_change_no_bit(case, dtype):
    alone = net_of(case, dtype, **UPDATES["adam"])
    want = train(alone)
    ways = [{"owners": False}, {"owners": True}, {"gathered": True}]
    for n_threads, way in itertools.product((1, 2, 3), ways):
        net = net_of(case, dtype, n_threads=n_threads, **way, **UPDATES["adam"])
        np.testing.assert_array_equal(train(net), want)
        for array, other in zip(net.unpack(), alone.unpack(), strict=True):
            np.testing.assert_array_equal(array, other)


@each_dtype
@pytest.mark.parametrize("way", ["serial", "owned"])
def test_steps_may_be_taken_in_several_calls(way, dtype):
    together = net_of("deep", dtype, **WAYS[way], **UPDATES["adam"])
    apart = together.copy()
    want = train(together)
    got = [train(apart, taken=s, order=apart.order[13 * s : 13 * (s + 1)]) for s in range(3)]
    np.testing.assert_array_equal(np.concatenate(got), want)
    np.testing.assert_array_equal(apart.buffers.parameters, together.buffers.parameters)
    np.testing.assert_array_equal(apart.buffers.moments, together.buffers.moments)


# ---------------------------------------------------------------------------------------------------------------------
# What is reported


def test_the_reported_loss_has_the_penalty_of_scikit_learn():
    options = {"weighted": True, "hyper": (0.9, 0.99, 0.1, 0.5), "optimizer": SGD}
    for convention, update in ((PYTORCH, 0), (SCIKIT_LEARN, 1)):
        net = net_of("deep", np.float64, n_rows=13, convention=convention, **options)
        weight, penalty = net.targets.weights.sum(), sum((W**2).sum() for W in net.unpack()[::2])
        (loss,) = train(net)
        np.testing.assert_allclose(loss, (net.buffers.row_loss.sum() + update * 0.25 * penalty) / weight, rtol=1e-13)


@each_dtype
@pytest.mark.parametrize("way", ["serial", "owned"])
def test_a_batch_without_weight_changes_nothing(way, dtype):
    options = {**WAYS[way], "weighted": True}
    for update in ("sgd of scikit-learn", "adam of scikit-learn"):
        net = net_of("deep", dtype, **options, **UPDATES[update])
        weights = net.targets.weights.copy()
        weights[net.order[:13]] = 0
        net.targets = net.targets._replace(weights=read_only(weights))
        start, twin = net.copy(), net.copy()
        assert train(net, order=net.order[:13]) == [0]
        np.testing.assert_array_equal(net.buffers.parameters, start.buffers.parameters)
        assert not net.buffers.moments.any()
        assert train(twin, twins, order=net.order[:13]) == [0]
        net.assert_close(twin, TOLERANCE[dtype], update)
        assert np.isfinite(train(net)[1:]).all()
        assert (net.buffers.parameters != start.buffers.parameters).any()


# ---------------------------------------------------------------------------------------------------------------------
# Parts of a step, on buffers that a step has filled: all else stays as it is


def call_rows(module, net):
    module.rows_step(0, 1, 1, 3, 9, 11, 0.25, net.plan, net.buffers, net.X, net.targets, net.order[3:9], 0)


def call_gradients(module, net):
    gradients = []
    for item in net.plan.items:
        whole, G = surrounded(layout.TILE_ROWS * 2 * net.lanes, net.dtype)
        module.tile_gradient(item, G, 0, 0, 11, net.plan, net.buffers, net.X, net.order, 0)
        gradients.append(whole)
    return np.concatenate(gradients)


def call_updates(module, net):
    rng = np.random.default_rng(0)
    for item in net.plan.items[::2]:
        G = rng.normal(size=layout.TILE_ROWS * 2 * net.lanes).astype(net.dtype)
        module.tile_update(item, G, 0.1, 1.0, 0.01, net.plan, net.buffers, net.hyper)


def call_copy(module, net):
    whole, out = surrounded(13 * net.widths[-1], net.dtype)
    (predict if module is step else predict_twins).copy_outputs(out, 2, 11, net.plan, net.buffers)
    return whole


PARTS = {
    "outputs": lambda f, net: np.array([f.outputs(l, slot, net.plan) for l in range(3) for slot in range(2)]),
    "layer_forward": lambda f, net: [
        f.layer_forward(0, 1, 2, 11, 2 * net.lanes, 37 - 2 * net.lanes, net.plan, net.buffers, net.X, net.order[2:]),
        f.layer_forward(1, 0, 12, 13, 0, 21, net.plan, net.buffers, net.X, net.order),
    ],
    "forward_rows": lambda f, net: f.forward_rows(0, 3, 1, 2, 11, net.plan, net.buffers, net.X, net.order[2:11], 0),
    "owned_forward": lambda f, net: f.owned_forward(
        0, 1, 11, net.plan, net.buffers, net.X, net.targets.weights, net.order
    ),
    "loss_backward": lambda f, net: f.loss_backward(
        0, 2, 11, 0.25, net.plan, net.buffers, net.targets, net.order[2:11]
    ),
    "layer_backward": lambda f, net: [f.layer_backward(l, 2, 11, l == 1, net.plan, net.buffers) for l in (2, 1)],
    "finish_delta": lambda f, net: [f.finish_delta(l, 1, 2, 11, net.plan, net.buffers) for l in (1, 0)],
    "rows_step": call_rows,
    "tile_gradient": call_gradients,
    "tile_update": call_updates,
    "tiles_step": lambda f, net: f.tiles_step(
        1, f.WHOLE, 0, 0, 11, 0.1, 1.0, 0.01, net.plan, net.buffers, net.X, net.order, net.hyper
    ),
    "batch_weight": lambda f, net: np.array(f.batch_weight(net.targets.weights, net.order)),
    "sum_of_losses": lambda f, net: np.array(f.sum_of_losses(2, 9, net.buffers)),
    "tile_place": lambda f, net: np.array([f.tile_place(item, net.plan) for item in net.plan.items]),
    "batch_loss": lambda f, net: np.array(f.batch_loss(7.0, 4.0, 0.3, net.plan, net.buffers)),
    "copy_outputs": call_copy,
}


@each_dtype
@pytest.mark.parametrize("part", PARTS)
def test_part_of_a_step_agrees_with_its_twin(part, dtype):
    net = net_of("deep", dtype, n_threads=2, owners=True, weighted=True, **UPDATES["adam of scikit-learn"])
    train(net, order=net.order[:26])
    before, twin = net.copy(), net.copy()
    got, want = PARTS[part](step, net), PARTS[part](twins, twin)
    if isinstance(got, np.ndarray):
        got, want = (np.where(array == SENTINEL, 0, array) for array in (got, want))
        assert_close(got, want, TOLERANCE[dtype])
    net.assert_close(twin, TOLERANCE[dtype], part)
    for mine, theirs, old in zip(net.buffers, twin.buffers, before.buffers, strict=True):
        kept = theirs == old
        np.testing.assert_array_equal(mine[kept], old[kept])
    if part not in ("outputs", "tile_gradient", "batch_weight", "sum_of_losses", "tile_place", "batch_loss"):
        assert not all(np.array_equal(a, b) for a, b in zip(net.buffers, before.buffers, strict=True))


SHARD_PARTS = {
    "sum_of_shards": lambda f, net, G: [f.sum_of_shards(item, G, 3, net.plan, net.buffers) for item in net.plan.items],
    "a shard's gradients": lambda f, net, G: f.tiles_step(
        1, 2, 0, 0, 3, 0.1, 1.0, 0.01, net.plan, net.buffers, net.X, net.order[9:], net.hyper
    ),
    "update": lambda f, net, G: f.tiles_step(
        1, f.SUMS, 0, 0, 9, 0.1, 1.0, 0.01, net.plan, net.buffers, net.X, net.order, net.hyper
    ),
}  # fmt: skip


@each_dtype
@pytest.mark.parametrize("part", SHARD_PARTS)
def test_part_of_a_step_in_shards_agrees_with_its_twin(part, dtype):
    net = net_of("deep", dtype, n_threads=2, shard=4, **UPDATES["adam of scikit-learn"])
    train(net, order=net.order[:13])
    before, twin = net.copy(), net.copy()
    sums = [surrounded(layout.TILE_ROWS * 2 * net.lanes, dtype) for _ in range(2)]
    for module, one, (_, G) in zip((step, twins), (net, twin), sums, strict=True):
        SHARD_PARTS[part](module, one, G)
    assert_close(sums[0][0], sums[1][0], TOLERANCE[dtype])
    net.assert_close(twin, TOLERANCE[dtype], part)
    for mine, theirs, old in zip(net.buffers, twin.buffers, before.buffers, strict=True):
        kept = theirs == old
        np.testing.assert_array_equal(mine[kept], old[kept])
    changed = part == "sum_of_shards" or not np.array_equal(net.buffers.work, before.buffers.work)
    assert changed and (part != "sum_of_shards" or (sums[0][1] != SENTINEL).any())


@each_dtype
def test_batch_weight_without_weights_is_the_number_of_rows(dtype):
    order, numbers = read_only(np.arange(7)), np.arange(10).astype(dtype)
    for weights, want in ((numbers[:0], 7), (numbers, 21), (0 * numbers, np.inf)):
        assert step.batch_weight(read_only(weights), order) == want == twins.batch_weight(weights, order)


def test_shares_of_rows_are_even_to_a_micro_kernel_of_height_4():
    for n_rows, n_threads in itertools.product(range(1, 70), (1, 2, 3, 8)):
        share = step.row_share(n_rows, n_threads)
        assert share == twins.row_share(n_rows, n_threads) and share % 4 == 0
        assert n_rows <= share * n_threads < n_rows + 4 * n_threads


# ---------------------------------------------------------------------------------------------------------------------
# Tiles


@each_dtype
@given(st.data())
@few(60)
def test_transpose_agrees_with_its_twin(dtype, data):
    n = lanes(dtype)
    fan_in, fan_out = data.draw(st.integers(1, 100), "fan_in"), data.draw(st.integers(1, 70), "fan_out")
    lo = data.draw(st.sampled_from(range(0, fan_in, layout.TILE_ROWS)), "lo")
    column, width = data.draw(st.sampled_from(layout.panel_columns(fan_out, n)), "panel")
    hi, panel_rows = min(lo + layout.TILE_ROWS, fan_in), layout.padded(fan_out)
    w = np.zeros((layout.padded(hi - lo), width), dtype)
    w[: hi - lo] = np.random.default_rng(data.draw(seeds())).normal(size=(hi - lo, width))
    results = []
    for call in (tiles.transpose_tile, lambda *rest: tiles_twins.transpose_tile(*rest, lanes=n)):
        whole, T = surrounded(layout.padded(fan_in) * panel_rows, dtype)
        call(T, panel_rows, w.reshape(-1), lo, hi, fan_in, column, width)
        results.append(whole)
    got, twin = results
    # whole vectors of rows are written: what comes from the zeros below the tile is zero
    beyond = got != twin
    assert (got[beyond] == 0).all() and (twin[beyond] == SENTINEL).all()
    inner = got[64:-64]
    for first, panel_width in layout.panel_columns(fan_in, n):
        panel = inner[first * panel_rows :][: panel_rows * panel_width].reshape(panel_rows, panel_width)
        for k in range(max(lo, first), min(hi, first + panel_width)):
            np.testing.assert_array_equal(panel[column : column + width, k - first], w[k - lo])
    assert (got != SENTINEL).sum() == layout.padded(hi - lo, n) * width


@each_dtype
@given(st.integers(1, 4 * layout.GROUP), st.integers(1, layout.TILE_ROWS), seeds())
@few(40)
def test_squares_agree_with_their_twin(dtype, width, n_rows, seed):
    w = np.random.default_rng(seed).normal(size=(n_rows, width)).astype(dtype)
    (whole, norms), twin_norms = surrounded(width, dtype), np.zeros(width, dtype)
    tiles.add_squares(norms, w.reshape(-1), width, n_rows)
    tiles_twins.add_squares(twin_norms, w.reshape(-1), width, n_rows)
    assert_close(norms, twin_norms, n_rows * ULPS[dtype])
    np.testing.assert_allclose(norms, (w.astype(float) ** 2).sum(axis=0), rtol=n_rows * ULPS[dtype])
    assert (whole[:64] == SENTINEL).all() and (whole[64 + width :] == SENTINEL).all()


@each_dtype
@given(st.integers(0, 9), st.integers(1, 40), seeds())
@few(30)
def test_rows_are_gathered_as_by_their_twin(dtype, m, n, seed):
    rng = np.random.default_rng(seed)
    A, index = rng.normal(size=(7, n + 2)).astype(dtype), rng.integers(0, 7, m)
    whole, twin = (surrounded(10 * (n + 3), dtype) for _ in range(2))
    tiles.gather_rows(whole[1], n + 3, A.reshape(-1), n + 2, index, m, n)
    tiles_twins.gather_rows(twin[1], n + 3, A.reshape(-1), n + 2, index, m, n)
    np.testing.assert_array_equal(whole[1].reshape(10, -1)[:m, :n], A[index, :n])
    np.testing.assert_array_equal(whole[0], twin[0])


@each_dtype
@pytest.mark.parametrize("place", [0, 5, 20, 36])
def test_squares_keep_nan_in_its_column(dtype, place):
    w, norms = np.ones((3, 37), dtype), np.zeros(37, dtype)
    w[1, place] = np.nan
    tiles.add_squares(norms, w.reshape(-1), 37, 3)
    assert np.isnan(norms[place]) and (np.delete(norms, place) == 3).all()
