"""A training that is resumed from a checkpoint ends with the bits of one that never ended; nothing else is resumed."""

import itertools
import json
import os
import signal

import numpy as np
import pytest
from _processes import ROOT, run
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp import schedules
from fastbp._checkpoint import check_like

LOSS = "mean_squared_error"
X, Y = data(LOSS)  # 53 rows
MOMENTUM = {"momentum": 0.9, "nesterov": True}
OPTIMIZERS = {
    "momentum": lambda: fastbp.SGD(0.01, **MOMENTUM),
    "adam": lambda: fastbp.Adam(0.01),
    "one_cycle": lambda: fastbp.SGD(schedules.OneCycle(0.05), **MOMENTUM),
    "cosine": lambda: fastbp.Adam(schedules.Cosine(0.02, cycle=9, warmup=3)),
    "step": lambda: fastbp.Adam(schedules.Step(0.02, 2)),
    "plateau": lambda: fastbp.Adam(schedules.ReduceOnPlateau(0.2, factor=0.5, patience=0, cooldown=1)),
    "function": lambda: fastbp.SGD(lambda step: 0.05 / (1 + step), momentum=0.9),
}


class KilledError(Exception):
    """Stands for the end of a process."""


class Kill(fastbp.Callback):
    """Ends the training within an epoch."""

    def __init__(self, epoch, step=0):
        self.place = epoch, step

    def on_chunk_end(self, trainer, epoch, step, logs):
        if (epoch, step) >= self.place:
            raise KilledError


def new_trainer(optimizer=None, *, dtype="float64", backend="reference", seed=3, loss=LOSS, **options):
    optimizer = fastbp.Adam(0.01) if optimizer is None else optimizer
    model = new_model(loss, dtype=dtype, random_state=seed)
    return fastbp.Trainer(model, loss=loss, optimizer=optimizer, backend=backend, random_state=seed, **options)


def fit(trainer, *callbacks, epochs=6, **options):
    options = {"batch_size": 10, "validation_data": (X[:20], -Y[:20]), **options}
    return trainer.fit(X, Y, epochs=epochs, callbacks=callbacks, **options)


def bits(trainer, history):
    """All that two trainings are to have in common."""
    state, found = trainer._optimizer_state, trainer.model.get_weights()
    for name in sorted(state):
        found += [np.array(state[name])] if np.isscalar(state[name]) else list(state[name])
    found += [np.array(history[name]) for name in history if name != "epoch_seconds"]
    found += [np.array(trainer.learning_rate), trainer._rng.randint(2**31, size=3)]
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The same bits


@pytest.mark.parametrize(
    ("name", "backend"), [*itertools.product(OPTIMIZERS, ["reference", "cpu"]), ("momentum", "cuda")]
)
def test_a_training_that_was_cut_off_ends_with_the_same_bits(name, backend, tmp_path, monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", 0.0)
    path, optimizer = tmp_path / "run.safetensors", OPTIMIZERS[name]()
    whole = new_trainer(optimizer, backend=backend)
    history = fit(whole)
    with pytest.raises(KilledError):
        fit(new_trainer(optimizer, backend=backend), fastbp.Checkpoint(path), Kill(3, 2))
    resumed = new_trainer(optimizer, backend=backend, seed=99)  # nothing of its own weights and seed is left
    again = fit(resumed, resume_from=path)
    assert len(again["loss"]) == 6 and again.message == "ended after 6 of 6 epochs"
    assert_same(bits(whole, history), bits(resumed, again))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_from_any_epoch_in_both_dtypes_with_and_without_shuffling(at, shuffle, dtype, tmp_path):
    path, options = tmp_path / "{epoch}", {"shuffle": shuffle, "sample_weight": np.linspace(1, 2, 53)}
    whole = new_trainer(dtype=dtype)
    history = fit(whole, fastbp.Checkpoint(path), **options)
    resumed = new_trainer(dtype=dtype, seed=99)
    assert_same(bits(whole, history), bits(resumed, fit(resumed, resume_from=tmp_path / str(at), **options)))


def test_a_training_that_is_cut_off_again_and_again(tmp_path):
    path, history = tmp_path / "run.safetensors", None
    whole = new_trainer()
    history = fit(whole)
    for epoch in range(1, 6):
        with pytest.raises(KilledError):
            resume = path if epoch > 1 else None
            fit(new_trainer(seed=epoch if epoch > 1 else 3), fastbp.Checkpoint(path), Kill(epoch), resume_from=resume)
    resumed = new_trainer(seed=99)
    assert_same(bits(whole, history), bits(resumed, fit(resumed, resume_from=path)))


def test_the_compiled_shuffle_goes_on_too(tmp_path):
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(3000, 5)), rng.normal(size=(3000, 2))
    path, results = tmp_path / "run.safetensors", []
    for seed, epochs, resume in ((3, 4, None), (3, 2, None), (99, 4, path)):
        trainer = new_trainer(backend="cpu", seed=seed)
        history = trainer.fit(
            inputs, targets, epochs=epochs, batch_size=500, callbacks=[fastbp.Checkpoint(path)], resume_from=resume
        )
        results.append(bits(trainer, history))
    assert_same(results[0], results[2])


