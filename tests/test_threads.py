"""Threads: how many there are, and that neither forks nor several Python threads end or hang a process."""

import json
import os

import numba
import numpy as np
import pytest
from _processes import kernels_alone, succeed

from fastbp.backends import Network, get_backend
from fastbp.kernels.cpu import _threads
from fastbp.losses import Loss
from fastbp.optimizers import SGD

POOL = numba.config.NUMBA_NUM_THREADS

USABLE = """
import json, os
import joblib
from fastbp.kernels.cpu._threads import usable_threads
said = {"outside": usable_threads()}
for backend in ("sequential", "loky", "threading", "multiprocessing"):
    parallel = joblib.Parallel(n_jobs=2, backend=backend)
    said[backend] = sorted(set(parallel(joblib.delayed(usable_threads)() for _ in range(4))))
said["after"] = usable_threads()
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    said["pinned"] = usable_threads()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def usable(tmp_path_factory):
    """What ``usable_threads`` says in several places; with the kernels alone, so that workers start sooner."""
    return json.loads(succeed("-c", USABLE, path=[kernels_alone(tmp_path_factory.mktemp("site"))]).stdout)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_one_thread_in_a_joblib_worker(usable, backend):
    assert usable[backend] == [1]


def test_all_usable_threads_outside_of_joblib_workers(usable):
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    expected = min(affinity, _threads._cgroup_quota() or affinity)
    assert usable["outside"] == usable["after"] == expected
    assert usable["sequential"] == [expected]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to processors")
def test_threads_follow_the_affinity(usable):
    assert usable["pinned"] == 1


@pytest.mark.parametrize(
    "name, text, expected",
    [("cgroup/cpu.max", "max 100000", None), ("cgroup/cpu.max", "350000 100000", 3),
     ("cgroup/cpu.max", "50000 100000", 1), ("cgroup/own/cpu.max", "200000 100000", 2),
     ("cgroup/cpu/cpu.cfs_quota_us", "400000", 4), ("cgroup/cpu/cpu.cfs_quota_us", "-1", None), ("none", "", None)],
)  # fmt: skip
def test_threads_follow_the_cgroup_quota(tmp_path, monkeypatch, name, text, expected):
    contents = {
        "/proc/self/cgroup": "0::/own\n", "/sys/fs/" + name: text, "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    }  # fmt: skip
    for path, content in contents.items():
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_text(content)
    monkeypatch.setattr(_threads, "Path", lambda path: tmp_path / path[1:])
    assert _threads._cgroup_quota.__wrapped__() == expected


@pytest.mark.parametrize(
    "contents, expected",
    [({"cgroup/a/cpu.max": "200000 100000", "cgroup/a/b/cpu.max": "max 100000"}, 2),
     ({"cgroup/a/cpu.max": "200000 100000", "cgroup/a/b/cpu.max": "400000 100000"}, 2),
     ({"cgroup/a/cpu.max": "400000 100000", "cgroup/a/b/cpu.max": "300000 100000"}, 3),
     ({"cgroup/cpu.max": "100000 100000", "cgroup/a/cpu.max": "400000 100000"}, 1),
     ({"cgroup/cpu/v1/cpu.cfs_quota_us": "200000", "cgroup/cpu/v1/w/cpu.cfs_quota_us": "-1"}, 2),
     ({"cgroup/a/cpu.max": "nonsense", "cgroup/cpu.max": "500000 100000"}, 5)],
)  # fmt: skip
def test_threads_follow_the_smallest_quota_of_all_groups_above(tmp_path, monkeypatch, contents, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/other\n3:cpu,cpuacct:/v1/w\n0::/a/b\n")
    for name, text in contents.items():
        path = tmp_path / "sys/fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.name == "cpu.cfs_quota_us":
            path.with_name("cpu.cfs_period_us").write_text("100000")
    monkeypatch.setattr(_threads, "Path", lambda path: tmp_path / path[1:])
    assert _threads._cgroup_quota.__wrapped__() == expected


def test_threads_are_restored():
    before = numba.get_num_threads()
    for n_threads in (1, POOL, POOL + 5):
        with pytest.raises(KeyError), _threads.threads(n_threads):
            assert numba.get_num_threads() == min(n_threads, POOL)
            raise KeyError
        assert numba.get_num_threads() == before


def test_more_threads_than_the_pool_are_clipped_with_a_warning():
    network = Network((40, 201, 4), ("relu", "identity"), np.dtype("float32"))
    rng = np.random.default_rng(0)
    X, y = (rng.normal(size=(200, width)).astype("float32") for width in (40, 4))
    arguments = network, Loss("mean_squared_error"), SGD(), X, y
    rest = {
        "parameters": [(0.1 * rng.normal(size=shape)).astype("float32") for shape in network.shapes], "batch_size": 100,
    }  # fmt: skip
    one, many = get_backend("cpu").open(*arguments, **rest, n_threads=1), None
    message = rf"n_threads is {POOL + 3}, but Numba's pool has {POOL}.*NUMBA_NUM_THREADS"
    with pytest.warns(UserWarning, match=message) as caught:
        many = get_backend("cpu").open(*arguments, **rest, n_threads=POOL + 3)
    assert [warning.filename for warning in caught] == [__file__]
    before = numba.get_num_threads()
    for session in (one, many):
        session.train(np.arange(200), np.full(2, 0.01))
    assert numba.get_num_threads() == before
    for a, b in zip(one.get_parameters(), many.get_parameters(), strict=True):
        np.testing.assert_array_equal(a, b)


LAYER = """
import hashlib, json, multiprocessing, os, signal, sys, threading, time, traceback, warnings
import numpy as np
from numba.np.ufunc.parallel import _launch_threads
from fastbp.backends import Network, get_backend
from fastbp.kernels.cpu import _threads
from fastbp.losses import Loss
from fastbp.optimizers import Adam

