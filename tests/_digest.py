"""Digests of trained networks: run as a script, since vector width and CPU model are fixed when Numba is imported.

Prints, as one line of JSON, what the process ran on and for each case the digest under each schedule. With a number
among the arguments the kernels are written for vectors of that many bits, whatever the CPU has: LLVM then splits them.
With ``threaded`` the threaded entries run too, beside the serial ones on plans for as many threads: both are compiled
from one body, and each takes as long to compile. For the same reason ``-float64``, ``-sparse`` and ``-everything``
leave out the cases of that name.
"""

import dataclasses
import hashlib
import itertools
import json
import sys

import numba
import numpy as np

import fastbp
from fastbp.kernels.cpu import _jit

if __name__ == "__main__" and any(word.isdigit() for word in sys.argv[1:]):
    assert "fastbp.kernels.cpu.simd" not in sys.modules, "too late: kernels have been written for another width"
    _jit.VECTOR_BITS = next(int(word) for word in sys.argv[1:] if word.isdigit())

from _kernels import DTYPES as BOTH
from _kernels import Net, read_only
from _loss_batches import MODULES, Batch

from fastbp.backends import Network, get_backend
from fastbp.kernels import layout, schedule
from fastbp.kernels.cpu import losses as loss_kernels
from fastbp.kernels.cpu import rectifiers
from fastbp.kernels.cpu._threads import threading_layer, threads
from fastbp.kernels.cpu.training import train_steps
from fastbp.losses import Loss
from fastbp.optimizers import SGD, Adam

