"""What fastbp says about itself, and compiling ahead."""

import os
import subprocess
import sys

import numba
import pytest

import fastbp
from fastbp import warmup


def python(*arguments, timeout=300, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_show_config_prints_what_it_returns(capsys):
    config = fastbp.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{key} {value}" for key, value in config.items()]
    assert config["fastbp"] == fastbp.__version__
    assert config["numba"] == numba.__version__
    assert config["vector_bits"] in (128, 256, 512)
    assert 1 <= config["threads"] <= config["cpus"]
    assert config["threading_layer"] in (None, "tbb", "omp", "workqueue")
    for key in config:
        assert f"``{key}``" in fastbp.show_config.__doc__
    for key in ("numpy", "llvmlite", "scikit-learn", "cpu_name", "fma", "cache_folder", "gpu"):
        assert key in config


def test_warmup_leaves_nothing_to_compile(tmp_path):
    """After it, training, prediction and validation of a fresh process write no file and say nothing."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = python("-m", "fastbp.warmup", "float32", **cache)
    assert done.returncode == 0, done.stderr
    assert "fastbp: compiling" in done.stderr and done.stderr.count("\n") == 1
    assert "float32: " in done.stdout and "float64: " not in done.stdout
    files = sorted(tmp_path.rglob("*.bin"))
    assert len(files) == 9  # three entries, each with threads and without; apply_gradients, layer_rows and shuffle
    code = (
        "import numpy as np, fastbp\n"
        "X = np.random.default_rng(0).normal(size=(3000, 30)).astype('float32')\n"
        "for loss, y in (('softmax_cross_entropy', (X[:, 0] > 0).astype(int)), ('mean_squared_error', X[:, :2])):\n"
        "    model = fastbp.Sequential([fastbp.Dense(200, 'relu'), fastbp.Dense(2)], n_features=30, random_state=0)\n"
        "    for rows, batch_size in ((20, 3), (3000, 256)):\n"
        "        trainer = fastbp.Trainer(model, loss=loss, verify=rows == 20)\n"
        "        trainer.fit(X[:rows], y[:rows], batch_size=batch_size, validation_data=(X, y))\n"
        "        model.predict(X), model.predict(X[:2]), trainer.loss_and_gradients(X, y)\n"
        "fastbp.MLPClassifier((50,), max_iter=30, tol=1).fit(X, X[:, 0] > 0).predict_proba(X)\n"
    )
    done = python("-c", code, **cache)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sorted(tmp_path.rglob("*.bin")) == files


def test_warmup_names_a_wrong_dtype(capsys):
    with pytest.raises(SystemExit) as caught:
        warmup.main(["float16"])
    assert caught.value.code == 2
    assert "dtype must be 'float32' or 'float64', got 'float16'" in capsys.readouterr().err


def test_warmup_says_where_nothing_can_be_kept(monkeypatch, capsys):
    monkeypatch.setattr(warmup, "show_config", lambda: {"cache_folder": None})
    monkeypatch.setattr(warmup, "compile_for", lambda dtype, form: None)
    assert warmup.main(["float32"]) == 1
    assert "set NUMBA_CACHE_DIR" in capsys.readouterr().err