NETWORK = Network((40, 201, 12, 4), ("relu", "tanh", "softmax"), np.dtype("float32"))

def opened(seed):
    rng = np.random.default_rng(seed)
    session = get_backend("cpu").open(
        NETWORK, Loss("softmax_cross_entropy"), Adam(), rng.normal(size=(400, 40)).astype("float32"),
        rng.integers(0, 4, 400), batch_size=100, n_threads=2,
        parameters=[(0.1 * rng.normal(size=shape)).astype("float32") for shape in NETWORK.shapes],
    )
    assert session._threads == 2, "the cost model chose otherwise"
    return session

def trained(session, epochs=20):
    for _ in range(epochs):
        session.train(np.arange(400), np.full(4, 1e-3))
    return hashlib.sha256(b"".join(array.tobytes() for array in session.get_parameters())).hexdigest()

def from_seed(seed):
    return trained(opened(seed))

def in_two_threads():
    # the first parallel regions of the process, so that the layer starts under both threads
    found, meeting = {}, threading.Barrier(2)
    def work(seed):
        session = opened(seed)
        meeting.wait()
        found[seed] = trained(session, 50)
    workers = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found[1], found[2]

def in_child(session):
    # what a forked child makes of the session
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps([trained(session), from_seed(5)]).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            sys.exit("the child hangs")
        time.sleep(0.01)
    if ended[1] != 0:
        sys.exit(f"the child ended with {os.waitstatus_to_exitcode(ended[1])}")
    return tuple(json.loads(os.read(read, 10000)))

def what_is_asked():
    if sys.argv[1] == "threads":
        together = in_two_threads()
        assert together == tuple(trained(opened(seed), 50) for seed in (1, 2))
        return
    session = opened(4)
    trained(session)
    child = in_child(session)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        workers = pool.map_async(from_seed, [6, 7]).get(60)
    assert child == (trained(session), from_seed(5))
    assert workers == [from_seed(6), from_seed(7)]

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # what is tried here
try:
    what_is_asked()
except Exception:
    try:
        _launch_threads()
    except ValueError as error:
        print("absent:", error)
        sys.exit()
    raise
print(_threads.threading_layer())
"""


each_layer = pytest.mark.parametrize("layer", ["tbb", "omp", "workqueue"])


def on_layer(layer, what):
    # passive: threads of OpenMP that spin for each other take half a minute on processors that others use as well
    done = succeed(
        "-c", LAYER, what, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2", OMP_WAIT_POLICY="passive"
    )  # fmt: skip
    if done.stdout.startswith("absent:"):
        pytest.skip(done.stdout)
    assert done.stdout.strip() == layer


@each_layer
def test_two_python_threads_may_train_at_once(layer):
    on_layer(layer, "threads")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@each_layer
def test_forked_child_trains_to_the_same_bits(layer):
    on_layer(layer, "fork")