@pytest.mark.parametrize("generator", [np.random.PCG64, np.random.Philox, np.random.SFC64])
def test_any_random_state_goes_on(generator, tmp_path):
    path, results = tmp_path / "run.safetensors", []
    for seed, epochs, resume in ((3, 6, None), (3, 2, None), (99, 6, path)):
        rng = np.random.RandomState(generator(seed))
        rng.normal()  # leaves half a pair behind
        trainer = fastbp.Trainer(new_model(LOSS, random_state=seed), loss=LOSS, backend="reference", random_state=rng)
        results.append(bits(trainer, fit(trainer, fastbp.Checkpoint(path), epochs=epochs, resume_from=resume)))
    assert_same(results[0], results[2])


def test_a_checkpoint_after_the_training_is_gone_on_from(tmp_path):
    path = tmp_path / "run.safetensors"
    whole, part, resumed = new_trainer(), new_trainer(), new_trainer(seed=99)
    history = fit(whole)
    fit(part, epochs=4)
    part.save(path)
    assert_same(bits(whole, history), bits(resumed, fit(resumed, resume_from=path)))
    # nothing is left to do: it is as it was
    whole.save(path)
    again = fit(resumed, resume_from=path)
    assert again["loss"] == history["loss"]
    assert_same(whole.model.get_weights(), resumed.model.get_weights())


def test_a_checkpoint_of_the_second_fit_is_gone_on_from(tmp_path):
    path, optimizer = tmp_path / "run.safetensors", fastbp.Adam(schedules.Exponential(0.02, 0.7))
    whole, part = new_trainer(optimizer), new_trainer(optimizer)
    fit(whole)
    history = fit(whole)
    fit(part)
    fit(part, fastbp.Checkpoint(path), epochs=3)
    resumed = new_trainer(optimizer, seed=99)
    assert_same(bits(whole, history), bits(resumed, fit(resumed, resume_from=path)))


def test_a_fit_after_a_resumed_one_goes_on_from_it(tmp_path):
    path = tmp_path / "run.safetensors"
    whole, part, resumed = new_trainer(), new_trainer(), new_trainer(seed=99)
    fit(whole)
    fit(part, fastbp.Checkpoint(path), epochs=2)
    fit(resumed, resume_from=path)
    assert_same(bits(whole, fit(whole, epochs=2)), bits(resumed, fit(resumed, epochs=2)))


def test_the_link_goes_along_and_the_first_step_can_be_verified(tmp_path):
    X, y = data()
    path, results = tmp_path / "run.safetensors", []
    for epochs, resume in ((4, None), (2, None), (4, path)):
        trainer = new_trainer(loss="softmax_cross_entropy", backend="cpu", verify=True)
        trainer.fit(X, y, epochs=epochs, callbacks=[fastbp.Checkpoint(path)], resume_from=resume)
        assert trainer.model.link == "softmax"
        results.append(trainer.model.get_weights())
    assert fastbp.load(path).link == "softmax"
    assert_same(results[0], results[2])


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"])
def test_dropout_and_running_statistics_go_on(backend, tmp_path):
    path, results = tmp_path / "run.safetensors", []
    layers = [
        fastbp.Dense(8),
        fastbp.BatchNorm("relu"),
        fastbp.Residual([fastbp.Dropout(0.3), fastbp.Dense(8, "tanh")]),
    ]
    for seed, epochs, resume in ((3, 5, None), (3, 2, None), (99, 5, path)):
        model = fastbp.Sequential([*layers, fastbp.Dense(2)], n_features=5, random_state=seed, dtype="float64")
        trainer = fastbp.Trainer(model, loss=LOSS, backend=backend, random_state=seed)
        history = fit(trainer, fastbp.Checkpoint(path), epochs=epochs, resume_from=resume)
        results.append(bits(trainer, history))
    assert_same(results[0], results[2])
    with pytest.raises(ValueError, match=r"model.layers\[2\].layers\[0\].rate is 0.5 here, but 0.3 there"):
        layers[2] = fastbp.Residual([fastbp.Dropout(0.5), fastbp.Dense(8, "tanh")])
        model = fastbp.Sequential([*layers, fastbp.Dense(2)], n_features=5, dtype="float64")
        fit(fastbp.Trainer(model, loss=LOSS, backend=backend), resume_from=path)


