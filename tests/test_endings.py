"""How a training ended: what the history says after the end, a callback's stop, Ctrl-C and a second Ctrl-C."""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.backends._planned import PlannedSession

X, Y = data()
KINDS = [(MLPClassifier, Y), (MLPRegressor, Y.astype(float))]
BY_USER = r"Training interrupted by user\."
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)


class Calls(fastbp.Callback):
    """Calls a function in one hook from an epoch on, and writes down what it is told."""

    def __init__(self, hook, act, epoch=1):
        self.hook, self.act, self.epoch, self.told = hook, act, epoch, []

    def _hear(self, hook, trainer, epoch):
        self.told.append(hook)
        if hook == self.hook and epoch >= self.epoch:
            self.act(trainer)

    def on_train_begin(self, trainer, n_epochs, n_steps):
        self._hear("on_train_begin", trainer, 1000)

    def on_chunk_end(self, trainer, epoch, step, logs):
        self._hear("on_chunk_end", trainer, epoch)

    def on_epoch_end(self, trainer, epoch, logs):
        self._hear("on_epoch_end", trainer, epoch)

    def on_epoch_complete(self, trainer, epoch, logs):
        self._hear("on_epoch_complete", trainer, epoch)

    def on_train_end(self, trainer, history):
        self.told.append("on_train_end")
        self.history = history

    def on_close(self, trainer):
        self.told.append("on_close")


HOOKS = ["on_train_begin", "on_chunk_end", "on_epoch_end", "on_epoch_complete"]


def new(kind, callback, **options):
    given = {"hidden_layer_sizes": (6,), "max_iter": 9, "random_state": 0, "tol": 0.0, "n_iter_no_change": 100}
    return kind(**given | {"callbacks": [callback]} | options)


def stop(trainer):
    trainer.stop()


@pytest.mark.parametrize("hook", ["on_chunk_end", "on_epoch_end", "on_epoch_complete"])
def test_a_callback_has_stopped_it(hook):
    trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy", backend="reference")
    history = trainer.fit(X, Y, epochs=9, callbacks=[Calls(hook, stop)])
    assert history.message == "stopped by a callback after 2 of 9 epochs" and not history.interrupted
    assert "stopped by a callback" in repr(history)
    assert trainer.fit(X, Y, epochs=2).message == "ended after 2 of 2 epochs"


@pytest.mark.parametrize(("kind", "y"), KINDS)
@pytest.mark.parametrize(
    ("options", "what"), [({}, "epochs"), ({"early_stopping": True}, "epochs"), ({"solver": "lbfgs"}, "iterations")]
)
def test_a_callback_has_stopped_an_estimator(kind, y, options, what):
    model = new(kind, Calls("on_epoch_end", stop), **options).fit(X, y)
    assert model.history_.message == f"stopped by a callback after 2 of 9 {what}"
    assert not model.stopped_early_ and not model.history_.interrupted
    assert model.n_iter_ == 2 == len(model.history_["loss"])


def test_an_estimator_that_ended_by_itself():
    for options, message in (
        ({"max_iter": 2}, "not stopped early"),
        ({"tol": 1e9, "n_iter_no_change": 1, "max_iter": 50}, "stopped early"),
    ):
        model = new(MLPClassifier, fastbp.Callback(), **options).fit(X, Y)
        assert model.history_.message == message and not model.history_.interrupted


@pytest.mark.parametrize(("kind", "y"), KINDS)
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "sgd", "validation_fraction": 0.2}])
@pytest.mark.parametrize("hook", HOOKS)
def test_ctrl_c_in_an_estimator(kind, y, options, hook):
    watch = Calls(hook, interrupt)
    with pytest.warns(UserWarning, match=BY_USER):
        model = new(kind, watch, **options).fit(X, y)
    assert model.history_.interrupted and model.history_.message.startswith("interrupted in epoch")
    assert not model.stopped_early_
    n_iter = {"on_train_begin": 0, "on_chunk_end": 1}.get(hook, 2)
    assert model.n_iter_ == n_iter == len(model.loss_curve_)
    assert watch.told[-2:] == ["on_train_end", "on_close"]
    assert model.predict(X).shape == y.shape
    model.set_params(callbacks=None).fit(X, y)
    assert not model.history_.interrupted


