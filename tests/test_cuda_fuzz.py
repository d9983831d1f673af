"""The GPU backend in Numba's simulator on networks that Hypothesis draws, against the reference."""

import random
import sys
import threading
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import _cuda_networks
import numpy as np
import pytest
from _cuda_networks import everything, opened
from _kernels import few
from hypothesis import assume, given
from hypothesis import strategies as st
from numba.cuda.simulator import kernelapi
from test_cuda_training import assert_close

import fastbp
from fastbp import BatchNorm, Dense, Dropout, LayerNorm, Residual
from fastbp.backends import cuda, get_backend
from fastbp.kernels.cuda import _simulator, crew, gemm, memory, planning, schedule
from fastbp.kernels.cuda.layout import BACKWARD_PARTS, FORWARD_PARTS, GRADIENT_PARTS
from fastbp.kernels.cuda.step import BAND, part_of, places_of
from fastbp.kernels.cuda.training import Launcher
from fastbp.layers import ACTIVATIONS
from fastbp.losses import LINKS, LOSSES, OUTPUTS, Loss

REFERENCE = get_backend("reference")
HIDDEN = [name for name in ACTIVATIONS if name not in ("softmax", "exp")]  # exponentials of exponentials say little
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}


class Case(NamedTuple):
    """A network with its data, and what a card is like."""

    layers: tuple
    loss: Loss
    optimizer: Any
    n_features: int
    n_rows: int
    batch: int
    dtype: str
    soft: bool
    weights: str
    seed: int
    blocks: int
    turn: int
    processors: int
    rows_weights: int
    least_depth: int
    chunk: int
    predicted_rows: int


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn


widths = st.one_of(st.integers(1, 12), st.sampled_from([13, 16, 17, 24, 33, 40]))


def layer_of(draw, depth):
    """A hidden layer, in so many others."""
    kinds = ["dense", "dense", "dense", "batch norm", "layer norm", "dropout", "residual"]
    kind = draw(st.sampled_from(kinds if depth < 2 else kinds[:-1]))
    activation = draw(st.sampled_from(HIDDEN))
    if kind == "dense":
        return Dense(draw(widths), activation, "scikit_learn")
    if kind == "batch norm":
        return BatchNorm(activation, momentum=draw(st.sampled_from([0.1, 1.0, 0.0])))
    if kind == "layer norm":
        return LayerNorm(activation)
    if kind == "dropout":
        return Dropout(draw(st.sampled_from([0.0, 0.3, 0.9])))
    inner = [layer_of(draw, depth + 1) for _ in range(draw(st.integers(1, 3)))]
    return Residual(inner, activation, "scikit_learn")


def loss_of(draw, n_outputs):
    """(loss, last activation, whether targets are soft)."""
    name = draw(st.sampled_from(sorted(LOSSES)))
    convention, numbers, soft = draw(st.sampled_from(["exact", "scikit-learn"])), {}, False
    last = draw(st.sampled_from([*OUTPUTS.get(name, ()), LINKS[name], "identity"] if name in LINKS else ACTIVATIONS))
    if name == "softmax_cross_entropy":
        assume(n_outputs > 1)
        soft = draw(st.booleans())
        if n_outputs > 3 and draw(st.booleans()):
            first = draw(st.integers(2, n_outputs - 2))
            numbers["blocks"], last = (first, n_outputs - first), "identity"
        elif draw(st.booleans()):
            numbers["class_weight"] = tuple(1.0 + k % 3 for k in range(n_outputs))
    elif name == "sigmoid_cross_entropy" and draw(st.booleans()):
        numbers["class_weight"] = draw(st.sampled_from([(0.5, 2.0), tuple((0.5, 1.0 + k) for k in range(n_outputs))]))
    elif name == "huber":
        numbers["delta"] = draw(st.sampled_from([0.1, 1.0]))
    elif name == "quantile":
        numbers["level"] = draw(st.sampled_from([0.3, tuple((1 + k) / (2 + n_outputs) for k in range(n_outputs))]))
    if name.endswith("cross_entropy") and draw(st.booleans()):
        numbers["label_smoothing"] = 0.2
    return Loss(name, convention, **numbers), last, soft


