"""Trainer: what it learns, what it records, and that it only ever replaces its state by a finished one."""

import io
import itertools

import numpy as np
import pytest

import fastbp
from fastbp.losses import Loss

LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mean_squared_error", "poisson")


def new_model(loss="softmax_cross_entropy", dtype="float64", random_state=0, hidden="relu", n_outputs=None):
    n_outputs = n_outputs or {"softmax_cross_entropy": 4, "sigmoid_cross_entropy": 3}.get(loss, 2)
    layers = [fastbp.Dense(11, hidden), fastbp.Dense(n_outputs)]
    return fastbp.Sequential(layers, n_features=5, random_state=random_state, dtype=dtype)


def data(loss="softmax_cross_entropy", n_rows=53, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 5))
    if loss == "softmax_cross_entropy":
        return X, (X[:, 0] > 0) + 2 * (X[:, 1] > 0)
    if loss == "sigmoid_cross_entropy":
        return X, (X[:, :3] > 0).astype(int)
    if loss == "poisson":
        return X, np.exp(X[:, :2] / 2)
    return X, np.stack([X[:, 0] * X[:, 1], X.sum(axis=1)], axis=1)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("loss", "backend"), [*itertools.product(LOSSES, ["cpu", "reference"]), ("softmax_cross_entropy", "cuda")]
)
def test_it_learns(loss, backend):
    model, (X, y) = new_model(loss), data(loss)
    trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.Adam(0.01), backend=backend, random_state=0)
    history = trainer.fit(X, y, epochs=60, batch_size=10)
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert len(history["loss"]) == len(history["epoch_seconds"]) == len(history.epochs) == 60
    assert history.message == "ended after 60 of 60 epochs" and not history.interrupted
    final, _ = trainer.loss_and_gradients(X, y)
    assert final < history["loss"][-1] * 1.5


@pytest.mark.parametrize("optimizer", [fastbp.SGD(0.05), fastbp.SGD(0.05, momentum=0.9, nesterov=True, l2=0.01)])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mean_squared_error", "poisson"])
def test_whole_training_agrees_between_backends(loss, optimizer):
    histories, weights = [], []
    for backend in ("cpu", "reference", "cuda"):
        model, (X, y) = new_model(loss, hidden="tanh"), data(loss)
        trainer = fastbp.Trainer(model, loss=loss, optimizer=optimizer, backend=backend, random_state=0)
        histories.append(trainer.fit(X, y, epochs=5, batch_size=8, validation_data=(X[:9], y[:9])))
        weights.append(model.get_weights())
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-11)
        np.testing.assert_allclose(histories[2][name], histories[1][name], rtol=1e-11)
    for a, b, c in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(c, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_whole_training_agrees_with_torch(name, nesterov):
    torch = pytest.importorskip("torch")
    model, (X, y) = new_model(hidden="tanh"), data()
    tensors = [torch.tensor(w, requires_grad=True) for w in model.get_weights()]
    if name == "Adam":
        mine, theirs = fastbp.Adam(0.01, l2=0.02), torch.optim.Adam(tensors, lr=0.01, weight_decay=0.02)
    else:
        mine = fastbp.SGD(0.1, momentum=0.8, nesterov=nesterov, l2=0.02)
        theirs = torch.optim.SGD(tensors, lr=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.02)
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=mine)
    history = trainer.fit(X, y, epochs=8, batch_size=10, shuffle=False)
    losses = []
    for _ in range(8):
        total = 0.0
        for start in range(0, len(X), 10):
            A, labels = torch.tensor(X[start : start + 10]), torch.tensor(y[start : start + 10])
            A = torch.tanh(A @ tensors[0] + tensors[1]) @ tensors[2] + tensors[3]
            loss = torch.nn.functional.cross_entropy(A, labels)
            theirs.zero_grad()
            loss.backward()
            theirs.step()
            total += loss.item() * len(labels)
        losses.append(total / len(X))
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-9)
    for a, b in zip(model.get_weights(), tensors, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-8, atol=1e-10)


