"""The suites for predictions and for a sparse X. Nothing here depends on how fast anything is."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed
try:
    from benchmarks import driver, report, run
    from benchmarks.workloads import SPARSE, WORKLOADS, initial_weights
finally:
    sys.path.remove(str(ROOT))

OPTIONS = driver.Options(n_threads=1, dtype="float32", rounds=1, turn_seconds=0.01, quick=True, timeout=300, predict=20)


def test_libraries_predict_alike():
    found = driver.measure(WORKLOADS["tiny"], ["sklearn", "jax", "reference"], OPTIONS, print)
    assert not found["warnings"]
    peers = found["peers"]
    assert peers.pop("reference") == {"unavailable": "its predictions are not timed"}
    if "unavailable" in peers["jax"]:
        assert "not installed" in peers.pop("jax")["unavailable"]
    for peer in peers.values():
        assert peer["dims"] == [64, 32, 10] and peer["rounds"][0]["seconds"] > 0


def test_a_logistic_output_is_two_classes():
    workload = WORKLOADS["tab"]
    with driver.Process("benchmarks.peers.torch_", ["tab", "--predict", "20"], timeout=300) as process:
        greeting = process.greet()
    if "unavailable" in greeting:
        pytest.skip(greeting["unavailable"])
    Z, weights = workload.rows(20, "float32", np.random.default_rng(1)), initial_weights(workload.dims, "float32")
    for k in range(0, len(weights), 2):
        Z = (np.maximum(Z, 0) if k else Z) @ weights[k] + weights[k + 1]
    p = 1 / (1 + np.exp(-Z))
    spread = np.linspace(0, 19, 16).astype(int)
    np.testing.assert_allclose(greeting["probabilities"], np.hstack([1 - p, p])[spread], atol=1e-5)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ([[0.2, 0.8]], None),
        ([[0.20009, 0.79991]], None),
        ([[0.2002, 0.7998]], "differ from fastbp's by up to 0.0002"),
        ([[float("nan"), 0.8]], "differ"),
        ([[0.8]], r"are \(1, 1\), fastbp's \(1, 2\)"),
    ],
)
def test_other_probabilities_are_told(theirs, said):
    warnings = driver._probability_warnings(
        {"fastbp": {"probabilities": [[0.2, 0.8]]}, "jax": {"probabilities": theirs}}
    )
    if said is None:
        assert not warnings
    else:
        with pytest.raises(ValueError, match=said):
            raise ValueError(*warnings)


def test_inference_times_many_rows_and_one(tmp_path, capsys, monkeypatch):
    asked = []

    def measure(workload, peers, options, say):
        asked.append((workload.name, options.predict))
        turn = {"seconds": 0.002, "epochs": 1, "loss": 0.1}
        peer = {"flop": 1e6, "dims": [1], "setup_seconds": 1.0, "notes": {}, "peak_memory_mib": 123.0}
        ours, theirs = peer | {"rounds": [turn]}, peer | {"rounds": [turn | {"fastbp": 0.001}]}
        return {"steps": 1, "peak": [1.0], "peers": {"fastbp": ours, "jax": theirs}, "warnings": []}

    monkeypatch.setattr(driver, "measure", measure)
    path = tmp_path / "inference.json"
    assert run.main(["--suite", "inference", "--workloads", "tiny", "--threads", "1", "--json", str(path)]) == 0
    assert asked == [("tiny", 100_000), ("tiny", 1)]
    results = json.loads(path.read_text(encoding="utf-8"))
    assert [one["rows"] for one in results["workloads"].values()] == [100_000, 1]
    printed = capsys.readouterr().out
    for part in ("2.0 ms (2.0-2.0)", "2000.0 us (2000.0-2000.0)", "2.00 (2.00-2.00)", "50,000,000", "123"):
        assert part in printed
    with pytest.raises(SystemExit, match="suite inference"):
        report.main(["--json", str(path)])


def test_sparse_end_to_end(tmp_path, capsys):
    path = tmp_path / "sparse.json"
    options = ["--suite", "sparse", "--workloads", "text", "--threads", "1", "--quick", "--rounds", "1"]
    assert run.main([*options, "--json", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and str(tmp_path) not in text
    workload = json.loads(text)["workloads"]["text"]
    assert set(workload["peers"]) == {"fastbp", "sklearn"} and not workload["warnings"]
    for peer in workload["peers"].values():
        assert peer["rounds"][0]["seconds"] > 0
        if sys.platform != "win32":
            assert 0 < peer["memory_before_mib"] <= peer["peak_memory_mib"]
    assert "scikit-learn" in capsys.readouterr().out


def test_sparse_rows_hold_what_they_should():
    workload = SPARSE["text"].quick()
    X, y = workload.data("float32")
    assert X.shape == (workload.n_samples, workload.n_features) and X.dtype == np.float32
    # two of the same column become one
    assert 0.99 * workload.nonzeros < X.nnz / workload.n_samples <= workload.nonzeros
    assert len(set(y)) == workload.n_classes


def test_a_peer_without_sparse_matrices_is_left_out():
    reason = driver._unfit(driver.PEERS["jax"], SPARSE["text"], replace(OPTIONS, predict=None))
    assert reason == "it takes no sparse X"
    assert driver._unfit(driver.PEERS["sklearn"], SPARSE["text"], OPTIONS) is None


@pytest.mark.parametrize(
    "options", [["--suite", "cpu", "--workloads", "wide"], ["--suite", "sparse", "--workloads", "tiny"]]
)
def test_a_suite_has_its_own_workloads(options, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(options)
    assert ended.value.code == 2
    assert "--workloads of the suite" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux keeps the parent's memory through exec")
def test_memory_is_that_of_the_process_and_not_of_its_parent():
    held = np.ones(300 * 2**17)  # 300 MiB
    code = "from benchmarks.peers._worker import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 1 < float(done.stdout) < held.nbytes / 2**20


def test_phases_of_a_step():
    command = [sys.executable, "-m", "benchmarks.phases", "tiny", "--quick", "--threads", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("tiny, batch 32, float32; peak ")
    names = [line.split("  ")[1].strip() for line in lines[1:]]
    assert names[:3] == ["forward 1, 64x32", "forward 2, 32x10", "loss"]
    assert names[3:] == [
        "deltas 2, 10x32", "gradient 1, 64x32", "gradient 2, 32x10", "update 1, 64x32", "update 2, 32x10",
        "sum of the phases", "a step on one thread", "a step on 1",
    ]  # fmt: skip
    assert all(float(line.split(" us")[0].split()[-1]) > 0 for line in lines[1:])
