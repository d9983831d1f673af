"""One fit at a time: a second one on the same object is refused, and the first one goes on undamaged."""

import copy
import os
import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp import MLPClassifier, MLPRegressor, _busy

X, Y = data()
TRAINER = "this Trainer is within a fit, and has one at a time: begin another one when that has ended"
ESTIMATOR = "this estimator is within a fit, and has one at a time: fit another one, such as sklearn.base.clone"
MODEL = "the model is being trained in another thread: wait for the end of that fit"
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert not _busy._USES


def new_trainer(model=None, optimizer=None, **options):
    optimizer = fastbp.SGD(0.1, momentum=0.9, ema_decay=0.5) if optimizer is None else optimizer
    model = new_model() if model is None else model
    return fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer, random_state=0, **options)


class Does(fastbp.Callback):
    """Calls a function with the trainer after each epoch."""

    def __init__(self, act, hook="on_epoch_end"):
        self.act, self.closed = act, 0
        setattr(self, hook, lambda trainer, *_: act(trainer))

    def on_close(self, trainer):
        self.closed += 1


def elsewhere(act):
    """What a function raises in a second thread; None for nothing."""
    errors = []

    def work():
        try:
            act()
            errors.append(None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    return errors[0]


def undamaged(act, hook="on_epoch_end", **options):
    """Train with a callback that acts; weights and history are those of a training without it."""
    trainer, plain, watch = new_trainer(), new_trainer(), Does(act, hook)
    history = trainer.fit(X, Y, epochs=3, batch_size=10, callbacks=[watch], **options)
    wanted = plain.fit(X, Y, epochs=3, batch_size=10, **options)
    assert history["loss"] == wanted["loss"] and watch.closed == 1
    for one in (trainer, plain):
        one.fit(X, Y, batch_size=10)
    assert_same(trainer.model.get_weights(), plain.model.get_weights())
    return trainer


@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_chunk_end", "on_epoch_end", "on_epoch_complete", "on_train_end"]
)
@pytest.mark.parametrize("thread", [False, True])
def test_a_second_fit_of_a_trainer(hook, thread):
    seen = []

    def act(trainer):
        def fit():
            trainer.fit(X, Y, callbacks=[inner])

        if thread:
            seen.append(elsewhere(fit))
            return
        with pytest.raises(RuntimeError) as caught:
            fit()
        seen.append(caught.value)

    inner = Does(lambda trainer: None)
    undamaged(act, hook)
    assert seen and all(type(error) is RuntimeError and TRAINER in str(error) for error in seen)
    assert inner.closed == 0


def test_what_else_a_callback_may_call(tmp_path):
    """Its own thread: everything but fit."""
    averages = []

    def act(trainer):
        averages.append(trainer.averaged_weights())
        trainer.loss_and_gradients(X, Y)
        trainer.model.predict(X)
        trainer.model.set_weights(trainer.model.get_weights())
        trainer.save(tmp_path / "run.safetensors")

    trainer = undamaged(act, "on_epoch_complete")
    assert len(averages) == 3
    with pytest.raises(AssertionError):
        assert_same(averages[0], averages[2])
    again = new_trainer()
    again.fit(X, Y, epochs=4, batch_size=10, resume_from=tmp_path / "run.safetensors")
    trainer_after = new_trainer()
    trainer_after.fit(X, Y, epochs=4, batch_size=10)
    assert_same(again.model.get_weights(), trainer_after.model.get_weights())
    assert trainer.model is not again.model


def test_what_another_thread_may_call(tmp_path):
    calls = {
        "save": lambda trainer: trainer.save(tmp_path / "run.safetensors"),
        "averaged_weights": lambda trainer: trainer.averaged_weights(),
        "set_weights": lambda trainer: trainer.model.set_weights(trainer.model.get_weights()),
        "loss_and_gradients": lambda trainer: trainer.loss_and_gradients(X, Y),
        "predict": lambda trainer: trainer.model.predict(X),
        "get_weights": lambda trainer: trainer.model.get_weights(),
    }
    seen = {}

    def act(trainer):
        for name, call in calls.items():
            error = elsewhere(lambda call=call: call(trainer))
            seen[name] = None if error is None else f"{type(error).__name__}: {error}"

    trainer = undamaged(act, "on_epoch_complete")
    within = "RuntimeError: this Trainer is within a fit, which another thread changes step by step"
    assert seen.pop("save").startswith(within) and seen.pop("averaged_weights").startswith(within)
    assert "overwrite these weights: set them in a callback of that fit" in seen.pop("set_weights")
    assert set(seen.values()) == {None}
    for name, call in calls.items():  # when the fit has ended
        assert elsewhere(lambda call=call: call(trainer)) is None, name


