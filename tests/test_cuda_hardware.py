"""What runs on a GPU alone, up to the driver's door: memory, copies, streams and launches with a made-up driver."""

import json
import sys

import pytest
from _processes import ROOT, succeed


def in_a_process(*names):
    done = succeed(__file__, *names, path=(ROOT, ROOT / "tests"), NUMBA_ENABLE_CUDASIM=None)
    found = json.loads(done.stdout)
    if "missing" in found:
        pytest.skip(found["missing"])
    return found


def test_launches_copies_and_memory():
    assert in_a_process(*FAST)["done"] == list(FAST)


def test_a_compiled_kernel_takes_the_arguments_as_they_are_packed():
    assert in_a_process("parameters")["done"] == ["parameters"]


def everything_of(case, dtype, **options):
    import _cuda_networks

    from fastbp.backends import cuda

    return _cuda_networks.everything(case, cuda.BACKEND, dtype, **options)


def kernels_are_launched_with_the_types_that_they_are_compiled_for():
    """With all warnings errors; the launch itself compares (see ``_driver.Kernel``)."""
    import _cuda_networks
    import _driver

    for dtype in ("float32", "float64"):
        for case in _cuda_networks.CASES:
            everything_of(case, dtype)
    everything_of("adam", "float32", precision="tf32")
    persistent = [one for one in _driver.launches if one["name"] == "steps"]
    # predictions and losses of rows have no moments
    assert {one["arguments"][1].moments.size > 1 for one in persistent} == {True, False}
    assert all(one["kernel"].cooperative and one["blocks"] <= _driver.RESIDENT for one in persistent)
    assert all(one["kernel"].options["lto"] is False for one in persistent)


def wide_networks_have_a_launch_for_each_phase():
    import _driver
    import numpy as np

    import fastbp
    from fastbp.backends import cuda

    model = fastbp.Sequential([fastbp.Dense(2048, "relu"), fastbp.Dense(2048)], n_features=2048, random_state=0)
    trainer = fastbp.Trainer(model, loss="mean_squared_error", backend="reference", random_state=0)
    X = np.zeros((2048, 2048), "f4")
    session = cuda.BACKEND.open(
        model._network, trainer.loss, trainer.optimizer, X, X, parameters=model._weights, batch_size=2048
    )
    _driver.launches.clear()
    session.train(np.arange(2048), np.full(1, 0.01))
    phases = [one for one in _driver.launches if one["name"] == "steps"]
    assert [one["arguments"][-4:-2] for one in phases] == [(p, p + 1) for p in range(len(phases))]
    assert len({id(one["kernel"]) for one in phases}) == 4  # forward, rows, backward, update
    assert all(one["kernel"].options["launch_bounds"] == (256, 2) for one in phases)
    assert not any(one["kernel"].cooperative for one in phases)


def the_counter_of_blocks_follows_the_launches():
    """Also behind one that was interrupted."""
    import _cuda_networks
    import _driver
    import numpy as np

    from fastbp.backends import cuda
    from fastbp.kernels.cuda import memory

    session = _cuda_networks.opened("adam", cuda.BACKEND, "float32")[0]
    rows, rates, crew = np.arange(20), np.full(3, 0.01), session._kernel.store.crew

    def base():
        session.train(rows, rates)
        return _driver.launches[-1]["arguments"][-1]

    meetings = len(session._kernel.host.phases) * 3
    first = base()
    step = meetings * _driver.launches[-1]["blocks"]
    assert (first, base(), base()) == (0, step, 2 * step)
    launch, _driver.Kernel.launch = _driver.Kernel.launch, lambda *arguments, **options: 1 / 0
    try:
        session.train(rows, rates)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("the launch did not fail")
    _driver.Kernel.launch = launch
    memory.overwrite(crew, np.array([7]))  # as far as some blocks have come
    assert base() == 0
    assert memory.to_host(crew)[0] == 0
    assert base() == step


def arrays_of_no_and_of_one_element():
    import _driver
    import numpy as np
    from numba import types

    from fastbp.kernels.cuda import memory

    vector = types.Array(types.float32, 1, "C")
    for n in (0, 1, 5):
        array = memory.to_device(np.arange(n, dtype=np.float32))
        assert _driver.typeof(array) == vector and memory.to_host(array).tolist() == list(range(n))
        zeros = memory.zeros(n, np.float32)
        assert _driver.typeof(zeros) == vector and not memory.to_host(zeros).any()
    assert _driver.typeof(memory.to_device(np.zeros((0, 7), np.int64))) == types.Array(types.int64, 2, "C")
    for start, stop in ((0, 0), (2, 2), (5, 5), (3, 4), (1, 5), (0, 5)):
        part = memory.section(array, start, stop)
        assert _driver.typeof(part) == vector and memory.to_host(part).tolist() == list(range(start, stop))
        memory.overwrite(array, np.arange(start, stop, dtype=np.float32), start)
    copy = memory.zeros(5, np.float32)
    memory.copy(copy, array)
    assert memory.to_host(copy).tolist() == [0, 1, 2, 3, 4]


class Foreign:
    """An array of another library."""

    def __init__(self, owner, shape, strides=None):
        start = owner.__cuda_array_interface__["data"][0]
        self.__cuda_array_interface__ = {
            "shape": shape, "strides": strides, "typestr": "<f4", "data": (start, True), "version": 2,
        }  # fmt: skip