def test_softmax_as_an_activation_is_the_same_network():
    X, y = data()
    outputs = []
    for last in (fastbp.Dense(4), fastbp.Dense(4, "softmax")):
        model = fastbp.Sequential([fastbp.Dense(11, "relu"), last], n_features=5, random_state=0)
        assert model.link == last.activation
        fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=0).fit(X, y, epochs=3)
        assert model.link == "softmax"
        outputs.append(model.predict(X))
        np.testing.assert_allclose(outputs[-1].sum(axis=1), 1, rtol=1e-6)
    assert_same(outputs[:1], outputs[1:])


def test_sigmoid_link_is_recorded():
    model, (X, y) = new_model("sigmoid_cross_entropy"), data("sigmoid_cross_entropy")
    fastbp.Trainer(model, loss="sigmoid_cross_entropy").fit(X, y)
    assert model.link == "logistic"
    raw, probabilities = model.predict(X, raw=True), model.predict(X)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-raw)), rtol=1e-12)


def test_same_seed_same_bits_whatever_the_threads():
    results = []
    for n_threads in (None, 1, 2):
        model = fastbp.Sequential([fastbp.Dense(100, "relu"), fastbp.Dense(4)], n_features=5, random_state=0)
        X, y = data(n_rows=500)
        trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=1, n_threads=n_threads)
        history = trainer.fit(X, y, epochs=3, batch_size=64)
        results.append([*model.get_weights(), np.array(history["loss"])])
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


def test_random_state_decides_the_order_of_rows():
    losses = []
    for seed, shuffle in ((0, True), (0, True), (1, True), (0, False), (1, False)):
        X, y = data()
        trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy", random_state=seed)
        losses.append(trainer.fit(X, y, epochs=2, batch_size=8, shuffle=shuffle)["loss"])
    assert losses[0] == losses[1] != losses[2]
    assert losses[3] == losses[4] != losses[0]


def test_one_random_state_goes_through_weights_and_order():
    X, y = data()
    runs = []
    for rng in (np.random.RandomState(0), np.random.RandomState(0)):
        model = new_model(random_state=rng)
        runs.append(fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=rng).fit(X, y, epochs=2)["loss"])
    assert runs[0] == runs[1]


def test_chunks_do_not_change_a_bit(monkeypatch):
    results = []
    for seconds in (0.0, 0.2, 100.0):
        monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", seconds)
        model, (X, y) = new_model(), data(n_rows=500)
        history = fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=0).fit(X, y, epochs=3, batch_size=7)
        results.append([*model.get_weights(), np.array(history["loss"])])
    assert_same(results[0], results[1])
    assert_same(results[1], results[2])


def test_two_fits_are_one_longer_one():
    X, y = data()
    together, apart = new_model(), new_model()
    whole = fastbp.Trainer(together, loss="softmax_cross_entropy", random_state=0).fit(X, y, epochs=4, shuffle=False)
    trainer = fastbp.Trainer(apart, loss="softmax_cross_entropy", random_state=0)
    parts = [trainer.fit(X, y, epochs=2, shuffle=False)["loss"] for _ in range(2)]
    assert whole["loss"] == [*parts[0], *parts[1]]
    assert_same(together.get_weights(), apart.get_weights())


def test_short_last_batch_is_trained_on_and_counts_by_its_rows():
    X, y = data(n_rows=5)
    model = new_model()
    parts = [fastbp.Trainer(model, loss="softmax_cross_entropy").loss_and_gradients(X[a:b], y[a:b])[0]
             for a, b in ((0, 4), (4, 5))]  # fmt: skip
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=fastbp.SGD(1e-12))
    history = trainer.fit(X, y, batch_size=4, shuffle=False)
    np.testing.assert_allclose(history["loss"], [(4 * parts[0] + parts[1]) / 5], rtol=1e-9)


def test_batch_larger_than_the_data_is_the_data():
    X, y = data()
    results = []
    for batch_size in (len(X), 10 * len(X)):
        model = new_model()
        fastbp.Trainer(model, loss="softmax_cross_entropy").fit(X, y, batch_size=batch_size, shuffle=False)
        results.append(model.get_weights())
    assert_same(*results)


