"""Callbacks of the estimators: scikit-learn's own (``set_callbacks``) and the parameter ``callbacks``."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Recorder:
    """Follows scikit-learn's protocol and writes everything down."""

    def __init__(self, stop_at=None, fail_at=None, told=None):
        self.told, self.stop_at, self.fail_at = [] if told is None else told, stop_at, fail_at
        self.scores = []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.told.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.told.append(f"end {context.task_name} {context.task_id}")
        if context.task_name == "epoch" and fitted_estimator is not None:
            self.metadata = metadata
            self.scores.append(fitted_estimator.score(X, y))
            if context.task_id == self.fail_at:
                raise RuntimeError("no more")
            return context.task_id == self.stop_at
        return None


class Listener(fastbp.Callback):
    """Ours."""

    def __init__(self, told=None, stop_at=None):
        self.told, self.stop_at, self.losses = [] if told is None else told, stop_at, []

    def on_train_begin(self, trainer, n_epochs, n_steps):
        self.told.append("train")

    def on_epoch_end(self, trainer, epoch, logs):
        self.told.append(f"ours {epoch}")
        self.losses.append(logs["loss"])
        if epoch == self.stop_at:
            trainer.stop()

    def on_train_end(self, trainer, history):
        self.told.append("trained")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_both_kinds_run_and_scikit_learns_are_first(solver):
    told = []
    recorder, listener = Recorder(told=told), Listener(told)
    model = MLPClassifier((5,), solver=solver, max_iter=3, random_state=0, callbacks=[listener])
    assert model.set_callbacks(recorder) is model
    model.fit(X, Y)
    assert told == [
        "setup", "begin fit 0", "begin epoch 0", "train", "end epoch 0", "begin epoch 1", "ours 0", "end epoch 1",
        "begin epoch 2", "ours 1", "end epoch 2", "ours 2", "trained", "end fit 0", "teardown",
    ]  # fmt: skip
    assert recorder.scores[-1] == model.score(X, Y)
    assert len(listener.losses) == 3
    plain = MLPClassifier((5,), solver=solver, max_iter=3, random_state=0).fit(X, Y)
    for a, b in zip(plain.coefs_, model.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["scikit-learn's", "ours"])
def test_a_callback_may_end_the_training(solver, kind):
    model = MLPRegressor(hidden_layer_sizes=(5,), solver=solver, max_iter=50, random_state=0)
    if kind == "ours":
        model.set_params(callbacks=[Listener(stop_at=4)])
    else:
        model.set_callbacks(Recorder(stop_at=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, Y)
    assert model.n_iter_ == 5 == len(model.history_["loss"])


def test_tasks_are_closed_whatever_ends_the_training():
    told = []
    model = MLPClassifier((5,), max_iter=9, random_state=0, callbacks=[Listener(told, stop_at=1)])
    model.set_callbacks(Recorder(told=told)).fit(X, Y)
    begun, ended = ([line[len(word) :] for line in told if line.startswith(word)] for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    assert told[-2:] == ["end fit 0", "teardown"]


def test_a_failing_callback_is_torn_down_and_leaves_the_estimator_as_it_was():
    model = MLPClassifier((5,), max_iter=4, random_state=0).fit(X, Y)
    recorder = Recorder(fail_at=1)
    model.set_callbacks(recorder)
    before = {name: value for name, value in vars(model).items() if name.endswith("_")}
    with pytest.raises(RuntimeError, match="no more"):
        model.fit(X, Y)
    assert recorder.told[-1] == "teardown"
    after = {name: value for name, value in vars(model).items() if name.endswith("_")}
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    assert not hasattr(model, "_callback_fit_ctx")
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X * np.nan, Y)


def test_partial_fit_is_a_task_of_one_epoch_and_passes_weights_on():
    recorder = Recorder()
    model = MLPClassifier((5,), random_state=0).set_callbacks(recorder)
    for _ in range(2):
        model.partial_fit(X, Y, sample_weight=np.ones(len(X)), classes=np.unique(Y))
    assert [line for line in recorder.told if "partial_fit" in line] == ["begin partial_fit 0", "end partial_fit 0"] * 2
    assert list(recorder.metadata) == ["sample_weight"]
    assert recorder.scores[-1] == model.score(X, Y)


def test_scikit_learns_own_callbacks():
    monitor = ScoringMonitor(scoring="accuracy")
    model = MLPClassifier((20,), max_iter=20, random_state=0, learning_rate_init=0.02, early_stopping=True)
    model.set_callbacks(monitor).fit(X, Y)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(scores) == model.n_iter_ and len(set(scores)) > 1


def test_searches_hand_their_callbacks_down():
    """As they do to scikit-learn's own estimators."""
    recorder = Recorder()
    recorder.max_propagation_depth = None
    search = GridSearchCV(MLPClassifier((5,), max_iter=2), {"alpha": [0.1, 1.0]}, cv=2)
    search.set_callbacks(recorder).fit(X, Y)
    assert recorder.told.count("begin epoch 0") == 5 and recorder.told.count("setup") == 1


def test_clone_and_pickle_keep_both():
    listener, recorder = Listener(), Recorder()
    model = MLPClassifier((5,), max_iter=2, callbacks=(listener,)).set_callbacks(recorder)
    copy = clone(model)
    assert [type(callback) for callback in copy.callbacks] == [Listener]
    assert copy._skl_callbacks == [recorder]
    pickle.loads(pickle.dumps(model.fit(X, Y))).fit(X, Y)
    assert not hasattr(model.set_callbacks(), "_skl_callbacks")
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=2, callbacks=[Listener()])).fit(X, Y)
    assert len(pipeline[-1].callbacks[0].losses) == 2


def test_what_is_no_callback_is_refused():
    for callbacks, error in (([1], TypeError), ([Recorder()], TypeError), ("abc", TypeError), (3, ValueError)):
        with pytest.raises(error, match="callbacks"):
            MLPClassifier(callbacks=callbacks).fit(X, Y)
    with pytest.raises(TypeError, match="FitCallback protocol"):
        MLPClassifier().set_callbacks(Listener())


def test_progress_bar(capsys):
    for solver, n_iter in (("adam", 3), ("lbfgs", 3)):
        model = MLPClassifier((5,), solver=solver, max_iter=n_iter, random_state=0, verbose="progress").fit(X, Y)
        out, err = capsys.readouterr()
        assert "100%" in err and "loss=" in err and out == ""
        assert model.n_iter_ == n_iter