def foreign_arrays_have_the_types_of_ours():
    import _driver
    import numpy as np

    from fastbp.backends._device import device_matrix
    from fastbp.kernels.cuda import memory

    owner = memory.to_device(np.arange(20, dtype=np.float32))
    for shape, strides in (((5, 4), None), ((5, 4), (16, 4)), ((20, 1), (4, 64)), ((1, 20), (64, 4)), ((1, 1), None)):
        array = memory.flat(device_matrix(Foreign(owner, shape, strides), "X", dtype=np.float32))
        assert _driver.typeof(array) == _driver.typeof(owner)
        assert memory.to_host(array).tolist() == list(range(int(np.prod(shape))))


def data_is_streamed_while_kernels_run():
    """Copies and kernels wait for each other's events, and nothing goes through the default stream between them."""
    import _driver
    import numpy as np

    from fastbp.backends import _feed
    from fastbp.kernels.cuda import memory

    X = np.random.default_rng(0).random((100, 8)).astype("f4")
    rows = np.random.default_rng(1).permutation(100)
    feed, order = _feed.Feed(X, 2 * X[:35].nbytes), memory.to_device(rows)
    assert feed.streams
    for _ in range(2):  # the second time with the same memory
        _driver.calls.clear()
        free, names, events, parts = _driver.made.free, [], [], []
        for part in feed.parts(rows, order, 10):
            names.append([name for name, *_ in _driver.calls if name != "HtoD"])
            events.append([call for call in _driver.calls if call[0].startswith("cu")])
            n = part.stop - part.start
            found = memory.to_host(part.X)[: 8 * n].reshape(n, 8)[memory.to_host(part.places)]
            assert np.array_equal(found, X[rows[part.start : part.stop]])
            parts.append((part.start, part.stop))
            _driver.calls.clear()
        assert parts == [(0, 30), (30, 60), (60, 90), (90, 100)]
        copied = ["cuEventSynchronize", "cuStreamWaitEvent", "HtoDAsync", "cuEventRecord", "cuStreamWaitEvent"]
        assert names == [copied] + 3 * [["cuEventRecord", *copied]]
        copies, kernels = events[0][1][1], feed.stream.handle
        for here in events:
            *reads, synchronized, free_again, recorded, wanted = here
            assert synchronized[1] == recorded[1] == wanted[2]  # of this place, on the stream of copies
            assert (free_again[1], recorded[2], wanted[1]) == (copies, copies, int(kernels))
            assert all(read[2] == int(kernels) for read in reads)
    assert _driver.made.free == free


def buffers_of_streamed_data_are_bounded():
    """Memory that the card copies from by itself is taken from the whole machine."""
    import _driver
    import numpy as np

    from fastbp.backends import _feed
    from fastbp.kernels.cuda import memory

    _feed.CHUNK_BYTES, rows = 1000, np.arange(100)
    feed, order, free = _feed.Feed(np.zeros((100, 8), "f4"), 3000), memory.to_device(rows), _driver.made.free
    assert [part.stop - part.start for part in feed.parts(rows, order, 10)] == [30, 30, 30, 10]  # there is room for 40
    assert free - _driver.made.free == 4 * 30 * 32 + 30 * 8


def memory_that_python_let_go_of_is_free():
    import _driver
    import numpy as np

    from fastbp.backends._device import device_memory
    from fastbp.kernels.cuda import memory

    free = device_memory()[0]
    array = memory.zeros(10**6, np.float32)
    assert device_memory()[0] == free - 4 * 10**6
    del array
    assert _driver.made.free < free  # Numba waits
    assert device_memory()[0] == free
    try:
        memory.zeros(2**33, np.float32)
    except MemoryError as error:
        assert "the card's memory is full" in str(error)
    else:
        raise AssertionError("there was room")


def parameters():
    """Of a real kernel, float64: then all buffers have one type, and Numba another kind of named tuple."""
    import re

    import _cuda_networks
    import _driver
    import numpy as np
    from numba.cuda import codegen

    from fastbp.backends import cuda

    session = _cuda_networks.opened("adam", cuda.BACKEND, "float64")[0]
    session.train(np.arange(20), np.full(3, 0.01))
    launch = _driver.launches[-1]
    codegen.CUDACodeLibrary._ensure_cc = lambda self, cc: cc or (9, 0, "a")
    kernel = _driver.Compiled(launch["kernel"].py_func, launch["kernel"].argtypes, **launch["kernel"].options)
    head = re.search(r"\.entry[^(]*\((.*?)\)", kernel.inspect_asm((9, 0, "a")), re.DOTALL)[1]
    kinds = re.findall(r"\.param \.(\w+)", head)
    assert kinds == ["u64"] * len(launch["flat"]), kinds
    code = kernel._codelibrary.get_cubin().code  # linked as on the card, with no driver
    assert code[:4] == b"\x7fELF"


FAST = {
    one.__name__: one
    for one in (
        kernels_are_launched_with_the_types_that_they_are_compiled_for, wide_networks_have_a_launch_for_each_phase,
        the_counter_of_blocks_follows_the_launches, arrays_of_no_and_of_one_element,
        foreign_arrays_have_the_types_of_ours, data_is_streamed_while_kernels_run,
        buffers_of_streamed_data_are_bounded, memory_that_python_let_go_of_is_free,
    )
}  # fmt: skip


def main(names):
    """The process without the simulator."""
    import _ptx

    missing = _ptx.missing()
    if not missing:
        import _driver  # noqa: F401

        for name in names:
            {**FAST, "parameters": parameters}[name]()
    print(json.dumps({"missing": missing} if missing else {"done": names}))


if __name__ == "__main__":
    main(sys.argv[1:])
