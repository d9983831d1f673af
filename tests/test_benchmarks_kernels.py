"""The benchmarks of single kernels: that they verify what they time. Nothing here depends on how fast anything is."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pytest_benchmark")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed
try:
    from benchmarks import _kernels, kernels
    from benchmarks._cases import CASES
finally:
    sys.path.remove(str(ROOT))


def run(*options):
    """``pytest benchmarks`` as it runs outside of a test."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "benchmarks", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_kernels_are_what_their_twins_are():
    done = run("--benchmark-disable", "-k", "(adam or sgd) and 768 or transpose_tile or add_squares")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout and "of peak" not in done.stdout


def test_measurements_are_plain_figures():
    (one,) = kernels.measure(True, ("-k", "add_squares and float32"))
    assert tuple(one) == kernels.KEYS and one["kernel"] == "add_squares" and one["dtype"] == "float32"
    assert all(one[key] > 0 for key in ("microseconds", "gflops", "gbytes", "share"))
    lines = []
    kernels.show([one, one | {"share": None, "gflops": 0.0}], lines.append)
    assert lines[2].split()[0] == "add_squares" and lines[2].endswith("%") and not lines[3].endswith("%")
    assert len(lines[1]) == len(lines[2]) == len(lines[3])


def test_what_goes_wrong_is_shown(tmp_path, monkeypatch):
    code = "from benchmarks import _kernels\n_kernels.TOLERANCE['float32'] = -1.0\n"
    (tmp_path / "strict.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    with pytest.raises(SystemExit, match=r"(?s)ended with 1:.*add_squares 48x\d+ float32, result 0: off by"):
        kernels.measure(True, ("-k", "add_squares and float32", "-p", "strict"))


def test_without_the_plugin_it_says_what_to_install():
    done = run("-p", "no:benchmark")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "pip install -e '.[bench]'" in done.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_result_is_caught(dtype):
    case = CASES["add_squares"](dtype=dtype)
    (right,) = case.want()
    case.check()
    for wrong in (right[0] * (1 + 1e-3), np.nan, np.inf):
        result = right.copy()
        result[0] = wrong
        with pytest.raises(AssertionError, match=r"add_squares 48x.* result 0: off by"):
            replace(case, got=lambda result=result: [result]).check()
    with pytest.raises(AssertionError, match="another kind"):
        _kernels.verify([right[:-1]], [right], dtype)


def test_each_result_is_looked_at():
    case = CASES["adam 768"](dtype="float64")
    w, m, v = case.want()
    for k, wrong in enumerate(([w + 1e-6, m, v], [w, m + 1e-6, v], [w, m, v + 1e-6])):
        with pytest.raises(AssertionError, match=f"adam 768 float64, result {k}"):
            replace(case, got=lambda wrong=wrong: wrong).check()
