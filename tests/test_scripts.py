"""The scripts, on small data and few epochs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n"

pytest.importorskip("matplotlib")


def load(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train_mnist(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "scripts/train_mnist.py"), *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def tiny(rng, n_train=240, n_test=60):
    """Images in which the lit rows tell the label."""
    arrays = {}
    for part, n in (("train", n_train), ("test", n_test)):
        y = rng.integers(0, 10, n)
        x = rng.integers(0, 60, (n, 28, 28))
        x[np.arange(n)[:, None], 2 * y[:, None] + np.arange(2)] = 255
        arrays |= {f"x_{part}": x.reshape(n, 784).astype(np.uint8), f"y_{part}": y.astype(np.uint8)}
    return arrays


@pytest.fixture
def arrays():
    return tiny(np.random.default_rng(0))


@pytest.fixture
def data(arrays, tmp_path):
    path = tmp_path / "tiny.npz"
    np.savez(path, **arrays)
    return path


def test_train_mnist_prints_a_line_an_epoch_and_draws(data, tmp_path):
    done = train_mnist("--data", data, "--epochs", 1, "--out", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("epoch")] == [line for line in lines if "epoch  1/1 " in line]
    assert "validation accuracy" in done.stdout
    assert "test accuracy" in done.stdout
    for name in ("learning_curve.png", "weights.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(PNG)


def test_train_mnist_keeps_the_weights_before_halfway_and_after(data, tmp_path, monkeypatch, capsys):
    script = load("train_mnist")
    drawn = {}
    monkeypatch.setattr(script, "draw_weights", lambda plt, path, weights: drawn.update(weights))
    assert script.main(["--data", str(data), "--epochs", "4", "--seed", "1", "--out", str(tmp_path)]) == 0
    assert list(drawn) == [0, 2, 4]
    assert all(W.shape == (784, 128) for W in drawn.values())
    assert not np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[2], drawn[4])
    capsys.readouterr()


def test_train_mnist_fails_where_the_default_settings_miss_the_accuracy(arrays, tmp_path, capsys):
    arrays["y_train"] = np.roll(arrays["y_train"], 1)
    np.savez(tmp_path / "shuffled.npz", **arrays)
    assert load("train_mnist").main(["--data", str(tmp_path / "shuffled.npz"), "--out", str(tmp_path)]) == 1
    assert "below 0.975" in capsys.readouterr().err


def test_train_mnist_has_a_large_network():
    script = load("train_mnist")
    model = fastbp.Sequential(script.layers_of(script.LARGE), n_features=784, random_state=0)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Dense", "BatchNorm", "Dropout"] * 2 + ["Dense"]
    assert [w.shape for w in model.get_weights() if w.ndim == 2] == [(784, 512), (512, 256), (256, 10)]
    assert script.optimizer_of(script.LARGE) == fastbp.AdamW(fastbp.schedules.OneCycle(4e-3), weight_decay=0.02)
    assert script.LARGE.epochs <= 15 and script.LARGE.wanted == 0.984


def test_train_mnist_takes_images_of_two_dimensions(arrays, tmp_path):
    path = tmp_path / "square.npz"
    for name in ("x_train", "x_test"):
        arrays[name] = arrays[name].reshape(-1, 28, 28)
    np.savez(path, **arrays)
    assert load("train_mnist").load_npz(path)[0].shape == (240, 784)


def without(name):
    return lambda arrays: arrays.pop(name)


def replaced(name, change):
    return lambda arrays: arrays.update({name: change(arrays[name])})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("y_test"), "lacks y_test"),
        (replaced("x_train", lambda x: x / 255), "x_train must be uint8 .* float64"),
        (replaced("x_test", lambda x: x[:, :700]), r"x_test must be uint8 .* \(60, 700\)"),
        (replaced("x_test", lambda x: x[:0]), r"x_test must be uint8 .* \(0, 784\)"),
        (replaced("y_train", lambda y: y[:-1]), r"y_train must be integer labels of shape \(240,\)"),
        (replaced("y_train", lambda y: y + 0.5), "y_train must be integer labels .* float"),
        (replaced("y_test", lambda y: y + np.uint8(1)), "y_test must hold labels from 0 to 9"),
        (replaced("x_train", lambda x: x.astype(object)), "cannot be read"),
    ],
)
def test_train_mnist_says_what_is_wrong_with_the_data(arrays, tmp_path, damage, message):
    damage(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(SystemExit, match=message):
        load("train_mnist").main(["--data", str(tmp_path / "bad.npz"), "--out", str(tmp_path)])


def test_train_mnist_says_what_is_wrong_with_the_file(tmp_path):
    script = load("train_mnist")
    (tmp_path / "text.npz").write_text("not an archive")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(SystemExit, match="does not exist"):
        script.load_npz(tmp_path / "absent.npz")
    for name in ("text.npz", "one.npy"):
        with pytest.raises(SystemExit, match="cannot be read"):
            script.load_npz(tmp_path / name)
    with pytest.raises(SystemExit, match="cannot be read"):
        script.load_npz(tmp_path)


def test_train_mnist_says_how_to_do_without_the_network(monkeypatch, capsys):
    import sklearn.datasets

    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", unreachable)
    with pytest.raises(SystemExit, match=r"no route to host.*--data PATH"):
        load("train_mnist").fetch()
    capsys.readouterr()


@pytest.mark.parametrize("script", ["train_mnist", "demo"])
def test_without_matplotlib_the_extra_is_named(script, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r'matplotlib: pip install "matplotlib>=3\.9"'):
        load(script).main([])


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train_mnist", ["--epochs", "0"], "argument --epochs: 0 is below 1"),
        ("train_mnist", ["--epochs", "-1"], "argument --epochs: -1 is below 1"),
        ("train_mnist", ["--epochs", "x"], "argument --epochs: invalid positive value: 'x'"),
        ("train_mnist", ["--seed", "-1"], "argument --seed: -1 is not from 0 to 2**32 - 1"),
        ("train_mnist", ["--seed", str(2**32)], "argument --seed: 4294967296 is not from 0 to 2**32 - 1"),
        ("train_mnist", ["--out", "file"], "argument --out: file is a file: give a folder"),
        ("train_mnist", ["--out", "file/pictures"], "argument --out: the folder file does not exist"),
        ("train_mnist", ["--out", "absent/pictures"], "argument --out: the folder absent does not exist"),
        ("demo", ["--epochs", "0"], "argument --epochs: 0 is below 1"),
        ("demo", ["--rounds", "0"], "argument --rounds: 0 is below 1"),
        ("demo", ["--out", "absent/demo.png"], "argument --out: the folder absent does not exist"),
        ("demo", ["--out", "file/demo.png"], "argument --out: the folder file does not exist"),
        ("demo", ["--out", "."], "argument --out: . is a folder"),
    ],
)
def test_wrong_arguments_are_named_before_any_work(script, arguments, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    module = load(script)
    for work in ("load_npz", "fetch", "load_data"):
        monkeypatch.setattr(module, work, None, raising=False)
    with pytest.raises(SystemExit) as caught:
        module.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_train_mnist_says_where_a_folder_cannot_be_made(tmp_path, monkeypatch, capsys):
    def refuses(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuses)
    with pytest.raises(SystemExit) as caught:
        load("train_mnist").main(["--out", str(tmp_path / "pictures")])
    assert caught.value.code == 2
    assert "cannot be made: Permission denied" in capsys.readouterr().err


def test_demo(tmp_path, capsys):
    path = tmp_path / "demo.png"
    assert load("demo").main(["--epochs", "30", "--rounds", "1", "--out", str(path)]) == 0
    printed = capsys.readouterr().out
    for word in ("test accuracy", "largest relative difference", "fastbp", "NumPy reference", "scikit-learn"):
        assert word in printed
    assert path.read_bytes().startswith(PNG)


def test_demo_fails_where_accuracy_or_agreement_is_missed(tmp_path, monkeypatch, capsys):
    demo = load("demo")
    monkeypatch.setattr(demo, "ALLOWED_DIFFERENCE", -1.0)
    assert demo.main(["--epochs", "1", "--rounds", "1", "--out", str(tmp_path / "demo.png")]) == 1
    errors = capsys.readouterr().err
    assert "test accuracy" in errors
    assert "gradients differ" in errors


def test_timing_is_interleaved():
    order = []
    seconds = load("demo").time_interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 3
    assert list(seconds) == ["a", "b"]
