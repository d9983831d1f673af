"""Clipping by norm of gradients whose squares leave the range of their dtype, on each backend."""

import itertools

import numpy as np
import pytest
from _kernels import DTYPES, ULPS, read_only
from test_clipping import ACTIVATIONS, clipping_net, gradient_of

import fastbp
from fastbp.backends import cpu
from fastbp.kernels import layout, packing, planning
from fastbp.kernels.cpu import clipping, training
from fastbp.kernels.layout import CLIP_NORM, N_SQUARES, SQUARES
from fastbp.kernels.reference import clipping as clipping_twins
from fastbp.kernels.reference import training as training_twins
from fastbp.kernels.reference.update import tile_place

pytestmark = pytest.mark.compiled_as_used
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_backend = pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
# Powers of two of the gradient and of clip_norm: squares that overflow, one of many, the largest numbers, squares that
# underflow, steps not far above those that the update flushes to zero, ordinary squares with a factor that underflows
POWERS = {
    np.float32: [(70, 0), (63, -3), (124, -90), (124, 120), (-80, -90), (-90, -100), (40, -110), (3, -100)],
    np.float64: [(600, 0), (510, -3), (1020, -700), (1020, 1010), (-600, -620), (-960, -970), (500, -700)],
}


def exact_norm(arrays):
    """In extended precision, whose range has room for all squares: as a number and a power of two."""
    power = max(int(np.frexp(np.abs(array).max())[1]) for array in arrays)
    squares = sum(float((np.ldexp(array.astype(float), -power) ** 2).sum()) for array in arrays)
    return np.sqrt(squares), power


def norm_in(arrays, unit):
    """The norm over 2^unit."""
    norm, power = exact_norm(arrays)
    return float(np.ldexp(norm, power - unit))


@pytest.mark.parametrize(
    ("dtype", "power", "clip_power"), [(dtype, *powers) for dtype in DTYPES for powers in POWERS[dtype]]
)
def test_given_gradients_of_any_size_are_clipped_to_the_norm(dtype, power, clip_power):
    after = []
    for module in (training, training_twins):
        net = clipping_net(dtype, 2.0**clip_power)
        flat = np.ldexp(gradient_of(net)[1], power)
        assert np.isfinite(flat).all()
        module.apply_gradients(flat.copy(), net.plan, net.buffers, net.hyper, 1.0, 1, 24.0)
        after.append(-net.buffers.parameters)
    slack = 40 * ULPS[dtype]
    for got in after:
        assert np.isfinite(got).all()
        expected = 1 / (1 + min(1e-6, 1e-3 * 2.0**clip_power) / 2.0**power / norm_in([flat], power))
        np.testing.assert_allclose(norm_in([got], clip_power), expected, rtol=slack)
    np.testing.assert_allclose(*after, rtol=20 * ULPS[dtype], atol=float(np.finfo(dtype).tiny))  # those are flushed


@each_dtype
def test_short_gradients_stay_as_they_are(dtype):
    """Where their squares underflow: shorter than clip_norm, and all zeros."""
    tiny = np.finfo(dtype).tiny
    for module, scale in itertools.product((training, training_twins), (0, 1)):
        net = clipping_net(dtype, 1e6 * float(tiny))
        flat = gradient_of(net)[1] * 100 * tiny * scale
        flat[np.abs(flat) < tiny] = 0  # the update flushes them
        module.apply_gradients(flat.copy(), net.plan, net.buffers, net.hyper, 1.0, 1, 24.0)
        np.testing.assert_array_equal(-net.buffers.parameters, flat)


@each_dtype
@pytest.mark.parametrize("place", [0, 37, -1])  # of W1: in the body and in the tail of its vectors
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so_among_squares_that_overflow(dtype, place, bad):
    for module in (training, training_twins):
        net = clipping_net(dtype)
        arrays, _ = gradient_of(net)
        arrays = [np.ldexp(array, 70 if dtype == np.float32 else 600) for array in arrays]
        arrays[0][5, place] = bad
        flat = np.zeros_like(net.buffers.parameters)
        packing.pack(arrays, flat, net.plan.table, net.lanes)
        module.apply_gradients(flat, net.plan, net.buffers, net.hyper, 1.0, 1, 24.0)
        after = net.unpack()[0]
        assert np.isnan(after[5, place])
        assert np.isnan(after[4, place]) == np.isnan(bad)  # beside an infinity the step is 0, and not silent


