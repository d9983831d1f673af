"""Files that are damaged anywhere, or say what no training says: refused by name, and nothing is changed by them."""

import copy
import hashlib
import itertools
import json
import math

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from test_resume import LOSS, Kill, KilledError, fit
from test_trainer import assert_same

import fastbp
from fastbp import _files, schedules

LAYERS = [fastbp.Dense(4), fastbp.BatchNorm("relu"), fastbp.Dropout(0.2), fastbp.Dense(2)]


def new_trainer(seed=3, optimizer=None, generator=np.random.MT19937, on_divergence="raise"):
    model = fastbp.Sequential(LAYERS, n_features=5, random_state=seed, dtype="float64")
    optimizer = fastbp.Adam(0.01) if optimizer is None else optimizer
    rng = np.random.RandomState(generator(seed))
    return fastbp.Trainer(
        model, loss=LOSS, optimizer=optimizer, backend="reference", random_state=rng, on_divergence=on_divergence
    )


def listeners(folder):
    return [
        fastbp.EarlyStopping(patience=50),
        fastbp.Checkpoint(folder / "best.safetensors", best=True, monitor="loss"),
        fastbp.LearningRateLogger(),
        fastbp.CSVLogger(folder / "log.csv"),
    ]


def content(path):
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["fastbp"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def put(path, header, tensors, *, digest=True):
    """Write a file as fastbp does, whatever is in it."""
    text, tensors = json.dumps(header), {name: np.ascontiguousarray(a) for name, a in tensors.items()}
    of = _files._Digest(text)
    for name in sorted(tensors):
        of.add(name, tensors[name])
    save_file(tensors, path, {"fastbp": text} | ({"fastbp.sha256": of.text()} if digest else {}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def checkpoint(folder):
    """The file of a small training, and what it is written of."""
    trainer = new_trainer()
    fit(trainer, *listeners(folder), epochs=3)
    trainer.save(folder / "run.safetensors")
    return folder / "run.safetensors"


def standing(trainer, callbacks, folder):
    """All that a failed resume may not change, bit for bit."""
    names = ("_mask_seed", "_stop", "_epoch", "_session")
    found = [trainer.model.link, trainer._rng.get_state(legacy=False), trainer._rates.position, trainer._fit]
    found += [getattr(trainer, name) for name in names] + [trainer._optimizer_state, trainer.model.get_weights()]
    found += [vars(callback) for callback in callbacks] + [(folder / "log.csv").read_bytes()]
    return repr_of(found)


def repr_of(value):
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return {key: repr_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [repr_of(item) for item in value]
    return repr(value) if isinstance(value, float) else value


class Trained:
    """A trainer and callbacks that have something to lose."""

    def __init__(self, folder, **options):
        self.trainer, self.callbacks, self.folder = new_trainer(seed=5, **options), listeners(folder), folder
        self.table = (folder / "log.csv").read_bytes()
        fit(self.trainer, *self.callbacks, epochs=2)
        (folder / "log.csv").write_bytes(self.table)
        self.before = standing(self.trainer, self.callbacks, folder)

    def refuses(self, path, match=None, epochs=6):
        with pytest.raises(ValueError, match=match) as caught:
            fit(self.trainer, *self.callbacks, epochs=epochs, resume_from=path)
        assert str(path) in str(caught.value) and type(caught.value) is ValueError
        assert standing(self.trainer, self.callbacks, self.folder) == self.before


@pytest.fixture(scope="module")
def trained(folder, checkpoint):
    return Trained(folder)


# ---------------------------------------------------------------------------------------------------------------------
# The digest


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_every_flipped_bit_is_refused_or_changes_nothing(kind, checkpoint, trained, tmp_path):
    path = tmp_path / "file.safetensors"
    if kind == "model":
        new_trainer().model.save(path)
    else:
        path.write_bytes(checkpoint.read_bytes())
    whole, wanted = path.read_bytes(), _files.read(path, kind)[0]
    rng, accepted = np.random.default_rng(0), 0
    places = itertools.chain(range(0, 24), rng.choice(len(whole), 300 if kind == "model" else 120, replace=False))
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            header, tensors = _files.read(path, kind)
        except ValueError as error:
            assert str(path) in str(error)
            with pytest.raises(ValueError, match=r"file\.safetensors"):
                fastbp.load(path)
            if kind == "checkpoint":
                trained.refuses(path)
        else:
            assert header == wanted and tensors.digest is None  # the name of the digest's entry
            accepted += 1
    assert accepted <= 3


def test_truncated_and_overwritten_files_are_refused(checkpoint, trained, tmp_path):
    path, whole = tmp_path / "run.safetensors", checkpoint.read_bytes()
    rng = np.random.default_rng(1)
    for size in [*rng.choice(len(whole), 20, replace=False), 0, 8, len(whole) - 1]:
        path.write_bytes(whole[:size])
        trained.refuses(path)
        place = min(int(size), len(whole) - 64)
        path.write_bytes(whole[:place] + rng.bytes(64) + whole[place + 64 :])
        trained.refuses(path)


def test_names_dtypes_and_places_count_in_the_digest(tmp_path):
    path = tmp_path / "model.safetensors"
    fastbp.Sequential([fastbp.Dense(3), fastbp.Dense(3)], n_features=3, random_state=0).save(path)
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    exchanged = copy.deepcopy(header)
    exchanged["weights.W1"], exchanged["weights.W2"] = header["weights.W2"], header["weights.W1"]
    as_integers = copy.deepcopy(header)
    as_integers["weights.b1"]["dtype"] = "U32"
    for changed in (exchanged, as_integers):
        text = json.dumps(changed).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
        with pytest.raises(ValueError, match=r"is damaged: its contents have another SHA-256 digest than when"):
            fastbp.load(path)


def test_a_file_without_a_digest_is_read(checkpoint, tmp_path):
    """As an earlier fastbp has written it: names for infinity, no keys of callbacks, a size of the table."""
    header, tensors = content(checkpoint)
    state = header["state"]
    state["callbacks"] = [[kind, optional, values] for kind, optional, values in state["callbacks"]]
    del state["callback_keys"]
    for kind, _, values in state["callbacks"]:
        if kind == "CSVLogger":
            values.clear()
            values["size"] = 100
        if kind == "Checkpoint":
            values["best_value"] = math.inf
    path = tmp_path / "old.safetensors"
    put(path, header, tensors, digest=False)
    assert "Infinity" in path.read_bytes().decode(errors="replace")
    trainer = new_trainer()
    (tmp_path / "log.csv").write_bytes((checkpoint.parent / "log.csv").read_bytes())
    callbacks = listeners(tmp_path)
    assert len(fit(trainer, *callbacks, epochs=5, resume_from=path)["loss"]) == 5
    whole = new_trainer()
    fit(whole, *listeners(tmp_path), epochs=5)
    assert_same(whole.model.get_weights(), trainer.model.get_weights())
    assert fastbp.load(path).n_features == 5
    put(path, header, tensors)  # one with a digest has no such names
    with pytest.raises(ValueError, match=r"is damaged: its description is no JSON \(Infinity is no number of JSON"):
        fastbp.load(path)


def test_what_is_written_is_strict_json(checkpoint):
    with safe_open(checkpoint, framework="numpy") as file:
        json.loads(file.metadata()["fastbp"], parse_constant=lambda name: pytest.fail(name))
    state = {"a": math.inf, "b": [-math.inf, math.nan]}
    text = json.dumps(_files._without_constants(state), allow_nan=False)
    again = json.loads(text, object_hook=_files._with_constants)
    assert again["a"] == math.inf and again["b"][0] == -math.inf and math.isnan(again["b"][1])
    for reserved in ("$float", "$tensor"):
        with pytest.raises(TypeError, match="whose only key is"):
            _files.encode({"mine": {reserved: 1}}, "state", {})


def test_the_digest_is_that_of_the_documentation(tmp_path):
    """Length and text of the description; then of each array name, kind and elements."""
    model = fastbp.Sequential([fastbp.Dense(1)], n_features=2, random_state=0)
    model.save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="numpy") as file:
        text, digest = file.metadata()["fastbp"], file.metadata()["fastbp.sha256"]
    whole = f"{len(text)}:{text}".encode()
    for name, array in zip(("weights.W1", "weights.b1"), model.get_weights(), strict=True):
        kind = f"float32 {array.shape}"
        whole += f"{len(name)}:{name}{len(kind)}:{kind}".encode() + array.tobytes()
    assert hashlib.sha256(whole).hexdigest() == digest


# ---------------------------------------------------------------------------------------------------------------------
# What lies behind the digest


def paths_of(value, at=()):
    """Every place in a description."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_of(item, (*at, key))


def deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


STRANGE = [
    None, True, -1, 2**63, 2**70, 10**400, 1.5, -2.5, "x", "", "\ud800", [], {}, [None] * 3, {"$tensor": "no"},
    {"$tensor": ["no"]}, {"$float": "nan"}, {"$float": "-inf"}, {"$float": 3}, {"type": "Dense"}, deep(300),
]  # fmt: skip


def same(a, b):
    """Whether Python makes no difference between two values that JSON writes in two ways: 1 and 1.0."""
    return a == b and (type(a) is type(b) or {type(a), type(b)} == {int, float})


# Numbers that another training could have, and settings that decide which callback a state is for
FREE = {
    "callbacks", "gauss", "best", "best_value", "rate", "mask_seed", "step", "epochs", "callback_keys", "key",
    "best_epoch", "stopped_epoch", "stopped", "last_path", "last", "columns", "waited", "path",
    "monitor", "mode", "per", "optional",
}  # fmt: skip


def test_strange_values_anywhere_are_refused(checkpoint, folder, tmp_path):
    """Each place of the description, with one strange value after another in turn; and without each entry."""
    header, tensors = content(checkpoint)
    path, trained, accepted, n_refused = tmp_path / "run.safetensors", Trained(folder), set(), 0
    strange = itertools.cycle(STRANGE)
    for at in [at for at in paths_of(header) if at]:
        for value in (*itertools.islice(strange, 2), "left out"):
            changed = copy.deepcopy(header)
            parent = changed
            for key in at[:-1]:
                parent = parent[key]
            if value == "left out":
                del parent[at[-1]]
            elif same(value, parent[at[-1]]):
                continue
            else:
                parent[at[-1]] = value
            put(path, changed, tensors)
            try:
                trained.refuses(path)
                n_refused += 1
            except UserWarning as note:  # a state that is left out
                assert "which begins anew" in str(note) or "has no line of epoch" in str(note)
                trained = Trained(folder)
            except pytest.fail.Exception:  # resumed
                accepted.add(next((key for key in reversed(at) if isinstance(key, str)), ""))
                (folder / "log.csv").write_bytes(trained.table)
                trained = Trained(folder)
    assert accepted <= FREE and n_refused > 250


NUMBERS = [
    (lambda s: s["random_state"]["state"].update(pos=625), "pos=625, expected a whole number from 0 to 624"),
    (lambda s: s["random_state"]["state"].update(pos=-1), "pos=-1, expected"),
    (lambda s: s["random_state"]["state"].update(pos=True), "must be a whole number, got True"),
    (lambda s: s["random_state"].update(has_gauss=2), "has_gauss=2, expected a whole number from 0 to 1"),
    (lambda s: s["random_state"].update(gauss={"$float": "nan"}), "gauss=nan, expected a finite number"),
    (lambda s: s.update(mask_seed=2**62), "mask_seed is 46.*, expected a whole number from 0 to"),
    (lambda s: s.update(epoch=2**63), "epoch is 92.*, expected a whole number from 0 to"),
    (lambda s: s.update(epoch=4), "its counts must be those of 4 epochs with n_steps=6, got"),
    (lambda s: s.update(epochs=2), "epochs is 2, and 3 of them were finished"),
    (lambda s: s.update(stopped=0), "stopped is 0, expected True or False"),
    (lambda s: s["rates"].update(rate=-0.1), "rate is -0.1, expected a finite number of at least 0"),
    (lambda s: s["rates"].update(rate={"$float": "inf"}), "rate is inf, expected a finite number of at least 0"),
    (lambda s: s["rates"].update(step=19), "its counts must be those of 3 epochs with n_steps=6, got"),
    (lambda s: s["optimizer"].update(step=2**63), r"state\['step'\] is 92"),
    (lambda s: s["optimizer"].update(step=-1), r"state\['step'\] is -1"),
    (lambda s: s["callbacks"][0][2].update(best={"$float": "nan"}), "EarlyStopping: best is nan, expected a number"),
    (lambda s: s["callbacks"][0][2].update(waited=-1), "EarlyStopping: waited is -1, expected a whole number"),
    (lambda s: s["callbacks"][0][2].update(best_epoch=3), "best_epoch is 3, and only 3 epochs were finished"),
    (lambda s: s["callbacks"][0][2].update(best_weights=None), "has no best weights, which restore_best=True needs"),
    (lambda s: s["callbacks"][0][2]["best_weights"].pop(), "EarlyStopping: best_weights must be 8 arrays"),
    (lambda s: s["callbacks"][0][2]["best_weights"].reverse(), r"best_weights\[0\] \(W1\) must have the shape"),
    (lambda s: s["callbacks"][1][2].update(best_value="0.5"), "Checkpoint: best_value is '0.5', expected a number"),
    (lambda s: s["callbacks"][1][2].update(last_path=3), "Checkpoint: last_path is 3, expected a path or None"),
    (lambda s: s["callbacks"][2][2].update(rates=[0.1]), "LearningRateLogger: rates must be an array of float64"),
    (lambda s: s["callbacks"][3][2].update(columns="epoch"), "CSVLogger: columns is 'epoch', expected a list of"),
    (lambda s: s["callbacks"][3][2].update(columns=["epoch", "x"]), "has the columns 'epoch,loss.*, this training"),
    (lambda s: s["callbacks"].pop(), "states of callbacks are"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), NUMBERS)
def test_numbers_out_of_their_range_are_named(change, message, checkpoint, trained, tmp_path):
    header, tensors = content(checkpoint)
    change(header["state"])
    put(tmp_path / "run.safetensors", header, tensors)
    trained.refuses(tmp_path / "run.safetensors", message)


ARRAYS = [
    ("weights.variance1", lambda a: -a, "its variance1 must be at least 0, got -"),
    ("weights.W1", lambda a: a * np.inf, "its weights must be finite, got infinity or NaN: resume from an earlier"),
    ("state.optimizer.first.0", lambda a: a * np.nan, r"state\['first'\] must hold numbers, got NaN"),
    ("state.optimizer.second.0", lambda a: a - 1, r"state\['second'\] must be at least 0, as all squares are"),
    ("state.optimizer.second.0", lambda a: a.astype(np.float32), r"must be an array of float64 and the shape \(5, 4\)"),
    ("state.random_state.state.key", lambda a: a[:-1], r"must be an array of uint32 and the shape \(624,\)"),
    ("state.random_state.state.key", lambda a: a.astype(float), r"must be an array of uint32"),
    ("state.history.loss", lambda a: a[:2], r"history of loss must be an array of float64 of the shape \(3,\)"),
    ("state.history.loss", lambda a: a.astype(int), "history of loss must be an array of float64"),
    ("state.rows", lambda a: a.astype(float), "order of rows must be an array of int64"),
    ("state.rows", lambda a: np.where(a == 0, 10**9, a), "must hold each of 53 rows once: resume from another"),
    ("state.callbacks.0.2.best_weights.0", lambda a: a * np.nan, r"best_weights\[0\] \(W1\) must be finite"),
    ("state.callbacks.0.2.best_weights.5", lambda a: -a, r"best_weights\[5\] \(variance1\) must be at least 0"),
    ("state.callbacks.0.2.best_weights.0", lambda a: a.astype("f4"), r"best_weights\[0\] must be an array of float64"),
    ("state.callbacks.2.2.rates", lambda a: -a, "LearningRateLogger: rates must be finite and at least 0"),
    ("state.callbacks.2.2.rates", lambda a: a[None], "rates must be an array of float64 of one dimension"),
    ("weights.more", lambda a: np.zeros(3), "has, beyond what its layers need, the array weights.more"),
    ("state.rows", lambda a: np.zeros((0, 2**50), np.int64), "order of rows must be an array of int64"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), ARRAYS)
def test_arrays_out_of_their_range_are_named(name, change, message, checkpoint, trained, tmp_path):
    header, tensors = content(checkpoint)
    tensors[name] = change(tensors.get(name))
    put(tmp_path / "run.safetensors", header, tensors)
    trained.refuses(tmp_path / "run.safetensors", message)


@pytest.mark.parametrize(
    ("generator", "change", "message"),
    [
        (np.random.Philox, lambda s: s.update(buffer_pos=5), "buffer_pos=5, expected a whole number from 0 to 4"),
        (np.random.Philox, lambda s: s.update(uinteger=2**32), "uinteger=42.*, expected"),
        (np.random.PCG64, lambda s: s["state"].update(state=2**128), "state=34.*, expected a whole number from 0"),
        (np.random.PCG64, lambda s: s["state"].update(inc=-1), "inc=-1, expected"),
        (np.random.PCG64DXSM, lambda s: s.update(has_uint32=-1), "has_uint32=-1, expected"),
        (np.random.SFC64, lambda s: s.update(has_uint32=2), "has_uint32=2, expected"),
        (np.random.SFC64, lambda s: s["state"].update(state=[1, 2, 3, 4]), "must be an array of uint64"),
    ],
)
def test_states_of_other_generators_are_checked_too(generator, change, message, folder, checkpoint, tmp_path):
    path, trainer = tmp_path / "run.safetensors", new_trainer(generator=generator)
    fit(trainer, epochs=2)
    trainer.save(path)
    header, tensors = content(path)
    change(header["state"]["random_state"])
    put(path, header, tensors)
    Trained(folder, generator=generator).refuses(path, message)


@pytest.mark.parametrize(
    ("plateau", "message"),
    [
        ([0.2, 1.0, 0], "plateau is .*, expected rate, best, n_bad, n_cooldown"),
        ([-0.2, 1.0, 0, 0], "the plateau's rate is -0.2, expected a finite number of at least 0"),
        ([0.2, {"$float": "nan"}, 0, 0], "the plateau's best is nan"),
        ([0.2, 1.0, 10**30, 0], "n_bad is 10.*, expected a whole number from 0 to"),
        ([0.2, 1.0, 0, "1"], "n_cooldown is '1', expected a whole number"),
        (3, "plateau is 3"),
    ],
)
def test_the_state_of_a_schedule_is_checked(plateau, message, folder, checkpoint, tmp_path):
    options = {"optimizer": fastbp.SGD(schedules.ReduceOnPlateau(0.2))}
    path, trainer = tmp_path / "run.safetensors", new_trainer(**options)
    fit(trainer, epochs=2)
    trainer.save(path)
    header, tensors = content(path)
    header["state"]["rates"]["plateau"] = plateau
    put(path, header, tensors)
    Trained(folder, **options).refuses(path, message)


def test_the_length_of_a_schedule_is_that_of_the_fit(folder, checkpoint, tmp_path):
    options = {"optimizer": fastbp.SGD(schedules.OneCycle(0.2))}
    path, trainer = tmp_path / "run.safetensors", new_trainer(**options)
    with pytest.raises(KilledError):
        fit(trainer, fastbp.Checkpoint(path), Kill(3))
    header, tensors = content(path)
    header["state"]["rates"]["n_epochs"] = 7
    put(path, header, tensors)
    Trained(folder, **options).refuses(path, "n_epochs is 7, and the fit was to have 6 epochs")


def test_nadam_keeps_a_product_of_decay_rates(folder, checkpoint, tmp_path):
    path, trainer = tmp_path / "run.safetensors", new_trainer(optimizer=fastbp.NAdam(0.01))
    fit(trainer, epochs=2)
    trainer.save(path)
    header, tensors = content(path)
    for value in (-0.5, 2, {"$float": "nan"}, "1"):
        header["state"]["optimizer"]["mu_product"] = value
        put(path, header, tensors)
        Trained(folder, optimizer=fastbp.NAdam(0.01)).refuses(path, "mu_product")


def test_numbers_that_diverged_go_on_where_they_may(tmp_path):
    path, trainer = tmp_path / "run.safetensors", new_trainer(on_divergence="ignore")
    fit(trainer, epochs=2)
    trainer.save(path)
    header, tensors = content(path)
    tensors["weights.W1"] = tensors["weights.W1"] * np.inf
    put(path, header, tensors)
    history = fit(new_trainer(on_divergence="ignore"), epochs=3, resume_from=path)
    assert len(history["loss"]) == 3 and not np.isfinite(history["loss"][-1])


# ---------------------------------------------------------------------------------------------------------------------
# Models


def test_strange_values_in_a_model_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    new_trainer().model.save(path)
    header, tensors = content(path)
    n_refused = 0
    for at, value in itertools.product([at for at in paths_of(header) if at], STRANGE):
        changed = copy.deepcopy(header)
        parent = changed
        for key in at[:-1]:
            parent = parent[key]
        if same(value, parent[at[-1]]):
            continue
        parent[at[-1]] = value
        put(path, changed, tensors)
        try:
            model = fastbp.load(path)
        except ValueError as error:
            assert str(path) in str(error) and type(error) is ValueError
            n_refused += 1
        else:  # a rate or an initializer that a layer may have
            assert at[-1] in ("rate", "momentum", "epsilon", "initializer", "bias_initializer", "activation", "layers")
            assert isinstance(model, fastbp.Sequential)
    assert n_refused > 300


def test_arrays_without_an_element_and_with_huge_sides_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    new_trainer().model.save(path)
    header, tensors = content(path)
    text = json.dumps(header)
    for shape in ([0, 2**62], [0, 2**63, 2**63], [2**40]):
        entries, begin = {}, 0
        for name, array in tensors.items():
            entries[name] = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [begin, begin + array.nbytes]}
            begin += array.nbytes
        entries["weights.W1"]["shape"] = shape
        if 0 in shape:  # and its elements are no longer there
            entries["more"] = dict(entries["weights.W1"], shape=[tensors["weights.W1"].size])
            entries["weights.W1"]["data_offsets"] = [begin, begin]
        for metadata in ({"fastbp": text}, {"fastbp": text, "fastbp.sha256": "0" * 64}):
            raw = json.dumps({"__metadata__": metadata, **entries}).encode()
            data = b"".join(array.tobytes() for array in tensors.values())
            path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
            with pytest.raises(ValueError, match=r"model\.safetensors"):
                fastbp.load(path)


def test_files_of_more_than_any_model_has_are_refused_before_they_are_built(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    fastbp.Sequential([fastbp.Dense(3)], n_features=4, random_state=0).save(path)
    header, tensors = content(path)
    header["model"]["layers"] *= 100_000
    put(path, header, tensors)
    with pytest.raises(ValueError, match="holds models of at most 10000 layers, and this one has 100000"):
        fastbp.load(path)
    block = {"type": "Residual", "layers": header["model"]["layers"][:6000]}
    header["model"]["layers"] = [block, block]
    put(path, header, tensors)
    with pytest.raises(ValueError, match="at most 10000 layers, and this one has 12002"):
        fastbp.load(path)
    monkeypatch.setattr(_files, "safe_open", lambda *arguments, **options: pytest.fail("it was opened"))
    monkeypatch.setattr(_files, "MOST_ARRAYS", 5000)
    save_file({f"weights.{k}": np.zeros(1, np.float32) for k in range(5001)}, path, {"fastbp": "{}"})
    with pytest.raises(ValueError, match="has 5001 arrays, and a file of fastbp has at most 5000"):
        fastbp.load(path)


def test_what_no_file_may_have_is_not_written_either(tmp_path, monkeypatch):
    from fastbp import _descriptions

    monkeypatch.setattr(_descriptions, "MOST_LAYERS", 3)
    model = fastbp.Sequential([fastbp.Dense(2)] * 4, n_features=2, random_state=0)
    with pytest.raises(ValueError, match="a file holds models of at most 3 layers, and this one has 4"):
        model.save(tmp_path / "model")
    monkeypatch.setattr(_files, "MOST_ARRAYS", 5)
    with pytest.raises(ValueError, match="a file holds at most 5 arrays, and these are 6"):
        fastbp.Sequential([fastbp.Dense(2)] * 3, n_features=2, random_state=0).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_deep_model_comes_back(tmp_path):
    path = tmp_path / "model.safetensors"
    model = fastbp.Sequential([fastbp.Dense(2, "tanh")] * 3000, n_features=2, random_state=0)
    model.save(path)
    assert_same(model.get_weights(), fastbp.load(path).get_weights())


def test_states_that_no_file_can_hold_are_named_before_one_is_written():
    itself = []
    itself.append(itself)
    with pytest.raises(TypeError, match=r"^state\.mine.* is nested deeper than 50"):
        _files.encode({"mine": itself}, "state", {})
    tensors = {}
    encoded = _files.encode({"a": {"b": np.zeros(2)}, "a.b": np.ones(2), "\ud800": np.ones(1)}, "state", tensors)
    again = _files.decode(encoded, tensors)
    assert again["a"]["b"].tolist() == [0, 0] and again["a.b"].tolist() == [1, 1]
    assert all(name.encode() for name in tensors)
    with pytest.raises(TypeError, match="expected numbers, strings, arrays, or lists and dicts"):
        _files.encode({"mine": np.longdouble(1)}, "state", {})
