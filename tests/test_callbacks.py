"""Callbacks that set weights, and what a training that was cut short leaves: weights and optimizer belong together."""

import io
import os
import signal

import numpy as np
import pytest
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp._run import ctrl_c_waits
from fastbp.backends._planned import PlannedSession

LOSS = "mean_squared_error"
X, Y = data(LOSS)
HOOKS = ("on_train_begin", "on_chunk_end", "on_epoch_end")


class Calls(fastbp.Callback):
    """Calls a function at one of the hooks, in one epoch."""

    def __init__(self, hook, function, epoch=0):
        self.function = function
        if hook == "on_train_begin":
            self.on_train_begin = lambda trainer, n_epochs, n_steps: function(trainer)
        else:
            setattr(self, hook, lambda trainer, e, *rest: function(trainer) if e == epoch else None)


def new_trainer(optimizer=None, **options):
    optimizer = fastbp.SGD(0.01, momentum=0.9) if optimizer is None else optimizer
    return fastbp.Trainer(new_model(LOSS), loss=LOSS, optimizer=optimizer, random_state=0, **options)


def halve(trainer):
    trainer.model.set_weights([w / 2 for w in trainer.model.get_weights()])


def interrupt(trainer):
    os.kill(os.getpid(), signal.SIGINT)


def fail(trainer):
    raise RuntimeError("mine")


# ---------------------------------------------------------------------------------------------------------------------
# set_weights


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
@pytest.mark.parametrize("hook", HOOKS)
def test_weights_are_trained_on_wherever_they_are_set(hook, backend):
    """Without momentum two epochs of one step, with weights set once, are two trainings with weights set between."""
    trainer, by_hand = (new_trainer(fastbp.SGD(0.01), backend=backend) for _ in range(2))
    trainer.fit(X, Y, epochs=2, batch_size=53, shuffle=False, callbacks=[Calls(hook, halve)])
    start = by_hand.model.get_weights()
    if hook == "on_epoch_end":
        by_hand.fit(X, Y, batch_size=53, shuffle=False)
        start = by_hand.model.get_weights()
    by_hand.model.set_weights([w / 2 for w in start])
    # set after the only step of an epoch, they undo it
    by_hand.fit(X, Y, epochs=2 if hook == "on_train_begin" else 1, batch_size=53, shuffle=False)
    assert_same(by_hand.model.get_weights(), trainer.model.get_weights())


def test_the_validation_loss_is_that_of_the_weights_that_were_set():
    trainer = new_trainer()
    start = trainer.model.get_weights()
    history = trainer.fit(X, Y, batch_size=53, validation_data=(X, Y), callbacks=[Calls("on_chunk_end", halve)])
    assert_same([w / 2 for w in start], trainer.model.get_weights())
    np.testing.assert_allclose(history["val_loss"], trainer.loss_and_gradients(X, Y)[0], rtol=1e-12)


@pytest.mark.parametrize("hook", HOOKS)
def test_ctrl_c_after_set_weights_keeps_what_was_set(hook):
    trainer = new_trainer()
    start = trainer.model.get_weights()

    def set_them(trainer):
        trainer.model.set_weights([w * 0 + 7 for w in start])

    with pytest.warns(UserWarning, match="interrupted in epoch 1"):
        trainer.fit(X, Y, epochs=3, batch_size=10, callbacks=[Calls(hook, set_them), Calls(hook, interrupt)])
    for array in trainer.model.get_weights():
        np.testing.assert_array_equal(array, 7)


# ---------------------------------------------------------------------------------------------------------------------
# What an error leaves


def explode(trainer):
    trainer.learning_rate = 1e300