@pytest.mark.parametrize(("kind", "y"), KINDS)
@pytest.mark.parametrize("hook", HOOKS)
def test_ctrl_c_with_lbfgs_keeps_the_last_iteration(kind, y, hook):
    watch = Calls(hook, interrupt)
    with pytest.warns(UserWarning, match=BY_USER) as caught:
        model = new(kind, watch, solver="lbfgs").fit(X, y)
    assert {warning.filename for warning in caught} == {__file__}
    n_iter = 0 if hook == "on_train_begin" else 2
    assert model.history_.interrupted and model.history_.message == f"interrupted after {n_iter} of 9 iterations"
    assert watch.history is model.history_ and watch.told[-2:] == ["on_train_end", "on_close"]
    assert model.n_iter_ == n_iter == len(model.history_["loss"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = new(kind, Calls("on_epoch_end", stop), solver="lbfgs").fit(X, y)
    if n_iter:
        assert model.loss_ == model.history_["loss"][-1]
        for a, b in zip(model.coefs_, wanted.coefs_, strict=True):
            np.testing.assert_array_equal(a, b)


def test_ctrl_c_within_an_iteration_of_lbfgs(monkeypatch):
    right, calls = PlannedSession.loss_and_gradients, []

    def interrupted(session, rows):
        calls.append(rows)
        if len(calls) == 7:
            interrupt()
        return right(session, rows)

    monkeypatch.setattr(PlannedSession, "loss_and_gradients", interrupted)
    with pytest.warns(UserWarning, match=BY_USER):
        model = new(MLPClassifier, fastbp.Callback(), solver="lbfgs", max_iter=200).fit(X, Y)
    n_iter = model.n_iter_
    assert 1 < n_iter < 7 and model.history_.interrupted
    monkeypatch.undo()
    wanted = new(MLPClassifier, fastbp.Callback(), solver="lbfgs", max_iter=n_iter).fit(X, Y)
    for a, b in zip(model.coefs_, wanted.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


def test_ctrl_c_of_a_long_lbfgs():
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(20_000, 30)), rng.integers(0, 5, 20_000)
    model = new(
        MLPClassifier, fastbp.Callback(), solver="lbfgs", max_iter=10**6, max_fun=10**9, hidden_layer_sizes=(50,)
    )
    new(MLPClassifier, fastbp.Callback(), solver="lbfgs", max_iter=1).fit(inputs[:50], labels[:50])  # compiles
    threading.Timer(1.0, interrupt).start()
    start = time.perf_counter()
    with pytest.warns(UserWarning, match=BY_USER):
        model.fit(inputs, labels)
    assert time.perf_counter() - start < 30
    assert model.history_.interrupted and model.n_iter_ == len(model.history_["loss"])


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
def test_a_second_ctrl_c_leaves_a_whole_state(backend, monkeypatch):
    """It comes while the first one is answered: a KeyboardInterrupt then, with weights and optimizer of one moment."""
    optimizer = fastbp.SGD(0.1, momentum=0.9)
    failed, plain = (
        fastbp.Trainer(new_model(), loss="softmax_cross_entropy", optimizer=optimizer, backend=backend, random_state=0)
        for _ in range(2)
    )
    right = fastbp._run.Run.cut_short

    def twice(run):
        interrupt()
        right(run)

    monkeypatch.setattr("fastbp._run.Run.cut_short", twice)
    watch = Calls("on_epoch_complete", interrupt)
    with pytest.raises(KeyboardInterrupt):
        failed.fit(X, Y, epochs=9, batch_size=10, shuffle=False, callbacks=[watch])
    assert watch.told[-1] == "on_close" and failed._session is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    plain.fit(X, Y, epochs=2, batch_size=10, shuffle=False)
    for trainer in (failed, plain):
        trainer.fit(X, Y, batch_size=10, shuffle=False)
    assert_same(failed.model.get_weights(), plain.model.get_weights())


def test_a_second_ctrl_c_leaves_an_estimator_as_it_was(monkeypatch):
    model = new(MLPClassifier, Calls("on_epoch_end", interrupt))
    right = fastbp._run.Run.cut_short

    def twice(run):
        interrupt()
        right(run)

    monkeypatch.setattr("fastbp._run.Run.cut_short", twice)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert not hasattr(model, "coefs_")
    model.set_params(callbacks=None).fit(X, Y)
