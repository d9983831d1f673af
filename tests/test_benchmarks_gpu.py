"""The benchmark of a GPU, as far as it needs none. Nothing here depends on how fast anything is."""

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.layers import ACTIVATIONS
from fastbp.losses import Loss

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed
try:
    from benchmarks import _gpu_agreement, _gpu_parts, _gpu_results, gpu
    from benchmarks.driver import PeerError
finally:
    sys.path.remove(str(ROOT))

CHILD = ["--device", "cpu", "--backend", "reference", "--quick", "--tiny"]


def rounds(*seconds):
    return [{"seconds": each} for each in seconds]


def timed(steps, **peers):
    return {
        "steps": steps,
        "batch": 64,
        "peers": {name.replace("_", "-"): {"rounds": rounds(*s)} for name, s in peers.items()},
    }


@pytest.fixture
def parts():
    """Every part with round numbers: 10 us a step of fastbp."""
    mnist = {"fastbp": (0.01, 0.01, 0.02), "eager": (0.3, 0.2, 0.2), "graphs": (0.06, 0.06, 0.12)}
    found = {f"agreement/float32/{name}": agreed(1e-6) for name in ("mnist", "wide")}
    found |= {f"mnist/{batch}": timed(1000, **mnist, graphs_many=(0.05, 0.04, 0.08)) for batch in (64, 256, 1024)}
    found |= {
        f"wide/{precision}": timed(1000, fastbp=(0.01,), eager=(0.02,), graphs=(0.008,))
        for precision in ("float32", "tf32")
    }
    compiled = {
        "fastbp": {"rounds": rounds(0.01)},
        "compile": {"rounds": rounds(0.15)},
        "compile-graphs": {"unavailable": "no C compiler"},
    }
    return found | {f"compiled/{batch}": {"steps": 1000, "peers": compiled} for batch in (64, 256, 1024)}


def agreed(worst):
    return {"agrees": True, "worst": worst, "allowed": 1e-5, "what": "loss", "off": {}}


def results_of(parts):
    machine = {
        "gpu": "a GPU",
        "driver": "1.2",
        "torch_cuda": "13.0",
        "cpu": "a CPU",
        "versions": {"numba": "0.68", "triton": None},
    }
    return {"parts": parts, "machine": machine, "goals": _gpu_results.judged(parts), "seed": 5, "quick": False}


def test_goals_are_held_against_the_fastest_peer_round_by_round(parts):
    goals = _gpu_results.judged(parts)
    assert [goal["reached"] for goal in goals] == [False, True, True, True, False, True]
    assert goals[0]["against"] == "graphs-many" and goals[0]["ratio"] == {"median": 4.0, "least": 4.0, "most": 5.0}
    assert goals[3]["ratio"]["median"] == 20 and goals[4]["ratio"]["median"] == 0.8
    del parts["mnist/64"]
    assert [goal["reached"] for goal in _gpu_results.judged(parts)] == [None, True, True, None, False, True]


def test_the_table_is_short_and_says_what_is_missing(parts):
    lines = _gpu_results.table(results_of(parts))
    text = "\n".join(lines)
    assert len(lines) <= 25
    assert "a GPU, driver 1.2, CUDA 13.0" in lines[0] and "triton" not in lines[0]
    assert "agreement float32: 2 of 2 cases, worst 1.0e-06 of 1e-05" in lines[1]
    row = next(line for line in lines if line.startswith("mnist/64"))
    assert "10.0 (10.0-20.0)" in row and "200.0 x20.00" in row and "50.0 x4.00" in row and "150.0 x15.00" in row
    assert "MISSED   mnist/64" in text and "reached  wide/tf32" in text
    assert "compiled/64 compile-graphs: no C compiler" in text
    parts["mnist/64"] = {"error": "out of\nmemory"}
    parts["agreement/tf32/mnist"] = {"agrees": False, "worst": 0.5, "allowed": 2e-3, "off": {"loss": 0.5}}
    parts |= {f"compiled/{k}": {"skipped": "no time was left"} for k in range(30)}
    lines = _gpu_results.table(results_of(parts))
    assert len(lines) == 25 and "more: see the JSON" in lines[-1]
    assert "open     mnist/64      not measured" in "\n".join(lines)
    assert "agreement tf32: 0 of 1 cases; OFF: mnist" in lines[2]
    assert _gpu_results.disagreements(parts) == ["  tf32/mnist: loss 5.0e-01 (allowed 2e-03)"]


def test_other_losses_are_told():
    peers = {
        "fastbp": {"loss": 2.0},
        "eager": {"loss": 2.03},
        "graphs": {"loss": 2.1},
        "compile": {"loss": float("nan")},
    }
    told = _gpu_results.losses_apart({"peers": peers | {"graphs-many": {"unavailable": "why"}}}, 0.02)
    assert [line.split()[0] for line in told] == ["graphs", "compile"]