def test_a_weight_of_two_is_the_row_twice_and_of_zero_is_no_row():
    X, y = data(n_rows=12)
    weights = np.ones(12)
    weights[3], weights[7] = 2, 0
    doubled = np.r_[0:7, 8:12, 3]
    trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy")
    loss, gradients = trainer.loss_and_gradients(X, y, weights)
    wanted, expected = trainer.loss_and_gradients(X[doubled], y[doubled])
    np.testing.assert_allclose(loss, wanted, rtol=1e-13)
    for a, b in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
def test_a_batch_without_weight_changes_nothing(backend):
    X, y = data(n_rows=8)
    weights = np.r_[np.zeros(4), np.ones(4)]
    model, other = new_model(), new_model()
    for target, rows in ((model, slice(0, 8)), (other, slice(4, 8))):
        trainer = fastbp.Trainer(target, loss="softmax_cross_entropy", optimizer=fastbp.SGD(0.1), backend=backend)
        trainer.fit(X[rows], y[rows], sample_weight=weights[rows], batch_size=4, shuffle=False)
    assert_same(model.get_weights(), other.get_weights())


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
def test_compiled_code_gets_arrays_that_are_aligned(loss):
    def shifted(array):
        odd = np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)
        assert not odd.flags.aligned
        return odd

    X, y = data(loss)
    given = X, y if loss == "softmax_cross_entropy" else y.astype(float), np.linspace(1, 2, len(X))
    trainer = fastbp.Trainer(new_model(loss), loss=loss)
    opened = trainer._open(*trainer._checked(*map(shifted, given)), batch_size=9)
    direct = trainer._open(*map(shifted, given), batch_size=9)  # as a backend's own caller may pass them
    for session in (opened, direct):
        arrays = [session._X, *session._targets[:3]]
        assert all(array.flags.aligned and array.flags.c_contiguous for array in arrays)
        assert session.loss_and_gradients(shifted(np.arange(9)))[0] == pytest.approx(
            trainer.loss_and_gradients(*(array[:9] for array in given))[0], rel=1e-13
        )


