"""The GPU backend in Numba's simulator: whole networks against the reference."""

import _cuda_networks
import numpy as np
import pytest
from _cuda_networks import BATCH, CASES, N_ROWS, everything, opened
from scipy import sparse
from test_gradients import BY_RECTIFIER, HIDDEN, PAIRS, RECTIFIERS, problem

import fastbp
from fastbp.backends import cuda, get_backend
from fastbp.kernels.cuda import _simulator, memory

REFERENCE = get_backend("reference")


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    """Several blocks, so that each phase is a launch of its own; a test may ask for another number."""
    monkeypatch.setattr(cuda, "BLOCKS", [3])
    monkeypatch.setattr(_simulator, "TURNS", [1])


def assert_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        scale = max(float(np.nanmax(np.abs(want), initial=0)), 1e-3)
        np.testing.assert_allclose(found[name], want, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_a_network_is_trained_as_by_the_reference(case):
    assert_close(everything(case, cuda.BACKEND, "float64"), everything(case, REFERENCE, "float64"), 1e-9)


@pytest.mark.parametrize("case", ["adam", "norms", "sgd, scikit-learn"])
def test_in_float32_to_1e_5(case):
    assert_close(everything(case, cuda.BACKEND, "float32", 5), everything(case, REFERENCE, "float32", 5), 1e-5)


def test_tf32_to_2e_3():
    found = everything("adam", cuda.BACKEND, "float32", precision="tf32")
    expected = everything("adam", REFERENCE, "float32")
    assert_close(found, expected, 2e-3)
    assert any((found[name] != expected[name]).any() for name in found if name.startswith("parameters"))


@pytest.mark.parametrize("case", ["norms", "wide", "adam, scikit-learn", "dropout of X"])
def test_the_same_bits_from_any_number_of_blocks_and_order_of_threads(case, monkeypatch):
    expected = everything(case, cuda.BACKEND, "float32")
    for n_blocks, turn in ((1, 1), (2, -1)):
        monkeypatch.setattr(cuda, "BLOCKS", [n_blocks])
        monkeypatch.setattr(_simulator, "TURNS", [turn])
        for name, array in everything(case, cuda.BACKEND, "float32").items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("case", ["adam", "dropout of X", "norm of X"])
def test_data_that_does_not_fit_is_streamed_with_the_same_result(case, monkeypatch):
    expected, room = everything(case, cuda.BACKEND, "float64"), 2 * 9 * _cuda_networks.N_FEATURES * 8
    seen, feed = [], cuda.Feed

    def small(X, budget):
        seen.append(feed(X, room))
        return seen[-1]

    monkeypatch.setattr(cuda, "Feed", small)
    monkeypatch.setattr(cuda, "PREDICTED_ROWS", BATCH)
    for name, array in everything(case, cuda.BACKEND, "float64").items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert sum(one.streams for one in seen) == 3  # training, evaluation and prediction; the rows inspected are few
    with pytest.raises(MemoryError, match="the card has room for 9 rows: use a smaller batch_size"):
        next(seen[0].parts(np.arange(N_ROWS), np.arange(N_ROWS), 10))


def test_a_network_that_does_not_fit_says_so_with_the_sizes(monkeypatch):
    monkeypatch.setattr(cuda, "device_memory", lambda: (300 * 10**6, 80 * 10**9))
    opened("adam", cuda.BACKEND, "float32")
    monkeypatch.setattr(cuda, "device_memory", lambda: (200 * 10**6, 80 * 10**9))
    with pytest.raises(
        MemoryError, match=r"widths \(5, 6, 3\) needs 268 MB .* 200 of 80,000 MB are free: use a smaller"
    ):
        opened("adam", cuda.BACKEND, "float32")


def test_sparse_X_is_refused_before_training():
    session, data, network = opened("adam", REFERENCE, "float32")
    with pytest.raises(ValueError, match=r"X is sparse.*backend='cpu'"):
        cuda.BACKEND.predict(network, session.get_parameters(), sparse.csr_array(data[0]))


def test_the_optimizer_state_is_kept_and_restored_on_the_card():
    session, _, _ = opened("adam", cuda.BACKEND, "float32")
    rows, rates = np.arange(N_ROWS), np.full(3, 0.01)
    session.train(rows, rates)
    before = session.get_optimizer_state()
    session.keep_optimizer_state()
    session.train(rows, rates)
    assert session.get_optimizer_state()["step"] == 6
    session.restore_optimizer_state()
    after = session.get_optimizer_state()
    assert after["step"] == 3
    for name in ("first", "second"):
        for found, expected in zip(after[name], before[name], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_numbers_that_are_not_finite_are_found_on_the_card():
    session, _, _ = opened("adam", cuda.BACKEND, "float32")
    assert session.all_finite()
    for bad in (np.nan, np.inf, -np.inf):
        parameters = session.get_parameters()
        parameters[-1][-1] = bad
        session.set_parameters(parameters)
        assert not session.all_finite()
        parameters[-1][-1] = 0
        session.set_parameters(parameters)


def test_a_batch_without_weight_changes_nothing_but_by_the_momentum():
    losses = {}
    for backend in (REFERENCE, cuda.BACKEND):
        session, data, network = opened("residual", backend, "float64")
        data[2][:BATCH] = 0
        session = backend.open(
            network, session._loss, CASES["residual"]().optimizer, *data[:2], parameters=session.get_parameters(),
            batch_size=BATCH, sample_weight=data[2],
        )  # fmt: skip
        losses[backend.name] = session.train(np.arange(N_ROWS), np.full(3, 0.01))
    assert losses["cuda"][0] == 0
    np.testing.assert_allclose(losses["cuda"], losses["reference"], rtol=1e-9)


def test_an_output_does_not_depend_on_how_many_rows_there_are():
    session, data, network = opened("wide", cuda.BACKEND, "float32")
    parameters = session.get_parameters()
    outputs = cuda.BACKEND.predict(network, parameters, data[0])
    for n_rows in (1, 9):
        np.testing.assert_array_equal(cuda.BACKEND.predict(network, parameters, data[0][:n_rows]), outputs[:n_rows])


@pytest.mark.parametrize(("loss", "last"), [*PAIRS, *BY_RECTIFIER])
def test_every_loss_activation_and_link_has_the_gradient_of_the_reference(loss, last):
    """Which is the derivative of the loss, by central differences: see ``test_gradients.py``."""
    hidden = (*RECTIFIERS, *(name for name in HIDDEN if isinstance(name, str) and name != "exp"))
    model, X, y, weights = problem(hidden, last, loss, weighted=True, n_rows=6, widths=(5, *[3] * len(hidden)))
    found = fastbp.compare_backends(model, loss, X, y, sample_weight=weights, backends=("reference", "cuda"))
    assert found.max_relative_difference <= 1e-9, str(found)


def test_arrays_on_the_card():
    array = memory.to_device(np.arange(6.0))
    memory.overwrite(array, np.array([7.0, 8.0]), 2)
    other = memory.zeros(6, np.float64)
    memory.copy(other, array)
    memory.synchronize()
    np.testing.assert_array_equal(memory.to_host(other), [0, 1, 7, 8, 4, 5])