@each_dtype
@pytest.mark.parametrize("power", [0, 1, -1])
def test_factors_have_the_same_bits_for_any_tiles_and_threads(dtype, power):
    net = clipping_net(dtype, 1e-30)
    power *= 80 if dtype == np.float32 else 600
    net.hyper[CLIP_NORM] = 2.0 ** (power - 10)
    arrays = [np.ldexp(array, power) for array in gradient_of(net)[0]]
    found = set()
    for lanes, n_threads, owners in ((4, 1, False), (8, 2, True), (16, 3, False), (16, 2, True)):
        plan, work_size = planning.plan(
            net.widths, ACTIVATIONS, dtype=net.dtype, lanes=lanes, batch=24, n_threads=n_threads, owners=owners,
            clipping=True, optimizer=layout.SGD, n_moments=1,
        )  # fmt: skip
        flat = np.zeros(int(plan.header[layout.N_PARAMETERS]), dtype)
        packing.pack(arrays, flat, plan.table, lanes)
        buffers = net.buffers._replace(work=layout.aligned_zeros(work_size, dtype))
        for item in plan.items:
            start, size = tile_place(item, plan)
            clipping.item_squares(item, flat[start : start + size], plan, buffers)
        found.add(clipping.clip_factors(flat, plan, buffers, net.hyper))
        twin = clipping_twins.clip_factors(flat, plan, buffers, net.hyper)
    ((scale, factor),) = found
    assert scale == twin[0] and (scale == 1) == (power == 0)
    np.testing.assert_allclose(factor, twin[1], rtol=ULPS[dtype])
    assert np.isfinite(buffers.work[plan.header[SQUARES] :][: plan.header[N_SQUARES]]).all() == (power <= 0)


@each_dtype
def test_scaled_squares_are_those_of_their_twin(dtype):
    power = 90 if dtype == np.float32 else 600
    flat = np.ldexp(gradient_of(clipping_net(dtype))[1], power)
    for start, n in ((0, 0), (3, 1), (16, 100)):
        pair = [module.with_scaled_squares(2.5, flat, 2.0**-power, start, n) for module in (clipping, clipping_twins)]
        np.testing.assert_allclose(*pair, rtol=1e-14)
        assert (pair[0] == 2.5) == (n == 0)
    net = clipping_net(dtype)
    pair = [module.all_scaled_squares(flat, 2.0**-power, net.plan) for module in (clipping, clipping_twins)]
    np.testing.assert_allclose(pair, norm_in([flat], power) ** 2, rtol=1e-13)
    flat[5] = np.nan
    assert np.isnan(clipping.all_scaled_squares(flat, 2.0**-power, net.plan))