def test_validation_loss_is_the_loss_on_that_data():
    X, y = data()
    model, seen = new_model(), []

    class Watch(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            seen.append((trainer.loss_and_gradients(X[:20], y[:20])[0], logs["val_loss"]))

    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy")
    history = trainer.fit(X, y, epochs=3, validation_data=(X[:20], y[:20]), callbacks=[Watch()])
    assert history["val_loss"] == [value for _, value in seen]
    np.testing.assert_allclose(*np.transpose(seen), rtol=1e-12)
    weighted = trainer.fit(X, y, validation_data=(X[:20], y[:20], np.r_[np.ones(10), np.zeros(10)]))["val_loss"]
    np.testing.assert_allclose(weighted, trainer.loss_and_gradients(X[:10], y[:10])[0], rtol=1e-12)


def test_callbacks_are_told_and_can_stop():
    calls = []

    class Watch(fastbp.Callback):
        def on_train_begin(self, trainer, n_epochs, n_steps):
            calls.append(("begin", n_epochs, n_steps))

        def on_chunk_end(self, trainer, epoch, step, logs):
            assert np.isfinite(logs["loss"])
            calls.append(("chunk", epoch, step))

        def on_epoch_end(self, trainer, epoch, logs):
            calls.append(("epoch", epoch, set(logs)))
            if epoch == 1:
                trainer.stop()

        def on_train_end(self, trainer, history):
            calls.append(("end", len(history.epochs)))

    X, y = data()
    trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy")
    history = trainer.fit(X, y, epochs=9, batch_size=10, callbacks=[Watch()])
    assert calls[0] == ("begin", 9, 6) and calls[-1] == ("end", 2)
    assert [c[1:] for c in calls if c[0] == "epoch"] == [(0, {"loss", "epoch_seconds"}), (1, {"loss", "epoch_seconds"})]
    assert [c for c in calls if c[:2] == ("chunk", 1)][-1] == ("chunk", 1, 6)
    assert history.message == "stopped by a callback after 2 of 9 epochs"
    assert len(trainer.fit(X, y, epochs=2)["loss"]) == 2  # the wish to stop was for that training


def test_weights_that_a_callback_sets_are_trained_on():
    """Without a step in between, the last epoch's weights are the ones that were set."""

    class Halve(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            self.halved = [w / 2 for w in trainer.model.get_weights()]
            trainer.model.set_weights(self.halved)
            trainer.learning_rate = 1e-300

    halve, (X, y) = Halve(), data()
    model = new_model()
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=fastbp.SGD(0.1))
    trainer.fit(X, y, callbacks=[halve])
    once = halve.halved
    assert_same(once, model.get_weights())
    trainer.fit(X, y, epochs=2, callbacks=(callback for callback in [halve]))
    assert_same([w / 4 for w in once], model.get_weights())


def test_learning_rate_can_be_changed_between_epochs():
    class Off(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            weights.append(trainer.model.get_weights())
            trainer.learning_rate = 0.0

    weights, (X, y) = [], data()
    trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy", optimizer=fastbp.SGD(0.1))
    trainer.fit(X, y, epochs=2, callbacks=[Off()])
    assert_same(*weights)


def test_silent_by_default_and_a_bar_on_request(capsys):
    X, y = data()
    trainer = fastbp.Trainer(new_model(), loss="softmax_cross_entropy")
    trainer.fit(X, y, epochs=2)
    assert capsys.readouterr() == ("", "")
    trainer.fit(X, y, epochs=2, batch_size=10, verbose=1)
    assert "12/12" in capsys.readouterr().err
    stream = io.StringIO()
    trainer.fit(X, y, epochs=3, batch_size=10, callbacks=[fastbp.ProgressBar(file=stream)])
    assert "18/18" in stream.getvalue() and "loss=" in stream.getvalue() and "epoch 3" in stream.getvalue()


def test_history_says_what_it_has():
    X, y = data()
    history = fastbp.Trainer(new_model(), loss="softmax_cross_entropy").fit(X, y, epochs=2)
    assert list(history) == ["loss", "epoch_seconds"] and len(history) == 2
    with pytest.raises(KeyError, match="'val_loss' was not recorded; there is 'loss', 'epoch_seconds'"):
        history["val_loss"]
    assert "2 epochs" in repr(history) and "ended after 2 of 2" in repr(history)


# ---------------------------------------------------------------------------------------------------------------------
# verify=True


@pytest.mark.parametrize("optimizer", [fastbp.Adam(), fastbp.SGD(0.1, momentum=0.9)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_verify_passes_and_leaves_no_trace(dtype, optimizer):
    X, y = data()
    results = []
    for verify in (False, True):
        model = new_model(dtype=dtype)
        trainer = fastbp.Trainer(
            model, loss="softmax_cross_entropy", optimizer=optimizer, random_state=0, verify=verify
        )
        trainer.fit(X, y, epochs=2)
        results.append(model.get_weights())
    assert_same(*results)


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("update", "tile_gradient", "the gradient of W1 by backend 'cpu' differs"),
        ("rules", "adam", "W1 after the step by backend 'cpu' differs"),
        ("losses", "_clipped_log", "the loss by backend 'cpu' differs"),
    ],
)
def test_verify_sees_a_disagreement(module, name, message, monkeypatch):
    """The reference is bent in one place: it must not matter which of the two is wrong."""
    import importlib

    twin = importlib.import_module(f"fastbp.kernels.reference.{module}")
    right = getattr(twin, name)

    def bent(*args):
        result = right(*args)
        if name == "_clipped_log":
            return result * 1.01
        args[1 if name == "tile_gradient" else 0][:1] += 0.01
        return None

    monkeypatch.setattr(twin, name, bent)
    model, (X, y) = new_model(), data()
    before = model.get_weights()
    loss = Loss("softmax_cross_entropy", "scikit-learn")
    trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.Adam(), verify=True)
    with pytest.raises(FloatingPointError, match=message):
        trainer.fit(X, y)
    assert_same(before, model.get_weights())
    assert model.link == "softmax"  # as the trainer has set it
