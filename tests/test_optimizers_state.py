"""Optimizers in the trainer: their state through set and get, between backends, after divergence; averages; errors."""

import dataclasses

import numpy as np
import pytest
from test_optimizers_torch import AROUND
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp.backends import get_backend
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer

LOSS = "mean_squared_error"
X, Y = data(LOSS)
# What each keeps besides "step"
ARRAYS = [
    (fastbp.SGD(momentum=0.9), {"velocity"}),
    (fastbp.Adam(), {"first", "second"}),
    (fastbp.AdamW(), {"first", "second"}),
    (fastbp.Adam(amsgrad=True), {"first", "second", "largest_second"}),
    (fastbp.NAdam(), {"first", "second", "mu_product"}),
    (fastbp.RMSprop(), {"mean_square"}),
    (fastbp.RMSprop(momentum=0.5), {"velocity", "mean_square"}),
    (fastbp.RMSprop(centered=True), {"velocity", "mean_square", "mean"}),
    (fastbp.Adagrad(initial_accumulator_value=0.1), {"sum_of_squares"}),
    (fastbp.Lion(), {"momentum"}),
    (fastbp.Lion(ema_decay=0.9), {"momentum", "average"}),
]
each_optimizer = pytest.mark.parametrize("optimizer", AROUND, ids=repr)


def session_of(optimizer, backend="reference"):
    model = new_model(LOSS)
    return get_backend(backend).open(
        model._described, Loss(LOSS), optimizer, X, Y.reshape(len(X), -1), parameters=model.get_weights(), batch_size=10
    )


def steps(session, first, last):
    """Steps of ten rows each, with the rates of their number."""
    for k in range(first, last):
        session.train(np.arange(k % 5 * 10, k % 5 * 10 + 10), np.array([0.01 / (1 + k)]))


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, list):
            assert_same(value, other[name])
        else:
            assert value == other[name]


@pytest.mark.parametrize(("optimizer", "names"), ARRAYS, ids=[repr(optimizer) for optimizer, _ in ARRAYS])
def test_what_an_optimizer_keeps(optimizer, names):
    session = session_of(optimizer)
    for n_steps in (0, 3):
        steps(session, 0, n_steps)
        state, shapes = session.get_optimizer_state(), [array.shape for array in session.get_parameters()]
        assert state.keys() == {"step", *names} and state["step"] == n_steps
        for name in names - {"mu_product"}:
            assert [array.shape for array in state[name]] == shapes
            if name != "average":
                start = 0.1 if name == "sum_of_squares" else 0.0
                assert all((array == start).all() == (n_steps == 0) for array in state[name])
    assert 0 < state.get("mu_product", 0.5) < 1


@each_optimizer
def test_the_state_goes_through_get_and_set(optimizer):
    """Into another session, on another backend too, in the middle of a run."""
    whole, first = session_of(optimizer), session_of(optimizer)
    steps(whole, 0, 12)
    steps(first, 0, 5)
    state = first.get_optimizer_state()
    second = session_of(optimizer)
    second.set_optimizer_state(state)
    second.set_parameters(first.get_parameters())
    assert_same_state(second.get_optimizer_state(), state)
    steps(first, 5, 7)  # what was given are copies
    steps(second, 5, 12)
    assert_same(second.get_parameters(), whole.get_parameters())
    assert_same_state(second.get_optimizer_state(), whole.get_optimizer_state())


