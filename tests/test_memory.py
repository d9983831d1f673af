"""A step allocates nothing, and no array that a session is given compiles a kernel a second time.

Both are looked at in processes of their own: Numba counts allocations only if told so before its import, and other
tests call kernels with arrays of their own.
"""

import json
from pathlib import Path

from _processes import succeed

ALLOCATIONS = """
import itertools, json
import numba, numpy as np
from numba.core.runtime import rtsys
from _kernels import Net
from fastbp.kernels import layout
from fastbp.kernels.cpu._threads import threads
from fastbp.kernels.cpu.training import train_steps

@numba.njit
def allocating(n):
    total = 0.0
    for i in range(n):
        total += np.ones(3)[i % 3]
    return total

def counted(call):
    before = rtsys.get_allocation_stats()
    call()
    return [b - a for a, b in zip(before, rtsys.get_allocation_stats())]

def steps(entry, net, n_steps):
    losses, rates = np.zeros(n_steps), np.full(n_steps, 1e-3)
    order = layout.with_next(np.arange(n_steps * net.batch) % (len(net.X) // net.widths[0]))
    order.flags.writeable = False
    with threads(2):
        counts = counted(lambda: entry(losses, net.plan, net.buffers, net.X, net.targets, order, rates, net.hyper, 0))
    assert np.isfinite(losses).all() and (losses != 0).all()
    return counts

allocating(1)
result = {"allocating": {n: counted(lambda: allocating(n)) for n in (10, 10000)}}
for dtype, (entry, n_threads, owners) in itertools.product(
    ("float32", "float64"), (("serial", 1, False), ("threaded", 2, False), ("threaded", 2, True))
):
    dtype = np.dtype(dtype).type
    net = Net(
        (5, 33, 3), ("tanh", "softmax"), dtype, batch=4, n_rows=30, loss="softmax_cross_entropy", weighted=True,
        n_threads=n_threads, owners=owners, optimizer=layout.ADAM, convention=layout.SCIKIT_LEARN,
        hyper=(0.9, 0.999, 1e-8, 0.1),
    )
    f = getattr(train_steps, entry)
    steps(f, net, 1)
    result[f"{entry} {dtype.__name__}" + owners * " owners"] = {n: steps(f, net, n) for n in (10, 10000)}
print(json.dumps(result))
"""

SIGNATURES = """
import itertools, json, sys
import numpy as np
from fastbp.backends import Network, get_backend
from fastbp.kernels.cpu.predict import evaluate_rows, predict_rows
from fastbp.kernels.cpu.training import apply_gradients, train_steps
from fastbp.losses import Loss
from fastbp.optimizers import SGD, Adam

def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array

numbers = itertools.count()

def mapped(array):
    path = f"{sys.argv[1]}/{next(numbers)}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")

def unaligned_columns(array):  # a view of another array's columns, made contiguous as the contract wants it
    wide = np.concatenate([array.reshape(len(array), -1)] * 2, axis=1)
    return np.ascontiguousarray(wide[:, : wide.shape[1] // 2]).reshape(array.shape)

def unaligned(array):
    return np.frombuffer(b"\\0" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)

FORMS = {
    "writable": np.copy,
    "read-only": read_only,
    "Fortran order turned C": lambda array: np.ascontiguousarray(np.asfortranarray(array)),
    "memory map": mapped,
    "columns": unaligned_columns,
    "not aligned": unaligned,
    "every other row": lambda array: np.repeat(array, 2, axis=0)[::2],
}
LOSSES = (("softmax_cross_entropy", "softmax"), ("sigmoid_cross_entropy", "logistic"),
          ("mean_squared_error", "identity"))
rng = np.random.default_rng(0)
orders = [rng.permutation(60), np.arange(60), read_only(np.arange(60)), np.arange(60)[7:30], np.arange(60)[::2].copy(),
          rng.integers(0, 60, 41), unaligned(np.arange(60)), np.arange(60)[::2]]
for dtype, (form, change) in itertools.product(("float32", "float64"), FORMS.items()):
    # wide enough for two threads
    for (loss, link), optimizer, n_threads in itertools.product(LOSSES, (SGD(momentum=0.9), Adam()), (1, 2)):
        network = Network((60, 201, 12, 4), ("relu", "tanh", link), np.dtype(dtype))
        X = rng.normal(size=(60, 60)).astype(dtype)
        y = rng.integers(0, 4, 60) if link == "softmax" else rng.integers(0, 2, (60, 4)).astype(dtype)
        weight = change(np.ones(60, dtype)) if n_threads == 2 else None
        parameters = [(0.1 * rng.normal(size=shape)).astype(dtype) for shape in network.shapes]
        session = get_backend("cpu").open(
            network, Loss(loss), optimizer, change(X), change(y), parameters=[change(p) for p in parameters],
            batch_size=30, sample_weight=weight, n_threads=n_threads,
        )
        assert session._threads == n_threads, "the cost model chose otherwise"
        for order in orders:
            session.train(order.astype(np.intp, copy=False), change(np.full(-(-len(order) // 30), 0.01)))
        value, gradients = session.loss_and_gradients(np.arange(30))
        session.apply_gradients([change(g) for g in gradients], 0.01, 30)
        session.evaluation(change(X), change(y), weight)()
        get_backend("cpu").predict(network, session.get_parameters(), change(X), n_threads=n_threads)
big = np.zeros((4000, 60), dtype)
for n_threads in (1, 2):
    get_backend("cpu").predict(network, session.get_parameters(), big, n_threads=n_threads)
    get_backend("cpu").predict(network, session.get_parameters(), read_only(big), n_threads=n_threads)
entries = {f"{f.__name__}.{twin}": getattr(f, twin) for f in (train_steps, predict_rows, evaluate_rows)
           for twin in ("serial", "threaded")}
entries["apply_gradients"] = apply_gradients.entry
print(json.dumps({name: [str(s) for s in entry.signatures] for name, entry in entries.items()}))
"""


def said(code, *arguments, **changes):
    """What the code printed as its last line."""
    done = succeed("-c", code, *arguments, path=[Path(__file__).parent], NUMBA_NUM_THREADS="2", **changes)
    return json.loads(done.stdout.splitlines()[-1])


def test_ten_thousand_steps_allocate_no_more_than_ten():
    counts = said(ALLOCATIONS, NUMBA_NRT_STATS="1")
    few, many = counts.pop("allocating").values()
    # the counters see one array and its record an iteration
    assert [b - a for a, b in zip(few, many, strict=True)] == [9990] * 4
    assert len(counts) == 6
    for name, (few, many) in ((name, pair.values()) for name, pair in counts.items()):
        assert few == many, name
        assert few[0] == few[1] and few[2] == few[3], f"{name}: not given back"


def test_one_signature_a_dtype_for_all_arrays_that_a_session_is_given(tmp_path):
    for name, signatures in said(SIGNATURES, tmp_path).items():
        assert len(signatures) == 2, name
        assert sum("float32" in signature for signature in signatures) == 1, name
