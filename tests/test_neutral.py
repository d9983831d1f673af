"""What is to have no effect has none: a dropout of rate 0; and what is to have one has it: the shortest schedules."""

import numpy as np
import pytest
from scipy import sparse
from test_trainer import assert_same

import fastbp
from fastbp import BatchNorm, Dense, Dropout, LayerNorm, Residual, Sequential, Trainer, schedules
from fastbp.plotting._activations import outputs_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(53, 5))
Y = (X[:, 0] > 0) + 2 * (X[:, 1] > 0)

NETWORKS = {
    "in a chain": ([Dropout(0), Dense(7, "relu"), Dropout(0.0), Dense(4), Dropout(0)], [Dense(7, "relu"), Dense(4)]),
    "beside others": (
        [Dense(7), Dropout(0), BatchNorm("relu"), Dropout(0), Residual([Dropout(0), Dense(7), Dropout(0)]), Dense(4)],
        [Dense(7), BatchNorm("relu"), Residual([Dense(7)]), Dense(4)],
    ),
    "in a projection": (
        [Residual([Dropout(0), Dense(6, "tanh")]), LayerNorm(), Dropout(0), Dense(4)],
        [Residual([Dense(6, "tanh")]), LayerNorm(), Dense(4)],
    ),
    "beside a dropout": (
        [Dense(7, "relu"), Dropout(0), Dropout(0.3), Dense(4)],
        [Dense(7, "relu"), Dropout(0.3), Dense(4)],
    ),
}


def trained(layers, backend="cpu", dtype="float32", rows=X, epochs=2):
    rng = np.random.RandomState(3)
    model = Sequential(layers, n_features=5, random_state=rng, dtype=dtype)
    trainer = Trainer(
        model, loss="softmax_cross_entropy", optimizer=fastbp.Adam(0.01), backend=backend, random_state=rng
    )
    history = trainer.fit(rows, Y, epochs=epochs, batch_size=10)
    return trainer, history, rng


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", ["reference", "cuda"])
def test_a_dropout_of_rate_0_is_no_layer(name, backend):
    with_it, without = NETWORKS[name]
    (one, history, rng), (other, wanted, plain) = trained(with_it, backend), trained(without, backend)
    assert history["loss"] == wanted["loss"]
    assert_same(one.model.get_weights(), other.model.get_weights())
    assert rng.get_state()[2] == plain.get_state()[2]
    assert_same([one.model.predict(X, backend=backend)], [other.model.predict(X, backend=backend)])
    assert one.model._described == other.model._described and one.model.link == "softmax"
    assert "Dropout" in str(one.model.summary())
    assert one.model.summary().n_parameters == other.model.summary().n_parameters


def test_on_the_cpu_a_chain_stays_one():
    one, other = (trained(layers) for layers in NETWORKS["in a chain"])
    assert one[0].model._described.operations == ()  # nothing is compiled for it
    assert_same(one[0].model.get_weights(), other[0].model.get_weights())
    assert_same([one[0].model.predict(X[:2])], [other[0].model.predict(X[:2])])


def test_a_sparse_matrix_goes_through_it():
    one, other = (trained(layers, rows=sparse.csr_array(X)) for layers in NETWORKS["in a chain"])
    assert_same(one[0].model.get_weights(), other[0].model.get_weights())


def test_files_and_checkpoints_have_it(tmp_path):
    path = tmp_path / "run.safetensors"
    layers = NETWORKS["beside others"][0]
    trainer, _, _ = trained(layers, "reference")
    trainer.save(path)
    again = fastbp.load(path)
    assert again.layers == tuple(layers)
    assert_same([again.predict(X, backend="reference")], [trainer.model.predict(X, backend="reference")])
    model = Sequential(layers, n_features=5, random_state=9)
    resumed = Trainer(model, loss="softmax_cross_entropy", optimizer=fastbp.Adam(0.01), backend="reference")
    resumed.fit(X, Y, epochs=3, batch_size=10, resume_from=path)
    whole, _, _ = trained(layers, "reference", epochs=3)
    assert_same(model.get_weights(), whole.model.get_weights())


