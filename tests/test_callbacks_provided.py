"""The callbacks that come with fastbp, and what may be one."""

import contextlib
import csv

import numpy as np
import pytest
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp import schedules

LOSS = "mean_squared_error"
X, Y = data(LOSS)


def new_trainer(optimizer=None, **options):
    optimizer = fastbp.SGD(0.01, momentum=0.9) if optimizer is None else optimizer
    options = {"backend": "reference", "random_state": 0, **options}
    return fastbp.Trainer(new_model(LOSS), loss=LOSS, optimizer=optimizer, **options)


class Says(fastbp.Callback):
    """Adds values to the logs, and keeps the weights of each epoch."""

    def __init__(self, **values):
        self.values, self.weights = values, []

    def on_epoch_end(self, trainer, epoch, logs):
        logs.update({name: values[epoch] for name, values in self.values.items()})
        self.weights.append(trainer.model.get_weights())


# ---------------------------------------------------------------------------------------------------------------------
# What may be a callback


def test_an_object_with_some_of_the_methods_will_do():
    class Mine:
        def __init__(self):
            self.calls = []

        def on_epoch_end(self, trainer, epoch, logs):
            self.calls.append((epoch, sorted(logs)))

        def on_close(self, trainer):
            self.calls.append("closed")

    mine = Mine()
    new_trainer().fit(X, Y, epochs=2, callbacks=[mine])
    assert mine.calls == [(0, ["epoch_seconds", "loss"]), (1, ["epoch_seconds", "loss"]), "closed"]


@pytest.mark.parametrize("base", [object, fastbp.Callback])
def test_a_misspelled_method_is_refused_with_those_there_are(base):
    class Mine(base):
        on_top = True  # no method

        def on_epoch_end(self, trainer, epoch, logs): ...

        def on_epoch_ends(self, trainer, epoch, logs): ...

    message = (
        "the callback Mine has a method on_epoch_ends, which would never be called: the methods are on_train_begin, "
    )
    with pytest.raises(TypeError, match=message):
        new_trainer().fit(X, Y, callbacks=[Mine()])


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (
            object(),
            r"objects with some of its methods \(on_train_begin, on_chunk_end, on_epoch_end, on_epoch_complete, ",
        ),
        (fastbp.EarlyStopping, r"got the class EarlyStopping: EarlyStopping\(...\) makes one of it"),
        (3, "callbacks must hold instances of fastbp.Callback, .* got 3"),
    ],
)
def test_what_is_none_is_refused(callback, message):
    with pytest.raises(TypeError, match=message):
        new_trainer().fit(X, Y, callbacks=[callback])
    with pytest.raises(TypeError, match=message):
        fastbp.MLPRegressor(hidden_layer_sizes=(3,), callbacks=[callback]).fit(X, Y)