def optimizer_of(draw):
    """Any of them with any of its options."""
    convention = draw(st.sampled_from(["pytorch", "pytorch", "scikit-learn"]))
    maybe = {
        "l2": 0.1, "weight_decay": 0.2, "clip_value": 0.05, "clip_norm": 0.3, "ema_decay": 0.9,
        **({"l1": 0.02} if convention == "pytorch" else {}),
    }  # fmt: skip
    options = {name: value for name, value in maybe.items() if draw(st.sampled_from([False, False, True]))}
    # a larger epsilon: nothing divided by the root of a gradient that is 0 but for its rounding
    kind, adam = draw(st.integers(0, 6)), {"epsilon": 1e-4}
    if kind == 0:
        options |= {"momentum": draw(st.sampled_from([0.0, 0.9])), "nesterov": draw(st.booleans())}
        return fastbp.SGD(0.01, convention=convention, **options)
    if kind == 1:
        return fastbp.Adam(0.01, convention=convention, amsgrad=draw(st.booleans()), **adam, **options)
    if kind == 2:
        return fastbp.NAdam(0.01, **adam, **options)
    if kind == 3:
        options |= {"momentum": draw(st.sampled_from([0.0, 0.9])), "centered": draw(st.booleans())}
        return fastbp.RMSprop(0.01, **adam, **options)
    if kind == 4:
        return fastbp.Adagrad(0.05, learning_rate_decay=0.1, initial_accumulator_value=0.1, **options)
    return fastbp.Lion(0.01, **options) if kind == 5 else fastbp.AdamW(0.01, **{"weight_decay": 0.1}, **adam)


