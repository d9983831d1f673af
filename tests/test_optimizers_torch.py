"""Optimizers held against PyTorch's, or, where it has none, against the paper's formula: 50 steps in float64."""

import json

import numpy as np
import pytest
from _golden_optimizers import CASES, FILE, KEPT, SHAPES, by_torch, double, problem

import fastbp
from fastbp.backends import Network, get_backend
from fastbp.losses import Loss

BACKENDS = ("reference", "cpu", "cuda")
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def session_of(optimizer, backend, weights):
    network = Network((SHAPES[0][0], SHAPES[0][1]), ("identity",), np.dtype(np.float64))
    X, y = np.zeros((4, SHAPES[0][0])), np.zeros((4, SHAPES[0][1]))
    return get_backend(backend).open(
        network, Loss("mean_squared_error"), optimizer, X, y, parameters=weights, batch_size=4
    )


def descend(optimizer, backend):
    """Weights after each of 50 steps with the given gradients, and the session."""
    weights, gradients, rates = problem()
    session, history = session_of(optimizer, backend, weights), []
    for arrays, rate in zip(gradients, rates.tolist(), strict=True):
        session.apply_gradients([array.copy() for array in arrays], optimizer.learning_rate * rate, 4)
        history.append(session.get_parameters())
    return history, session


def assert_histories(got, want, tolerance=1e-10):
    for mine, theirs in zip(got, want, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------------------------
# PyTorch


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text(encoding="utf-8"))


def test_there_are_golden_values_for_each_case(golden):
    assert golden.keys() == CASES.keys()
    assert all(len(kept) == len(KEPT) for kept in golden.values())
    last = [np.concatenate([np.ravel(array) for array in kept[-1]]) for kept in golden.values()]
    for k, a in enumerate(last):  # an option that changed nothing would be compared with what it is not
        assert min(np.abs(a - b).max() for b in last[:k] + last[k + 1 :]) > 1e-3, list(golden)[k]


@pytest.mark.parametrize("name", CASES)
def test_golden_values_are_those_of_pytorch(name, golden):
    pytest.importorskip("torch")
    assert_histories(by_torch(name), golden[name], 1e-12)


@each_backend
@pytest.mark.parametrize("name", CASES)
def test_50_steps_are_those_of_pytorch(name, backend, golden):
    history, _ = descend(CASES[name][0], backend)
    assert_histories([history[step - 1] for step in KEPT], golden[name])