def test_rounds_begin_with_another_peer_each_and_end_in_time():
    taken, now = [], [0.0]

    def turn_of(name):
        def turn(n_epochs):
            taken.append(name)
            now[0] += n_epochs
            return {"seconds": 1.0}

        return turn

    turns = {name: turn_of(name) for name in "abc"}
    found = _gpu_parts.in_rounds(turns, dict.fromkeys("abc", 1), 7, 10.0, lambda: now[0])
    assert "".join(taken) == "abcbcacab" and {len(each) for each in found.values()} == {3}


class Scripted:
    """A process that answers by the book."""

    def __init__(self, answers, log):
        self.answers, self.log, self.dead = answers, log, False
        log.append("start")

    def ask(self, part, seconds):
        assert not self.dead and seconds > 0
        answer = self.answers[part]
        if isinstance(answer, Exception):
            self.dead = True
            raise answer
        self.dead = "error" in answer
        return answer

    def close(self):
        self.log.append("close")


def test_a_stage_goes_on_after_a_part_that_fails():
    answers = {"a": {"error": "launch failed"}, "b": PeerError("no answer within 75 s"), "c": {"x": 1}, "d": {"x": 2}}
    found, log = {}, []
    stage = gpu.Stage("s", ("a", "b", "c", "d"), 100, 50)
    gpu.run_stage(stage, lambda: Scripted(answers, log), found.__setitem__, 1000.0, lambda: 0.0)
    assert found == {
        "a": {"error": "launch failed"},
        "b": {"error": "no answer within 75 s"},
        "c": {"x": 1},
        "d": {"x": 2},
    }
    assert log == ["start", "close"] * 3


@pytest.mark.parametrize("workers", [1, 3])
def test_a_stage_leaves_out_what_it_has_no_time_for(workers):
    clock, found = itertools.count(0, 20).__next__, {}
    stage = gpu.Stage("s", tuple("abcdef"), 80, 50, workers)
    gpu.run_stage(stage, lambda: Scripted({part: {"x": 1} for part in "abcdef"}, []), found.__setitem__, 1000.0, clock)
    assert sorted(found) == list("abcdef")
    left_out = [part for part, answer in found.items() if answer == {"skipped": "no time was left"}]
    assert len(left_out) == 3 and (workers > 1 or left_out == ["d", "e", "f"])


def arguments(tmp_path, **changes):
    return argparse.Namespace(**{"out": tmp_path / "new" / "gpu.json", "seconds": 500.0, "keep_going": False} | changes)


def empty():
    return {"parts": {}, "goals": [], "warnings": [], "stage_seconds": {}}


STAGES = [
    gpu.Stage("agreement", ("agreement/float32/a", "agreement/float32/b"), 99, 50),
    gpu.Stage("mnist", ("mnist/64",), 99, 50),
]
OFF = {"agrees": False, "worst": float("nan"), "what": "loss", "allowed": 1e-5, "off": {"loss": float("nan")}}


def test_what_disagrees_is_not_timed(tmp_path, capsys, parts):
    answers = {"agreement/float32/a": OFF, "agreement/float32/b": {"error": "no kernel"}, "mnist/64": parts["mnist/64"]}
    results = empty()
    assert gpu.measure(arguments(tmp_path), results, lambda: Scripted(answers, []), STAGES) == 1
    assert "mnist/64" not in results["parts"]
    shown = capsys.readouterr().out
    assert (
        "nothing is timed" in shown
        and "float32/a: loss nan (allowed 1e-05)" in shown
        and "float32/b: no kernel" in shown
    )
    file = tmp_path / "new" / "gpu.json"
    assert json.loads(file.read_text(), parse_constant=pytest.fail)["parts"]["agreement/float32/a"]["worst"] == "nan"
    results = empty()
    assert gpu.measure(arguments(tmp_path, keep_going=True), results, lambda: Scripted(answers, []), STAGES) == 1
    assert json.loads(file.read_text())["goals"][3]["reached"] is True


def test_each_part_is_written_before_the_next(tmp_path, parts, monkeypatch):
    answers = {"agreement/float32/a": agreed(0.0), "agreement/float32/b": agreed(1e-7), "mnist/64": parts["mnist/64"]}
    seen = []
    original = gpu.write
    monkeypatch.setattr(gpu, "write", lambda results, path: (original(results, path), seen.append(path.read_text())))
    assert gpu.measure(arguments(tmp_path), empty(), lambda: Scripted(answers, []), STAGES) == 0
    assert json.loads(seen[0])["parts"]["agreement/float32/b"] == {"skipped": "not reached"}
    assert json.loads(seen[-1])["parts"]["mnist/64"]["peers"].keys() == parts["mnist/64"]["peers"].keys()
    assert gpu.measure(arguments(tmp_path, seconds=0.0), empty(), lambda: Scripted(answers, []), STAGES) == 1


