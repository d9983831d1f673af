"""scikit-learn's own tests pass with our estimators in place of its own, but for those that need its insides."""

import json
from pathlib import Path

import pytest
from _processes import succeed

SCRIPT = Path(__file__).with_name("_sklearn_suite.py")
# They call methods or read attributes of scikit-learn's class whose names begin with an underscore
PRIVATE = {
    "test_gradient",
    "test_learning_rate_warmstart",
    "test_adaptive_learning_rate",
    "test_n_iter_no_change",
    "test_n_iter_no_change_inf",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    done = succeed(SCRIPT, tmp_path_factory.mktemp("suite"), PYTHONWARNINGS="ignore")
    return json.loads(done.stdout.splitlines()[-1])


def test_ours_were_tested(told):
    assert told["classes"] == ["fastbp.estimators.classifier", "fastbp.estimators.regressor"]
    assert len(told["outcomes"]) > 50 and list(told["outcomes"].values()).count("passed") > 50


def test_only_what_is_private_fails(told):
    failed = {name for name, outcome in told["outcomes"].items() if outcome == "failed"}
    unexpected = {name: told["reports"][name] for name in failed if name.partition("[")[0] not in PRIVATE}
    assert not unexpected, "\n\n".join(f"{name}\n{text}" for name, text in unexpected.items())


def test_what_is_named_as_private_is_there(told):
    assert {name.partition("[")[0] for name in told["outcomes"]} >= PRIVATE
