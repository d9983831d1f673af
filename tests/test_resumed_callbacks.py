"""Callbacks of a training that is resumed: whose a state is, which lines of a table stay, and what an error leaves."""

import csv
import os

import numpy as np
import pytest
from test_damaged_files import content, put, standing
from test_resume import Kill, KilledError, bits, fit, new_trainer
from test_trainer import assert_same

import fastbp
from fastbp.callbacks import _table


def best(path, monitor="loss", mode="auto"):
    return fastbp.Checkpoint(path, best=True, monitor=monitor, mode=mode)


# ---------------------------------------------------------------------------------------------------------------------
# Whose a state is


def test_states_go_by_what_is_watched_and_not_by_place(tmp_path):
    path = tmp_path / "run.safetensors"

    def listed():
        return [
            fastbp.EarlyStopping("loss", patience=30),
            fastbp.EarlyStopping("val_loss", mode="max", patience=30),
            best(tmp_path / "a"),
            best(tmp_path / "b", mode="max"),
            fastbp.LearningRateLogger("step"),
            fastbp.LearningRateLogger("epoch"),
            fastbp.CSVLogger(tmp_path / "a.csv"),
            fastbp.CSVLogger(tmp_path / "b.csv", separator=";"),
        ]

    whole = listed()
    fit(new_trainer(), *whole, epochs=6)
    tables = [(tmp_path / name).read_text().splitlines() for name in ("a.csv", "b.csv")]
    fit(new_trainer(), *listed(), fastbp.Checkpoint(path), epochs=3)
    turned = listed()[::-1]
    fit(new_trainer(seed=99), *turned, epochs=6, resume_from=path)
    for one, other in zip(whole, turned[::-1], strict=True):
        for name in {"best", "best_epoch", "best_value", "rates"} & vars(one).keys():
            assert getattr(one, name) == getattr(other, name)
    for name, wanted in zip(("a.csv", "b.csv"), tables, strict=True):
        found = (tmp_path / name).read_text().splitlines()
        assert [line[:9] for line in found] == [line[:9] for line in wanted]  # and not the seconds