def test_without_a_gpu_it_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 2
    assert "no GPU" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_missing_packages_are_named(monkeypatch, capsys, tmp_path):
    needed = gpu.requirements()
    assert {"numpy", "scipy", "scikit-learn", "safetensors", "numba", "numba-cuda", "torch"} == set(needed)
    have = {**needed, "scipy": None, "scikit-learn": "1.8.2", "torch": "2.11.0+cu130", "numba": "0.100"}
    monkeypatch.setattr(gpu, "version", have.get)
    monkeypatch.setattr(gpu, "gpu_count", lambda: 1)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 2
    shown = capsys.readouterr().out
    assert f"scipy>={needed['scipy']} is missing" in shown and "scikit-learn>=1.9 is needed, there is 1.8.2" in shown
    assert "torch" not in shown and "numba" not in shown and "pack_site.sh" in shown


def test_every_kind_of_network_is_compared():
    kinds, activations, losses, optimizers = set(), set(), set(), set()

    def visit(layers):
        for layer in layers:
            kinds.add(type(layer))
            activations.add(getattr(layer, "activation", "identity"))
            visit(getattr(layer, "layers", ()))

    for case in _gpu_agreement.CASES.values():
        visit(case.layers())
        losses.add(case.loss().name)
        optimizers.add(type(case.optimizer()))
    assert kinds == {fastbp.Dense, fastbp.BatchNorm, fastbp.LayerNorm, fastbp.Dropout, fastbp.Residual}
    assert activations == set(ACTIVATIONS)
    assert len(losses) == 9 and all(Loss(name) for name in losses)
    assert len(optimizers) == 7
    done = [part for stage in gpu.stages(False) for part in stage.parts]
    assert {part.split("/")[1] for part in done if part.startswith("agreement/")} == set(_gpu_agreement.TOLERANCE)
    assert {goal.part for goal in _gpu_results.GOALS} <= set(done)
    assert {part for part in done if part.startswith(("mnist", "wide"))} == set(_gpu_parts.WORKLOADS)


@pytest.mark.parametrize("name", ["one-layer", "scikit-learn"])
def test_the_compiled_backend_agrees(name):
    found = _gpu_agreement.compare(name, "float32", "cpu", 3)
    assert found["agrees"] and found["poison_seen"] and found["repeatable"]
    assert 0 < found["worst"] <= 1e-5 and len(found["draws"]) == 1


def scaled(session, times):
    """A session whose gradients are a bit too large."""
    original = session.loss_and_gradients
    session.loss_and_gradients = lambda rows: (original(rows)[0], [times * array for array in original(rows)[1]])


def unwritten(session, times):
    """A session in which what has been NaN stays so."""
    original, seen = session.loss_and_gradients, []

    def loss_and_gradients(rows):
        loss, gradients = original(rows)
        seen.append(np.isnan(loss))
        return loss, [np.where(any(seen), np.nan, array) for array in gradients]

    session.loss_and_gradients = loss_and_gradients


def racing(session, times, number=itertools.count()):  # noqa: B008  (one for all sessions)
    """A session that trains a bit differently from the one before, within the tolerance."""
    original, k = session.train, next(number)
    session.train = lambda rows, rates: original(rows, rates) * (1 + 1e-9 * k)


@pytest.mark.parametrize(
    ("spoil", "what", "draws"), [(scaled, "gradient", 2), (unwritten, "gradient", 2), (racing, "repeated", 1)]
)
def test_a_wrong_backend_is_found_out(monkeypatch, spoil, what, draws):
    original = _gpu_agreement.Contestants.open

    def open_(self, backend):
        trainer, session = original(self, "reference")
        if backend == "cpu":
            spoil(session, 1.001)
        return trainer, session

    monkeypatch.setattr(_gpu_agreement.Contestants, "open", open_)
    monkeypatch.setattr(_gpu_agreement.Contestants, "predict", lambda self, *_: np.zeros(1))
    found = _gpu_agreement.compare("soft", "float32", "cpu", 3)
    assert not found["agrees"] and what in next(iter(found["off"])) and len(found["draws"]) == draws
    assert found["repeatable"] == (spoil is not racing)


@pytest.fixture
def child():
    process = gpu.Child(CHILD)
    yield process
    process.close()


def test_a_process_times_what_there_is(child):
    pytest.importorskip("torch")
    for part in ("mnist/64", "wide/float32"):
        found = child.ask(part, 300)
        assert found["peers"]["graphs"]["unavailable"] == "CUDA graphs need a GPU"
        for name in ("fastbp", "eager"):
            assert len(found["peers"][name]["rounds"]) == 2 and _gpu_results.seconds(found, name).median > 0
        assert found["peers"]["fastbp"]["notes"] == {"data": "host"}
        assert not _gpu_results.losses_apart(found, 0.05)


def test_a_process_ends_after_an_error(child):
    assert child.ask("agreement/float32/soft", 300)["agrees"]
    assert "KeyError" in child.ask("mnist/65", 300)["error"]
    with pytest.raises(PeerError):
        child.ask("mnist/64", 300)
