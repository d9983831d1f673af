"""Dropout, BatchNorm, LayerNorm and Residual: gradients, training against PyTorch, predictions, bits, and errors."""

import numpy as np
import pytest
from scipy import sparse

import fastbp
from fastbp import BatchNorm, Dense, Dropout, LayerNorm, Residual, Sequential, Trainer
from fastbp.kernels.layout import OWNERS

# One network with everything
EVERYTHING = [
    Dropout(0.2),
    Dense(40, "gelu"),
    BatchNorm("relu"),
    Residual([LayerNorm(), Dense(33, "silu"), Dropout(0.3), Dense(40)]),
    Residual([Dense(50, "tanh"), BatchNorm()], activation="tanh"),  # with a projection
    LayerNorm("gelu"),
    Dense(3),
]
NETWORKS = {
    "everything": EVERYTHING,
    "dropout at both ends": [Dropout(0.2), Dense(8, "tanh"), Dropout(0.5), Dense(3), Dropout(0.1)],
    "batch norms": [BatchNorm(), Dense(8), BatchNorm("tanh"), Dense(7), BatchNorm("logistic"), Dense(3), BatchNorm()],
    "layer norms": [LayerNorm(), Dense(17), LayerNorm("tanh"), Dense(3), LayerNorm()],
    "blocks in blocks": [
        Dense(8, "tanh"),
        Residual([Dropout(0.3), Residual([Dense(9, "tanh"), Residual([BatchNorm()])], activation="logistic")]),
        Dense(3),
    ],
    "a block on X": [Residual([Dense(4, "tanh"), Dropout(0.1)]), Dense(3)],
    "a block at the end": [Dense(8, "tanh"), Residual([LayerNorm(), Dense(3)])],
    "relu everywhere": [BatchNorm("relu"), Dense(6), LayerNorm("relu"), Residual([Dense(6)], "relu"), Dense(3)],
    "rectifiers": [
        Dense(6, "gelu"),
        BatchNorm("silu"),
        Residual([LayerNorm("mish"), Dense(6, "elu"), Dropout(0.2)], "gelu_tanh"),
        Dense(6, "softplus"),
        Dense(3),
    ],
    "norms in a row": [Dense(6), LayerNorm(), BatchNorm(), LayerNorm("tanh"), Dense(3)],
}


def rows(n=23, n_features=5, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_features)), rng.integers(0, n_classes, n)


def trainer_of(layers, backend="reference", dtype="float64", optimizer=None, n_features=5, **options):
    model = Sequential(layers, n_features=n_features, random_state=0, dtype=dtype)
    # gamma and beta as after some steps, not the ones and zeros that hide an error
    rng = np.random.default_rng(1)
    names = model._described.names
    weights = [
        w + 0.3 * rng.uniform(size=w.shape) if name[0] in "gbmv" else w
        for name, w in zip(names, model.get_weights(), strict=True)
    ]
    model.set_weights(weights)
    optimizer = fastbp.SGD(0.1, momentum=0.9, l1=1e-3) if optimizer is None else optimizer
    return Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer, backend=backend, random_state=1, **options)