def test_complete_comes_after_every_end_of_the_epoch():
    calls = []

    class Mine(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            calls.append("end")

        def on_epoch_complete(self, trainer, epoch, logs):
            calls.append("complete")
            trainer.stop()

    new_trainer().fit(X, Y, callbacks=[Mine(), Mine()])
    fastbp.MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", callbacks=[Mine(), Mine()]).fit(X, Y)
    assert calls == ["end", "end", "complete", "complete"] * 2


# ---------------------------------------------------------------------------------------------------------------------
# EarlyStopping


@pytest.mark.parametrize(
    ("options", "values", "stopped", "best"),
    [
        (dict(mode="min", patience=2), [3, 2, 2, 2, 1], 3, 1),
        (dict(mode="max", patience=2), [1, 2, 2, 1, 3], 3, 1),
        (dict(mode="min", patience=1), [3, 2, 1, 1, 0], 3, 2),
        (dict(mode="min", patience=2, min_delta=0.5), [3, 2.6, 2.4, 2.3, 2.2], 4, 2),
        (dict(mode="min", patience=2), [np.nan, np.nan, 1, 1, 1], 1, None),
        (dict(mode="min", patience=2), [2, np.nan, 1, np.nan, np.nan], 4, 2),
        (dict(mode="min", patience=3, baseline=0.5), [3, 2, 1, 0.4, 0.3], 2, 2),
        (dict(mode="min", patience=3, baseline=0.5), [3, 2, 0.4, 0.6, 0.7], None, 2),
        (dict(mode="min", patience=5), [5, 4, 3, 2, 3], None, 3),
    ],
)
def test_it_stops_after_so_many_epochs_without_an_improvement(options, values, stopped, best):
    says, stopping, trainer = Says(value=values), fastbp.EarlyStopping("value", **options), new_trainer()
    told = contextlib.nullcontext() if best is not None else pytest.warns(UserWarning, match="has no best weights")
    with told:
        history = trainer.fit(X, Y, epochs=5, callbacks=[says, stopping])
    assert len(history.epochs) == (5 if stopped is None else stopped + 1)
    assert (stopping.stopped_epoch, stopping.best_epoch) == (stopped, best)
    if best is not None:
        assert stopping.best == values[best]
        assert_same(says.weights[best], trainer.model.get_weights())
        assert_same(says.weights[best], stopping.best_weights)


def test_the_last_weights_stay_where_they_are_asked_for():
    says, trainer = Says(value=[1, 2, 3]), new_trainer()
    stopping = fastbp.EarlyStopping("value", mode="min", restore_best=False)
    trainer.fit(X, Y, epochs=3, callbacks=[says, stopping])
    assert_same(says.weights[2], trainer.model.get_weights())
    assert stopping.best_epoch == 0 and stopping.best_weights is None


@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
def test_it_watches_the_losses_of_the_training(monitor):
    stopping, trainer = fastbp.EarlyStopping(monitor, patience=3), new_trainer(fastbp.SGD(0.05))
    history = trainer.fit(X[:40], Y[:40], epochs=400, validation_data=(X[40:], Y[40:]), callbacks=[stopping])
    assert stopping.best == min(history[monitor]) and stopping.best_epoch == np.argmin(history[monitor])
    if monitor == "val_loss":
        assert trainer.loss_and_gradients(X[40:], Y[40:])[0] == pytest.approx(stopping.best)


def test_a_second_fit_starts_anew():
    says, stopping, trainer = (
        Says(value=[1, 2, 3, 4]),
        fastbp.EarlyStopping("value", mode="min", patience=2),
        new_trainer(),
    )
    for _ in range(2):
        assert len(trainer.fit(X, Y, epochs=4, callbacks=[says, stopping])["loss"]) == 3


def test_auto_goes_by_the_name():
    for name, mode in (("loss", "min"), ("val_loss", "min"), ("val_accuracy", "max"), ("score", "max"), ("r2", "max")):
        assert fastbp.EarlyStopping(name).mode == mode
    assert fastbp.EarlyStopping("my_loss", mode="max").mode == "max"
    with pytest.raises(
        ValueError, match="mode='auto' cannot tell whether 'value' is to fall or to rise: say mode='min'"
    ):
        fastbp.EarlyStopping("value")


@pytest.mark.parametrize("make", [fastbp.EarlyStopping, lambda: fastbp.Checkpoint("x.safetensors", best=True)])
def test_a_value_that_is_not_there_is_named(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = r"watches 'val_loss', but the values of an epoch are 'loss', 'epoch_seconds': give validation_data to fit"
    with pytest.raises(ValueError, match=message):
        new_trainer().fit(X, Y, callbacks=[make()])


def test_an_estimator_stops_with_it_too():
    stopping = fastbp.EarlyStopping("loss", patience=2, min_delta=1e9)
    for solver in ("adam", "lbfgs"):
        estimator = fastbp.MLPRegressor(
            hidden_layer_sizes=(3,), solver=solver, callbacks=[stopping], random_state=0
        ).fit(X, Y)
        assert estimator.n_iter_ == 3
        assert_same(stopping.best_weights[::2], estimator.coefs_)


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoint


def test_the_last_epoch_is_in_the_file(tmp_path):
    trainer, path = new_trainer(), tmp_path / "run.safetensors"
    checkpoint = fastbp.Checkpoint(path)
    says = Says()
    trainer.fit(X, Y, epochs=3, callbacks=[checkpoint, says])
    assert_same(trainer.model.get_weights(), fastbp.load(path).get_weights())
    assert checkpoint.last_path == str(path)


def test_files_are_written_every_so_often_and_at_the_end(tmp_path):
    checkpoint, says = fastbp.Checkpoint(tmp_path / "run-{epoch:02d}.safetensors", every=3), Says()
    new_trainer().fit(X, Y, epochs=8, callbacks=[checkpoint, says])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"run-0{k}.safetensors" for k in (3, 6, 8)]
    for k in (3, 6, 8):
        assert_same(says.weights[k - 1], fastbp.load(tmp_path / f"run-0{k}.safetensors").get_weights())


def test_what_stops_the_training_has_its_file_too(tmp_path):
    checkpoint = fastbp.Checkpoint(tmp_path / "run-{epoch}.safetensors", every=5)
    stopping = fastbp.EarlyStopping("value", mode="min", patience=1)
    new_trainer().fit(X, Y, epochs=8, callbacks=[checkpoint, Says(value=[1, 1, 1]), stopping])
    assert [path.name for path in tmp_path.iterdir()] == ["run-2.safetensors"]


def test_the_best_epoch_is_in_the_file(tmp_path):
    path, says, trainer = tmp_path / "best.safetensors", Says(accuracy=[1, 3, 2, 3, np.nan]), new_trainer()
    best = fastbp.Checkpoint(path, best=True, monitor="accuracy")
    trainer.fit(X, Y, epochs=5, callbacks=[says, best, fastbp.Checkpoint(tmp_path / "last.safetensors")])
    assert_same(says.weights[1], fastbp.load(path).get_weights())
    assert_same(says.weights[4], fastbp.load(tmp_path / "last.safetensors").get_weights())
    assert best.best_value == 3


def test_values_are_filled_into_the_path(tmp_path):
    checkpoint = fastbp.Checkpoint(tmp_path / "{epoch}-{value:.2f}-{{}}.safetensors")
    new_trainer().fit(X, Y, epochs=2, callbacks=[Says(value=[0.126, 2]), checkpoint])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-0.13-{}.safetensors", "2-2.00-{}.safetensors"]


@pytest.mark.parametrize("name", ["{val_loss}", "{}", "{epoch", "{epoch.x}", "{loss:d}", "{loss[0]}"])
def test_a_path_that_cannot_be_filled_in_is_named(name, tmp_path):
    with pytest.raises(ValueError, match=r"cannot be filled in .*: its fields may be epoch, loss, epoch_seconds"):
        new_trainer().fit(X, Y, callbacks=[fastbp.Checkpoint(tmp_path / name)])
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_said_before_the_first_epoch(tmp_path):
    watch = Says()
    with pytest.raises(FileNotFoundError, match=r"there is no folder .* for checkpoints: make it first"):
        new_trainer().fit(X, Y, callbacks=[watch, fastbp.Checkpoint(tmp_path / "missing" / "run.safetensors")])
    assert not watch.weights


def test_an_estimators_network_is_kept_by_it(tmp_path):
    path = tmp_path / "run.safetensors"
    labels = (Y[:, 0] > 0).astype(int)
    estimator = fastbp.MLPClassifier((4,), callbacks=[fastbp.Checkpoint(path)], tol=1e9, random_state=0).fit(X, labels)
    np.testing.assert_array_equal(fastbp.load(path).predict(X)[:, 0], estimator.predict_proba(X)[:, 1])
    with pytest.raises(RuntimeError, match="there is no whole training by steps to save"):
        fastbp.MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", callbacks=[fastbp.Checkpoint(path)]).fit(X, Y)


# ---------------------------------------------------------------------------------------------------------------------
# Loggers


def test_rates_are_written_down(monkeypatch):
    monkeypatch.setattr("fastbp._run.CHUNK_SECONDS", 0.0)
    schedule = schedules.OneCycle(0.1)
    by_step, by_epoch = fastbp.LearningRateLogger("step"), fastbp.LearningRateLogger()
    wanted = schedules.preview(schedule, epochs=3, steps=6)
    for _ in range(2):  # a second fit starts anew, and so does this schedule
        history = new_trainer(fastbp.SGD(schedule)).fit(X, Y, epochs=3, batch_size=10, callbacks=[by_step, by_epoch])
        assert by_step.rates == wanted.tolist()
        assert by_epoch.rates == history["learning_rate"] == wanted[5::6].tolist()

    class Halves(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            trainer.learning_rate /= 2

    new_trainer(fastbp.SGD(0.5)).fit(X, Y, epochs=3, callbacks=[Halves(), by_epoch])
    assert by_epoch.rates == [0.5, 0.25, 0.125]


def rows(path, separator=","):
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=separator))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_line_an_epoch_is_in_the_table(separator, tmp_path):
    path, seen = tmp_path / "log.csv", []

    class Reads(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            seen.append(rows(path, separator))

    trainer = new_trainer(fastbp.SGD(schedules.Step(0.01, 1)))
    table = fastbp.CSVLogger(path, separator=separator)
    history = trainer.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=[table, Reads()])
    header, *lines = rows(path, separator)
    assert header == ["epoch", *history] or sorted(header) == sorted(["epoch", *history])
    assert [len(lines) for lines in seen] == [2, 3, 4]  # each is there before the next epoch begins
    for name in history:
        assert [float(line[header.index(name)]) for line in lines] == history[name]  # to the last bit
    assert [line[0] for line in lines] == ["0", "1", "2"]