def train(optimizer, backend="reference"):
    """Weights before and after 50 steps on a small network, and its data."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    model = fastbp.Sequential([fastbp.Dense(6, "tanh"), fastbp.Dense(3)], n_features=4, random_state=0, dtype="float64")
    before = model.get_weights()
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer, backend=backend)
    trainer.fit(X, y, epochs=10, batch_size=10, shuffle=False)
    return before, model.get_weights(), X, y


@pytest.mark.parametrize("name", CASES)
def test_whole_training_is_that_of_pytorch(name):
    torch = pytest.importorskip("torch")
    mine, kind, options = CASES[name]
    options = dict(options)
    norm, value = options.pop("norm", None), options.pop("value", None)
    before, after, X, y = train(mine)
    tensors = [torch.tensor(array, requires_grad=True) for array in before]
    optimizer = getattr(torch.optim, kind)(tensors, lr=mine.learning_rate, **options)
    X, y = torch.tensor(X), torch.tensor(y)
    with double():
        for step in range(50):
            rows = slice(step % 5 * 10, step % 5 * 10 + 10)
            A = torch.tanh(X[rows] @ tensors[0] + tensors[1]) @ tensors[2] + tensors[3]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(A, y[rows]).backward()
            if norm is not None:
                torch.nn.utils.clip_grad_norm_(tensors, norm)
            if value is not None:
                torch.nn.utils.clip_grad_value_(tensors, value)
            optimizer.step()
    for a, b in zip(after, tensors, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-10, atol=1e-10)


# One of each rule, with all that there is around it
AROUND = [
    fastbp.SGD(0.05, 0.9, l2=0.1, l1=0.01, clip_norm=0.1, clip_value=0.05, ema_decay=0.9),
    fastbp.SGD(0.05, 0.9, True, 0.1, "scikit-learn", clip_norm=0.1),
    fastbp.Adam(0.01, l2=0.1, weight_decay=0.1, clip_value=0.01),
    fastbp.Adam(0.01, l2=0.1, convention="scikit-learn", amsgrad=True, ema_decay=0.9),
    fastbp.AdamW(0.01, clip_norm=0.1, ema_decay=0.9),
    fastbp.NAdam(0.01, l2=0.1),
    fastbp.RMSprop(0.01),
    fastbp.RMSprop(0.01, momentum=0.9, l2=0.1, convention="scikit-learn"),
    fastbp.RMSprop(0.01, momentum=0.5, centered=True, l1=0.1),
    fastbp.Adagrad(0.1, 0.1, 0.1),
    fastbp.Lion(0.01, weight_decay=0.1),
]


def slow_where_clipped(optimizer):
    """What is clipped is compiled for itself."""
    return pytest.param(optimizer, marks=pytest.mark.slow) if optimizer.clip_norm else optimizer


@pytest.mark.parametrize("optimizer", [slow_where_clipped(one) for one in AROUND], ids=repr)
def test_whole_training_agrees_between_backends(optimizer):
    for a, b, c in zip(*(train(optimizer, backend)[1] for backend in BACKENDS), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(c, a, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Formulas


def by_formula(step, **state):
    """Weights after each step of ``step(w, g, rate, state)``, which returns the new w."""
    weights, gradients, rates = problem()
    states, history = [{name: np.zeros_like(w) for name in state} for w in weights], []
    for arrays, rate in zip(gradients, rates.tolist(), strict=True):
        weights = [step(w, g, rate, s) for w, g, s in zip(weights, arrays, states, strict=True)]
        history.append(weights)
    return history


@each_backend
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_lion_is_that_of_the_paper(backend, decay):
    def step(w, g, rate, state):
        c = 0.8 * state["m"] + (1 - 0.8) * g
        state["m"] = 0.95 * state["m"] + (1 - 0.95) * g
        return w - 0.03 * rate * (np.sign(c) + decay * w)

    history, _ = descend(fastbp.Lion(0.03, 0.8, 0.95, weight_decay=decay), backend)
    assert_histories(history, by_formula(step, m=0))


@each_backend
def test_penalties_clipping_and_decay_come_in_their_order(backend):
    def step(w, g, rate, state):
        rate = 0.1 * rate
        g = np.clip(g, -0.7, 0.7) + 0.2 * w + 0.05 * np.sign(w)
        state["v"] = 0.9 * state["v"] + g
        return w * (1 - rate * 0.4) - rate * state["v"]

    optimizer = fastbp.SGD(0.1, 0.9, l2=0.2, l1=0.05, clip_value=0.7, weight_decay=0.4)
    history, _ = descend(optimizer, backend)
    assert_histories(history, by_formula(step, v=0))


@each_backend
def test_the_norm_is_clipped_before_the_elements(backend):
    weights, gradients, rates = problem()
    want = []
    for arrays, rate in zip(gradients, rates.tolist(), strict=True):
        norm = np.sqrt(sum((g * g).sum() for g in arrays))
        arrays = [np.clip(g * min(1, 3 / (norm + 1e-6)), -0.5, 0.5) for g in arrays]
        weights = [w - 0.1 * rate * g for w, g in zip(weights, arrays, strict=True)]
        want.append(weights)
    history, _ = descend(fastbp.SGD(0.1, clip_norm=3.0, clip_value=0.5), backend)
    assert_histories(history, want)


@each_backend
@pytest.mark.parametrize("optimizer", [fastbp.SGD(0.1), fastbp.Adam(0.05), fastbp.RMSprop(0.05, centered=True)])
def test_the_average_of_weights(backend, optimizer):
    """It changes no weight, and starts from the initial ones."""
    averaged = type(optimizer)(**{**vars(optimizer), "ema_decay": 0.8})
    (plain, _), (history, session) = descend(optimizer, backend), descend(averaged, backend)
    assert_histories(history, plain, 1e-14)
    average = problem()[0]
    for weights in history:
        average = [0.8 * a + (1 - 0.8) * w for a, w in zip(average, weights, strict=True)]
    assert_histories([session.get_optimizer_state()["average"]], [average], 1e-13)


@each_backend
def test_the_penalty_of_scikit_learn_is_on_weights_alone(backend):
    weights, gradients, _ = problem()
    optimizer = fastbp.RMSprop(0.1, l2=0.8, convention="scikit-learn")
    session = session_of(optimizer, backend, weights)
    session.apply_gradients([array.copy() for array in gradients[0]], 0.1, 4)
    for got, w, g, l2 in zip(session.get_parameters(), weights, gradients[0], (0.8 / 4, 0.0), strict=True):
        g = g + l2 * w
        np.testing.assert_allclose(got, w - 0.1 * g / (np.sqrt(0.01 * g * g) + 1e-8), rtol=1e-12, atol=1e-12)
