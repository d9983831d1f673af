"""Threads that go through regions together: whoever comes, when they come, and who never does."""

import threading
import time

import numpy as np
import pytest
from _kernels import Net, read_only

from fastbp.kernels import layout
from fastbp.kernels.cpu import crew, training

N_THREADS = 3


def net_of():
    return Net(
        (9, 40, 5), ("tanh", "softmax"), np.float32, batch=7, n_rows=31, loss="softmax_cross_entropy",
        n_threads=N_THREADS, owners=True, optimizer=layout.ADAM, convention=layout.SCIKIT_LEARN,
        hyper=(0.9, 0.99, 1e-8, 0.1),
    )  # fmt: skip


def arguments(net, n_epochs=20):
    order = read_only(layout.with_next(np.tile(net.order, n_epochs)[: 7 * 4 * n_epochs]))
    rates = np.full(4 * n_epochs, 0.01)
    return np.full(len(rates), np.nan), net.plan, net.buffers, net.X, net.targets, order, rates, net.hyper, 0


def alone():
    net = net_of()
    rest = arguments(net)
    training.train_steps.serial(*rest)
    return net, rest[0]


@pytest.mark.parametrize("who", [(0,), (2,), (1, 0), (0, 1, 2), (0, 0), (2, 1, 0, 1, 2)])
def test_whoever_comes_does_all_of_it(who):
    """One thread, two of three, all, or two that have the same shares: the bits are those of one thread alone."""
    want, losses = alone()
    net = net_of()
    rest = arguments(net)
    net.plan.crew[:] = 0
    threads = [threading.Thread(target=training._go_through_steps, args=(t, *rest)) for t in who]
    for k, thread in enumerate(threads):
        thread.start()
        time.sleep(0.001 * k)  # some come late
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for got, expected in zip(net.buffers, want.buffers, strict=True):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(rest[0][:-1], losses[:-1])  # the last one is finished by train_steps


@pytest.mark.parametrize("entry", ["serial", "threaded"])
def test_each_share_of_each_region_is_done_once(entry):
    net = net_of()
    rest = arguments(net, n_epochs=5)
    getattr(training.train_steps, entry)(*rest)
    n_regions = 2 * 20 + 1
    counters = net.plan.crew.reshape(-1, layout.CREW_STRIDE)
    assert counters[0, 0] == n_regions * N_THREADS
    assert (counters[1:, 0] == n_regions).all() and not counters[:, 1:].any()
    assert np.isfinite(rest[0]).all()


def test_a_share_is_taken_by_one_thread_only():
    counters = np.zeros(layout.CREW_STRIDE * 3, np.int64)
    assert [crew.take_share(counters, 0, 1) for _ in range(2)] == [True, False]
    assert not crew.take_share(counters, 5, 0)  # a region that is not yet there
    assert crew.take_share(counters, 1, 1)
    assert crew.region_under_way(counters, 2) == 0
    for _ in range(3):
        crew.finish_share(counters)
    assert crew.region_under_way(counters, 2) == 1
    crew.meet(counters, 0, 2)  # all of it is done: nobody waits


def test_who_waits_long_goes_on_when_the_last_share_is_done():
    counters = np.zeros(layout.CREW_STRIDE * 2, np.int64)
    crew.take_share(counters, 0, 0)
    crew.finish_share(counters)
    waiting = threading.Thread(target=crew.meet, args=(counters, 1, 1))
    waiting.start()
    time.sleep(0.05)  # longer than its patience: it lets others run, and looks again
    assert waiting.is_alive()
    crew.finish_share(counters)
    waiting.join(60)
    assert not waiting.is_alive()