def test_the_other_backend_may_go_on(tmp_path):
    path = tmp_path / "run.safetensors"
    whole, part, resumed = new_trainer(), new_trainer(), new_trainer(backend="cpu")
    fit(whole)
    fit(part, fastbp.Checkpoint(path), epochs=3)
    fit(resumed, resume_from=path)
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Callbacks


@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_goes_on_where_it_was(first, tmp_path):
    """Wherever the checkpoint stands among the callbacks."""
    path = tmp_path / "run.safetensors"

    def stopping():
        return fastbp.EarlyStopping(patience=3, min_delta=0.1)

    def listed(*callbacks):
        return callbacks if first else callbacks[::-1]

    options = {"epochs": 60, "validation_data": (X[:20], Y[:20])}
    whole, wanted = new_trainer(), stopping()
    history = fit(whole, wanted, **options)
    assert 6 < len(history["loss"]) < 60
    expected = bits(whole, history)
    for epoch in (wanted.best_epoch, wanted.best_epoch + 2):
        with pytest.raises(KilledError):
            fit(new_trainer(), *listed(fastbp.Checkpoint(path), stopping()), Kill(epoch), **options)
        resumed, found = new_trainer(seed=99), stopping()
        again = fit(resumed, *listed(fastbp.Checkpoint(path), found), **options, resume_from=path)
        assert again.message == history.message
        assert (found.best, found.best_epoch, found.stopped_epoch) == (
            wanted.best, wanted.best_epoch, wanted.stopped_epoch
        )  # fmt: skip
        assert_same(expected, bits(resumed, again))


def test_a_training_that_had_stopped_stays_stopped(tmp_path):
    """KilledError after the last checkpoint, before the best weights were restored."""
    path = tmp_path / "run.safetensors"

    class KillAtTheEnd(fastbp.Callback):
        def on_train_end(self, trainer, history):
            raise KilledError

    def listed():
        return fastbp.EarlyStopping(patience=2, min_delta=10.0), fastbp.Checkpoint(path)

    whole = new_trainer()
    history = fit(whole, *listed())
    assert len(history["loss"]) == 3
    with pytest.raises(KilledError):
        fit(new_trainer(), KillAtTheEnd(), *listed())
    resumed = new_trainer(seed=99)
    again = fit(resumed, *listed(), resume_from=path)
    assert_same(bits(whole, history), bits(resumed, again))


def test_the_best_checkpoint_stays_the_best(tmp_path):
    best, last = tmp_path / "best.safetensors", tmp_path / "last.safetensors"

    def listed():
        return fastbp.Checkpoint(last), fastbp.Checkpoint(best, best=True, monitor="loss", mode="max")

    fit(new_trainer(), *listed(), epochs=3)  # the first epoch has the largest loss
    before = best.read_bytes()
    fit(new_trainer(), *listed(), resume_from=last)
    assert best.read_bytes() == before


def test_the_table_has_each_epoch_once(tmp_path):
    path, whole = tmp_path / "run.safetensors", fit(new_trainer())
    table, rates = tmp_path / "log.csv", fastbp.LearningRateLogger("step")
    with pytest.raises(KilledError):
        callbacks = fastbp.Checkpoint(path, every=2), fastbp.CSVLogger(table), fastbp.LearningRateLogger("step")
        fit(new_trainer(), *callbacks, Kill(5))
    assert len(table.read_text().splitlines()) == 6  # one more than the checkpoint knows of
    fit(new_trainer(seed=99), fastbp.CSVLogger(table), rates, resume_from=path)
    header, *lines = (line.split(",") for line in table.read_text().splitlines())
    assert [line[0] for line in lines] == list("012345")
    assert [float(line[header.index("loss")]) for line in lines] == whole["loss"]
    assert rates.rates == [0.01] * 36


