"""Digests of trained networks: run as a script, since vector width and CPU model are fixed when Numba is imported.

Prints, as one line of JSON, what the process ran on and for each case the digest under each schedule. With an argument
the kernels are written for vectors of that many bits, whatever the CPU has: LLVM then splits them.
"""

import hashlib
import itertools
import json
import sys

import numba
import numpy as np

import fastbp
from fastbp.kernels.cpu import _jit

if __name__ == "__main__" and len(sys.argv) > 1:
    assert "fastbp.kernels.cpu.simd" not in sys.modules, "too late: kernels have been written for another width"
    _jit.VECTOR_BITS = int(sys.argv[1])

from _kernels import DTYPES, Net
from _loss_batches import MODULES, Batch

from fastbp.backends import Network, get_backend
from fastbp.kernels import layout
from fastbp.kernels.cpu import losses as loss_kernels
from fastbp.kernels.cpu import rectifiers
from fastbp.kernels.cpu._threads import threading_layer, threads
from fastbp.kernels.cpu.training import train_steps
from fastbp.losses import Loss
from fastbp.optimizers import SGD, Adam

# four owners of panels at any vector width, and no whole number of vectors
N_FEATURES, WIDTHS = 37, (101, 19, 18, 17, 16, 33, 7, 5)
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
ROBUST = {"huber": ("tanh", 17)}
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
# What is around an optimizer, all of it, with a momentum that grows from step to step
EVERYTHING = {
    "nadam, clipped": {
        "optimizer": layout.NADAM, "n_moments": 3, "adjusts": 1, "averages": 1, "clipping": True,
        "hyper": (0.9, 0.99, 1e-3, 0.01, 0.001, 0.1, 0.02, 0.1, 0.9, 0.0, 0.004),
    },
}  # fmt: skip
# entry, threads, owners; a forked child runs the serial entry on a plan for several threads
SCHEDULES = [("serial", 1, False), ("serial", 1, True), ("serial", 4, True)]
SCHEDULES += [("threaded", n_threads, owners) for n_threads in (1, 2, 3, 4) for owners in (False, True)]


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def trained(entry, n_threads, owners, dtype, hidden, loss, optimizer, density=None, dense=False, shard=0):
    """Digest of weights, moments and losses after one epoch on a plan as asked; ``dense`` for a sparse X filled up."""
    link, n_outputs = (LOSSES | ROBUST)[loss]
    widths = (N_FEATURES, *WIDTHS[: len(hidden)], n_outputs)
    net = Net(
        widths, (*hidden, link), dtype, batch=BATCH, n_rows=N_ROWS, loss=loss, n_threads=n_threads, owners=owners,
        density=density, shard=shard, **(OPTIMIZERS | EVERYTHING)[optimizer],
    )  # fmt: skip
    assert net.plan.header[layout.OWNERS] == owners and net.plan.shares.shape[1] == n_threads + 1
    losses, rates = np.zeros(-(-N_ROWS // BATCH)), np.linspace(0.01, 0.02, -(-N_ROWS // BATCH))
    X = net.dense_X if dense else net.X
    arguments = losses, net.plan, net.buffers, X, net.targets, layout.with_next(net.order), rates, net.hyper, 0
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


def main():
    cases, backend = {}, {}
    for dtype, (h, hidden), (k, loss), (o, optimizer) in itertools.product(
        DTYPES, enumerate(HIDDEN), enumerate(LOSSES), enumerate(OPTIMIZERS)
    ):
        if (h + k + o) % 2:  # half of the combinations; every pair of hidden layers, loss and optimizer is among them
            continue
        case = " | ".join((np.dtype(dtype).name, *hidden[:1], loss, optimizer))
        cases[case] = by_schedule(dtype, hidden, loss, optimizer)
    cases["float32 | rectifiers"] = by_schedule(np.float32, tuple(layout.RECTIFIERS), "half_squared_error", "sgd")
    everything = np.float32, ("relu", "relu"), "softmax_cross_entropy", "nadam, clipped"
    cases["float32 | nadam, clipped"] = by_schedule(*everything)
    cases["float32 | nadam, clipped, in shards"] = {
        f"{n_threads} threads": trained("threaded", n_threads, False, *everything, shard=12) for n_threads in (1, 2, 3)
    }
    arguments = np.float32, ("relu", "relu"), "softmax_cross_entropy", "adam, scikit-learn"
    cases["float32 | sparse"] = {
        "sparse": trained("serial", 3, False, *arguments, density=0.2),
        "dense": trained("serial", 1, False, *arguments, density=0.2, dense=True),
    }
    cases["float32 | sparse in shards"] = {
        "sparse": trained("serial", 3, False, *arguments, density=0.2, shard=12),
        "dense": trained("serial", 2, False, *arguments, density=0.2, dense=True, shard=12),
    }
    arguments = np.float32, ("tanh", "tanh"), "huber", "adam"
    cases["float32 | robust loss, serial"] = {
        f"{n_threads} threads": trained("serial", n_threads, n_threads > 1, *arguments) for n_threads in (1, 4)
    }
    for dtype, optimizer, batch in itertools.product(DTYPES, (Adam(), SGD(momentum=0.9)), (100, LARGE)):
        runs = {n_threads: by_backend(n_threads, dtype, optimizer, batch) for n_threads in (1, 2)}
        backend[f"{np.dtype(dtype).name} | {type(optimizer).__name__} | {batch}"] = runs
    config = fastbp.show_config()
    config |= {"pool": numba.config.NUMBA_NUM_THREADS, "threading_layer": threading_layer()}
    parts = [part(dtype) for part in (of_blocks, of_rectifiers) for dtype in DTYPES]
    print(json.dumps({"config": config, "cases": cases, "backend": backend, "parts": [*parts, of_other_losses()]}))


if __name__ == "__main__":
    main()