def test_a_table_is_written_anew_or_gone_on_with(tmp_path):
    path = tmp_path / "log.csv"
    for append, lines in ((False, 3), (False, 3), (True, 5)):
        new_trainer().fit(X, Y, epochs=2, callbacks=[fastbp.CSVLogger(path, append=append)])
        assert len(rows(path)) == lines
    with pytest.raises(ValueError, match=r"log.csv has the columns 'epoch,loss,epoch_seconds', this training 'epoch,"):
        new_trainer().fit(X, Y, validation_data=(X, Y), callbacks=[fastbp.CSVLogger(path, append=True)])
    assert len(rows(path)) == 5
    fastbp.CSVLogger(tmp_path / "new.csv", append=True)
    new_trainer().fit(X, Y, callbacks=[fastbp.CSVLogger(tmp_path / "new.csv", append=True)])
    assert len(rows(tmp_path / "new.csv")) == 2


def test_a_table_is_closed_after_an_error(tmp_path):
    class Fails(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            raise RuntimeError("mine")

    table = fastbp.CSVLogger(tmp_path / "log.csv")
    files = []
    opens = table.on_train_begin
    table.on_train_begin = lambda *arguments: (opens(*arguments), files.append(table._file))
    with pytest.raises(RuntimeError, match="mine"):
        new_trainer().fit(X, Y, callbacks=[table, Fails()])
    assert files[0].closed and len(rows(tmp_path / "log.csv")) == 2


# ---------------------------------------------------------------------------------------------------------------------
# Arguments


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastbp.EarlyStopping(patience=-1), ValueError, "patience must be an integer of at least 0, got -1"),
        (lambda: fastbp.EarlyStopping(min_delta=-1), ValueError, "min_delta must be a number of at least 0, got -1"),
        (lambda: fastbp.EarlyStopping(mode="down"), ValueError, "mode must be one of 'auto', 'min', 'max', got 'down'"),
        (lambda: fastbp.EarlyStopping(3), TypeError, "monitor must be the name of a value, such as 'val_loss', got 3"),
        (lambda: fastbp.EarlyStopping(restore_best=1), TypeError, "restore_best must be True or False, got 1"),
        (lambda: fastbp.EarlyStopping(baseline="a"), TypeError, "baseline must be a number"),
        (lambda: fastbp.Checkpoint(3), TypeError, "path must be a string or path-like, got 3"),
        (lambda: fastbp.Checkpoint("a", every=0), ValueError, "every must be an integer of at least 1, got 0"),
        (lambda: fastbp.Checkpoint("a", best="yes"), TypeError, "best must be True or False, got 'yes'"),
        (lambda: fastbp.LearningRateLogger("batch"), ValueError, "per must be one of 'step', 'epoch', got 'batch'"),
        (lambda: fastbp.CSVLogger("a", append=1), TypeError, "append must be True or False, got 1"),
        (lambda: fastbp.CSVLogger("a", separator=", "), ValueError, "separator must be one character, .* got ', '"),
        (lambda: fastbp.CSVLogger(3), TypeError, "path must be a string or path-like, got 3"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
