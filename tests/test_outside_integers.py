"""Integers from outside that become an index or a size in compiled code: each is checked before it gets there.

Sparse matrices are in ``test_sparse_damage.py``, labels and blocks in ``test_trainer_errors.py``.
"""

import numpy as np
import pytest
from _cuda_api import X32, Foreign, new_trainer, with_gpu
from _cuda_api import Y as LABELS

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.losses import Loss

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
LOSS = "softmax_cross_entropy"


def network(*units, n_features=3):
    return fastbp.Sequential([fastbp.Dense(n) for n in units or (4, 2)], n_features=n_features, random_state=0)


def test_what_kernels_read_by_cannot_be_set():
    model = network()
    for name, value in (("n_features", 2), ("n_features", 9), ("n_outputs", 5), ("dtype", np.dtype("float64"))):
        with pytest.raises(AttributeError):
            setattr(model, name, value)
    assert model.n_features == 3 and model.dtype == np.float32
    assert model.predict(X).shape == (40, 2)


def test_a_loss_that_is_set_later_is_checked():
    trainer = fastbp.Trainer(network(4, 4), loss=LOSS)
    trainer.loss = Loss(LOSS, blocks=(9, 9))
    for call in (lambda: trainer.fit(X, Y), lambda: trainer.loss_and_gradients(X, np.full((40, 2), 8))):
        with pytest.raises(
            ValueError, match="the loss has blocks of 9, 9 outputs, 18 together: the last layer must have"
        ):
            call()
    trainer.loss = Loss("quantile", level=(0.25, 0.5, 0.75))
    with pytest.raises(ValueError, match="level has 3 levels, one for each output: the last layer must have as many"):
        trainer.fit(X, X)
    trainer.loss = "mse"
    want = fastbp.Trainer(network(4, 4), loss="mse").loss_and_gradients(X, np.zeros((40, 4)))[0]
    assert trainer.loss_and_gradients(X, np.zeros((40, 4)))[0] == want


def test_a_model_that_is_set_later_is_checked():
    trainer = fastbp.Trainer(network(4, 2), loss=LOSS)
    trainer.fit(X, Y)
    trainer.model = network(4, 1)
    with pytest.raises(ValueError, match="needs an output for each class, at least 2, got 1"):
        trainer.fit(X, Y)
    trainer.model = network(5, 3)
    with pytest.raises(ValueError):
        trainer.fit(X, Y)  # the optimizer's state is of another network
    assert trainer.loss_and_gradients(X, Y)[1][0].shape == (3, 5)
    trainer.model = None
    with pytest.raises(TypeError, match=r"model must be a fastbp.Sequential, got None"):
        trainer.fit(X, Y)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_weights_of_another_shape_are_never_read_as_the_layers_say(kind):
    classes = {"classes": [0, 1]} if kind is MLPClassifier else {}
    model = kind(hidden_layer_sizes=(4,), warm_start=True, max_iter=1, random_state=0).partial_fit(X, Y, **classes)
    model.intercepts_[0] = model.intercepts_[0][:1]

    class Predicts(fastbp.Callback):
        def on_train_begin(self, trainer, n_epochs, n_steps):
            trainer.model.predict(X[:1])

    model.set_params(callbacks=[Predicts()])
    for call in (lambda: model.fit(X, Y), lambda: model.partial_fit(X, Y), lambda: model.predict(X[:1])):
        with pytest.raises(ValueError, match=r"layers need weights of the shapes|do not fit together"):
            call()


def test_networks_beyond_the_memory_are_refused():
    for kind in (MLPClassifier, MLPRegressor):
        for sizes in ((10**9, 10**9), (2**62, 4), (2**31, 2**33)):
            with pytest.raises(ValueError, match=r"make .* parameters, which take .* GiB; the machine has"):
                kind(hidden_layer_sizes=sizes).fit(X, Y)
        with pytest.raises(ValueError, match=r"units must be an integer of at most"):
            kind(hidden_layer_sizes=(10**30,)).fit(X, Y)
    with pytest.raises(ValueError, match=r"make .* parameters, which take"):
        network(2**40, 2**40)


def test_counts_of_any_size_are_clipped_or_refused():
    for value in (2**62, np.int64(2**62)):
        trainer = fastbp.Trainer(network(), loss=LOSS)
        trainer.fit(X, Y, batch_size=value)
        assert MLPRegressor(hidden_layer_sizes=(3,), random_state=0).partial_fit(X, Y).t_ == 40
        with pytest.warns(UserWarning, match="Got `batch_size` 4611686018427387904 larger than sample size 40"):
            MLPRegressor(hidden_layer_sizes=(3,), batch_size=value).partial_fit(X, Y)
    for value in (2**63, 10**400):
        with pytest.raises(ValueError, match="batch_size must be an integer of at most 9223372036854775807"):
            fastbp.Trainer(network(), loss=LOSS).fit(X, Y, batch_size=value)


@pytest.mark.parametrize("position", [625, 2**31 - 1, -1])
def test_a_generator_that_would_read_behind_its_words_is_refused(position):
    """NumPy takes such a state, and draws from whatever lies there."""
    rng = np.random.RandomState(0)
    kind, words, *_ = rng.get_state()
    rng.set_state((kind, words, position))
    many, labels = np.zeros((4000, 3)), np.arange(4000) % 2  # so many rows have the compiled shuffle
    for call in (
        lambda: fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=rng),
        lambda: fastbp.Trainer(network(), loss=LOSS, random_state=rng).fit(many, labels),
        lambda: fastbp.gradient_check(network(), LOSS, X, Y, max_entries=1, random_state=rng),
        lambda: MLPClassifier((4,), random_state=rng).fit(many, labels),
        lambda: MLPRegressor(hidden_layer_sizes=(4,), random_state=rng).fit(many, labels),
    ):
        with pytest.raises(ValueError, match=f"random_state has pos={position}, expected a whole number"):
            call()


class Says(Foreign):
    """An array on the device that says something else of itself."""

    def __init__(self, array, **changes):
        super().__init__(array)
        self.__cuda_array_interface__ = {**Foreign(array).__cuda_array_interface__, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(shape=(-150, 4)), "cannot be taken over from the device: its shape .* do not fit"),
        (dict(shape=(150, -4)), "cannot be taken over from the device: its shape .* do not fit"),
        (dict(strides=(16,)), "cannot be taken over from the device: its shape .* do not fit"),
        (dict(strides=(32, 4)), "cannot be taken over from the device: ndarray is not|X must be C-contiguous"),
        (dict(strides=(0, 4)), "cannot be taken over from the device: ndarray is not|X must be C-contiguous"),
        (dict(strides=(-16, 4)), "cannot be taken over from the device: ndarray is not|X must be C-contiguous"),
        (dict(mask=X32), "cannot be taken over from the device: it has a mask"),
        (dict(data=(0, False)), "cannot be taken over from the device: its 600 elements lie nowhere"),
        (dict(typestr="<f3"), "cannot be taken over from the device"),
        (dict(shape=(150,)), "cannot be taken over from the device|must be a matrix"),
    ],
)  # fmt: skip
def test_what_an_array_of_the_device_says_of_itself_is_checked(monkeypatch, changes, message):
    gpu = with_gpu(monkeypatch)
    with pytest.raises(ValueError, match=f"X {message}"):
        new_trainer(backend="cuda").fit(Says(X32, **changes), LABELS)
    with pytest.raises(ValueError, match=f"X {message}"):
        MLPClassifier((4,), device="cuda").fit(Says(X32, **changes), LABELS)
    assert not gpu.opened