def test_pictures_and_diagnostics_go_through_it():
    layers, plain = NETWORKS["beside others"]
    model, other = (Sequential(given, n_features=5, random_state=0, dtype="float64") for given in (layers, plain))
    outputs = outputs_of(model, X)
    assert list(outputs) == [
        "1 Dense identity", "2 Dropout", "3 BatchNorm relu", "4 Dropout", "5.1 Dropout", "5.2 Dense identity",
        "5.3 Dropout", "5 Residual", "6 Dense identity",
    ]  # fmt: skip
    for name, before in (("2 Dropout", "1 Dense identity"), ("4 Dropout", "3 BatchNorm relu"),
                         ("5.1 Dropout", "4 Dropout"), ("5.3 Dropout", "5.2 Dense identity")):  # fmt: skip
        np.testing.assert_array_equal(outputs[name], outputs[before])
    first = Sequential([Dropout(0), Dense(4)], n_features=5, random_state=0, dtype="float64")
    np.testing.assert_array_equal(outputs_of(first, X)["1 Dropout"], X)
    flows = [fastbp.gradient_flow(one, "softmax_cross_entropy", X, Y, backend="reference") for one in (model, other)]
    assert [name.split(" ", 1)[1] for name in flows[0].layers] == [name.split(" ", 1)[1] for name in flows[1].layers]
    np.testing.assert_array_equal(flows[0].gradient_mean, flows[1].gradient_mean)


def test_a_block_of_nothing_but_them_is_kept():
    model = Sequential([Dense(4), Residual([Dropout(0)]), Dense(4)], n_features=5, random_state=0, dtype="float64")
    W, b, V, c = model.get_weights()
    np.testing.assert_allclose(model.predict(X, backend="reference"), 2 * (X @ W + b) @ V + c, rtol=1e-12)
    check = fastbp.gradient_check(model, "softmax_cross_entropy", X[:7], Y[:7], backend="reference")
    assert check.max_relative_error < 1e-6


# ---------------------------------------------------------------------------------------------------------------------
# Schedules


SHORT = {
    "OneCycle": lambda total: schedules.OneCycle(0.5, total),
    "OneCycle in three phases": lambda total: schedules.OneCycle(0.5, total, three_phase=True),
    "OneCycle linear": lambda total: schedules.OneCycle(0.5, total, 0.6, "linear"),
    "Cosine": lambda total: schedules.Cosine(0.5, total),
    "Cosine with a warm-up": lambda total: schedules.Cosine(0.5, total, warmup=0.9),
    "Cosine from nothing": lambda total: schedules.Cosine(0.5, total, warmup=0.5, warmup_start=0.0),
    "Cosine in cycles": lambda total: schedules.Cosine(0.5, cycle=1),
    "Step": lambda total: schedules.Step(0.5, every=1),
    "Exponential": lambda total: schedules.Exponential(0.5),
    "InverseScaling": lambda total: schedules.InverseScaling(0.5),
    "Constant": lambda total: schedules.Constant(0.5),
}


@pytest.mark.parametrize("name", SHORT)
def test_the_shortest_training_has_a_rate_that_trains(name):
    for total in (1, 2, 3, 4):
        rates = [SHORT[name](total)(count) for count in range(total)]
        assert max(rates) >= 0.5 / 100 and min(rates) >= 0
    assert SHORT[name](1)(0) == 0.5


def test_one_cycle_of_two_steps_and_more_is_that_of_pytorch():
    """By hand: the rate rises until step 0.3 total - 1, which lies before the first one."""
    for total in (2, 3):
        end = 0.3 * total - 1
        shares = [(count - end) / (total - 1 - end) for count in range(total)]
        last = 0.5 / 25 / 1e4
        wanted = [last + (0.5 - last) * (1 + np.cos(np.pi * share)) / 2 for share in shares]
        rates = [schedules.OneCycle(0.5, total)(count) for count in range(total)]
        np.testing.assert_allclose(rates, wanted, rtol=1e-9)


@pytest.mark.parametrize(
    "schedule", [schedules.OneCycle(0.1), schedules.Cosine(0.1), schedules.Cosine(0.1, warmup=0.7)]
)
def test_a_fit_of_one_step(schedule):
    trained_by = []
    for rate in (schedule, 0.1):
        model = Sequential([Dense(1)], n_features=5, random_state=0)
        trainer = Trainer(model, loss="mean_squared_error", optimizer=fastbp.SGD(rate), backend="reference")
        trainer.fit(X, X[:, 0], batch_size=53, shuffle=False)
        trained_by.append(model.get_weights())
    assert_same(*trained_by)
    np.testing.assert_array_equal(schedules.preview(schedule, epochs=1, steps=1), [0.1])


def test_a_share_of_a_warm_up_leaves_a_step():
    assert [schedules.Cosine(1.0, 2, warmup=0.99)(count) for count in range(2)] == [0.5, 1.0]
    with pytest.raises(ValueError, match="warmup must be shorter than the 2 steps in total, got 2"):
        schedules.Cosine(1.0, 2, warmup=2)