def numeric(trainer, X, y, k):
    """Central differences of the training loss for one array."""
    weights, gradient = trainer.model.get_weights(), np.zeros(trainer.model.get_weights()[k].shape)
    for index in np.ndindex(gradient.shape):
        sides = []
        for h in (1e-6, -1e-6):
            moved = [w.copy() for w in weights]
            moved[k][index] += h
            trainer.model.set_weights(moved)
            sides.append(trainer.loss_and_gradients(X, y)[0])
        gradient[index] = (sides[0] - sides[1]) / 2e-6
    trainer.model.set_weights(weights)
    return gradient


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "everything"])
def test_gradients_agree_with_central_differences(name):
    trainer, (X, y) = trainer_of(NETWORKS[name]), rows()
    _, gradients = trainer.loss_and_gradients(X, y)
    for k, (what, gradient) in enumerate(zip(trainer.model._described.names, gradients, strict=True)):
        if what.startswith(("mean", "variance")):
            assert not gradient.any()
            continue
        want = numeric(trainer, X, y, k)
        # a bias before a batch norm has none: there is nothing to be relative to
        assert np.abs(gradient - want).max() <= 1e-6 * max(np.abs(want).max(), 1e-2), what


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_cpu_agrees_with_reference(dtype):
    """Losses, gradients, running statistics, predictions; a last batch that is short, of one row even."""
    X, y = rows(51, 20)
    fitted = {}
    for backend in ("reference", "cpu"):
        trainer = trainer_of(EVERYTHING, backend, dtype, n_features=20)
        loss, gradients = trainer.loss_and_gradients(X[:33], y[:33])
        history = trainer.fit(X, y, epochs=2, batch_size=25, validation_data=(X, y))
        rest = [np.array(history[name]) for name in ("loss", "val_loss")]
        outputs = [trainer.model.predict(X[:n], raw=raw, backend=backend) for n in (3, 51) for raw in (True, False)]
        fitted[backend] = [np.array(loss), *gradients, *trainer.model.get_weights(), *rest, *outputs]
    tolerance = {"float32": 1e-4, "float64": 1e-10}[dtype]
    for got, want in zip(fitted["cpu"], fitted["reference"], strict=True):
        assert np.abs(got - want).max() <= tolerance * max(np.abs(want).max(), 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_bits_do_not_depend_on_threads(first, monkeypatch):
    """From a dense layer on, its owners leave the statistics of the batch norm behind it."""
    monkeypatch.setattr("fastbp.kernels.schedule.TOLERATED_IMBALANCE", np.inf)
    X, y = rows(163, 37)
    weights, layers = [], EVERYTHING[first:]
    for n_threads in (1, 2):
        monkeypatch.setattr("fastbp.kernels.schedule.useful_threads", lambda *rest, n=n_threads: n)
        trainer = trainer_of(layers, "cpu", "float32", fastbp.AdamW(), n_features=37, n_threads=n_threads)
        session = trainer._open(*trainer._checked(X, y, None), batch_size=50)
        assert session._threads == n_threads
        assert session._plan.header[OWNERS] == (first == 1 and n_threads == 2)
        trainer.fit(X, y, epochs=2, batch_size=50)
        weights.append(trainer.model.get_weights())
    assert all(np.array_equal(one, two) for one, two in zip(*weights, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_shares_of_the_work_change_no_sum(name, monkeypatch):
    """The NumPy twins on a plan for several threads: shares of the rows, owners, all as in compiled code."""
    from fastbp.backends.reference import BACKEND

    X, y = rows()
    fitted = []
    for n_threads in (1, 3):
        trainer = trainer_of(NETWORKS[name])
        monkeypatch.setattr("fastbp.kernels.schedule.useful_threads", lambda *rest, n=n_threads: n)
        monkeypatch.setattr("fastbp.kernels.schedule.TOLERATED_IMBALANCE", np.inf)
        trainer.fit(X, y, epochs=2, batch_size=9)
        fitted.append(trainer.model.get_weights())
    assert BACKEND.name == trainer.backend
    for one, two in zip(*fitted, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Against PyTorch


def torch_twin(torch, trainer):
    """X -> batch norm -> dense, batch norm, relu -> x + dense(layer norm(x)) -> dense: with the same weights."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.dense = nn.LayerNorm(8), nn.Linear(8, 8)

        def forward(self, x):
            return torch.tanh(x + self.dense(self.norm(x)))

    net = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), Block(), nn.Linear(8, 3))
    net = net.double()
    arrays = iter(map(torch.tensor, trainer.model.get_weights()))
    with torch.no_grad():
        for module in (net[0], net[1], net[2], net[4].norm, net[4].dense, net[5]):
            kept = [module.weight, module.bias]
            kept += [module.running_mean, module.running_var] if isinstance(module, nn.BatchNorm1d) else []
            for array in kept:
                new = next(arrays)
                array.copy_(new.T if array.ndim == 2 else new)
    return net


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training_agrees_with_pytorch(optimizer):
    torch = pytest.importorskip("torch")
    layers = [BatchNorm(), Dense(8), BatchNorm("relu"), Residual([LayerNorm(), Dense(8)], "tanh"), Dense(3)]
    ours = {"SGD": fastbp.SGD(0.1, momentum=0.9), "Adam": fastbp.Adam(0.01)}[optimizer]
    trainer, (X, y) = trainer_of(layers, optimizer=ours), rows(29)
    net = torch_twin(torch, trainer)
    theirs = {"SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {"lr": 0.01}}[optimizer]
    descent, inputs, labels = (
        getattr(torch.optim, optimizer)(net.parameters(), **theirs), torch.tensor(X), torch.tensor(y)
    )  # fmt: skip
    for _ in range(5):
        for start in range(0, 29, 10):  # the last batch has 9 rows
            descent.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(inputs[start : start + 10]), labels[start : start + 10])
            loss.backward()
            descent.step()
    trainer.fit(X, y, epochs=5, batch_size=10, shuffle=False)
    net.eval()
    with torch.no_grad():
        want = torch.softmax(net(inputs), dim=1).numpy()
    np.testing.assert_allclose(trainer.model.predict(X, backend="reference"), want, rtol=1e-9, atol=1e-10)
    got = dict(zip(trainer.model._described.names, trainer.model.get_weights(), strict=True))
    kept = {"mean1": net[0].running_mean, "variance2": net[2].running_var, "gamma3": net[4].norm.weight}
    for name, want in kept.items():
        np.testing.assert_allclose(got[name], want.detach().numpy(), rtol=1e-9, err_msg=name)


# ---------------------------------------------------------------------------------------------------------------------
# What users see


def test_arrays_stand_in_the_order_of_the_layers():
    model = Sequential([BatchNorm(), Residual([LayerNorm(), Dense(4)]), Dense(2)], n_features=3, random_state=0)
    assert model._described.names == [
        "gamma1", "beta1", "mean1", "variance1", "gamma2", "beta2", "W1", "b1", "W2", "b2", "W3", "b3",
    ]  # fmt: skip
    shapes = [w.shape for w in model.get_weights()]
    assert shapes == [(3,)] * 6 + [(3, 4), (4,), (3, 4), (4,), (4, 2), (2,)]
    ones = [model.get_weights()[k] for k in (0, 3, 4)]
    assert all((array == 1).all() for array in ones)
    with pytest.raises(ValueError, match=r"weights\[3\] \(variance1\) must be at least 0, got -1.0"):
        model.set_weights([*model.get_weights()[:3], -np.ones(3), *model.get_weights()[4:]])


def test_what_is_not_used_draws_nothing():
    """The weights and the order of rows are those of the network without dropout."""
    plain, masked = (
        Sequential([Dense(4), *extra, Dense(3)], n_features=5, random_state=0) for extra in ([], [Dropout(0)])
    )
    for one, two in zip(plain.get_weights(), masked.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    states = [np.random.RandomState(3) for _ in range(2)]
    for model, state in zip((plain, masked), states, strict=True):
        Trainer(model, loss="softmax_cross_entropy", backend="reference", random_state=state)
    assert states[0].get_state()[2] == states[1].get_state()[2]
    assert Trainer(masked, loss="softmax_cross_entropy")._mask_seed == 0


def test_dropout_is_off_in_predictions_and_differs_from_step_to_step():
    X, y = rows()
    trainer = trainer_of([Dense(64, "tanh"), Dropout(0.5), Dense(3)], optimizer=fastbp.SGD(1e-12))
    first = trainer.model.predict(X, raw=True, backend="reference")
    losses = trainer.fit(X, y, epochs=4, batch_size=23, shuffle=False)["loss"]
    assert len(set(losses)) == 4
    np.testing.assert_allclose(trainer.model.predict(X, raw=True, backend="reference"), first, rtol=1e-6)
    loss = trainer.loss_and_gradients(X, y)[0]
    assert loss == trainer.loss_and_gradients(X, y)[0]  # the masks of step 0


def test_running_statistics_are_those_of_the_rows():
    rng = np.random.default_rng(0)
    X, y = rng.normal([1, -2], [3, 0.5], (400, 2)), rng.integers(0, 2, 400)
    model = Sequential([BatchNorm(momentum=1.0), Dense(2)], n_features=2, random_state=0, dtype="float64")
    trainer = Trainer(model, loss="softmax_cross_entropy", backend="reference", optimizer=fastbp.SGD(0.01))
    trainer.loss_and_gradients(X, y)
    np.testing.assert_array_equal(model.get_weights()[2], [0, 0])  # a gradient alone changes nothing
    trainer.fit(X, y, batch_size=400)
    np.testing.assert_allclose(model.get_weights()[2], X.mean(axis=0))
    np.testing.assert_allclose(model.get_weights()[3], X.var(axis=0, ddof=1))


ERRORS = [
    (lambda: Dropout(1), "rate must be a number of at least 0 and below 1, got 1"),
    (lambda: Dropout(-0.1), "rate must be a number of at least 0 and below 1, got -0.1"),
    (lambda: BatchNorm("soft"), "activation must be one of "),
    (lambda: BatchNorm(momentum=1.5), "momentum must be a number from 0 to 1, got 1.5"),
    (lambda: BatchNorm(epsilon=0), "epsilon must be a number above 0, got 0"),
    (lambda: LayerNorm(epsilon=-1), "epsilon must be a number above 0, got -1"),
    (lambda: Residual([]), "layers of a Residual must hold at least one layer, got none"),
    (lambda: Residual(Dense(3)), "layers of a Residual must be a sequence of fastbp.Dense, Dropout, "),
    (lambda: Residual([3]), "layers of a Residual: number 0 must be a fastbp.Dense, Dropout, BatchNorm, "),
    (lambda: Residual([Dense(3)], initializer="zero"), "initializer must be one of "),
    (lambda: Sequential([Dropout()], n_features=3), "layers must hold at least one fastbp.Dense"),
    (lambda: Sequential([LayerNorm("softmax"), Dense(2)], n_features=3), "'softmax' is for the last layer only"),
    (
        lambda: Sequential([Dropout(), Dense(2)], n_features=3).predict(sparse.csr_array((2, 3))),
        "X is sparse, which only a fastbp.Dense can read: begin the network with one",
    ),
]


@pytest.mark.parametrize("make, message", ERRORS, ids=[message for _, message in ERRORS])
def test_errors_say_what_to_do(make, message):
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    assert message in str(error.value)


def test_fit_refuses_what_a_layer_cannot_take():
    X, y = rows()
    trainer = trainer_of([Residual([Dense(5)]), BatchNorm(), Dense(3)])
    before = trainer.model.get_weights()
    with pytest.raises(ValueError, match=r"X is sparse, which only a fastbp.Dense can read"):
        trainer.fit(sparse.csr_array(X), y)
    with pytest.raises(ValueError, match=r"a BatchNorm needs batches of at least 2 rows.*batch_size=1 and 23 rows"):
        trainer.fit(X, y, batch_size=1)
    with pytest.raises(ValueError, match=r"a BatchNorm needs batches of at least 2 rows.*batch_size=32 and 1 rows"):
        trainer.fit(X[:1], y[:1])
    assert all(np.array_equal(a, b) for a, b in zip(before, trainer.model.get_weights(), strict=True))


def test_a_sparse_x_goes_into_a_dense_layer():
    X, y = rows()
    X[np.random.default_rng(0).uniform(size=X.shape) < 0.5] = 0
    outputs = []
    for data in (X, sparse.csr_array(X)):
        trainer = trainer_of([Dense(8, "tanh"), BatchNorm(), Dropout(0.1), Dense(3)])
        trainer.fit(data, y, epochs=2, batch_size=10)
        outputs.append(trainer.model.predict(data, backend="reference"))
    np.testing.assert_allclose(*outputs, rtol=1e-10)


@pytest.mark.parametrize("fault", [1e-12, 1.0])
def test_verify_knows_that_a_bias_before_a_batch_norm_has_no_gradient(fault, monkeypatch):
    """Rounding there is no disagreement; anything more is, under the names of these arrays."""
    from fastbp.backends._planned import PlannedSession

    right, (X, y) = PlannedSession.loss_and_gradients, rows()
    calls = []

    def off(session, rows_of_batch):
        loss, gradients = right(session, rows_of_batch)
        calls.append(session)
        if len(calls) == 1:
            gradients[1] = gradients[1] + fault
        return loss, gradients

    monkeypatch.setattr(PlannedSession, "loss_and_gradients", off)
    trainer = trainer_of([Dense(8), BatchNorm("relu"), Dense(3)], verify=True)
    if fault < 1e-6:
        trainer.fit(X, y, batch_size=10)
    else:
        with pytest.raises(FloatingPointError, match=r"the gradient of b1 by backend"):
            trainer.fit(X, y, batch_size=10)