def assert_goes_on_as(trainer, other, **options):
    """Both train to the same bits: weights, optimizer and learning rate are the same."""
    assert trainer.learning_rate == other.learning_rate
    assert_same(other.model.get_weights(), trainer.model.get_weights())
    for each in (trainer, other):
        each.fit(X, Y, epochs=2, batch_size=10, shuffle=False, **options)
    assert_same(other.model.get_weights(), trainer.model.get_weights())


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
@pytest.mark.parametrize("optimizer", [fastbp.SGD(0.01, momentum=0.9), fastbp.Adam(0.01)])
def test_after_divergence_weights_and_optimizer_belong_together(optimizer, backend, monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", 0.0)
    failed, stopped = (new_trainer(optimizer, backend=backend) for _ in range(2))
    with pytest.raises(FloatingPointError):
        failed.fit(X, Y, epochs=9, batch_size=10, shuffle=False, callbacks=[Calls("on_chunk_end", explode, epoch=3)])
    stopped.fit(X, Y, epochs=3, batch_size=10, shuffle=False)
    assert_goes_on_as(failed, stopped)


def test_after_an_error_of_a_callback_they_belong_together_too(monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", 0.0)
    for hook, whole_epochs in (("on_train_begin", 0), ("on_chunk_end", 1), ("on_epoch_end", 2)):
        failed, stopped = new_trainer(), new_trainer()
        for trainer in (failed, stopped):
            trainer.fit(X, Y, batch_size=10, shuffle=False)  # there is a state before the training that fails
        with pytest.raises(RuntimeError, match="mine"):
            failed.fit(X, Y, epochs=5, batch_size=10, shuffle=False, callbacks=[Calls(hook, fail, epoch=1)])
        if whole_epochs:
            stopped.fit(X, Y, epochs=whole_epochs, batch_size=10, shuffle=False)
        assert_goes_on_as(failed, stopped)


def test_weights_set_within_the_epoch_keep_the_optimizer_of_that_moment(monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", 0.0)
    failed, stopped = new_trainer(), new_trainer()
    steps = []

    def set_then_fail(trainer):
        steps.append(trainer)
        if len(steps) == 2:
            trainer.model.set_weights(start)
        elif len(steps) == 4:
            fail(trainer)

    start = failed.model.get_weights()
    with pytest.raises(RuntimeError, match="mine"):
        failed.fit(X, Y, batch_size=10, shuffle=False, callbacks=[Calls("on_chunk_end", set_then_fail)])
    stopped.fit(X[:20], Y[:20], batch_size=10, shuffle=False)
    stopped.model.set_weights(start)
    assert_goes_on_as(failed, stopped)


def test_ctrl_c_in_a_chunk_that_diverges_leaves_the_optimizer_of_the_last_epoch(monkeypatch):
    right, calls = PlannedSession.train, []

    def interrupted(session, *arguments):
        calls.append(right(session, *arguments))
        if len(calls) == 3:
            interrupt(None)
            session._buffers.parameters[0] = np.nan
        return calls[-1]

    failed, stopped = new_trainer(), new_trainer()
    stopped.fit(X, Y, epochs=2, batch_size=53)
    monkeypatch.setattr(PlannedSession, "train", interrupted)
    with pytest.warns(UserWarning, match="interrupted in epoch 3"):
        failed.fit(X, Y, epochs=9, batch_size=53)
    assert_goes_on_as(failed, stopped)


# ---------------------------------------------------------------------------------------------------------------------
# Ctrl-C and errors at once, and what is closed


def test_ctrl_c_is_answered_where_the_block_fails():
    with pytest.raises(KeyboardInterrupt) as caught, ctrl_c_waits():
        interrupt(None)
        raise MemoryError
    assert isinstance(caught.value.__context__, MemoryError)


def test_a_users_own_handler_hears_of_ctrl_c_where_the_block_fails():
    seen = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with pytest.raises(MemoryError), ctrl_c_waits():
            interrupt(None)
            raise MemoryError
    finally:
        signal.signal(signal.SIGINT, previous)
    assert seen == [signal.SIGINT]


def test_ctrl_c_in_a_chunk_that_fails_keeps_the_last_epoch(monkeypatch):
    right, calls = PlannedSession.train, []

    def fails(session, *arguments):
        calls.append(right(session, *arguments))
        if len(calls) == 2:
            interrupt(None)
            raise MemoryError
        return calls[-1]

    failed, stopped = new_trainer(), new_trainer()
    stopped.fit(X, Y, batch_size=53)
    monkeypatch.setattr(PlannedSession, "train", fails)
    with pytest.warns(UserWarning, match="interrupted in epoch 2, after 0 of 1 steps"):
        failed.fit(X, Y, epochs=9, batch_size=53)
    assert_goes_on_as(failed, stopped)


@pytest.mark.parametrize("hook", [*HOOKS, "on_train_end"])
def test_the_progress_bar_is_closed_after_an_error(hook):
    stream = io.StringIO()
    bar, fails = fastbp.ProgressBar(file=stream), fastbp.Callback()
    made = []
    setattr(fails, hook, lambda *arguments: made.append(bar._bar) or fail(None))
    with pytest.raises(RuntimeError, match="mine"):
        new_trainer().fit(X, Y, epochs=2, callbacks=[bar, fails])
    assert made[0].disable  # tqdm's word for closed
    assert stream.getvalue().endswith("\n")


def test_every_callback_is_closed_once_whatever_happens():
    closed = []

    class Closing(fastbp.Callback):
        def on_close(self, trainer):
            closed.append(self)
            raise ValueError("of the closing")

    callbacks = [Closing(), Closing()]
    with pytest.raises(ValueError, match="of the closing"):
        new_trainer().fit(X, Y, callbacks=[*callbacks, Calls("on_epoch_end", fail)])
    assert set(closed) == set(callbacks) and len(closed) == 2
    # a bar that was never opened
    with pytest.warns(UserWarning, match="interrupted"):
        new_trainer().fit(X, Y, callbacks=[Calls("on_train_begin", interrupt), fastbp.ProgressBar()])
