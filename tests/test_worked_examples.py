"""The worked examples: numbers that can be followed by hand, what is learned, what is ill and what cures it."""

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[1]
BACKEND = "reference"
FIRST = ("relu_then_sigmoid", "relu", -0.2)
SECOND = ("two_sigmoids", "sigmoid", 0.2)
RIGHT = {
    FIRST: {"loss": 0.2186, "dw1": -0.1397, "db1": -0.0698, "dw2": -0.2561, "db2": -0.2328}
    | {"new_w1": 0.50140, "new_b1": 0.10070, "new_w2": 0.30256, "new_b2": -0.19767},
    SECOND: {"loss": 0.1563, "dw1": -0.0212, "dw2": -0.1418},
}


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        yield importlib.import_module("worked_examples")


@pytest.fixture(scope="module")
def texts(script):
    return script.outputs()


def rounded(values):
    return {name: round(float(value), 5 if name.startswith("new_") else 4) for name, value in values.items()}


def named(flow):
    return {finding.what for finding in flow.findings}


# ---------------------------------------------------------------------------------------------------------------------
# Two units


@pytest.mark.parametrize("case", [FIRST, SECOND])
def test_two_units_by_hand(script, case):
    function, _, b2 = case
    values = rounded(getattr(script.by_hand, function)(**script.by_hand.START | {"b2": b2}))
    assert {name: values[name] for name in RIGHT[case]} == RIGHT[case]


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"])
@pytest.mark.parametrize("case", [FIRST, SECOND])
def test_two_units_by_fastbp(script, case, backend):
    _, hidden, b2 = case
    loss, gradients, weights = script.by_hand.by_fastbp(hidden, **script.by_hand.START | {"b2": b2}, backend=backend)
    values = {"loss": loss}
    for name, gradient, weight in zip(script.by_hand.PARAMETERS, gradients, weights, strict=True):
        values |= {f"d{name}": gradient.item(), f"new_{name}": weight.item()}
    values = rounded(values)
    assert {name: values[name] for name in RIGHT[case]} == RIGHT[case]


def test_each_line_of_the_worksheet_is_right_as_it_stands(script, texts):
    for name in ("first_worksheet", "second_worksheet"):
        lines = texts[name].splitlines()
        assert len(lines) == 17
        for line in lines:
            _, _, numbers, value = line.split(" = ")
            assert eval(numbers, {"exp": np.exp, "max": np.maximum}) == pytest.approx(float(value), abs=1.5e-4)


# ---------------------------------------------------------------------------------------------------------------------
# XOR and digits


@pytest.mark.parametrize("seed", range(4))
def test_xor_is_learned(script, seed):
    model, history = script.learning.learn_xor(seed, BACKEND)
    p = model.predict(script.learning.XOR_X, backend=BACKEND).ravel()
    assert ((p > 0.5) == np.array(script.learning.XOR_Y)).all()
    assert history["loss"][-1] < 0.02 < 0.6 < history["loss"][0]


def test_the_last_delta_of_xor_is_p_minus_t(script):
    X, t = np.array(script.learning.XOR_X, float), np.array(script.learning.XOR_Y, float)
    layers = [fastbp.Dense(4, "sigmoid"), fastbp.Dense(1, "sigmoid")]
    model = fastbp.Sequential(layers, n_features=2, random_state=0, dtype="float64")
    trainer = fastbp.Trainer(model, loss="sigmoid_cross_entropy", backend=BACKEND)
    _, gradients = trainer.loss_and_gradients(X, t)
    p = model.predict(X, backend=BACKEND).ravel()
    np.testing.assert_allclose(gradients[3], [(p - t).mean()], rtol=1e-12)


@pytest.fixture(scope="module")
def learned(script):
    digits = script.learning.stand_in()
    return digits, *script.learning.learn_digits(digits.X, digits.y, BACKEND)


def test_the_gradient_of_each_array_of_the_digits_is_checked(learned):
    *_, checks = learned
    for check in checks:
        assert list(check.relative_errors) == ["W1", "b1", "W2", "b2"]
        assert max(check.relative_errors.values()) < 1e-6
        assert [int(np.isfinite(n).sum()) for n in check.numeric.values()] == [50, 50, 50, 10]
    assert np.abs(checks[0].gradients["W1"] - checks[1].gradients["W1"]).max() > 1e-3  # at other weights


def test_the_digits_are_learned(learned):
    digits, model, history, _ = learned
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert (model.predict(digits.X_test, backend=BACKEND).argmax(axis=1) == digits.y_test).mean() > 0.8


def test_a_wrong_gradient_is_said_to_be_wrong(script, learned):
    check = learned[-1][0]
    assert script.learning._check_line(check, "W1").endswith("below 1e-06")
    faulty = replace(check, relative_errors=check.relative_errors | {"W1": 0.5})
    assert script.learning._check_line(faulty, "W1").endswith("5.0e-01: WRONG")


# ---------------------------------------------------------------------------------------------------------------------
# Ill networks and cured ones


def test_the_first_layers_of_deep_sigmoids_stop_learning(script):
    sick = script.sickness.vanishing_outcomes(BACKEND)["sigmoids"]
    for flow in (sick.flows.flows[0], sick.flows.flows[-1]):
        assert named(flow) == {"vanishing"}
        assert "1" in [finding.layer for finding in flow.findings]
    remedy = sick.flows.flows[0].findings[0].remedy
    assert all(cure in remedy for cure in ("he_normal", "batch or layer normalisation", "residual connections"))
    assert sick.moved < 1e-4
    assert sick.losses[-1] > 2.3 and sick.accuracy < 0.15


