"""Devices, pipes and folders in the place of a file, and random states that point beyond their memory."""

import os
import socket

import numpy as np
import pytest
from test_resume import fit, new_trainer

import fastbp
from fastbp import _files
from fastbp._orders import COMPILED_FROM, Orders

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no devices and pipes with a name on this system")


def a_model():
    return fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=0)


@pytest.fixture(params=["a device", "a named pipe", "a socket", "a folder", "a link to a pipe"])
def special(request, tmp_path):
    """Something that is no regular file, and its kind."""
    path = tmp_path / "there"
    if request.param == "a device":
        return "/dev/full", request.param
    if request.param == "a folder":
        path.mkdir()
    elif request.param == "a socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        os.mkfifo(path)
        if request.param == "a link to a pipe":
            (tmp_path / "link").symlink_to(path)
            return tmp_path / "link", "a named pipe"
    return path, request.param


def test_no_file_takes_their_place(special):
    path, kind = special
    before = os.lstat(path)
    error = IsADirectoryError if kind == "a folder" else OSError
    message = f"{path} is {kind}, which no file is to replace: give the name of a new or of a regular file"
    with pytest.raises(error, match=message):
        a_model().save(path)
    trainer = new_trainer()
    seen = []

    class Watch(fastbp.Callback):
        def on_epoch_end(self, trainer, epoch, logs):
            seen.append(epoch)

    with pytest.raises(error, match=message):  # before the first epoch
        fit(trainer, Watch(), fastbp.Checkpoint(path))
    assert not seen
    fit(trainer)
    with pytest.raises(error, match=message):
        trainer.save(path)
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)
    assert not [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".part")]


def test_none_of_them_is_waited_for(special):
    path, kind = special
    wanted = f"there is no file {path}" if kind == "a folder" else f"{path} is {kind}: models and checkpoints are read"
    with pytest.raises(OSError, match=wanted):
        fastbp.load(path)
    with pytest.raises(OSError, match=wanted):
        fit(new_trainer(), resume_from=path)


def test_names_that_no_file_can_have_are_refused(tmp_path):
    for call in (a_model().save, fastbp.load, fastbp.Checkpoint, fastbp.CSVLogger):
        with pytest.raises(ValueError, match="path must be a name that a file can have"):
            call("a\0b")
    name = "ü" * 120 + ".safetensor"  # 251 bytes of 255
    a_model().save(tmp_path / name)
    assert fastbp.load(tmp_path / name).n_features == 3 and os.listdir(tmp_path) == [name]


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(tmp_path, monkeypatch):
    path, other = tmp_path / "model", fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=1)
    a_model().save(path)
    _, tensors = _files.read(path, "model")
    other.save(path)
    with pytest.raises(OSError, match="was replaced while it was read: try again"):
        tensors.load(["weights.W1"])


# ---------------------------------------------------------------------------------------------------------------------
# Random states, which NumPy takes without a look at


def beyond(generator=np.random.MT19937):
    rng = np.random.RandomState(generator(0))
    state = rng.get_state(legacy=False)
    if generator is np.random.MT19937:
        state["state"]["pos"] = 625
    else:
        state["buffer_pos"] = 5
    rng.set_state(state)
    return rng


@pytest.mark.parametrize(("generator", "name"), [(np.random.MT19937, "pos=625"), (np.random.Philox, "buffer_pos=5")])
def test_a_generator_that_points_beyond_its_memory_is_refused_at_every_door(generator, name):
    X, y = np.ones((COMPILED_FROM, 2)), np.arange(COMPILED_FROM) % 2
    doors = [
        lambda rng: fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=rng),
        lambda rng: fastbp.Trainer(a_model(), loss="mean_squared_error", random_state=rng),
        lambda rng: fastbp.MLPClassifier(random_state=rng).fit(X, y),
        lambda rng: fastbp.MLPRegressor(random_state=rng).partial_fit(X, y),
        lambda rng: fastbp.MLPRegressor(random_state=rng, solver="lbfgs").fit(X, y),
        lambda rng: fastbp.gradient_check(a_model(), "mean_squared_error", X[:4, [0, 0, 0]], X[:4], random_state=rng),
        lambda rng: Orders(5, rng, compiled=False),
        lambda rng: Orders(COMPILED_FROM, rng, compiled=True),
    ]
    for door in doors:
        with pytest.raises(ValueError, match=f"the generator of random_state has {name}, expected a whole number"):
            door(beyond(generator))


def test_a_state_that_a_callback_sets_is_seen_before_the_next_order():
    rng = np.random.RandomState(0)
    orders = Orders(COMPILED_FROM, rng, compiled=True)
    orders.draw()
    state = rng.get_state(legacy=False)
    state["state"]["pos"] = 10**6
    rng.set_state(state)
    before = rng.get_state(legacy=False)["state"]
    with pytest.raises(ValueError, match=r"has pos=1000000, expected a whole number from 0 to 624: give set_state"):
        orders.draw()
    after = rng.get_state(legacy=False)["state"]
    assert after["pos"] == before["pos"] and (after["key"] == before["key"]).all()
    for pos in (0, 623, 624):  # all that there are
        state["state"]["pos"] = pos
        rng.set_state(state)
        assert sorted(orders.draw()) == list(range(COMPILED_FROM))
