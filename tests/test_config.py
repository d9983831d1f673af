"""What fastbp says about itself, and compiling ahead."""

import numba
import pytest

import fastbp
from fastbp import warmup


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
