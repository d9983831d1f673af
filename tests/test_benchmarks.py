"""The benchmarks' harness: what it counts, says and writes. Nothing here depends on how fast anything is."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed
try:
    from benchmarks import driver, machine, report, run, summary
    from benchmarks.peers import PEERS
    from benchmarks.workloads import WORKLOADS, flop_per_epoch, initial_weights
finally:
    sys.path.remove(str(ROOT))

OPTIONS = driver.Options(n_threads=1, dtype="float32", rounds=1, turn_seconds=0.01, quick=True, timeout=300)


def rounds(*pairs):
    return [{"seconds": seconds, "fastbp": ours, "epochs": 1, "loss": 1.0} for seconds, ours in pairs]


@pytest.fixture
def results():
    """A results file with round numbers."""
    peer = {"flop": 2e9, "dims": [4, 3, 3, 3, 2], "setup_seconds": 0.1, "loss": 1.0, "notes": {}}
    blas = [{"of": "numpy", "internal_api": "openblas", "version": "0.3", "architecture": "Zen"}]
    return {
        "suite": "cpu",
        "command": "python -m benchmarks.run --rounds 3",
        "machine": {
            "cpu": "A CPU", "cores": 4, "threads": 2, "system": "Linux", "python": "3.12.0",
            "versions": {"fastbp": "0.1.0", "torch": None}, "environment": {},
        },
        "dtype": "float32", "rounds": 3, "quick": False, "baseline": "fastbp",
        "workloads": {
            "tiny": {
                "batch": 5, "n_samples": 500, "steps": 100, "dims": [4, 3, 3, 3, 2], "peak": [80.0, 100.0],
                "warnings": [],
                "peers": {
                    "fastbp": peer | {"rounds": rounds((0.04, None), (0.04, None), (0.05, None))},
                    "sklearn": peer | {"rounds": rounds((0.2, 0.04), (0.16, 0.04), (0.15, 0.05)),
                                       "notes": {"blas": blas}},
                    "torch": {"unavailable": "not installed: No module named 'torch'"},
                },
            }
        },
    }  # fmt: skip


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("n_samples", "dims", "flop"),
    [
        (1, (1, 1), 4),  # forward and weight gradient; no deltas in the first layer
        (10, (4, 3), 2 * 10 * 2 * 12),
        (7, (5, 4, 3), 2 * 7 * (3 * (20 + 12) - 20)),
        (12800, (784, 128, 10), 2 * 12800 * (3 * (100352 + 1280) - 100352)),
    ],
)
def test_flop_of_an_epoch(n_samples, dims, flop):
    assert flop_per_epoch(n_samples, dims) == flop


def test_workloads_have_whole_batches_and_two_classes_one_output():
    for workload in WORKLOADS.values():
        for one in (workload, workload.quick()):
            assert one.n_samples == one.steps * one.batch
            X, y = one.data("float32")
            assert X.shape == (one.n_samples, one.dims[0])
            assert len(set(y)) == one.n_classes
    assert (WORKLOADS["tab"].dims[-1], WORKLOADS["tab"].softmax_dims[-1]) == (1, 2)
    assert WORKLOADS["mnist"].dims == WORKLOADS["mnist"].softmax_dims == (784, 128, 10)


def test_all_start_from_scikit_learn_s_weights():
    sklearn = pytest.importorskip("sklearn.neural_network")
    workload = WORKLOADS["tiny"].quick()
    X, y = workload.data("float64")
    # a rate that moves nothing leaves the initial weights
    model = sklearn.MLPClassifier(workload.hidden, learning_rate_init=1e-300, random_state=0)
    model.partial_fit(X, y, classes=range(workload.n_classes))
    ours = initial_weights(workload.dims, "float64")
    for given, drawn in zip([*model.coefs_, *model.intercepts_], [*ours[::2], *ours[1::2]], strict=True):
        assert (given == drawn).all()


def test_summary_takes_ratios_round_by_round(results):
    workload = results["workloads"]["tiny"]
    found = summary.summarize(workload)
    assert list(found) == ["fastbp", "sklearn"]
    assert found["fastbp"].ratio is None
    ratio = found["sklearn"].ratio
    assert (ratio.median, ratio.least, ratio.most) == pytest.approx((4, 3, 5))
    assert found["fastbp"].step_us == pytest.approx(400)
    assert (found["fastbp"].gflops, found["fastbp"].share) == pytest.approx((50, 0.5))
    assert summary.between(workload, "sklearn", "torch") is None
    assert summary.network(workload) == "4-3x3-2"


def test_report_writes_the_table_and_check_sees_a_difference(results, tmp_path, capsys):
    readme, picture = tmp_path / "README.md", tmp_path / "cpu.png"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    options = ["--json", write(tmp_path / "cpu.json", results), "--readme", str(readme), "--plot", str(picture)]
    assert report.main([*options, "--check"]) == 1
    assert "old" in readme.read_text(encoding="utf-8")
    pytest.importorskip("matplotlib")
    assert report.main(options) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n") and text.endswith(f"{report.END}\nafter\n")
    assert "| tiny | 4-3x3-2, 5 | 400 µs | 50 | 50% | 4.0 (3.0 to 5.0) |" in text
    for part in ("A CPU, 4 cores, 2 threads, float32", "Zen kernels", "--rounds 3`", "No module named 'torch'"):
        assert part in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert report.main([*options, "--check"]) == 0
    results["workloads"]["tiny"]["peers"]["sklearn"]["rounds"] = rounds((0.4, 0.04))
    write(tmp_path / "cpu.json", results)
    assert report.main([*options, "--check"]) == 1
    assert "differ" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", f"{report.END}{report.BEGIN}", f"{report.BEGIN}{report.END}{report.BEGIN}"])
def test_report_wants_its_markers(results, text):
    with pytest.raises(ValueError, match="once each"):
        report.updated(text, results)


def test_no_path_and_no_host_gets_into_results(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    text = f"from '{ROOT}/x.py' on secret-host, /usr/lib/a.so: 3/4 of 10 GFLOP/s, see https://a.b/c/d"
    assert machine.scrub(text) == "from 'x.py' on host, a.so: 3/4 of 10 GFLOP/s, see https://a.b/c/d"
    assert machine.scrub({"a": [r"C:\Users\me\x.py", 1, None]}) == {"a": ["x.py", 1, None]}


def test_run_end_to_end(tmp_path, capsys):
    path = tmp_path / "cpu.json"
    options = ["--suite", "cpu", "--workloads", "tiny", "--peers", "fastbp,sklearn", "--threads", "1"]
    assert run.main([*options, "--quick", "--rounds", "1", "--json", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and str(tmp_path) not in text and str(Path.home()) not in text
    results = json.loads(text)
    workload = results["workloads"]["tiny"]
    assert len(workload["peak"]) == len(workload["peers"]["sklearn"]["rounds"]) == 1
    assert not workload["warnings"]  # the same loss: they do the same work
    turn = workload["peers"]["sklearn"]["rounds"][0]
    assert turn["seconds"] > 0 and turn["fastbp"] == workload["peers"]["fastbp"]["rounds"][0]["seconds"]
    assert report.table(results).count("\n| tiny |") == 1
    printed = capsys.readouterr().out
    assert "scikit-learn" in printed and "of peak" in printed and "geometric mean" in printed


def test_a_peer_that_is_missing_or_fails_does_not_stop_the_run(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    (tmp_path / "jax.py").write_text("raise RuntimeError('broken install')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = []
    found = driver.measure(WORKLOADS["tiny"].quick(), ["torch", "jax", "sklearn"], OPTIONS, said.append)["peers"]
    assert found["torch"] == {"unavailable": "not installed: No module named 'torch'"}
    assert "broken install" in found["jax"]["unavailable"]
    assert found["sklearn"]["rounds"] and found["fastbp"]["rounds"]
    assert any("torch" in line for line in said) and any("jax" in line for line in said)


def test_a_peer_runs_alone():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.fastbp_", "tiny", "--variant", "trainer", "--quick"],
        input="epoch\nepochs 3\n",
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    greeting, one, three = map(json.loads, done.stdout.splitlines())
    assert greeting["ready"] and greeting["dims"] == [64, 32, 10]
    assert (one["epochs"], three["epochs"]) == (1, 3)
    assert 0 < three["loss"] < one["loss"]  # each turn starts anew


def test_a_peer_that_hangs_is_ended(tmp_path, monkeypatch):
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with driver.Process("hangs", [], timeout=0.5) as process, pytest.raises(driver.PeerError, match="no answer"):
        process.greet()


@pytest.mark.parametrize(
    "options",
    [["--workloads", "none"], ["--peers", "none"], ["--threads", "0"], ["--rounds", "0"], ["--probe", "none"]],
)
def test_run_refuses_what_it_does_not_know(options, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(options)
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_peers_have_modules():
    for peer in PEERS.values():
        assert (ROOT / (peer.module.replace(".", "/") + ".py")).is_file()