def test_a_state_that_decides_needs_its_callback(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(new_trainer(), fastbp.EarlyStopping("loss"), fastbp.Checkpoint(path), epochs=3)
    message = (
        r"the state of the callbacks EarlyStopping\(monitor='loss', mode='min'\), Checkpoint, and there is no "
        r"EarlyStopping\(monitor='loss', mode='min'\) for one of them"
    )
    with pytest.raises(ValueError, match=message):
        fit(new_trainer(), fastbp.EarlyStopping("val_loss"), resume_from=path)
    fit(new_trainer(), fastbp.EarlyStopping("loss", patience=3), resume_from=path)  # more patience is no other one


def test_a_state_that_writes_down_is_left_out_with_a_warning(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(new_trainer(), fastbp.LearningRateLogger("step"), fastbp.Checkpoint(path), epochs=3)
    rates = fastbp.LearningRateLogger("epoch")
    message = r"LearningRateLogger\(per='step'\), which is left out: there is LearningRateLogger\(per='epoch'\)"
    with pytest.warns(UserWarning, match=message) as caught:
        history = fit(new_trainer(), rates, resume_from=path)
    assert rates.rates == [0.01] * 3 and len(history["loss"]) == 6
    assert os.path.basename(caught[0].filename) == "test_resume.py"  # where fit is called
    fit(new_trainer(), resume_from=path)  # to leave it out says nothing


def test_a_key_of_ones_own_tells_callbacks_apart(tmp_path):
    class Named:
        def __init__(self, name):
            self.name, self.seen = name, []

        def on_epoch_end(self, trainer, epoch, logs):
            self.seen.append(self.name)

        def get_state(self):
            return {"seen": self.seen}

        def set_state(self, state):
            self.seen = state["seen"]

        def state_key(self):
            return {"name": self.name}

    path = tmp_path / "run.safetensors"
    fit(new_trainer(), Named("a"), Named("b"), fastbp.Checkpoint(path), epochs=2)
    mine = [Named("b"), Named("a")]
    fit(new_trainer(), *mine, epochs=3, resume_from=path)
    assert [one.seen for one in mine] == [["b"] * 3, ["a"] * 3]
    bad = Named("a")
    for key, message in (([1], "must give a dict, got"), ({"x": object()}, "must give what JSON can hold")):
        bad.state_key = lambda key=key: key
        with pytest.raises(TypeError, match=f"state_key of Named {message}"):
            fit(new_trainer(), bad, fastbp.Checkpoint(path), epochs=2)


# ---------------------------------------------------------------------------------------------------------------------
# The best file


@pytest.mark.parametrize("listed", ["turned", "other monitor", "state left out", "older checkpoint", "other mode"])
def test_a_better_file_is_never_replaced(listed, tmp_path):
    """The losses rise after epoch 1, so that any epoch after the checkpoint is worse than the file."""
    path, good = tmp_path / "run.safetensors", tmp_path / "best.safetensors"

    def callbacks(*others):
        return best(good, "val_loss"), fastbp.Checkpoint(path), *others

    history = fit(new_trainer(), *callbacks(), epochs=3)
    assert np.argmin(history["val_loss"]) < 2
    before = good.read_bytes()
    if listed == "turned":
        fit(new_trainer(), *callbacks()[::-1], resume_from=path)
    elif listed == "other monitor":  # the file's own value of it is what counts
        values = history["loss"][int(np.argmin(history["val_loss"]))]
        with pytest.warns(UserWarning, match="which begins anew"):
            again = fit(new_trainer(), best(good, "loss", "max"), resume_from=path)
        assert max(again["loss"][3:]) < values
    elif listed == "state left out":
        header, tensors = content(path)
        for name in ("callbacks", "callback_keys"):
            header["state"][name] = []
        put(path, header, tensors)
        fit(new_trainer(), *callbacks(), resume_from=path)
    elif listed == "older checkpoint":
        fit(new_trainer(), best(tmp_path / "other", "val_loss"), fastbp.Checkpoint(path), epochs=1)
        with pytest.warns(UserWarning, match="which begins anew"):
            fit(new_trainer(), best(good, "val_loss"), epochs=2, resume_from=path)
    else:
        fit(new_trainer(), best(good, "val_loss"), resume_from=path)
    assert good.read_bytes() == before


def test_a_worse_file_and_one_that_is_none_are_replaced(tmp_path):
    path, good = tmp_path / "run.safetensors", tmp_path / "best.safetensors"
    fit(new_trainer(), best(good), fastbp.Checkpoint(path), epochs=2)
    checkpoint = best(good)
    history = fit(new_trainer(), checkpoint, epochs=4, resume_from=path)  # the loss falls
    assert checkpoint.best_value == min(history["loss"]) and content(good)[0]["state"]["epoch"] == 4
    good.write_bytes(b"something else")
    fit(new_trainer(), best(good), epochs=4, resume_from=path)
    assert content(good)[0]["state"]["epoch"] == 4


class Scores(fastbp.Callback):
    """A value that no history has."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, trainer, epoch, logs):
        logs["score"] = self.values[epoch]


def test_a_value_that_is_not_in_the_history_is_that_of_the_state(tmp_path):
    path, good = tmp_path / "run.safetensors", tmp_path / "best.safetensors"
    with pytest.raises(KilledError):
        fit(new_trainer(), Scores(1, 2, 9, 3, 3, 3), fastbp.Checkpoint(path, every=2), best(good, "score"), Kill(3))
    before = good.read_bytes()
    checkpoint = best(good, "score")
    fit(new_trainer(), Scores(1, 2, 8, 3, 3, 3), checkpoint, resume_from=path)
    assert good.read_bytes() == before and checkpoint.best_value == 9
    fit(new_trainer(), Scores(1, 2, 10, 3, 3, 3), checkpoint, resume_from=path)
    assert good.read_bytes() != before and checkpoint.best_value == 10


# ---------------------------------------------------------------------------------------------------------------------
# Errors


class Refuses:
    """A callback whose state cannot be taken over."""

    def __init__(self, error):
        self.error, self.count = error, np.zeros(1)

    def on_epoch_end(self, trainer, epoch, logs):
        self.count += 1

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count[:] = -1
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.count = state["count"]


class RefusesToo(Refuses, fastbp.Callback):
    """One of the base class."""


@pytest.mark.parametrize("kind", [Refuses, RefusesToo])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (KeyError("count"), ValueError),
        (TypeError("mine"), ValueError),
        (OverflowError("mine"), ValueError),
        (UnicodeDecodeError("ascii", b"", 0, 1, "mine"), ValueError),
        (RuntimeError("mine"), RuntimeError),
        (KilledError(), KilledError),
    ],
)
def test_a_callback_that_does_not_take_its_state_leaves_all_as_it_was(error, raised, kind, tmp_path):
    path, table = tmp_path / "run.safetensors", tmp_path / "log.csv"

    def listed(refuses):
        return [fastbp.CSVLogger(table), fastbp.EarlyStopping(), fastbp.LearningRateLogger("step"), refuses]

    fit(new_trainer(), *listed(kind(None)), fastbp.Checkpoint(path), epochs=3)
    lines = table.read_bytes()
    trainer, callbacks = new_trainer(seed=5), listed(kind(None))
    fit(trainer, *callbacks, epochs=2)
    table.write_bytes(lines + b"3,0.5,0.5,0.5\n")
    callbacks[-1].error = error
    ours = callbacks[:-1]
    before = standing(trainer, ours, tmp_path)
    with pytest.raises(raised) as caught:
        fit(trainer, *callbacks, resume_from=path)
    if raised is ValueError:
        assert f"{path} cannot be resumed: the callback {kind.__name__} does not take its state" in str(caught.value)
        assert type(caught.value.__cause__) is type(error)
    assert standing(trainer, ours, tmp_path) == before
    assert callbacks[-1].count == [2]
    # and it goes on from where it was
    other, fresh = new_trainer(seed=5), listed(kind(None))
    fit(other, *fresh, epochs=2)
    assert_same(bits(other, fit(other, epochs=2)), bits(trainer, fit(trainer, epochs=2)))


@pytest.mark.parametrize("where", ["begin", "verify"])
def test_an_error_before_the_first_step_leaves_all_as_it_was(where, tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"

    class Fails(fastbp.Callback):
        def on_train_begin(self, trainer, n_epochs, n_steps):
            raise RuntimeError("mine")

    fit(new_trainer(), fastbp.Checkpoint(path), epochs=3)
    (tmp_path / "log.csv").touch()
    trainer, stopping = new_trainer(seed=5, backend="cpu", verify=where == "verify"), fastbp.EarlyStopping()
    fit(trainer, stopping, epochs=2)
    before = standing(trainer, [stopping], tmp_path)

    def disagrees(*arguments, **options):
        raise FloatingPointError("mine")

    if where == "verify":
        monkeypatch.setattr("fastbp._fit.verify_step", disagrees)
    with pytest.raises((RuntimeError, FloatingPointError), match="mine"):
        fit(trainer, stopping, *[Fails()] * (where == "begin"), resume_from=path)
    assert standing(trainer, [stopping], tmp_path) == before
    trainer.save(path)  # as it could before


def test_best_weights_that_are_not_wanted_are_not_kept(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(new_trainer(), fastbp.EarlyStopping(), fastbp.Checkpoint(path), epochs=3)
    stopping, trainer = fastbp.EarlyStopping(restore_best=False), new_trainer()
    fit(trainer, stopping, resume_from=path)
    assert stopping.best_weights is None
    whole = new_trainer()
    fit(whole)
    assert_same(whole.model.get_weights(), trainer.model.get_weights())


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def epochs_of(path, separator=","):
    with open(path, newline="") as file:
        return [row[0] for row in csv.reader(file, delimiter=separator)]


def killed(tmp_path, *callbacks, at=5, every=2, **options):
    """A training with a table that was killed in epoch 5, one after its last checkpoint."""
    path = tmp_path / "run.safetensors"
    with pytest.raises(KilledError):
        fit(new_trainer(**options), fastbp.Checkpoint(path, every=every), *callbacks, Kill(at))
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_lines_are_cut_by_the_epoch(separator, tmp_path):
    table = tmp_path / "log.csv"

    def logger():
        return fastbp.CSVLogger(table, separator=separator)

    path = killed(tmp_path, logger())
    assert epochs_of(table, separator) == ["epoch", *"01234"]
    # as a spreadsheet may have changed it, in length alone
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))
    fit(new_trainer(), logger(), resume_from=path)
    assert epochs_of(table, separator) == ["epoch", *"012345"]


def test_half_a_line_that_a_kill_leaves_is_taken_out(tmp_path):
    table = tmp_path / "log.csv"
    for half in (b"5,0.3", b"5", b'5,"0.3', b"1"):
        path = killed(tmp_path, fastbp.CSVLogger(table))
        table.write_bytes(table.read_bytes() + half)
        fit(new_trainer(), fastbp.CSVLogger(table), resume_from=path)
        assert epochs_of(table) == ["epoch", *"012345"]


def test_a_table_that_is_gone_on_with_ends_half_a_line_first(tmp_path):
    table = tmp_path / "log.csv"
    fit(new_trainer(), fastbp.CSVLogger(table), epochs=2)
    table.write_bytes(table.read_bytes() + b"2,0.3")
    fit(new_trainer(), fastbp.CSVLogger(table, append=True), epochs=2)
    assert epochs_of(table) == ["epoch", *"01201"]


def test_of_several_trainings_the_lines_of_this_one_are_cut(tmp_path):
    table = tmp_path / "log.csv"
    fit(new_trainer(seed=1), fastbp.CSVLogger(table), epochs=6)
    path = killed(tmp_path, fastbp.CSVLogger(table, append=True))
    assert epochs_of(table) == ["epoch", *"01234501234"]
    fit(new_trainer(), fastbp.CSVLogger(table, append=True), resume_from=path)
    assert epochs_of(table) == ["epoch", *"012345012345"]
    # another one has been added since
    path = killed(tmp_path, fastbp.CSVLogger(table, append=True))
    before = table.read_text().splitlines()
    fit(new_trainer(seed=1), fastbp.CSVLogger(table, append=True), epochs=3)
    fit(new_trainer(), fastbp.CSVLogger(table, append=True), resume_from=path)
    assert epochs_of(table) == ["epoch", *"012345", *"012345", *"0123", *"012", *"45"]
    assert table.read_text().splitlines()[:17] == before[:17]


def test_names_with_separators_and_line_ends_are_read_as_they_are_written(tmp_path):
    table = tmp_path / "log.csv"

    class Says(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            logs |= {'a,"b"\nc': epoch, "ü": 0.5}

    path = killed(tmp_path, Says(), fastbp.CSVLogger(table))
    fit(new_trainer(), Says(), fastbp.CSVLogger(table), resume_from=path)
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0][-2:] == ['a,"b"\nc', "ü"] and [row[0] for row in rows[1:]] == list("012345")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss\n0,1\n1,1\n2,1\n3,1\n4,1\n", r"has the columns 'epoch,loss', this training 'epoch,loss,epoch"),
        ("time;value\n0;1\n", r"has the columns 'time;value', this training"),
        ('a,"' + "x" * 200_000, "is no table with the separator ','"),
        ("\x00\x01", "has the columns"),
    ],
)  # fmt: skip
def test_a_table_of_something_else_is_refused_as_it_is(text, message, tmp_path):
    table = tmp_path / "log.csv"
    path = killed(tmp_path, fastbp.CSVLogger(table))
    table.write_text(text)
    trainer = new_trainer(seed=5)
    before = standing(trainer, [], tmp_path)
    with pytest.raises(ValueError, match=message):
        fit(trainer, fastbp.CSVLogger(table), resume_from=path)
    assert table.read_text() == text and standing(trainer, [], tmp_path) == before


def test_the_table_of_another_training_stays_with_a_warning(tmp_path):
    table = tmp_path / "log.csv"
    path = killed(tmp_path, fastbp.CSVLogger(table))
    fit(new_trainer(seed=1), fastbp.CSVLogger(table))
    before = table.read_text()
    with pytest.warns(UserWarning, match=r"log.csv has no line of epoch 3 of the training that is resumed") as caught:
        fit(new_trainer(), fastbp.CSVLogger(table), resume_from=path)
    assert table.read_text().startswith(before) and epochs_of(table) == ["epoch", *"01234545"]
    assert os.path.basename(caught[0].filename) == "test_resume.py"


def test_a_table_that_is_gone_is_begun_anew(tmp_path):
    table = tmp_path / "log.csv"
    path = killed(tmp_path, fastbp.CSVLogger(table))
    table.unlink()
    fit(new_trainer(), fastbp.CSVLogger(table), resume_from=path)
    assert epochs_of(table) == ["epoch", *"45"]


def test_the_table_is_replaced_in_one_moment(tmp_path, monkeypatch):
    table, there = tmp_path / "log.csv", tmp_path / "there.csv"
    table.symlink_to(there)
    path = killed(tmp_path, fastbp.CSVLogger(table))
    there.chmod(0o640)
    before = there.read_bytes()

    def fails(*names):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="no space left"):
            fit(new_trainer(), fastbp.CSVLogger(table), resume_from=path)
    assert there.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["log.csv", path.name, "there.csv"]
    fit(new_trainer(), fastbp.CSVLogger(table), resume_from=path)
    assert table.is_symlink() and epochs_of(there) == ["epoch", *"012345"] and there.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name on this system")
def test_a_pipe_gets_the_lines(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    path = killed(tmp_path, fastbp.CSVLogger(pipe))
    assert [line[:1] for line in os.read(reader, 10_000).decode().splitlines()] == list("e01234")
    fit(new_trainer(), fastbp.CSVLogger(pipe), resume_from=path)
    assert [line[:1] for line in os.read(reader, 10_000).decode().splitlines()] == list("e45")
    os.close(reader)
    with pytest.raises(IsADirectoryError):
        fit(new_trainer(), fastbp.CSVLogger(tmp_path), epochs=1)


def test_lines_without_an_epoch_stay(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,1\n1,2\n\n# a remark\n2,3\n3,4\n")
    table = _table.Table(str(path), ",")
    assert table.until(2, ["1", "2"]) == ["epoch,loss\n", "0,1\n", "1,2\n", "\n", "# a remark\n"]
    assert table.until(2, None) == table.until(2, ["1", "2"])
    assert table.until(2, ["1", "9"]) is None
