"""Bad input, numbers out of range and Ctrl-C: what is said, and what state is left."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from test_trainer import assert_same, data, new_model

import fastbp

X, Y = data()


def with_value(array, value):
    changed = np.array(array, float)
    changed.flat[3] = value
    return changed


BAD_FITS = [
    (dict(X=X[:, :4]), ValueError, r"X must have 5 columns, one for each feature, got an array of shape \(53, 4\)"),
    (dict(X=X[0]), ValueError, "X is not usable: Expected 2D array, got 1D array"),
    (dict(X=X[:0], y=Y[:0]), ValueError, "X is not usable: Found array with 0 sample"),
    (dict(X=with_value(X, np.nan)), ValueError, "X is not usable: Input X contains NaN"),
    (dict(X=with_value(X, -np.inf)), ValueError, "X is not usable: Input X contains infinity"),
    (dict(X=np.full(X.shape, "1")), TypeError, "X is not usable: it must hold real numbers, got an array of <U1"),
    (dict(X=np.full(X.shape, b"1")), TypeError, "X is not usable: it must hold real numbers, got an array of |S1"),
    (dict(X=np.full(X.shape, "1").tolist()), TypeError, "X is not usable: it must hold real numbers"),
    (dict(X=np.full(X.shape, "1", object)), TypeError, "X is not usable: it must hold real numbers, got '1' in an arr"),
    (dict(X=X.astype(complex)), TypeError, "X is not usable: it must hold real numbers, got an array of complex128"),
    (dict(X=X.astype("M8[s]")), TypeError, r"X is not usable: it must hold real numbers, got an array of datetime64\["),
    (dict(X=X.astype("m8[s]")), TypeError, "X is not usable: it must hold real numbers, got an array of timedelta64"),
    (dict(X=np.zeros(X.shape, "f8,f8")), TypeError, "X is not usable: it must hold real numbers, got an array of"),
    (dict(X=np.full(X.shape, None)), ValueError, "X is not usable: Input X contains NaN"),
    (dict(X=[[10**400] * 5] * 53), ValueError, "X is not usable: it holds a number too large for float64"),
    (dict(X=[*X[:-1].tolist(), [1.0]]), ValueError, "X is not usable"),
    (dict(y=Y[:-1]), ValueError, r"y must have the shape \(53,\), one label for each row of X, got \(52,\)"),
    (dict(y=Y[:, None]), ValueError, r"y must have the shape \(53,\)"),
    (dict(y=Y + 1), ValueError, "y must hold labels from 0 to 3, one for each output, got labels from 1 to 4"),
    (dict(y=Y - 1), ValueError, "y must hold labels from 0 to 3, .* got labels from -1 to 2"),
    (dict(y=Y.astype(float)), TypeError, "y must hold integer labels from 0 to 3, got an array of float64"),
    (dict(y=Y.astype(str)), TypeError, "y must hold integer labels"),
    (dict(y=Y.astype("m8[s]")), TypeError, "y must hold integer labels"),
    (dict(y=[[0], [1, 2]]), ValueError, "y is not usable: its rows have different lengths, from 1 to 2"),
    (dict(y=[10**400] * 53), TypeError, "y must hold integer labels from 0 to 3, got an array of object"),
    (dict(epochs=10**5000), ValueError, "epochs must be an integer of at most 9223372036854775807, got <int>"),
    (dict(epochs=-(10**5000)), ValueError, "epochs must be an integer of at least 1, got <int>"),
    (dict(epochs=0), ValueError, "epochs must be an integer of at least 1, got 0"),
    (dict(epochs=2.5), TypeError, "epochs must be an integer of at least 1, got 2.5"),
    (dict(batch_size=0), ValueError, "batch_size must be an integer of at least 1, got 0"),
    (dict(batch_size="auto"), TypeError, "batch_size must be an integer"),
    (dict(shuffle=1), TypeError, "shuffle must be True or False, got 1"),
    (dict(verbose=-1), ValueError, "verbose must be an integer of at least 0"),
    (dict(verbose="bar"), TypeError, "verbose must be an integer"),
    (dict(sample_weight=np.ones(3)), ValueError, r"sample_weight must have the shape \(53,\)"),
    (dict(sample_weight=-np.ones(53)), ValueError, "sample_weight must be at least 0 and not all 0"),
    (dict(sample_weight=np.zeros(53)), ValueError, "sample_weight must be at least 0 and not all 0"),
    (dict(sample_weight=np.full(53, np.nan)), ValueError, "sample_weight is not usable: Input sample_weight cont"),
    (dict(sample_weight=[10**400] * 53), ValueError, "sample_weight is not usable: it holds a number too large"),
    (dict(sample_weight=np.ones(53, "m8[s]")), TypeError, "sample_weight is not usable: it must hold real numbers"),
    (dict(validation_data=X), ValueError, r"validation_data must be \(X, y\) or \(X, y, sample_weight\)"),
    (dict(validation_data=(X[:, :2], Y)), ValueError, "validation_data: X must have 5 columns"),
    (dict(validation_data=(X, Y[:2])), ValueError, r"validation_data: y must have the shape \(53,\)"),
    (dict(callbacks=[print]), TypeError, "callbacks must hold instances of fastbp.Callback"),
    (dict(callbacks=fastbp.Callback()), TypeError, "callbacks must be a sequence of fastbp.Callback"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_FITS)
def test_bad_input_is_named_and_changes_nothing(arguments, error, message):
    model = new_model()
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=0)
    before = model.get_weights()
    with pytest.raises(error, match=message):
        trainer.fit(**{"X": X, "y": Y, **arguments})
    assert_same(before, model.get_weights())
    assert model.link == "softmax"  # as the trainer has set it
    # nothing else either: it trains as one that never saw the bad input
    fresh = new_model()
    fastbp.Trainer(fresh, loss="softmax_cross_entropy", random_state=0).fit(X, Y)
    trainer.fit(X, Y)
    assert_same(fresh.get_weights(), model.get_weights())


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("sigmoid_cross_entropy", np.full((53, 3), 1.5), "y must lie between 0 and 1 for this loss"),
        ("sigmoid_cross_entropy", np.full(53, 0.5), r"y must have the shape \(53, 3\), .* got \(53,\)"),
        ("poisson", np.full((53, 2), -0.5), "y must be at least 0 for the loss 'poisson', got values down to -0.5"),
        ("poisson", np.full((53, 2), np.inf), "y is not usable: Input y contains infinity"),
        ("mean_squared_error", np.full((53, 2), np.nan), "y is not usable: Input y contains NaN"),
        ("mean_squared_error", np.zeros((53, 3)), r"y must have the shape \(53, 2\)"),
        (
            "mean_squared_error",
            np.full((53, 2), "1"),
            "y is not usable: it must hold real numbers, got an array of <U1",
        ),
        ("mean_squared_error", np.zeros((53, 2), "M8[D]"), "y is not usable: it must hold real numbers"),
        ("sigmoid_cross_entropy", np.zeros((53, 3), "m8[D]"), "y is not usable: it must hold real numbers"),
        ("mean_squared_error", [[10**400] * 2] * 53, "y is not usable: it holds a number too large for float64"),
        ("mean_squared_error", [[1.0], [1.0, 2.0]], "y is not usable"),
    ],
)
def test_bad_targets_are_named(loss, y, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fastbp.Trainer(new_model(loss), loss=loss).fit(X, y)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(loss="hinge"), ValueError, "loss must be one of 'softmax_cross_entropy', .* got 'hinge'"),
        (dict(loss=None), ValueError, "loss must be one of"),
        (dict(model="model"), TypeError, "model must be a fastbp.Sequential, got 'model'"),
        (dict(optimizer="adam"), TypeError, "optimizer must be one of fastbp.s, such as fastbp.Adam.., got .adam."),
        (dict(backend="gpu"), ValueError, "backend must be one of 'cpu', 'cuda', 'reference', got 'gpu'"),
        (dict(n_threads=0), ValueError, "n_threads must be an integer of at least 1, got 0"),
        (dict(n_threads=1.5), TypeError, "n_threads must be an integer"),
        (dict(verify="yes"), TypeError, "verify must be True or False, got 'yes'"),
        (dict(on_divergence="stop"), ValueError, "on_divergence must be one of 'raise', 'ignore', got 'stop'"),
        (
            dict(random_state="x"),
            ValueError,
            r"random_state must be None, an integer from 0 to 2\*\*32 - 1 or .* got 'x'",
        ),
        (dict(random_state=-1), ValueError, "random_state must be None, .* got -1"),
        (dict(random_state=np.random.default_rng(0)), ValueError, "random_state must be None, .* got Generator"),
        (dict(backend=[]), ValueError, r"backend must be one of 'cpu', 'cuda', 'reference', got \[\]"),
        (dict(model=new_model(n_outputs=1)), ValueError, "needs an output for each class, at least 2, got 1"),
        (
            dict(model=fastbp.Sequential([fastbp.Dense(3, "tanh")], n_features=5)),
            ValueError,
            "brings the output activation 'softmax': the last layer must have it or 'identity', got 'tanh'",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        fastbp.Trainer(**{"model": new_model(), "loss": "softmax_cross_entropy", **arguments})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastbp.SGD(0), ValueError, "learning_rate must be a number above 0, got 0"),
        (lambda: fastbp.SGD(float("nan")), ValueError, "learning_rate must be a number above 0, got nan"),
        (
            lambda: fastbp.SGD(10**400),
            ValueError,
            "learning_rate must be a number above 0 that a float can hold, got 1",
        ),
        (lambda: fastbp.Adam(l2=10**5000), ValueError, "l2 must be a number of at least 0 that a float .* got <int>"),
        (lambda: fastbp.SGD("fast"), TypeError, "learning_rate must be a number above 0, got 'fast'"),
        (lambda: fastbp.SGD(momentum=1.5), ValueError, "momentum must be a number from 0 to 1, got 1.5"),
        (lambda: fastbp.SGD(momentum=-0.1), ValueError, "momentum must be a number of at least 0"),
        (lambda: fastbp.SGD(nesterov=1), TypeError, "nesterov must be True or False"),
        (lambda: fastbp.SGD(l2=-1), ValueError, "l2 must be a number of at least 0, got -1"),
        (lambda: fastbp.SGD(convention="keras"), ValueError, "convention must be one of 'pytorch', 'scikit-learn'"),
        (lambda: fastbp.Adam(beta_1=1.0), ValueError, "beta_1 must be a number of at least 0 and below 1, got 1.0"),
        (lambda: fastbp.Adam(beta_2=-0.5), ValueError, "beta_2 must be a number of at least 0 and below 1"),
        (lambda: fastbp.Adam(epsilon=0), ValueError, "epsilon must be a number above 0"),
    ],
)
def test_bad_optimizers_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_more_threads_than_there_are_is_a_warning():
    trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy", n_threads=1000)
    estimator = fastbp.MLPClassifier((5,), n_jobs=1000, max_iter=1, tol=1e9)
    for name, call in (
        ("n_threads", lambda: trainer.fit(X, Y)),
        ("n_threads", lambda: trainer.loss_and_gradients(X, Y)),
        ("n_threads", lambda: trainer.model.predict(X, n_threads=1000)),
        ("n_jobs", lambda: estimator.partial_fit(X, Y, classes=[0, 1, 2, 3])),
        ("n_jobs", lambda: estimator.predict(X)),
    ):
        with pytest.warns(UserWarning, match=f"^{name} is 1000, but Numba's pool has") as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}  # the line that has asked for them


# ---------------------------------------------------------------------------------------------------------------------
# Divergence


class Explodes(fastbp.Callback):
    """Sets a learning rate that no training survives, after the second epoch."""

    def on_epoch_end(self, trainer, epoch, logs):
        self.weights = trainer.model.get_weights()
        if epoch == 1:
            trainer.learning_rate = 1e300


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_last_epoch(backend):
    loss, watch = "mean_squared_error", Explodes()
    model, (inputs, targets) = new_model(loss), data(loss)
    trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.SGD(0.01), backend=backend, random_state=0)
    message = (
        r"the loss became (nan|inf) in step \d+ \(of 6\) of epoch 3: try a smaller learning rate \(it is 1e\+300\)"
    )
    with pytest.raises(FloatingPointError, match=message):
        trainer.fit(inputs, targets, epochs=5, batch_size=10, callbacks=[watch])
    assert_same(watch.weights, model.get_weights())


def test_a_weight_that_is_no_number_is_noticed_without_a_loss():
    """One step: its loss is finite, the weights after it are not."""
    loss = "mean_squared_error"
    model, (inputs, targets) = new_model(loss, dtype="float32"), data(loss)
    trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.SGD(1e38))
    before = model.get_weights()
    model.link = "tanh"  # as an earlier training might have left it
    with pytest.raises(FloatingPointError, match="a weight became infinite or NaN in step 1 "):
        trainer.fit(inputs * 1e3, targets * 1e3, batch_size=53)
    assert_same(before, model.get_weights())
    assert model.link == "tanh"


def test_divergence_can_be_ignored():
    loss = "mean_squared_error"
    model, (inputs, targets) = new_model(loss), data(loss)
    trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.SGD(1e300), on_divergence="ignore")
    assert not np.isfinite(trainer.fit(inputs, targets, epochs=2)["loss"][-1])
    assert not np.isfinite(model.get_weights()[0]).all()


# ---------------------------------------------------------------------------------------------------------------------
# Ctrl-C


def interrupt_after(seconds):
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def test_ctrl_c_answers_soon_and_leaves_the_model_of_the_last_chunk():
    """A training of minutes; the same steps, taken again, lead to the same bits."""
    rng, n_rows = np.random.default_rng(0), 200_000
    inputs, targets, steps = rng.normal(size=(n_rows, 5)), rng.integers(0, 4, n_rows), []

    class Watch(fastbp.Callback):
        def on_chunk_end(self, trainer, epoch, step, logs):
            steps.append((epoch, step))

    def started():
        model = new_model()
        trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=0)
        trainer.fit(inputs[:64], targets[:64])  # compiles, and gives the optimizer a state
        return model, trainer

    model, trainer = started()
    sent = time.perf_counter() + 0.7
    interrupt_after(0.7)
    with pytest.warns(UserWarning, match="training was interrupted in epoch"):
        history = trainer.fit(inputs, targets, epochs=100_000, batch_size=1, shuffle=False, callbacks=[Watch()])
    assert time.perf_counter() - sent < 5  # 0.3 s by itself; here other processes may be running
    words = history.message.replace(",", "").split()
    epoch, done = (int(words[words.index(word) + 1]) for word in ("epoch", "after"))
    assert history.interrupted and len(history["loss"]) == epoch - 1
    # the chunk in which it came was finished, whether its callback was told or not
    assert steps[-1] <= (epoch - 1, done)

    replayed, again = started()
    if epoch > 1:
        again.fit(inputs, targets, epochs=epoch - 1, batch_size=1, shuffle=False)
    again.fit(inputs[:done], targets[:done], batch_size=1, shuffle=False)
    assert_same(replayed.get_weights(), model.get_weights())


@pytest.mark.parametrize("rate", ["0.1", None, -1, np.array([0.1, 0.2]), float("nan")])
def test_learning_rates_that_callbacks_set_are_checked(rate):
    trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy")
    with pytest.raises((TypeError, ValueError), match="learning_rate must be a number of at least 0, got"):
        trainer.learning_rate = rate
    assert trainer.learning_rate == 1e-3


def test_ctrl_c_in_a_chunk_that_diverges_keeps_the_last_epoch(monkeypatch):
    from fastbp.backends._planned import PlannedSession

    loss, right = "mean_squared_error", PlannedSession.train

    def interrupted(session, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return right(session, *arguments)

    monkeypatch.setattr(PlannedSession, "train", interrupted)
    model, (inputs, targets) = new_model(loss, dtype="float32"), data(loss)
    before = model.get_weights()
    with pytest.warns(UserWarning, match="interrupted in epoch 1"):
        trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.SGD(1e38))
        trainer.fit(inputs * 1e3, targets * 1e3, batch_size=53)
    assert_same(before, model.get_weights())


def test_ctrl_c_in_a_callback_is_answered_too():
    class Slow(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            self.weights = trainer.model.get_weights()
            interrupt_after(0.05)
            time.sleep(30)

    watch, model = Slow(), new_model()
    start = time.perf_counter()
    with pytest.warns(UserWarning, match="interrupted in epoch 1, after 2 of 2 steps"):
        fastbp.Trainer(model, loss="softmax_cross_entropy").fit(X, Y, epochs=9, callbacks=[watch])
    assert time.perf_counter() - start < 20
    assert_same(watch.weights, model.get_weights())


def test_the_handler_of_ctrl_c_is_restored_and_a_users_own_is_called():
    seen = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    mine = signal.getsignal(signal.SIGINT)

    class Interrupt(fastbp.Callback):
        def on_chunk_end(self, trainer, epoch, step, logs):
            os.kill(os.getpid(), signal.SIGINT)

    try:
        history = fastbp.Trainer(new_model(), loss="softmax_cross_entropy").fit(X, Y, callbacks=[Interrupt()])
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, previous)
    assert seen and set(seen) == {signal.SIGINT} and not history.interrupted


def test_training_works_off_the_main_thread():
    results = []

    def work():
        model = new_model()
        fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=0).fit(X, Y)
        results.append(model.get_weights())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    work()
    assert_same(*results)


def test_an_error_in_a_callback_comes_through_and_keeps_the_last_epoch():
    class Fails(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            self.weights = trainer.model.get_weights()
            if epoch == 1:
                raise RuntimeError("mine")

    watch, model = Fails(), new_model()
    with pytest.raises(RuntimeError, match="mine"):
        fastbp.Trainer(model, loss="softmax_cross_entropy").fit(X, Y, epochs=9, callbacks=[watch])
    assert_same(watch.weights, model.get_weights())
