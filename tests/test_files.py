"""Models in files: what is saved is loaded, nothing else is, and every damage has a message."""

import dataclasses
import json
import os
import pickle

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from test_trainer import assert_same, data, new_model

import fastbp
from fastbp import _descriptions, _files

LAYERS = [fastbp.Dense(7, "relu", "he_normal"), fastbp.Dense(5, "tanh"), fastbp.Dense(3)]


def a_model(dtype="float32", layers=LAYERS):
    return fastbp.Sequential(layers, n_features=4, random_state=0, dtype=dtype)


def content(path):
    """Description and arrays of a file."""
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["fastbp"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.fixture
def changed(tmp_path):
    """A file of a model, after some change of its description and arrays."""

    def make(change, dtype="float32"):
        path = tmp_path / "changed.safetensors"
        a_model(dtype).save(path)
        header, tensors = content(path)
        change(header, tensors)
        save_file(tensors, path, {"fastbp": json.dumps(header)})
        return path

    return make


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back(dtype, tmp_path):
    model, X = a_model(dtype), np.random.default_rng(0).normal(size=(9, 4))
    model.save(tmp_path / "model.safetensors")
    for again in (fastbp.load(str(tmp_path / "model.safetensors")), type(model).load(tmp_path / "model.safetensors")):
        assert (again.layers, again.n_features, again.dtype, again.link) == (
            tuple(LAYERS),
            4,
            np.dtype(dtype),
            "identity",
        )
        assert_same(model.get_weights(), again.get_weights())
        assert_same(model.predict(X), again.predict(X))
        assert all(array.flags.writeable for array in again._weights)


def test_the_link_of_a_training_comes_back(tmp_path):
    model, (X, y) = new_model(), data()
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", backend="reference", random_state=0)
    trainer.fit(X, y)
    model.save(tmp_path / "model.safetensors")
    again = fastbp.load(tmp_path / "model.safetensors")
    assert again.link == "softmax"
    assert_same(model.predict(X), again.predict(X))
    # and it can be trained on
    fastbp.Trainer(again, loss="softmax_cross_entropy", backend="reference").fit(X, y)


def test_the_file_says_what_it_is(tmp_path):
    a_model().save(tmp_path / "model.safetensors")
    header, tensors = content(tmp_path / "model.safetensors")
    assert header["version"] == 1 and header["kind"] == "model"
    assert header["model"]["layers"][0] == {
        "type": "Dense", "units": 7, "activation": "relu", "initializer": "he_normal", "bias_initializer": None
    }  # fmt: skip
    assert sorted(tensors) == [f"weights.{name}" for name in ("W1", "W2", "W3", "b1", "b2", "b3")]


@dataclasses.dataclass(frozen=True)
class Nested:
    """As a layer that holds others."""

    layers: tuple
    projection: bool = True


def test_layers_within_layers_are_built_inside_out(monkeypatch):
    monkeypatch.setattr(_descriptions, "known_classes", lambda: {"Dense": fastbp.Dense, "Nested": Nested})
    nested = Nested((fastbp.Dense(3, "relu"), Nested((fastbp.Dense(2),), False)))
    described = json.loads(json.dumps(_descriptions.describe(nested)))
    assert _descriptions.build(described, "layer") == nested
    described["layers"][1]["layers"][0]["units"] = 0
    with pytest.raises(ValueError, match=r"layer\.layers\[1\]\.layers\[0\] \(Dense\): units must be an integer"):
        _descriptions.build(described, "layer")


def test_every_kind_of_layer_is_known():
    known = _descriptions.known_classes()
    exported = {name for name in fastbp.__all__ if getattr(getattr(fastbp, name), "__module__", "") == "fastbp.layers"}
    assert "Dense" in exported and exported <= set(known)
    assert all(dataclasses.is_dataclass(kind) for kind in known.values())


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


def layer(header, **fields):
    header["model"]["layers"][1] |= fields


CHANGES = [
    (
        lambda h, t: h.update(version=2),
        r"has the version 2 of the format, this fastbp reads 1: read it with the newer fastbp that wrote it",
    ),
    (lambda h, t: h.update(version="1"), "its description has no version"),
    (lambda h, t: h.update(kind="picture"), "holds 'picture', expected 'model' or 'checkpoint'"),
    (lambda h, t: h.pop("model"), "a model is described by layers, n_features, dtype, link, got None"),
    (lambda h, t: h["model"].update(extra=1), "a model is described by"),
    (lambda h, t: layer(h, type="Conv"), r"layers\[1\] is of the unknown kind 'Conv'; this fastbp knows .*Dense"),
    (lambda h, t: layer(h, type="os.system"), "is of the unknown kind 'os.system'"),
    (lambda h, t: layer(h, type=["Dense"]), "is of the unknown kind"),
    (lambda h, t: layer(h, bias=False), r"layers\[1\] \(Dense\) has the unknown field 'bias'"),
    (lambda h, t: layer(h, units=-5), r"layers\[1\] \(Dense\): units must be an integer of at least 1, got -5"),
    (lambda h, t: layer(h, units="5"), "units must be an integer"),
    (lambda h, t: layer(h, activation="relu6"), "activation must be one of"),
    (lambda h, t: layer(h, activation={"type": "Dense", "units": 1}), "activation must be one of"),
    (lambda h, t: h["model"].update(layers=[]), "layers must hold at least one"),
    (lambda h, t: h["model"].update(layers=[1, 2]), "layers: number 0 must be a fastbp.Dense"),
    (lambda h, t: h["model"].update(n_features="4"), "n_features must be an integer"),
    (lambda h, t: h["model"].update(dtype="int8"), "dtype must be 'float32' or 'float64', got 'int8'"),
    (
        lambda h, t: h["model"].update(link="tanh"),
        "link must be 'identity', as the last layer's activation, got 'tanh'",
    ),
    (lambda h, t: h["model"].update(link=["softmax"]), "link must be 'identity'"),
    # sizes that no machine holds, or that the file does not have: seen before memory is asked for
    (lambda h, t: layer(h, units=10**12), "the machine has"),
    (lambda h, t: layer(h, units=10**7), r"weights.W2 has the shape \(7, 5\) .* but its layers need \(7, 10000000\)"),
    (lambda h, t: t.pop("weights.b2"), "lacks the array weights.b2"),
    (lambda h, t: t.update(more=np.zeros(2)), "has, beyond what its layers need, the array more"),
    (
        lambda h, t: t.update({"weights.b2": np.zeros(4, np.float32)}),
        r"weights.b2 has the shape \(4,\) and the dtype float32",
    ),
    (lambda h, t: t.update({"weights.b2": np.zeros(5)}), r"dtype float64, but its layers need \(5,\) and float32"),
    (lambda h, t: t["weights.b2"].__setitem__(2, np.nan), r"weights\[3\] .* must be finite"),
    (lambda h, t: t["weights.W1"].__setitem__((2, 2), np.inf), r"weights\[0\] .* must be finite"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_file_that_does_not_fit_is_refused(change, message, changed):
    path = changed(change)
    with pytest.raises(ValueError, match=message) as caught:
        fastbp.load(path)
    assert str(path) in str(caught.value)


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    a_model().save(path)
    whole = path.read_bytes()
    for size in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is no whole safetensors file: it was cut short"):
            fastbp.load(path)


def test_a_flipped_byte_gives_a_model_or_a_message(tmp_path):
    """Whatever the damage, it is a ValueError, or only numbers have changed."""
    path, rng = tmp_path / "model.safetensors", np.random.default_rng(0)
    a_model().save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for place in rng.choice(1200, 300, replace=False):
        damaged = whole.copy()
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged.tobytes())
        try:
            assert isinstance(fastbp.load(path), fastbp.Sequential)
        except ValueError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("text", ["[1", "3", "null", "[" * 100_000, '{"version": ' + "9" * 5000 + "}"])
def test_a_description_that_is_none_is_refused(text, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weights.0": np.zeros(2)}, path, {"fastbp": text})
    with pytest.raises(ValueError, match="is damaged: its description"):
        fastbp.load(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weights.0": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="was not written by fastbp"):
        fastbp.load(path)
    path.write_bytes(pickle.dumps(a_model()))
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        fastbp.load(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        fastbp.load(tmp_path)
    with pytest.raises(TypeError, match="path must be a string or path-like, got 3"):
        fastbp.load(3)


def test_what_cannot_be_saved_is_refused_and_leaves_what_was_there(tmp_path):
    path, model = tmp_path / "model.safetensors", a_model()
    model.save(path)
    before = path.read_bytes()
    zeros = lambda rng, fan_in, fan_out, activation: (np.zeros((fan_in, fan_out)), np.zeros(fan_out))  # noqa: E731
    with pytest.raises(TypeError, match=r"layers\[1\].layers\[0\].initializer is a function, .*, which no file holds"):
        a_model(layers=[fastbp.Dense(3), fastbp.Residual([fastbp.Dense(3, initializer=zeros)])]).save(path)
    model._weights[2][0, 0] = np.nan
    with pytest.raises(ValueError, match="the model has weights that are infinite or NaN"):
        model.save(path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*: make it first"):
        a_model().save(tmp_path / "missing" / "model.safetensors")
    with pytest.raises(TypeError, match="path must be a string or path-like, got b'model'"):
        a_model().save(b"model")
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


# ---------------------------------------------------------------------------------------------------------------------
# Whole or not at all


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(function, error, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    a_model().save(path)
    before = path.read_bytes()

    def fails(*arguments):
        raise error

    monkeypatch.setattr(_files.os, function, fails)
    with pytest.raises(type(error)):
        a_model("float64").save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, calls = tmp_path / "model.safetensors", []
    for name in ("fsync", "replace"):
        right = getattr(os, name)
        monkeypatch.setattr(_files.os, name, lambda *a, n=name, f=right: (calls.append((n, path.exists())), f(*a))[1])
    a_model().save(path)
    assert calls[:2] == [("fsync", False), ("replace", False)]


def test_a_link_to_a_file_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "latest.safetensors"
    link.symlink_to(tmp_path / "there" / "model.safetensors")
    a_model().save(link)
    assert link.is_symlink() and fastbp.load(tmp_path / "there" / "model.safetensors").n_features == 4


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").touch()
    a_model().save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_values_of_a_state_come_back():
    state = {
        "step": 3, "big": 2**100, "none": None, "flag": True, "text": "a", "nan": float("nan"), "inf": -float("inf"),
        "nested": {"list": [np.arange(3.0), (1, 2.5)], "numpy": np.float32(0.5)}, "empty": np.zeros((0, 3)),
        "key": np.arange(4, dtype=np.uint32), "scalar": np.array(2.0),
    }  # fmt: skip
    tensors = {}
    encoded = json.loads(json.dumps(_files.encode(state, "state", tensors)))
    again = _files.decode(encoded, tensors)
    assert again["nested"]["list"][1] == [1, 2.5] and again["nested"]["numpy"] == 0.5 and np.isnan(again["nan"])
    assert (again["big"], again["none"], again["flag"], again["inf"]) == (2**100, None, True, -float("inf"))
    assert again["empty"].shape == (0, 3) and again["key"].dtype == np.uint32 and again["scalar"].shape == ()
    for value, message in (({1: 2}, "must have strings as keys"), (print, "expected numbers, strings"),
                           (np.array(["a"]), "is an array of <U1, which has no place")):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            _files.encode(value, "state", {})


def test_arrays_of_a_file_come_back_in_their_shapes_and_types(tmp_path):
    tensors = {
        "a": np.arange(6.0).reshape(2, 3).T, "b": np.zeros((0, 3)), "c": np.array(2.0),
        "d": np.arange(4, dtype=np.uint32), "e": np.array([True, False]), "f": np.arange(3),
    }  # fmt: skip
    _files.write(tmp_path / "file", {"kind": "model"}, tensors)
    _, found = _files.read(tmp_path / "file", "model")
    for (name, array), again in zip(tensors.items(), found.load(list(tensors)), strict=True):
        assert (again.shape, again.dtype) == (array.shape, array.dtype), name
        np.testing.assert_array_equal(again, array)
        assert again.flags.writeable or array.ndim == 0


def test_models_and_estimators_can_be_pickled():
    X, y = data()
    model = pickle.loads(pickle.dumps(a_model()))
    assert_same(a_model().get_weights(), model.get_weights())
    estimator = fastbp.MLPClassifier((5,), tol=1e9).fit(X, y)
    assert_same(estimator.predict(X), pickle.loads(pickle.dumps(estimator)).predict(X))


def a_deep_model():
    """Every kind of layer, in blocks within blocks."""
    inner = fastbp.Residual([fastbp.LayerNorm(), fastbp.Dense(6, "tanh")], activation="relu")
    block = fastbp.Residual([inner, fastbp.Dropout(0.3), fastbp.Dense(5)], initializer="he_normal")
    layers = [fastbp.Dense(6), fastbp.BatchNorm("relu", momentum=0.2), block, fastbp.Dense(3)]
    return fastbp.Sequential(layers, n_features=4, random_state=0, dtype="float64")


def test_every_kind_of_layer_comes_back(tmp_path):
    path, model = tmp_path / "model.safetensors", a_deep_model()
    model._weights[4][:] = 0.5  # the running mean
    model.save(path)
    again, X = fastbp.load(path), np.random.default_rng(0).normal(size=(9, 4))
    assert again.layers == model.layers
    assert_same(model.get_weights(), again.get_weights())
    assert_same(model.predict(X), again.predict(X))
    _, tensors = content(path)
    assert set(tensors) == {f"weights.{name}" for name in model._described.names}


def test_a_negative_variance_and_blocks_without_an_end_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    a_deep_model().save(path)
    header, tensors = content(path)
    tensors["weights.variance1"][0] = -1
    save_file(tensors, path, {"fastbp": json.dumps(header)})
    with pytest.raises(ValueError, match=r"\(variance1\) must be at least 0"):
        fastbp.load(path)
    for depth in (200, 3000):
        block = '{"type": "Residual", "layers": [' * depth + '{"type": "Dense", "units": 2}' + "]}" * depth
        text = json.dumps(header).replace(json.dumps(header["model"]["layers"]), f"[{block}]")
        save_file(tensors, path, {"fastbp": text})
        with pytest.raises(ValueError, match=r"holds no usable model|is damaged: its description"):
            fastbp.load(path)