@each_dtype
def test_ordinary_squares_have_the_bits_of_the_plain_formula(dtype):
    for clip_norm in (1e-3, 0.05, 1.0, 1e6):
        net = clipping_net(dtype, clip_norm)
        _, flat = gradient_of(net)
        training.apply_gradients(flat.copy(), net.plan, net.buffers, net.hyper, 1.0, 1, 24.0)
        squares = net.buffers.work[net.plan.header[SQUARES] :][: net.plan.header[N_SQUARES]].reshape(-1, 16)
        total = np.zeros(16, dtype)
        for group in squares:
            total += group
        while len(total) > 1:
            total = total[: len(total) // 2] + total[len(total) // 2 :]
        factor = min(1.0, clip_norm / (np.sqrt(float(total[0])) + 1e-6))
        np.testing.assert_array_equal(-net.buffers.parameters, dtype(factor) * flat)


# ---------------------------------------------------------------------------------------------------------------------
# Training


def rows_of_size(size, dtype, n_rows=24):
    """Rows whose gradients are about ``size``, while the loss is far below the largest number."""
    rng = np.random.default_rng(0)
    return (size * rng.normal(size=(n_rows, 5))).astype(dtype), rng.normal(size=n_rows).astype(dtype)


def trainer_of(dtype, backend, clip_norm, layers=(7, 1), optimizer=fastbp.SGD):
    model = fastbp.Sequential([fastbp.Dense(n) for n in layers], n_features=5, random_state=0, dtype=dtype)
    return fastbp.Trainer(
        model, loss="mean_absolute_error", optimizer=optimizer(1.0, clip_norm=clip_norm), backend=backend
    )


def step_norm(before, after):
    return float(np.sqrt(sum(((b - a).astype(float) ** 2).sum() for a, b in zip(after, before, strict=True))))


@each_dtype
@pytest.mark.parametrize("backend", [pytest.param("cpu", marks=pytest.mark.slow), "reference", "cuda"])
def test_a_step_of_a_trainer_has_the_norm(backend, dtype):
    X, y = rows_of_size(1e25 if dtype == np.float32 else 1e180, dtype)
    trainer = trainer_of(dtype, backend, 0.5)
    before = [w.copy() for w in trainer.model.get_weights()]
    _, gradients = trainer.loss_and_gradients(X, y)
    assert np.isfinite(np.concatenate([g.ravel() for g in gradients])).all()
    with np.errstate(over="ignore"):
        assert np.isinf(sum((g * g).sum() for g in gradients))
    history = trainer.fit(X, y, epochs=1, batch_size=24, shuffle=False)
    np.testing.assert_allclose(step_norm(before, trainer.model.get_weights()), 0.5, rtol=1e-5)
    assert np.isfinite(history["loss"]).all()


@each_dtype
@each_backend
def test_applied_gradients_have_the_norm(backend, dtype):
    X, y = rows_of_size(1.0, dtype)
    for power, clip_norm in ((90, 0.5), (-80, 2.0**-110)):
        trainer = trainer_of(dtype, backend, clip_norm)
        trainer.model.set_weights([np.zeros_like(w) for w in trainer.model.get_weights()])
        session = trainer._open(X, y, None, batch_size=24)
        rng = np.random.default_rng(1)
        gradients = [np.ldexp(rng.normal(size=w.shape), power).astype(dtype) for w in trainer.model.get_weights()]
        session.apply_gradients(gradients, 1.0, 24)
        np.testing.assert_allclose(norm_in(session.get_parameters(), 0) / clip_norm, 1, rtol=1.1e-3)


@each_backend
def test_infinite_gradients_are_named(backend):
    X, y = rows_of_size(1e25, np.float32)
    X[3, 2] = 3e38
    trainer = trainer_of(np.float32, backend, 0.5)
    trainer.model.set_weights([10 * w for w in trainer.model.get_weights()])
    with pytest.raises(FloatingPointError, match=r"the loss became|a weight became infinite or NaN"):
        trainer.fit(X, y, epochs=1, batch_size=24)


@pytest.mark.slow
@each_dtype
def test_steps_have_the_same_bits_on_any_number_of_threads(dtype, monkeypatch):
    """Also in shards, and with layers that have no matrix."""
    monkeypatch.setattr(cpu, "usable_threads", lambda: 2)
    X, y = rows_of_size(1e25 if dtype == np.float32 else 1e180, dtype, n_rows=600)
    for layers in ([fastbp.Dense(40), fastbp.Dense(1)], [fastbp.Dense(7), fastbp.LayerNorm(), fastbp.Dense(1)]):
        weights = []
        for n_threads in (1, 2):
            model = fastbp.Sequential(layers, n_features=5, random_state=0, dtype=dtype)
            trainer = fastbp.Trainer(
                model, loss="mean_absolute_error", optimizer=fastbp.SGD(0.1, clip_norm=0.5), n_threads=n_threads,
                random_state=0,
            )  # fmt: skip
            trainer.fit(X, y, epochs=2, batch_size=300)
            weights.append(model.get_weights())
        for one, two in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_estimators_go_on_beyond_overflow(way):
    X, y = rows_of_size(1e15, np.float32)
    model = fastbp.MLPRegressor(
        hidden_layer_sizes=(7,), activation="identity", solver="sgd", learning_rate_init=1e-3, momentum=0.0,
        clip_norm=0.5, max_iter=3, batch_size=24, random_state=0, alpha=0.0, n_iter_no_change=10, tol=0.0,
        dtype="float32",
    )  # fmt: skip
    weights = []
    if way == "partial_fit":
        for _ in range(3):
            weights.append([w.copy() for w in model.partial_fit(X, y).coefs_ + model.intercepts_])
        norm = step_norm(weights[1], weights[2])
        np.testing.assert_allclose(norm, 0.5e-3, rtol=1e-4)
        return
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, y)
    assert np.isfinite(model.loss_curve_).all() and len(set(model.loss_curve_)) == 3


def test_read_only_gradients_stay():
    trainer = trainer_of(np.float32, "cpu", 0.5)
    X, y = rows_of_size(1.0, np.float32)
    session = trainer._open(X, y, None, batch_size=24)
    gradients = [read_only(np.full(w.shape, 1e30, np.float32)) for w in trainer.model.get_weights()]
    session.apply_gradients(gradients, 1.0, 24)
    assert all((g == np.float32(1e30)).all() for g in gradients)