def test_two_trainers_with_one_model():
    """In two threads the second is refused; in a callback it trains the model, and the first goes on from there."""
    seen = []

    def another(trainer):
        seen.append(elsewhere(lambda: new_trainer(trainer.model).fit(X, Y)))

    undamaged(another)
    assert all(type(error) is RuntimeError and MODEL in str(error) for error in seen)

    model, by_hand = new_model(), new_model()
    new_trainer(model).fit(
        X, Y, epochs=2, shuffle=False, callbacks=[Does(lambda trainer: new_trainer(model).fit(X, Y, shuffle=False))]
    )
    outer = new_trainer(by_hand)
    for _ in range(2):
        outer.fit(X, Y, shuffle=False)
        new_trainer(by_hand).fit(X, Y, shuffle=False)
    assert_same(model.get_weights(), by_hand.get_weights())


def test_two_trainers_with_models_of_their_own_train_side_by_side():
    models = [new_model() for _ in range(2)]
    threads = [threading.Thread(target=lambda m=m: new_trainer(m).fit(X, Y, epochs=20)) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(*[model.get_weights() for model in models])


class Interrupt:
    def on_epoch_end(self, trainer, epoch, logs):
        os.kill(os.getpid(), signal.SIGINT)


def fail(trainer):
    raise KeyError("mine")


def test_the_next_fit_is_free_after_errors_and_ctrl_c():
    trainer = new_trainer()
    with pytest.raises(KeyError):
        trainer.fit(X, Y, callbacks=[Does(fail)])
    with pytest.raises(ValueError):
        trainer.fit(X * np.nan, Y)
    with pytest.raises(FloatingPointError):
        new = fastbp.Trainer(new_model("mean_squared_error"), loss="mean_squared_error", optimizer=fastbp.SGD(1e300))
        new.fit(*data("mean_squared_error"), epochs=3)
    with pytest.warns(UserWarning, match="interrupted"):
        trainer.fit(X, Y, callbacks=[Interrupt()])
    with pytest.raises(RuntimeError):
        trainer.fit(X, Y, callbacks=[Does(lambda trainer: trainer.fit(X, Y))])  # that callback lets it through
    trainer.fit(X, Y)


# ---------------------------------------------------------------------------------------------------------------------
# Estimators

KINDS = [(MLPClassifier, Y), (MLPRegressor, Y.astype(float))]


def new_estimator(kind, act=None, **options):
    callbacks = None if act is None else [Does(act)]
    return kind(**{"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0, "callbacks": callbacks} | options)


def same_fit(kind, y, act, method="fit", **options):
    """Fit with a callback that acts; the estimator is that of a fit without it."""
    model, plain = new_estimator(kind, lambda _: act(model), **options), new_estimator(kind, **options)
    for one in (model, plain):
        for _ in range(2):
            classes = {"classes": np.unique(y)} if method == "partial_fit" and kind is MLPClassifier else {}
            getattr(one, method)(X, y, **classes)
    for a, b in zip(model.coefs_, plain.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(vars(model)) == set(vars(plain)) and model.history_["loss"] == plain.history_["loss"]
    return model


@pytest.mark.parametrize(("kind", "y"), KINDS)
@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize(
    ("outer", "solver", "inner"),
    [("fit", "adam", "fit"), ("fit", "lbfgs", "fit"), ("fit", "adam", "partial_fit"), ("partial_fit", "sgd", "fit"),
     ("partial_fit", "adam", "partial_fit")],
)  # fmt: skip
def test_a_second_fit_of_an_estimator(kind, y, thread, outer, solver, inner):
    seen = []

    def act(model):
        def second():
            classes = {"classes": np.unique(y)} if inner == "partial_fit" and kind is MLPClassifier else {}
            getattr(model, inner)(X, y, **classes)

        if thread:
            seen.append(elsewhere(second))
        else:
            with pytest.raises(RuntimeError) as caught:
                second()
            seen.append(caught.value)

    same_fit(kind, y, act, outer, solver=solver)
    assert seen and all(type(error) is RuntimeError and ESTIMATOR in str(error) for error in seen)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_the_trainer_of_an_estimator_is_not_fitted_in_its_callbacks(solver):
    errors = []

    def act(trainer):
        with pytest.raises(RuntimeError) as caught:
            trainer.fit(X, Y)
        errors.append(str(caught.value))

    new_estimator(MLPClassifier, act, solver=solver).fit(X, Y)
    assert errors and all(TRAINER in error for error in errors)


class Follows:
    """scikit-learn's kind of callback; tries a fit within the fit."""

    def __init__(self):
        self.told = []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        pass

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        if context.task_name == "epoch":
            with pytest.raises(RuntimeError, match=ESTIMATOR):
                estimator.fit(X, y)
            self.told.append("refused")


def test_callbacks_of_the_first_fit_are_torn_down_when_it_ends():
    callback = Follows()
    model = new_estimator(MLPClassifier).set_callbacks(callback).fit(X, Y)
    assert callback.told == ["setup", "refused", "refused", "refused", "teardown"]
    assert not any(name in vars(model) for name in ("_callback_fit_ctx", "_skl_callbacks_to_teardown"))


def test_predictions_within_a_fit_are_those_of_the_fit_before():
    model = new_estimator(MLPClassifier).fit(X, Y)
    before, seen = model.predict_proba(X), []
    model.set_params(callbacks=[Does(lambda _: seen.append(model.predict_proba(X)))], random_state=1).fit(X, Y)
    assert len(seen) == 3
    for outputs in seen:
        np.testing.assert_array_equal(outputs, before)


def test_estimators_are_free_after_errors_and_ctrl_c():
    model = new_estimator(MLPClassifier, fail)
    with pytest.raises(KeyError):
        model.fit(X, Y)
    with pytest.raises(ValueError):
        model.set_params(callbacks=None).partial_fit(X * np.nan, Y, classes=[0, 1, 2, 3])
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.set_params(callbacks=[Interrupt()]).fit(X, Y)
    model.set_params(callbacks=None).fit(X, Y)


# ---------------------------------------------------------------------------------------------------------------------
# Copies and processes


def test_copies_within_a_fit_are_free():
    copies = []

    def act(trainer):
        copies.extend([pickle.loads(pickle.dumps(trainer)), copy.deepcopy(trainer)])

    trainer = new_trainer()
    watch = Does(act)
    trainer.fit(X, Y, epochs=2, batch_size=10, shuffle=False, callbacks=[watch])
    for k, one in enumerate(copies):  # they go on from the epoch that they were made after
        plain = new_trainer()
        plain.fit(X, Y, epochs=3, batch_size=10, shuffle=False)
        one.fit(X, Y, epochs=2 - k // 2, batch_size=10, shuffle=False)
        assert_same(one.model.get_weights(), plain.model.get_weights())
    pickle.loads(pickle.dumps(trainer)).fit(X, Y)


def test_copies_of_an_estimator_within_a_fit_are_free():
    copies = []

    class Copies(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            for one in (clone(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                copies.append(one.set_params(callbacks=None).fit(X, Y))

        def __deepcopy__(self, memo):
            return fastbp.Callback()

        def __reduce__(self):
            return fastbp.Callback, ()

    model = new_estimator(MLPClassifier, max_iter=1, callbacks=[Copies()])
    model.fit(X, Y)
    for one in copies:
        np.testing.assert_array_equal(one.coefs_[0], model.coefs_[0])
    assert len(copies) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_is_free():
    """The thread that fits is not in the child."""
    codes = []

    def act(trainer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a process with threads
            pid = os.fork()
        if pid == 0:
            os._exit(0 if _busy.use_of(trainer) is None and _busy.use_of(trainer.model) is None else 3)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    new_trainer(backend="reference").fit(X, Y, callbacks=[Does(act)])
    assert codes == [0]
