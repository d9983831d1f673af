"""Schedules: held against PyTorch's and scikit-learn's, and what a trainer does with them."""

import json

import numpy as np
import pytest
from _golden_schedules import FILE, N_STEPS, computed, losses
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp import schedules
from fastbp.backends._planned import PlannedSession
from fastbp.backends.cuda import CudaSession

LOSS = "mean_squared_error"
X, Y = data(LOSS)  # 53 rows
GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))
OURS = {
    "step": schedules.Step(0.2, 7, 0.3),
    "exponential": schedules.Exponential(0.2, 0.9),
    "cosine": schedules.Cosine(0.2, N_STEPS, min_rate=0.01),
    "cosine_short": schedules.Cosine(0.2, 49),
    "restarts": schedules.Cosine(0.2, cycle=8, min_rate=0.001),
    "restarts_longer": schedules.Cosine(0.2, cycle=5, cycle_factor=2),
    "warmup_cosine": schedules.Cosine(0.2, N_STEPS, warmup=10, warmup_start=0.1, min_rate=0.02),
    "warmup_even": schedules.Cosine(0.2, N_STEPS, warmup=0.18),  # 9 steps from 1 / 10 on
    "warmup_restarts": schedules.Cosine(0.2, warmup=4, warmup_start=0.25, cycle=6, cycle_factor=3),
    "one_cycle": schedules.OneCycle(0.3, N_STEPS),
    "one_cycle_linear": schedules.OneCycle(0.3, N_STEPS, 0.25, "linear", div_factor=10, final_div_factor=50),
    "one_cycle_three": schedules.OneCycle(0.3, N_STEPS, 0.4, three_phase=True),
    "one_cycle_three_linear": schedules.OneCycle(0.3, N_STEPS, 0.33, "linear", three_phase=True),
}
PLATEAUS = {
    "plateau": (schedules.ReduceOnPlateau(0.2, patience=2), "falling"),
    "plateau_flat": (schedules.ReduceOnPlateau(0.2, factor=0.5, patience=3, cooldown=4, min_rate=0.004), "flat"),
    "plateau_abs": (
        schedules.ReduceOnPlateau(0.2, factor=0.7, patience=0, threshold=0.3, threshold_mode="abs"),
        "falling",
    ),
    "plateau_max": (schedules.ReduceOnPlateau(0.2, mode="max", factor=0.5, patience=1, threshold=0.05), "rising"),
    "plateau_max_abs": (
        schedules.ReduceOnPlateau(0.2, mode="max", patience=1, threshold=0.2, threshold_mode="abs"),
        "rising",
    ),
    "plateau_nan": (schedules.ReduceOnPlateau(0.2, factor=0.5, patience=2), "nan"),
}


def new_trainer(learning_rate, kind=fastbp.SGD, **options):
    options = {"backend": "reference", "random_state": 0, **options}
    return fastbp.Trainer(new_model(LOSS), loss=LOSS, optimizer=kind(learning_rate), **options)


@pytest.fixture
def taken(monkeypatch):
    """The rates that sessions were given, step by step."""
    rates = []

    def watched(right):
        def train(session, rows, learning_rates):
            rates.extend(learning_rates)
            return right(session, rows, learning_rates)

        return train

    for session in (PlannedSession, CudaSession):
        monkeypatch.setattr(session, "train", watched(session.train))
    return rates


# ---------------------------------------------------------------------------------------------------------------------
# Against PyTorch and scikit-learn