@pytest.mark.parametrize("cure", ["relus", "normalised", "residual"])
def test_each_cure_lets_the_deep_network_learn(script, cure):
    cured = script.sickness.vanishing_outcomes(BACKEND)[cure]
    assert cured.flows.flows[0].findings == []
    assert cured.flows.flows[-1].findings == []
    assert cured.flows.epochs == [0, 5, 10, 15, 20, 25]
    assert cured.moved > 0.1
    assert cured.losses[-1] < 0.8 and cured.accuracy > 0.7


def test_an_exploding_network_stops_and_clipping_lets_it_learn(script):
    sick, cured = script.sickness.exploding_outcomes(BACKEND).values()
    assert named(sick.flows.flows[0]) == {"exploding"}
    assert "clip the gradient's norm" in sick.flows.flows[0].findings[0].remedy
    assert sick.losses == [] and "in step" in sick.error
    assert cured.error == "" and np.isfinite(cured.losses).all()
    assert all(np.isfinite(w).all() for w in cured.model.get_weights())
    assert cured.losses[-1] < 0.02 * cured.losses[0]
    assert cured.accuracy > 0.35  # guessing would have 0.1
    assert cured.flows.flows[-1].findings == []


def test_a_leak_revives_dead_relus(script):
    sickness = script.sickness
    dead, leaky = sickness.dead_outcomes(BACKEND).values()
    for flow in (dead.flows.flows[0], dead.flows.flows[-1]):
        assert named(flow) == {"dead"} and flow.dead[1] == 1
        assert "leaky_relu" in flow.findings[0].remedy
    assert dead.moved == 0 and dead.losses[-1] > 2.3 and dead.accuracy < 0.15
    assert leaky.flows.flows[-1].findings == []
    assert leaky.losses[-1] < 0.05 and leaky.accuracy > 0.8
    revived = sickness.as_relus(leaky.model, BACKEND)
    assert revived.findings == [] and revived.dead[1] < 0.3


def test_little_gradient_through_a_leak_names_the_biases(script):
    flow = script.sickness.dead_outcomes(BACKEND)["leaky_relu"].flows.flows[0]
    assert named(flow) == {"vanishing"}
    assert "zero biases" in flow.findings[0].remedy


# ---------------------------------------------------------------------------------------------------------------------
# The page


def test_the_page_is_what_the_examples_give(script, texts, monkeypatch, capsys):
    monkeypatch.setattr(script, "outputs", lambda: texts)
    assert script.main(["--check"]) == 0, capsys.readouterr().out
    assert "MNIST was not run" in capsys.readouterr().out


def test_another_number_is_found(script, texts, monkeypatch, capsys):
    changed = texts | {"xor": texts["xor"].replace("random_state=1", "random_state=7")}
    monkeypatch.setattr(script, "outputs", lambda: changed)
    assert script.main(["--check"]) == 1
    printed = capsys.readouterr().out
    assert any(line.startswith("+") and "random_state=7" in line for line in printed.splitlines())


def test_a_page_without_a_place_for_an_output_is_an_error(script):
    with pytest.raises(ValueError, match="no place for xor"):
        script.rendered("<!-- output: dead -->\n<!-- end -->", {"dead": "1", "xor": "2"})


def test_the_page_has_the_numbers_of_mnist_and_its_figures(script):
    page = script.PAGE.read_text(encoding="utf-8")
    block = re.search(r"<!-- output: digits -->\n(.*?)<!-- end -->", page, re.DOTALL)[1]
    assert "MNIST: 60000 rows" in block
    assert block.count("below 1e-06") == 8 and "WRONG" not in block
    assert float(re.search(r"test rows right: ([\d.]+) %", block)[1]) > 97
    figures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert len(figures) == 3
    assert all((script.PAGE.parent / name).stat().st_size < 60_000 for name in figures)
    anchors = [re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in re.findall("## (.*)", page)]
    assert re.findall(r"\]\(#(.*?)\)", page) == anchors
    assert "docs/worked_examples.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_page_and_figures_are_written(script, texts, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(script, "outputs", lambda: texts)
    assert script.main(["--out", str(tmp_path)]) == 0
    page = (tmp_path / "worked_examples.md").read_text(encoding="utf-8")
    assert "scikit-learn's digits, which stand in for MNIST" in page
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == sorted(["worked_examples.md", *re.findall(r"!\[.*?\]\((.*?)\)", page)])
    assert all(path.stat().st_size < 60_000 for path in tmp_path.iterdir())
    printed = capsys.readouterr().out
    assert all(text in printed for text in texts.values())


def test_mnist_comes_from_a_file(script, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 24), ("test", 12)):
        arrays |= {f"x_{part}": rng.integers(0, 256, (n, 28, 28), np.uint8), f"y_{part}": np.arange(n) % 10}
    np.savez(tmp_path / "tiny.npz", **arrays)
    monkeypatch.setattr(script.learning, "digits_table", lambda digits, backend: (digits, backend))
    digits, backend = script.digits_output(tmp_path / "tiny.npz")
    assert (digits.name, backend) == ("MNIST", "cpu")
    assert digits.X.shape == (24, 784) and digits.X.dtype == np.float32 and digits.X.max() <= 1
    assert digits.X_test.shape == (12, 784)
    with pytest.raises(SystemExit, match=r"give an \.npz file"):
        script.digits_output(tmp_path / "absent.npz")


def test_wrong_arguments_are_named(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "outputs", None)
    with pytest.raises(SystemExit):
        script.main(["--out", "absent"])
    assert "absent is no folder" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match='pip install "matplotlib'):
        script.main([])
