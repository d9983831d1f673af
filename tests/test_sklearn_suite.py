"""scikit-learn's own tests of its multilayer perceptrons, unchanged, with our estimators in the place of its own."""

import json
from pathlib import Path

import pytest
from _processes import succeed
from sklearn.neural_network import tests

SUITE = Path(tests.__file__).with_name("test_mlp.py")

# They reach into private attributes: _backprop and its packed weights, _optimizer, _no_improvement_count.
PRIVATE = {
    "test_gradient",
    "test_learning_rate_warmstart",
    "test_adaptive_learning_rate",
    "test_n_iter_no_change",
    "test_n_iter_no_change_inf",
}

PYTEST = """
import json, sys
from pathlib import Path
import pytest
import sklearn.neural_network
import fastbp

for module in (sklearn.neural_network, sklearn.neural_network._multilayer_perceptron):
    module.MLPClassifier, module.MLPRegressor = fastbp.MLPClassifier, fastbp.MLPRegressor

class Record:
    def __init__(self):
        self.outcomes, self.failures, self.estimators = {}, {}, {}
    def pytest_collection_finish(self, session):
        for item in session.items:
            for name in ("MLPClassifier", "MLPRegressor"):
                self.estimators[name] = getattr(item.module, name).__module__
    def pytest_collectreport(self, report):
        if report.failed:
            self.failures[report.nodeid or "collection"] = report.longreprtext
    def pytest_runtest_logreport(self, report):
        name = report.nodeid.rpartition("::")[2]
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[name] = report.outcome if self.outcomes.get(name) != "failed" else "failed"
        if report.failed:
            self.failures[name] = self.failures.get(name, "") + report.longreprtext

record, (suite, folder) = Record(), sys.argv[1:]
# a configuration of its own: pytest would find fastbp's above a virtual environment in its folder
configuration = Path(folder) / "pytest.ini"
configuration.touch()
code = pytest.main([suite, "-c", str(configuration), "-p", "no:cacheprovider", "-q"], plugins=[record])
Path(folder, "record.json").write_text(json.dumps(vars(record)))
sys.exit(code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED))
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Outcome of each test by its name with parameters, reports of failures, and whose the estimators were."""
    folder = tmp_path_factory.mktemp("suite")
    succeed("-W", "default", "-c", PYTEST, SUITE, folder)  # its tests do not expect that warnings are errors
    return json.loads((folder / "record.json").read_text())


def base(name):
    return name.partition("[")[0]


def test_the_suite_ran_with_our_estimators(record):
    assert record["estimators"] == {
        "MLPClassifier": "fastbp.estimators.classifier", "MLPRegressor": "fastbp.estimators.regressor",
    }  # fmt: skip
    assert len(record["outcomes"]) > 50
    assert set(map(base, record["outcomes"])) >= PRIVATE, "a test was renamed or left out: what is excused has changed"
    assert "skipped" not in record["outcomes"].values()


def test_nothing_fails_but_what_looks_at_private_attributes(record):
    reports = {name: report for name, report in record["failures"].items() if base(name) not in PRIVATE}
    assert not reports, "\n\n".join(f"{name}\n{report}" for name, report in reports.items())