N_FEATURES, WIDTHS = 37, (101, 19)  # four owners of panels at any vector width, and no whole number of vectors
BATCH, N_ROWS = 50, 163  # the last batch is so short that some threads have no row
LARGE = 2100  # a batch that goes in shards
HIDDEN = ((), ("relu", "relu"), ("tanh", "tanh"), ("logistic", "exp"))
LOSSES = {
    "softmax_cross_entropy": ("softmax", 5),
    "sigmoid_cross_entropy": ("logistic", 3),
    "mean_squared_error": ("identity", 17),
    "half_squared_error": ("tanh", 1),
    "poisson": ("exp", 2),
}
OPTIMIZERS = {
    "adam": {"optimizer": layout.ADAM, "hyper": (0.9, 0.99, 1e-8, 0.01)},
    "adam, scikit-learn": {
        "optimizer": layout.ADAM, "convention": layout.SCIKIT_LEARN, "loss_convention": layout.SCIKIT_LEARN,
        "hyper": (0.9, 0.999, 1e-8, 0.1), "weighted": True,
    },
    "sgd": {"optimizer": layout.SGD, "nesterov": 1, "hyper": (0.9, 0.0, 0.0, 0.01)},
    "sgd, scikit-learn": {
        "optimizer": layout.SGD, "convention": layout.SCIKIT_LEARN, "loss_convention": layout.SCIKIT_LEARN,
        "hyper": (0.5, 0.0, 0.0, 0.1), "weighted": True,
    },
}  # fmt: skip
# entry, threads, owners; a forked child runs the serial entry on a plan for several threads
THREADED = "threaded" in sys.argv[1:]
COUNTS = (1, 2, 3, 4)
LEFT_OUT = {word[1:] for word in sys.argv[1:] if word.startswith("-")}
DTYPES = [dtype for dtype in BOTH if np.dtype(dtype).name not in LEFT_OUT]
ENTRIES = ("serial", "threaded") if THREADED else ("serial",)
SCHEDULES = [(entry, n_threads, owners) for entry in ENTRIES for n_threads in COUNTS for owners in (False, True)]


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def trained(entry, n_threads, owners, dtype, hidden, loss, optimizer, density=None, dense=False, shard=0):
    """Digest of weights, moments and losses after one epoch on a plan as asked; ``dense`` for a sparse X filled up."""
    link, n_outputs = LOSSES[loss]
    widths = (N_FEATURES, *WIDTHS[: len(hidden)], n_outputs)
    net = Net(
        widths, (*hidden, link), dtype, batch=BATCH, n_rows=N_ROWS, loss=loss, n_threads=n_threads, owners=owners,
        density=density, shard=shard, **OPTIMIZERS[optimizer],
    )  # fmt: skip
    assert net.plan.header[layout.OWNERS] == owners and net.plan.shares.shape[1] == n_threads + 1
    losses, rates = np.zeros(-(-N_ROWS // BATCH)), np.linspace(0.01, 0.02, -(-N_ROWS // BATCH))
    X = net.dense_X if dense else net.X
    arguments = (
        losses,
        net.plan,
        net.buffers,
        X,
        net.targets,
        read_only(layout.with_next(net.order)),
        rates,
        net.hyper,
        0,
    )
    if entry == "serial":
        train_steps.serial(*arguments)
    else:
        with threads(n_threads):
            assert numba.get_num_threads() == n_threads
            train_steps.threaded(*arguments)
    n_moments = len(net.buffers.moments) // len(net.buffers.parameters)
    arrays = [*net.unpack(), *(array for k in range(n_moments) for array in net.unpack(moment=k)), losses]
    assert all(np.isfinite(array).all() for array in arrays)
    return digest(arrays)


def by_backend(n_threads, dtype, optimizer, batch):
    """Digest of weights, moments and losses of a session, and how many threads the cost model gave it."""
    network = Network((N_FEATURES, 201, 33, 5), ("relu", "tanh", "softmax"), np.dtype(dtype))
    rng = np.random.default_rng(0)
    n_rows = 3 * batch + batch // 2
    X, y = rng.normal(size=(n_rows, N_FEATURES)).astype(dtype), rng.integers(0, 5, n_rows).astype(np.intp)
    session = get_backend("cpu").open(
        network, Loss("softmax_cross_entropy"), optimizer, X, y,
        parameters=[(0.1 * rng.normal(size=shape)).astype(dtype) for shape in network.shapes],
        batch_size=batch, n_threads=n_threads,
    )  # fmt: skip
    assert (session._plan.header[layout.SHARD] > 0) == (batch == LARGE)
    losses = session.train(rng.permutation(n_rows).astype(np.intp), np.full(4, 0.01))
    state = session.get_optimizer_state()
    moments = [array for value in state.values() if isinstance(value, list) for array in value]
    return digest([*session.get_parameters(), *moments, losses]), session._threads


def of_blocks(dtype):
    """Digest of losses and gradient of several labels a row; their kernel goes by row, whatever the schedule."""
    rng, m, n, ld, ends = np.random.default_rng(0), 50, 37, 48, np.array([0, 2, 19, 37])
    Z, dZ, row_loss = rng.normal(size=m * ld).astype(dtype), np.zeros(m * ld, dtype), np.zeros(m)
    labels, weights = rng.integers(0, np.diff(ends), (m, 3)).reshape(-1), rng.uniform(0.5, 2, m).astype(dtype)
    loss_kernels.block_softmax_cross_entropy(
        row_loss, dZ, Z, ld, labels, ends, rng.permutation(m), weights, dtype(1 / m), m, layout.PYTORCH
    )
    assert np.isfinite(row_loss).all() and np.count_nonzero(dZ) == m * n
    return digest([row_loss, dZ])


def of_other_losses():
    """Digest of losses and gradients of the kernels that plain networks do without."""
    arrays = []
    for name, n in itertools.product(MODULES, (5, 37)):
        loss, dZ = Batch(name, np.float32, 50, n, weighted=True).results(MODULES[name])
        assert np.isfinite(loss).all() and np.count_nonzero(dZ) == 50 * n
        arrays += [loss, dZ]
    return digest(arrays)


def of_rectifiers(dtype):
    """Digest of what all of them make of numbers of every size, and of their derivatives."""
    rng = np.random.default_rng(0)
    Z = (rng.normal(size=1003) * np.exp2(rng.uniform(-20, 8, 1003))).astype(dtype)
    arrays = []
    for code in layout.RECTIFIERS.values():
        A, S, dZ = Z.copy(), np.zeros_like(Z), np.ones_like(Z)
        rectifiers.rectifier_forward_slope(A, S, code)
        if code in layout.BY_OUTPUT.values():
            rectifiers.rectifier_forward(A, code)
        rectifiers.rectifier_backward(dZ, A, S, code)
        assert np.isfinite([A, S, dZ]).all() and (A != Z).any()
        arrays += [A, S, dZ]
    return digest(arrays)


def by_schedule(*arguments):
    """The digest under each schedule."""
    return {
        f"{entry}, {n_threads} threads" + owners * ", owners": trained(entry, n_threads, owners, *arguments)
        for entry, n_threads, owners in SCHEDULES
    }


def everything(entry, n_threads):
    """Digest of a session on a network that has every kind of layer, with all that is around an optimizer."""
    layers = [
        fastbp.Dropout(0.1), fastbp.Dense(101, "gelu"), fastbp.BatchNorm("silu"),
        fastbp.Residual([fastbp.LayerNorm(), fastbp.Dense(33, "mish"), fastbp.Dropout(0.3), fastbp.Dense(101, "elu")]),
        fastbp.Residual([fastbp.Dense(19, "leaky_relu"), fastbp.BatchNorm()], "selu"),
        fastbp.Dense(16, "softplus"), fastbp.LayerNorm("gelu_tanh"), fastbp.Dense(5),
    ]  # fmt: skip
    model = fastbp.Sequential(layers, n_features=N_FEATURES, random_state=0)
    optimizer = fastbp.NAdam(
        0.01, weight_decay=0.1, l2=0.01, l1=0.001, clip_value=0.02, clip_norm=0.1, ema_decay=0.9
    )  # fmt: skip
    trainer = fastbp.Trainer(model, loss="huber", optimizer=optimizer, random_state=0, n_threads=n_threads)
    rng = np.random.default_rng(0)
    data = trainer._checked(rng.normal(size=(N_ROWS, N_FEATURES)), rng.normal(size=(N_ROWS, 5)), None)
    useful, schedule.useful_threads = schedule.useful_threads, lambda *rest: n_threads
    try:
        session = trainer._open(*data, batch_size=BATCH)
    finally:
        schedule.useful_threads = useful
    assert session._threads == n_threads
    if entry == "serial":
        serial = lambda *arguments, n_threads: train_steps.serial(*arguments)  # noqa: E731
        session._kernels = dataclasses.replace(session._kernels, train_steps=serial)
    losses = session.train(rng.permutation(N_ROWS).astype(np.intp), np.full(-(-N_ROWS // BATCH), 0.01))
    state = session.get_optimizer_state()
    arrays = [array for value in state.values() if isinstance(value, list) for array in value]
    assert np.isfinite(losses).all() and len(arrays) >= 3 * len(model.get_weights())
    return digest([*session.get_parameters(), *arrays, losses])


def main():
    cases, backend = {}, {}
    for dtype, (h, hidden), (k, loss), (o, optimizer) in itertools.product(
        DTYPES, enumerate(HIDDEN), enumerate(LOSSES), enumerate(OPTIMIZERS)
    ):
        if (h + k + o) % 2:  # half of the combinations; every pair of hidden layers, loss and optimizer is among them
            continue
        case = " | ".join((np.dtype(dtype).name, *hidden[:1], loss, optimizer))
        cases[case] = by_schedule(dtype, hidden, loss, optimizer)
    if "everything" not in LEFT_OUT:
        cases["float32 | everything"] = {
            f"{entry}, {n_threads} threads": everything(entry, n_threads) for entry in ENTRIES for n_threads in COUNTS
        }
    arguments = np.float32, ("relu", "relu"), "softmax_cross_entropy", "adam, scikit-learn"
    for name, shard in (("sparse", 0), ("sparse in shards", 12)):
        if "sparse" not in LEFT_OUT:
            cases[f"float32 | {name}"] = {
                "sparse": trained("serial", 3, False, *arguments, density=0.2, shard=shard),
                "dense": trained("serial", 2, False, *arguments, density=0.2, dense=True, shard=shard),
            }
    for dtype, optimizer, batch in itertools.product(DTYPES, (Adam(), SGD(momentum=0.9)), (100, LARGE)):
        counts = (1, 2) if THREADED else (1,)  # a session on two threads takes the threaded entry
        runs = {n_threads: by_backend(n_threads, dtype, optimizer, batch) for n_threads in counts}
        backend[f"{np.dtype(dtype).name} | {type(optimizer).__name__} | {batch}"] = runs
    config = fastbp.show_config()
    config |= {"pool": numba.config.NUMBA_NUM_THREADS, "threading_layer": threading_layer()}
    parts = {}
    for part, dtype in itertools.product((of_blocks, of_rectifiers), DTYPES):
        parts[f"{np.dtype(dtype).name} | {part.__name__}"] = part(dtype)
    parts["float32 | of_other_losses"] = of_other_losses()
    print(json.dumps({"config": config, "cases": cases, "backend": backend, "parts": parts}))


if __name__ == "__main__":
    main()