def test_progress_goes_on_and_callbacks_hear_of_it(tmp_path, capsys):
    path, seen = tmp_path / "run.safetensors", []

    class Watch(fastbp.Callback):
        def on_train_begin(self, trainer, n_epochs, n_steps):
            seen.append((trainer.epoch, n_epochs, n_steps))

        def on_epoch_end(self, trainer, epoch, logs):
            seen.append((epoch, trainer.epoch))

    fit(new_trainer(), fastbp.Checkpoint(path), Watch(), epochs=2)
    fit(new_trainer(), Watch(), epochs=4, resume_from=path, verbose=1)
    assert seen == [(0, 2, 6), (0, 1), (1, 2), (2, 4, 6), (2, 3), (3, 4)]
    assert "24/24" in capsys.readouterr().err


class Counts:
    """A callback of one's own, with a state."""

    def __init__(self):
        self.count = np.zeros(1, int)

    def on_epoch_end(self, trainer, epoch, logs):
        self.count += 1

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


def test_callbacks_of_ones_own_keep_their_state(tmp_path):
    path, mine = tmp_path / "run.safetensors", [Counts(), Counts()]
    fit(new_trainer(), fastbp.Checkpoint(path), Counts(), Counts(), epochs=4)
    fit(new_trainer(), *mine, resume_from=path)
    assert [callback.count for callback in mine] == [6, 6]
    with pytest.raises(
        ValueError, match="the state of the callbacks Checkpoint, Counts, Counts, and there is no Counts"
    ):
        fit(new_trainer(), mine[0], resume_from=path)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused, and what is left then


def lean(**options):
    return new_trainer(**options)


def other_layers():
    layers = [fastbp.Dense(12, "relu"), fastbp.Dense(2)]
    model = fastbp.Sequential(layers, n_features=5, random_state=0, dtype="float64")
    return fastbp.Trainer(model, loss=LOSS, optimizer=fastbp.Adam(0.01), backend="reference", random_state=0)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (other_layers, {}, r"model.layers\[0\].units is 12 here, but 11 there"),
        (lambda: lean(dtype="float32"), {}, "model.dtype is 'float32' here, but 'float64' there"),
        (
            lambda: lean(loss="half_squared_error"),
            {},
            "loss.name is 'half_squared_error' here, but 'mean_squared_error'",
        ),
        (lambda: lean(optimizer=fastbp.Adam(0.02)), {}, "optimizer.learning_rate is 0.02 here, but 0.01 there"),
        (lambda: lean(optimizer=fastbp.SGD(0.01)), {}, "optimizer is .*SGD.* here, but .*Adam.* there"),
        (lambda: lean(optimizer=fastbp.Adam(schedules.Step(0.01, 2))), {}, "optimizer.learning_rate is .*Step.* here"),
        (lean, {"batch_size": 11}, "fit.batch_size is 11 here, but 10 there"),
        (lean, {"shuffle": False}, "fit.shuffle is False here, but True there"),
        (lean, {"X": X[:50], "y": Y[:50]}, r"fit.X.shape\[0\] is 50 here, but 53 there"),
        (lean, {"sample_weight": np.ones(53)}, "fit.sample_weight is True here, but False there"),
        (lean, {"validation_data": None}, "fit.validation_rows is 0 here, but 20 there"),
        (lean, {"epochs": 2}, "it has 3 epochs already, and epochs=2 counts these too: give more"),
    ],
)
def test_another_training_is_refused_and_changes_nothing(make, options, message, tmp_path):
    path, options = tmp_path / "run.safetensors", {"X": X, "y": Y, "epochs": 6, "batch_size": 10, **options}
    options.setdefault("validation_data", (X[:20], -Y[:20]))
    fit(new_trainer(), fastbp.Checkpoint(path), epochs=3)
    trainer, fresh = make(), make()
    with pytest.raises(ValueError, match=message):
        trainer.fit(**options, resume_from=path)
    assert trainer.model.link == fresh.model.link
    histories = [each.fit(**options) for each in (trainer, fresh)]
    assert_same(bits(fresh, histories[1]), bits(trainer, histories[0]))