def test_the_state_goes_from_one_backend_to_the_other():
    optimizer = fastbp.NAdam(0.01, l2=0.1)
    whole = session_of(optimizer)
    steps(whole, 0, 12)
    first, second = session_of(optimizer, "cpu"), session_of(optimizer)
    steps(first, 0, 5)
    second.set_optimizer_state(first.get_optimizer_state())
    second.set_parameters(first.get_parameters())
    steps(second, 5, 12)
    for a, b in zip(second.get_parameters(), whole.get_parameters(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@each_optimizer
def test_a_kept_state_comes_back_whole(optimizer):
    session = session_of(optimizer)
    steps(session, 0, 3)
    session.keep_optimizer_state()
    kept, weights = session.get_optimizer_state(), session.get_parameters()
    steps(session, 3, 6)
    after = session.get_parameters()
    session.restore_optimizer_state()
    session.set_parameters(weights)
    assert_same_state(session.get_optimizer_state(), kept)
    steps(session, 3, 6)
    assert_same(session.get_parameters(), after)


def test_a_state_of_another_optimizer_is_refused():
    state = session_of(fastbp.Adam()).get_optimizer_state()
    message = "which has momentum, step: got first, second, step. Go on with the same optimizer"
    with pytest.raises(ValueError, match=message):
        session_of(fastbp.Lion()).set_optimizer_state(state)


@each_optimizer
def test_a_second_fit_goes_on_from_the_first(optimizer):
    trainers = [fastbp.Trainer(new_model(LOSS), loss=LOSS, optimizer=optimizer, backend="reference") for _ in range(2)]
    trainers[0].fit(X, Y, epochs=4, batch_size=10, shuffle=False)
    for _ in range(2):
        trainers[1].fit(X, Y, epochs=2, batch_size=10, shuffle=False)
    assert_same(*(trainer.model.get_weights() for trainer in trainers))
    assert_same_state(*(trainer._optimizer_state for trainer in trainers))


def test_after_divergence_the_state_is_that_of_the_last_epoch():
    """Also what is no array: NAdam's product and the average."""

    class Raise(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            if epoch == 1:
                trainer.learning_rate = 1e200

    trainers = []
    for epochs in (2, 5):
        optimizer = fastbp.NAdam(0.01, ema_decay=0.9)
        trainer = fastbp.Trainer(new_model(LOSS), loss=LOSS, optimizer=optimizer, backend="reference", random_state=0)
        trainers.append(trainer)
        if epochs == 2:
            trainer.fit(X, Y, epochs=2)
        else:
            with pytest.raises(FloatingPointError, match="of epoch 3"):
                trainer.fit(X, Y, epochs=5, callbacks=[Raise()])
    assert_same_state(*(trainer._optimizer_state for trainer in trainers))
    assert_same(*(trainer.averaged_weights() for trainer in trainers))


@pytest.mark.parametrize("optimizer", [fastbp.NAdam(0.01, clip_norm=0.1), fastbp.Lion(clip_value=1e-9, l1=0.1)])
def test_gradients_that_are_asked_for_are_those_of_the_loss(optimizer):
    """Nothing is clipped or penalised, and the state stays."""
    plain = fastbp.Trainer(new_model(LOSS), loss=LOSS, backend="reference").loss_and_gradients(X[:10], Y[:10])
    session = session_of(optimizer)
    before = session.get_optimizer_state()
    loss, gradients = session.loss_and_gradients(np.arange(10))
    assert loss == pytest.approx(plain[0], rel=1e-14)
    for a, b in zip(gradients, plain[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    assert_same_state(session.get_optimizer_state(), before)


# ---------------------------------------------------------------------------------------------------------------------
# Averages


def test_averaged_weights_within_and_after_a_training():
    model = fastbp.Sequential(
        [fastbp.Dense(7), fastbp.BatchNorm(), fastbp.Dense(2)], n_features=5, random_state=0, dtype="float64"
    )
    trainer = fastbp.Trainer(model, loss=LOSS, optimizer=fastbp.Adam(0.1, ema_decay=0.5), backend="reference")
    assert_same(trainer.averaged_weights(), model.get_weights())
    want, seen = model.get_weights(), []

    class Follow(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            now = trainer.model.get_weights()
            for k, array in enumerate(now):
                want[k] = array if k in (4, 5) else 0.5 * want[k] + 0.5 * array  # running statistics as they are
            seen.append(trainer.averaged_weights())
            for a, b in zip(seen[-1], want, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)

    trainer.fit(X, Y, epochs=4, batch_size=len(X), callbacks=[Follow()])
    assert len(seen) == 4
    assert_same(trainer.averaged_weights(), seen[-1])
    trainer.averaged_weights()[0][:] = 0  # a copy
    model.set_weights(seen[-1])
    assert_same(model.get_weights(), trainer.averaged_weights())


def test_without_a_decay_there_is_no_average():
    trainer = fastbp.Trainer(new_model(LOSS), loss=LOSS, optimizer=fastbp.SGD(0.1))
    with pytest.raises(ValueError, match=r"optimizer is SGD\(learning_rate=0.1\); give it ema_decay"):
        trainer.averaged_weights()


@pytest.mark.parametrize("optimizer", [fastbp.Adam(0.1, weight_decay=0.5, ema_decay=0.5), fastbp.Lion(0.1, l2=0.1)])
def test_running_statistics_are_no_parameters(optimizer):
    """Nothing but the batches changes them: no decay, no penalty, no step."""
    results = []
    for chosen in (optimizer, fastbp.SGD(1e-300)):
        layers = [fastbp.BatchNorm(), fastbp.Dense(2)]
        model = fastbp.Sequential(layers, n_features=5, random_state=0, dtype="float64")
        fastbp.Trainer(model, loss=LOSS, optimizer=chosen, backend="reference", random_state=0).fit(X, Y, batch_size=10)
        results.append(model.get_weights())
    assert_same(*(weights[2:4] for weights in results))
    assert all((a != b).any() for a, b in zip(results[0][4:], results[1][4:], strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# Descriptions

KINDS = [
    fastbp.SGD, fastbp.Adam, fastbp.AdamW, fastbp.NAdam, fastbp.RMSprop, fastbp.Adagrad, fastbp.Lion,
]  # fmt: skip
ERRORS = [
    (dict(learning_rate=0), ValueError, "learning_rate must be a number above 0, got 0"),
    (dict(l2=-1), ValueError, "l2 must be a number of at least 0, got -1"),
    (dict(l1=-1), ValueError, "l1 must be a number of at least 0, got -1"),
    (dict(weight_decay="much"), TypeError, "weight_decay must be a number of at least 0, got 'much'"),
    (dict(clip_value=0), ValueError, "clip_value must be a number above 0, got 0"),
    (dict(clip_norm=-1.0), ValueError, "clip_norm must be a number above 0, got -1.0"),
    (dict(clip_norm=True), TypeError, "clip_norm must be a number above 0, got True"),
    (dict(ema_decay=1), ValueError, "ema_decay must be a number of at least 0 and below 1, got 1"),
    (dict(convention="keras"), ValueError, "convention must be one of 'pytorch', 'scikit-learn', got 'keras'"),
    (dict(l1=0.1, convention="scikit-learn"), ValueError, "l1 goes with convention='pytorch', got l1=0.1"),
]
OWN_ERRORS = [
    (lambda: fastbp.Adam(amsgrad=1), TypeError, "amsgrad must be True or False, got 1"),
    (lambda: fastbp.NAdam(beta_1=1), ValueError, "beta_1 must be a number of at least 0 and below 1"),
    (lambda: fastbp.NAdam(epsilon=0), ValueError, "epsilon must be a number above 0"),
    (lambda: fastbp.NAdam(momentum_decay=-1), ValueError, "momentum_decay must be a number of at least 0"),
    (lambda: fastbp.RMSprop(alpha=1.0), ValueError, "alpha must be a number of at least 0 and below 1"),
    (lambda: fastbp.RMSprop(momentum=1.0), ValueError, "momentum must be a number of at least 0 and below 1"),
    (lambda: fastbp.RMSprop(epsilon=0), ValueError, "epsilon must be a number above 0"),
    (lambda: fastbp.RMSprop(centered=None), TypeError, "centered must be True or False"),
    (lambda: fastbp.Adagrad(learning_rate_decay=-1), ValueError, "learning_rate_decay must be a number of at least 0"),
    (lambda: fastbp.Adagrad(initial_accumulator_value=-1), ValueError, "initial_accumulator_value must be a number"),
    (lambda: fastbp.Adagrad(epsilon=0), ValueError, "epsilon must be a number above 0"),
    (lambda: fastbp.Lion(beta_2=1), ValueError, "beta_2 must be a number of at least 0 and below 1"),
    (lambda: Optimizer(), TypeError, "Optimizer is what all optimizers share: make one of these"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("options", "error", "message"), ERRORS)
def test_what_is_wrong_is_named(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(**options)


@pytest.mark.parametrize(("make", "error", "message"), OWN_ERRORS)
def test_what_is_wrong_of_one_optimizer_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions(kind):
    optimizer = kind(0.5, clip_norm=1.0)
    assert repr(kind()) == f"{kind.__name__}()"
    assert repr(optimizer) == f"{kind.__name__}(learning_rate=0.5, clip_norm=1.0)"
    assert optimizer == dataclasses.replace(kind(clip_norm=1.0), learning_rate=0.5) and len({optimizer, kind(0.5)}) == 2
    assert isinstance(optimizer, Optimizer)
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.l2 = 1.0


def test_positions_are_those_of_before():
    assert fastbp.SGD(1.0, 0.5, True, 0.25, "scikit-learn") == fastbp.SGD(
        learning_rate=1.0, momentum=0.5, nesterov=True, l2=0.25, convention="scikit-learn"
    )
    assert fastbp.Adam(1.0, 0.5, 0.25, 0.125, 0.75, "scikit-learn") == fastbp.Adam(
        learning_rate=1.0, beta_1=0.5, beta_2=0.25, epsilon=0.125, l2=0.75, convention="scikit-learn"
    )
    assert fastbp.AdamW().weight_decay == 0.01 and fastbp.Adam().weight_decay == 0
    assert isinstance(fastbp.AdamW(), fastbp.Adam) and fastbp.AdamW() != fastbp.Adam(weight_decay=0.01)