@pytest.mark.parametrize("name", OURS)
def test_rates_are_those_of_pytorch(name):
    np.testing.assert_allclose([OURS[name](n) for n in range(N_STEPS)], GOLDEN[name], rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", PLATEAUS)
def test_a_plateau_is_found_where_pytorch_finds_it(name):
    schedule, kind = PLATEAUS[name]
    state, rates = schedule.start(), []
    for loss in losses(kind):
        rates.append(state.rate)
        state = schedule.after(state, loss)
    np.testing.assert_allclose(rates, GOLDEN[name], rtol=1e-10, atol=0)
    assert rates[-1] < rates[0]  # there was something to find


def test_golden_values_are_those_of_the_installed_pytorch():
    pytest.importorskip("torch")
    again = computed()
    assert set(again) == set(GOLDEN) == set(OURS) | set(PLATEAUS)
    for name, rates in again.items():
        np.testing.assert_allclose(rates, GOLDEN[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("power", [0.5, 0.25])
def test_inverse_scaling_is_scikit_learns(power):
    optimizer = SGDOptimizer([np.zeros(1)], 0.3, "invscaling", power_t=power)
    schedule = schedules.InverseScaling(0.3, power)
    for t in range(1, N_STEPS):
        optimizer.iteration_ends(t)
        assert schedule(t) == pytest.approx(optimizer.learning_rate, rel=1e-14)
    assert schedule(0) == 0.3


def test_after_its_end_a_rate_stays():
    assert [schedules.Cosine(1.0, 4, min_rate=0.25)(n) for n in (4, 5, 99)] == [0.25] * 3
    assert [schedules.OneCycle(1.0, 4)(n) for n in (3, 4, 99)] == [1 / 25 / 1e4] * 3


# ---------------------------------------------------------------------------------------------------------------------
# In a training


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"])
@pytest.mark.parametrize("seconds", [0.0, 100.0])
def test_each_step_has_its_own_rate_within_a_chunk(seconds, backend, taken, monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", seconds)
    trainer = new_trainer(schedules.OneCycle(0.05), backend=backend)
    history = trainer.fit(X, Y, epochs=4, batch_size=10)
    wanted = schedules.preview(schedules.OneCycle(0.05), epochs=4, steps=6)
    assert len(set(wanted)) == 24
    np.testing.assert_array_equal(taken, wanted)
    assert history["learning_rate"] == wanted[5::6].tolist()


def test_what_counts_epochs_changes_between_them(taken):
    history = new_trainer(schedules.Step(0.1, every=2, factor=0.5)).fit(X, Y, epochs=5, batch_size=30)
    assert taken == [0.1] * 4 + [0.05] * 4 + [0.025] * 2
    assert history["learning_rate"] == [0.1, 0.1, 0.05, 0.05, 0.025]


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Constant(0.1),
        schedules.Step(0.1, 3, per="step"),
        schedules.Exponential(0.1, 0.5),
        schedules.InverseScaling(0.1),
        schedules.Cosine(0.1, cycle=5),
        schedules.Cosine(0.1, 10, per="epoch"),
        schedules.OneCycle(0.1, 11),
        lambda step: 0.1 / (1 + step),
    ],
)
def test_a_second_fit_goes_on_where_the_first_one_ended(schedule, taken):
    whole = new_trainer(schedule)
    whole.fit(X, Y, epochs=4, batch_size=20, shuffle=False)
    once, parts = taken.copy(), new_trainer(schedule)
    taken.clear()
    for epochs in (1, 3):
        parts.fit(X, Y, epochs=epochs, batch_size=20, shuffle=False)
    assert taken == once and len(once) == 12
    assert_same(whole.model.get_weights(), parts.model.get_weights())


@pytest.mark.parametrize(
    "schedule", [schedules.OneCycle(0.1), schedules.Cosine(0.1), schedules.Cosine(0.1, per="epoch")]
)
def test_without_a_total_each_fit_is_spanned(schedule, taken):
    trainer = new_trainer(schedule)
    for epochs in (2, 3):
        taken.clear()
        trainer.fit(X, Y, epochs=epochs, batch_size=20)
        total = epochs if schedule.per == "epoch" else 3 * epochs
        assert taken == [schedule(n // (3 * epochs // total), total) for n in range(3 * epochs)]


@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
def test_a_plateau_schedule_follows_the_losses_of_the_training(monitor, taken):
    schedule = schedules.ReduceOnPlateau(0.05, monitor, factor=0.5, patience=0, threshold=0.3)
    trainer, state, wanted = new_trainer(schedule), schedule.start(), []
    for epochs in (5, 7):  # over two fits
        history = trainer.fit(X, Y, epochs=epochs, validation_data=(X[:9], -Y[:9]))
        for value, rate in zip(history[monitor], history["learning_rate"], strict=True):
            wanted += [state.rate] * 2
            assert rate == state.rate
            state = schedule.after(state, value)
    assert taken == wanted and len(set(wanted)) > 2
    assert trainer.learning_rate == state.rate


def test_a_plateau_schedule_without_its_loss_is_refused():
    trainer = new_trainer(schedules.ReduceOnPlateau(0.1))
    with pytest.raises(ValueError, match=r"follows 'val_loss', which needs validation_data in fit: .*monitor='loss'"):
        trainer.fit(X, Y)


def test_a_function_of_the_step_is_asked_once_a_step(taken):
    asked = []

    def rate(step):
        asked.append(step)
        return 0.1 / (1 + step)

    trainer = new_trainer(rate)
    trainer.fit(X, Y, epochs=2, batch_size=10)
    assert set(asked) == set(range(12)) and taken == [0.1 / (1 + step) for step in range(12)]


@pytest.mark.parametrize("rate", ["0.1", None, -1.0, float("nan")])
def test_what_a_function_gives_is_checked(rate):
    trainer = new_trainer(lambda step: rate if step == 7 else 0.01)
    with pytest.raises((TypeError, ValueError), match="rate that the function gives for step 7 must be a number"):
        trainer.fit(X, Y, epochs=2, batch_size=10)


def test_the_history_has_rates_where_there_is_a_schedule_and_only_there():
    history = new_trainer(schedules.Constant(0.01)).fit(X, Y, validation_data=(X, Y))
    assert list(history) == ["loss", "val_loss", "learning_rate", "epoch_seconds"]
    assert list(new_trainer(0.01).fit(X, Y)) == ["loss", "epoch_seconds"]


def test_the_rate_can_be_read_at_any_time_and_not_set():
    """It is that of the next step; before the first fit, of the begin of a long one."""
    schedule = schedules.OneCycle(0.1, div_factor=10)
    trainer, seen = new_trainer(schedule), []

    class Watch(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            seen.append((logs["learning_rate"], trainer.learning_rate))

    assert trainer.learning_rate == pytest.approx(0.01)
    trainer.fit(X, Y, epochs=3, batch_size=20, callbacks=[Watch()])
    assert seen == [(schedule(3 * k + 2, 9), schedule(3 * k + 3, 9)) for k in range(3)]
    message = r"learning_rate follows OneCycle\(.*\) and cannot be set: give the optimizer a number"
    with pytest.raises(ValueError, match=message):
        trainer.learning_rate = 0.1
    with pytest.raises(ValueError, match=message):
        trainer.learning_rate *= 0.5


@pytest.mark.parametrize("schedule", [schedules.Cosine(0.05, 24), lambda step: 0.05 / (1 + step)])
def test_after_an_error_the_schedule_is_where_the_weights_are(schedule, monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", 0.0)

    class Fails(fastbp.Callback):
        def on_chunk_end(self, trainer, epoch, step, logs):
            if (epoch, step) == (2, 2):
                raise RuntimeError("mine")

    failed, stopped = new_trainer(schedule), new_trainer(schedule)
    with pytest.raises(RuntimeError, match="mine"):
        failed.fit(X, Y, epochs=4, batch_size=10, shuffle=False, callbacks=[Fails()])
    stopped.fit(X, Y, epochs=2, batch_size=10, shuffle=False)
    assert failed.learning_rate == stopped.learning_rate
    for trainer in (failed, stopped):
        trainer.fit(X, Y, epochs=2, batch_size=10, shuffle=False)
    assert_same(stopped.model.get_weights(), failed.model.get_weights())


def test_the_rate_in_a_message_is_that_of_the_step():
    trainer = new_trainer(lambda step: 1e300 if step == 3 else 0.01)
    with pytest.raises(
        FloatingPointError, match=r"in steps? .* of epoch 1: try a smaller learning rate \(it is (1e\+300|0.01)\)"
    ):
        trainer.fit(X, Y, batch_size=10)


# ---------------------------------------------------------------------------------------------------------------------
# Arguments


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.Constant(0), ValueError, "rate must be a number above 0, got 0"),
        (lambda: schedules.Step("a", 3), TypeError, "rate must be a number above 0, got 'a'"),
        (lambda: schedules.Step(0.1, 0), ValueError, "every must be an integer of at least 1, got 0"),
        (lambda: schedules.Step(0.1, 3, per="batch"), ValueError, "per must be one of 'step', 'epoch', got 'batch'"),
        (lambda: schedules.Exponential(0.1, 0.0), ValueError, "factor must be a number above 0"),
        (lambda: schedules.InverseScaling(0.1, -1), ValueError, "power must be a number of at least 0, got -1"),
        (lambda: schedules.Cosine(0.1, min_rate=0.2), ValueError, "min_rate must be at most max_rate, which is 0.1"),
        (lambda: schedules.Cosine(0.1, warmup=1.5), ValueError, "warmup must be a whole number of steps, or a float"),
        (lambda: schedules.Cosine(0.1, warmup="3"), TypeError, "warmup must be a whole number of steps, .* got '3'"),
        (lambda: schedules.Cosine(0.1, 5, warmup=5), ValueError, "warmup must be shorter than the 5 steps in total"),
        (lambda: schedules.Cosine(0.1, warmup_start=2), ValueError, "warmup_start must be a share of max_rate"),
        (lambda: schedules.Cosine(0.1, 5, cycle=5), ValueError, "cycle takes the place of total"),
        (lambda: schedules.Cosine(0.1, cycle_factor=2), ValueError, "cycle_factor=2 goes with restarts: give cycle"),
        (lambda: schedules.Cosine(0.1, cycle=9, warmup=0.5), ValueError, "warmup=0.5 is a share of a total"),
        (lambda: schedules.OneCycle(0.1, pct_start=1), ValueError, "pct_start must be .* below 1, got 1"),
        (
            lambda: schedules.OneCycle(0.1, pct_start=0.5, three_phase=True),
            ValueError,
            "pct_start must be .* below 0.5",
        ),
        (lambda: schedules.OneCycle(0.1, anneal="cos"), ValueError, "anneal must be one of 'cosine', 'linear'"),
        (lambda: schedules.ReduceOnPlateau(0.1, "accuracy"), ValueError, "monitor must be one of 'val_loss', 'loss'"),
        (lambda: schedules.ReduceOnPlateau(0.1, factor=1), ValueError, "factor must be a number above 0 and below 1"),
        (lambda: schedules.ReduceOnPlateau(0.1, min_rate=1), ValueError, "min_rate must be at most the first rate"),
        (lambda: fastbp.SGD(schedules.OneCycle), TypeError, r"got the class OneCycle: OneCycle\(...\) makes one of it"),
        (lambda: fastbp.Adam([0.1]), TypeError, r"got \[0.1\]; or one of fastbp.schedules, or a function of the step"),
        (lambda: schedules.OneCycle(0.1)(3), TypeError, r"has no total: say how many steps there are"),
        (lambda: schedules.Cosine(0.1)(3), TypeError, r"has no total: say how many steps there are"),
        (lambda: schedules.preview(schedules.ReduceOnPlateau(0.1), epochs=1, steps=1), TypeError, "has no rates ahead"),
    ],
)
def test_bad_schedules_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_warmup_that_the_fit_is_too_short_for_is_refused():
    trainer = new_trainer(schedules.Cosine(0.1, warmup=6))
    with pytest.raises(ValueError, match="warmup must be shorter than the 6 steps in total, got 6"):
        trainer.fit(X, Y, epochs=2, batch_size=20)
    trainer.fit(X, Y, epochs=3, batch_size=20)