def test_a_schedule_over_the_fit_needs_the_same_epochs(tmp_path):
    path, optimizer = tmp_path / "run.safetensors", fastbp.Adam(schedules.OneCycle(0.05))
    fit(new_trainer(optimizer), fastbp.Checkpoint(path), epochs=3)
    with pytest.raises(ValueError, match=r"OneCycle.* spans the fit, which was to have 3 epochs: give epochs=3, not 5"):
        fit(new_trainer(optimizer), epochs=5, resume_from=path)


def test_another_kind_of_random_state_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(new_trainer(), fastbp.Checkpoint(path), epochs=3)
    rng = np.random.RandomState(np.random.PCG64(0))
    trainer = fastbp.Trainer(
        new_model(LOSS), loss=LOSS, optimizer=fastbp.Adam(0.01), backend="reference", random_state=rng
    )
    with pytest.raises(ValueError, match="its random numbers are those of 'MT19937', and random_state here is a PCG64"):
        fit(trainer, resume_from=path)


def test_a_model_is_no_checkpoint(tmp_path):
    trainer = new_trainer()
    trainer.model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds 'model', expected 'checkpoint'"):
        fit(trainer, resume_from=tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        fit(trainer, resume_from=tmp_path / "missing.safetensors")
    with pytest.raises(TypeError, match="resume_from must be a string or path-like, got True"):
        fit(trainer, resume_from=True)


DAMAGES = [
    (lambda s, t: s.pop("rows"), "its state has the entries .*, expected .*'rows'"),
    (lambda s, t: s.update(epoch=-1), "epoch is -1, expected a whole number"),
    (lambda s, t: s.update(rows=[1, 2]), "its order of rows must be an array of int64"),
    (lambda s, t: s.update(rates=3), "its position of the learning rate has the entries 3"),
    (lambda s, t: s["rates"].update(step=1.5), "step is 1.5, expected a whole number"),
    (
        lambda s, t: s["rates"].update(rate=None),
        "its learning rate must be of the kind of the optimizer's",
    ),
    (
        lambda s, t: s["optimizer"].pop("step"),
        "the optimizer's state has the entries .*'first', 'second'.* expected .*'step'",
    ),
    (lambda s, t: s["optimizer"]["first"].pop(), r"the optimizer's state\['first'\] must be a list of 4 entries"),
    (
        lambda s, t: s["history"].pop("loss"),
        r"its history has the values \['val_loss', 'epoch_seconds'\], expected \['loss'",
    ),
    (lambda s, t: s["random_state"].update(bit_generator=7), "its random numbers are those of 7"),
    (lambda s, t: s["random_state"].pop("state"), "its random state has the entries"),
    (lambda s, t: s.update(callbacks=[3], callback_keys=[{}]), "its callback 0 is 3, expected a class"),
    (lambda s, t: t.pop("state.rows"), "the array 'state.rows' is missing"),
    (
        lambda s, t: t.update({"state.rows": np.zeros(53, int)}),
        "must hold each of 53 rows once: resume from another",
    ),
    (
        lambda s, t: t.update({"state.optimizer.first.0": np.zeros(3)}),
        r"\['first'\]\[0\] must be an array of float64 and",
    ),
    (lambda s, t: t.pop("weights.b1"), "lacks the array weights.b1"),
    (
        lambda s, t: t["weights.b1"].__setitem__(0, np.nan),
        "its weights must be finite, got infinity or NaN: resume",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(damage, message, tmp_path):
    path = tmp_path / "run.safetensors"
    fit(new_trainer(), fastbp.Checkpoint(path), epochs=3)
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["fastbp"])
    tensors = load_file(path)
    tensors = {name: array.copy() for name, array in tensors.items()}
    damage(header["state"], tensors)
    save_file(tensors, path, {"fastbp": json.dumps(header)})
    trainer, fresh = new_trainer(seed=5), new_trainer(seed=5)
    with pytest.raises(ValueError, match=message):
        fit(trainer, resume_from=path)
    assert_same(bits(fresh, fit(fresh)), bits(trainer, fit(trainer)))


def test_within_an_epoch_there_is_nothing_to_save(tmp_path):
    path, trainer = tmp_path / "run.safetensors", new_trainer()

    class Saves(fastbp.Callback):
        def on_chunk_end(self, trainer, epoch, step, logs):
            trainer.save(path)

    for _ in range(2):  # before the first fit, and after one that ended within an epoch
        with pytest.raises(
            RuntimeError, match=r"there is no whole training by steps to save: .* model\.save keeps the model"
        ):
            trainer.save(path)
        with pytest.raises(
            RuntimeError, match=r"a checkpoint is of whole epochs: call trainer\.save in on_epoch_complete"
        ):
            fit(trainer, Saves())
    assert not path.exists()


def test_a_callback_whose_state_no_file_holds_is_named(tmp_path):
    class Mine(fastbp.Callback):
        def get_state(self):
            return {"made": object()}

    with pytest.raises(TypeError, match=r"state\.callbacks\.0\.2\.made is <object .*>, expected numbers, strings"):
        fit(new_trainer(), Mine(), fastbp.Checkpoint(tmp_path / "run.safetensors"))


def test_states_are_compared_in_every_entry():
    example = {"step": 3, "arrays": [np.zeros(2)], "name": "a", "none": None, "nested": {"x": 0.5}}
    check_like({**example, "step": 7, "nested": {"x": 2}}, example, "state")
    for change in ({"arrays": [np.zeros(2, np.float32)]}, {"arrays": np.zeros(2)}, {"step": "3"}, {"name": 3},
                   {"step": np.zeros(1)}, {"nested": {"y": 1}}, {"nested": 3}):  # fmt: skip
        with pytest.raises(ValueError, match="state"):
            check_like({**example, **change}, example, "state")


# ---------------------------------------------------------------------------------------------------------------------
# Processes that are killed

SCRIPT = """
import os, signal, sys
import numpy as np
import fastbp
from fastbp import _files, schedules

backend, path, result, how, at = sys.argv[1:]
X = np.random.default_rng(0).normal(size=(90, 5))
y = np.stack([X[:, 0] * X[:, 1], X.sum(axis=1)], axis=1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Kill(fastbp.Callback):
    def on_chunk_end(self, trainer, epoch, step, logs):
        if how == "epoch" and epoch == int(at) and step >= 4:
            die()
        if how in ("half", "rename") and epoch == int(at):
            armed.append(how)

armed, fsync, replace = [], os.fsync, os.replace

def half_written(number):
    if "half" in armed:
        os.ftruncate(number, os.fstat(number).st_size // 2)
        die()
    fsync(number)

def not_renamed(*names):
    if "rename" in armed:
        die()
    replace(*names)

_files.os.fsync, _files.os.replace = half_written, not_renamed
model = fastbp.Sequential([fastbp.Dense(11, "tanh"), fastbp.Dense(2)], n_features=5, random_state=0, dtype="float64")
optimizer = fastbp.Adam(schedules.OneCycle(0.02))
trainer = fastbp.Trainer(model, loss="mean_squared_error", optimizer=optimizer, backend=backend, random_state=0)
history = trainer.fit(
    X, y, epochs=8, batch_size=8, validation_data=(X[:30], -y[:30]),
    callbacks=[fastbp.Checkpoint(path), fastbp.EarlyStopping(patience=5), Kill()],
    resume_from=path if os.path.exists(path) else None,
)
np.savez(result, *model.get_weights(), *trainer._optimizer_state["first"], *trainer._optimizer_state["second"],
         step=trainer._optimizer_state["step"], loss=history["loss"], val=history["val_loss"])
"""


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_killed_process_is_gone_on_from_with_the_same_bits(backend, tmp_path):
    """Within an epoch, with half of a checkpoint on the disk, and with a whole one that has not got its name."""

    def process(folder, how, at):
        folder.mkdir(exist_ok=True)
        result = folder / "result.npz"
        done = run("-c", SCRIPT, backend, folder / "run.safetensors", result, how, at, path=[ROOT])
        assert done.returncode == (0 if how == "never" else -signal.SIGKILL), done.stderr
        return np.load(result) if result.exists() else None

    wanted, folder = process(tmp_path / "whole", "never", 0), tmp_path / "killed"
    assert len(wanted["loss"]) == 6  # early stopping ended it
    for at, how in enumerate(("epoch", "half", "rename"), 2):
        assert process(folder, how, at) is None
        # what a kill leaves behind has another name
        assert len([name for name in os.listdir(folder) if name != "run.safetensors"]) == at - 2
        assert fastbp.load(folder / "run.safetensors").n_features == 5
    found = process(folder, "never", 0)
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