@st.composite
def cases(draw, most_layers=5, most_rows=30):
    """A network that can be trained, and a card."""
    n_outputs = draw(st.integers(1, 9))
    loss, last, soft = loss_of(draw, n_outputs)
    layers = [layer_of(draw, 0) for _ in range(draw(st.integers(0, most_layers)))]
    skip = Residual([layer_of(draw, 1)], last, "scikit_learn")
    dense, others = Dense(n_outputs, last), [BatchNorm(last), LayerNorm(last), Dropout(0.3), skip]
    end = draw(st.sampled_from([dense, dense, *others]))
    layers += [end] if end is dense else [Dense(n_outputs), end]
    n_features, n_rows = draw(widths), draw(st.integers(1, most_rows))
    if draw(st.integers(0, 9)) == 0:  # no dense layer at all
        layers = [layer for layer in layers if not isinstance(layer, Dense | Residual)] or [LayerNorm(last)]
        n_features = n_outputs
    return Case(
        tuple(layers), loss, optimizer_of(draw), n_features, n_rows, draw(st.integers(1, n_rows)),
        draw(st.sampled_from(["float64", "float64", "float64", "float32"])), soft,
        draw(st.sampled_from(["none", "random", "some zero"])), draw(st.integers(0, 9)), draw(st.integers(1, 4)),
        draw(st.sampled_from([1, -1])), draw(st.sampled_from([1, 4, 9])), draw(st.sampled_from([0, 24, 200, 10**6])),
        draw(st.sampled_from([1, 3, 8, 10**6])), draw(st.sampled_from([5, 32, 1000])), draw(st.sampled_from([3, 64])),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# What is done with it


def prepared(case):
    """(trainer, network, X, y, weights)."""
    rng = np.random.default_rng(case.seed)
    model = fastbp.Sequential(list(case.layers), n_features=case.n_features, dtype=case.dtype, random_state=case.seed)
    trainer = fastbp.Trainer(model, loss=case.loss, optimizer=case.optimizer, backend="reference", random_state=0)
    n_rows, n, blocks = case.n_rows, model.n_outputs, case.loss.blocks
    if case.loss.name == "softmax_cross_entropy":
        y = np.stack([rng.integers(0, k, n_rows) for k in blocks or (n,)], axis=1)
        if case.soft:
            y = np.concatenate([rng.dirichlet(np.ones(k), n_rows) for k in blocks or (n,)], axis=1)
        elif not blocks:
            y = y[:, 0]
    elif case.loss.name == "sigmoid_cross_entropy":
        y = rng.random((n_rows, n)) if case.seed % 2 else rng.integers(0, 2, (n_rows, n))
    else:
        y = np.abs(rng.normal(size=(n_rows, n)))
    weights = {
        "none": None, "random": rng.random(n_rows) + 0.1, "some zero": np.maximum(rng.random(n_rows) - 0.5, 0),
    }[case.weights]  # fmt: skip
    if weights is not None and not weights.any():
        weights[0] = 1
    network = replace(model._network, activations=(*model._network.activations[:-1], trainer._link))
    return trainer, network, *trainer._checked(rng.normal(size=(n_rows, case.n_features)), y, weights)


def results(case, backend, noise=0.0, draw=0):
    """What a session returns, by name, with X and the parameters off by so much."""
    trainer, network, X, y, weights = prepared(case)
    rng, found = np.random.default_rng(draw), {}

    def off(array):
        return (array * (1 + noise * rng.uniform(-1, 1, array.shape))).astype(array.dtype)

    parameters = [off(array) for array in trainer.model._weights]
    session = backend.open(
        network, trainer.loss, trainer.optimizer, off(X), y, parameters=parameters, batch_size=case.batch,
        sample_weight=weights, seed=case.seed,
    )  # fmt: skip
    order = np.random.default_rng(2).permutation(case.n_rows)[: 3 * case.batch]  # a few steps are enough
    rates = np.linspace(0.01, 0.02, -(-len(order) // case.batch))
    found["losses"] = session.train(order, rates)
    inspection = session.inspect(order[: case.batch])
    found["loss"] = inspection.loss
    for name in ("gradients", "outputs", "deltas"):
        found |= {f"{name} {k}": array for k, array in enumerate(getattr(inspection, name))}
    session.apply_gradients(inspection.gradients, 0.01, case.batch)
    found["losses afterwards"] = session.train(order[: case.batch], rates[:1])
    found["evaluation"] = session.evaluation(X, y, weights)()
    parameters = session.get_parameters()
    found["predictions"] = backend.predict(network, parameters, X)
    found |= {f"parameters {k}": array for k, array in enumerate(parameters)}
    for name, value in session.get_optimizer_state().items():
        found |= {f"{name} {k}": a for k, a in enumerate(value if isinstance(value, list) else [value])}
    return {name: np.asarray(value) for name, value in found.items()}


def check(case):
    """The same as from the reference: to rounding, and to a hundred times what an error in the last place does."""
    try:
        prepared(case)
    except ValueError:
        assume(False)  # no such network
    with np.errstate(all="ignore"):
        expected = results(case, REFERENCE)
        moved = [results(case, REFERENCE, 4 * np.finfo(case.dtype).eps, draw) for draw in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "BLOCKS", [case.blocks])
        patch.setattr(_simulator, "TURNS", [case.turn])
        patch.setattr(memory, "processors", lambda: case.processors)
        patch.setattr(schedule, "ROWS_WEIGHTS", case.rows_weights)
        patch.setattr(schedule, "LEAST_DEPTH", case.least_depth)
        patch.setattr(planning, "CHUNK", case.chunk)
        patch.setattr(cuda, "PREDICTED_ROWS", case.predicted_rows)
        found = results(case, cuda.BACKEND)
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        with np.errstate(all="ignore"):
            scale = max(float(np.nanmax(np.abs(want), initial=0)), 1e-2)
            moves = max(float(np.abs(other[name] - want).max(initial=0, where=~np.isnan(want))) for other in moved)
        if not scale + 100 * moves < 1e6:  # training has gone astray
            continue
        np.testing.assert_allclose(
            found[name], want, rtol=0, atol=TOLERANCES[case.dtype] * scale + 100 * moves, err_msg=f"{name} of {case}"
        )


@given(cases(most_layers=2, most_rows=9))
@few(12)
def test_any_network_is_trained_as_by_the_reference(case):
    check(case)


# scikit-learn's penalty reported, one clipped by its norm, and a skip connection
@pytest.mark.parametrize("parts", [12, 1, 0])
@pytest.mark.parametrize("case", ["sgd, scikit-learn", "norms", "residual"])
def test_with_all_sums_in_parts_with_none_and_by_rows(case, parts, monkeypatch):
    """Those of gradients as well, for which a batch of 7 is too short; with 0 parts every layer goes by rows."""
    monkeypatch.setattr(_cuda_networks, "BATCH", 18)
    monkeypatch.setattr(schedule, "LEAST_DEPTH", 1)
    monkeypatch.setattr(schedule, "ROWS_WEIGHTS", 0 if parts else 10**6)
    monkeypatch.setattr(memory, "processors", lambda: max(parts, 1))
    monkeypatch.setattr(cuda, "BLOCKS", [1])
    table = opened(case, cuda.BACKEND, "float64")[0]._kernel.host.table
    for column, least in ((FORWARD_PARTS, 0), (BACKWARD_PARTS, 0), (GRADIENT_PARTS, 1)):
        assert min(table[:, column].max(), 2) == max(min(parts, 2), least)
    assert_close(everything(case, cuda.BACKEND, "float64", 1), everything(case, REFERENCE, "float64", 1), 1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks of several groups, and all blocks at once


class Member(_simulator._Thread):
    """One thread of one block; ``waits`` says for whom."""

    waits = ""

    def wait(self, what):
        self.waits = what
        super().syncthreads()

    def syncthreads(self):
        self.wait("block")


class Blocks:
    """All blocks of a launch, whose threads take turns at random, in place of ``_simulator._Block``."""

    def __init__(self, function, grid_dim, block_dim, debug):
        self._function, self._grid, self._block = function, grid_dim, block_dim
        self.block_state = np.zeros(block_dim, np.bool_)

    def run(self, place, *args):
        if tuple(place) != tuple(n - 1 for n in self._grid):
            return
        self.turn, members, chosen = threading.Semaphore(0), [], random.Random(0)
        for block in np.ndindex(*self._grid):
            shared, groups = {}, {}
            for number, index in enumerate(np.ndindex(*self._block)):
                one = Member(lambda: self._function(*args), self, block, index, number)
                one.shared, one.lane = shared, number % _simulator.WIDTH
                one.of_group = groups.setdefault(number // _simulator.WIDTH, [])
                one.of_block, one.values = groups.setdefault("block", []), groups.setdefault("values", {})
                one.of_group.append(one)
                one.of_block.append(one)
                members.append(one)
        for one in members:
            one.start()
        ready = list(members)
        while ready:
            one = ready.pop(chosen.randrange(len(ready)))
            one.waits = ""
            one.baton.release()
            self.turn.acquire()
            if one.error is not None:
                break
            mates = {"group": one.of_group, "block": one.of_block}.get(one.waits, [one])
            if not one.ended and all(mate.waits == one.waits for mate in mates):
                ready += mates
                for mate in mates:
                    mate.waits = ""
        left = [one for one in members if not one.ended]
        for one in left:
            one.stop = True
            one.baton.release()
        for one in members:
            if one.error is not None and not isinstance(one.error, SystemExit):
                raise one.error
        assert not left, "some threads wait at a barrier that others never reach"


class OfGroup:
    """What ``_simulator`` takes from ``cuda``, for a group that is not the whole block."""

    @property
    def shared(self):
        return self

    @property
    def threadIdx(self):
        return _simulator.simulated.Dim3(threading.current_thread().lane, 0, 0)

    def syncthreads(self):
        threading.current_thread().wait("group")

    def array(self, n, dtype):
        one = threading.current_thread()
        return one.values.setdefault(id(one.of_group), np.full(n, np.nan, dtype))


def shared_array(self, shape, dtype, alignment=None):
    """Shared memory of a block: what is real lies at one place, as on a GPU."""
    frame, shared = sys._getframe().f_back, threading.current_thread().shared
    if np.dtype(dtype).kind != "f":
        return shared.setdefault((frame.f_code.co_filename, frame.f_lineno), np.empty(shape, dtype))
    return shared.setdefault("real", np.full(2**13, 255, np.uint8))[: shape * np.dtype(dtype).itemsize].view(dtype)


@pytest.fixture
def together(monkeypatch):
    """Two groups a block, and a kernel whose three blocks meet."""

    def resident(spec, program, units, n_blocks):
        launcher = Launcher(spec, program, units, 3)
        launcher._launched = False
        return launcher

    def seen(array, k):
        threading.current_thread().wait("turn")
        return array[k]

    monkeypatch.setattr(_simulator.simulated, "BlockManager", Blocks)
    monkeypatch.setattr(_simulator, "cuda", OfGroup())
    monkeypatch.setattr(kernelapi.FakeCUDAShared, "array", shared_array)
    monkeypatch.setattr(crew, "load_acquire", seen)
    monkeypatch.setattr(schedule, "SIMULATED_TILE", gemm.Tile(8, 8, 8, 4, 4, 2))
    monkeypatch.setattr(cuda, "Launcher", resident)


@pytest.mark.parametrize("case", ["sgd, scikit-learn", "norms"])
def test_blocks_of_several_groups_that_meet_in_one_launch(case, together):
    assert_close(everything(case, cuda.BACKEND, "float64", 1), everything(case, REFERENCE, "float64", 1), 1e-9)


@pytest.mark.parametrize("tile", [gemm.SMALL, gemm.WIDE])
def test_every_tile_of_every_part_is_visited_once(tile):
    count, place = places_of(tile)
    for m, n in ((1, 1), (BAND * tile.rows, 33), (BAND * tile.rows + 1, 300), (3000, 1000), (700, 129)):
        units, parts = count(m, n), 3
        expected = {(k, i, j) for k in range(parts) for i in range(0, m, tile.rows) for j in range(0, n, tile.columns)}
        assert len(expected) == parts * units
        assert {place(unit, m, n) for unit in range(parts * units)} == expected


@given(st.integers(1, 300), st.integers(1, 12), st.sampled_from([4, 8, 16]))
@few(50)
def test_parts_follow_each_other_and_start_at_slabs(K, parts, depth):
    ranges = [part_of(depth)(part, parts, K) for part in range(parts)]
    assert ranges[0][0] == 0 and ranges[-1][1] == K
    for (_, end), (start, stop) in pairwise(ranges):
        assert start == end <= stop and (start % depth == 0 or start == K)
