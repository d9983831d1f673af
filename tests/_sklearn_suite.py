"""scikit-learn's own tests of its multilayer perceptrons, run on ours: a script that prints the outcomes as JSON.

The two names are replaced before pytest collects the file, so the file imports our estimators.
"""

import json
import sys
from pathlib import Path

import pytest
from sklearn import neural_network

import fastbp


class Outcomes:
    """Outcome of each test, and the text of what failed."""

    def __init__(self):
        self.outcomes, self.reports, self.classes = {}, {}, []

    def pytest_collection_finish(self, session):
        module = session.items[0].module
        self.classes = [module.MLPClassifier.__module__, module.MLPRegressor.__module__]

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid.split("::", 1)[1]] = report.outcome
        if report.failed:
            self.reports[report.nodeid.split("::", 1)[1]] = str(report.longrepr)[-2000:]


def main(folder):
    neural_network.MLPClassifier, neural_network.MLPRegressor = fastbp.MLPClassifier, fastbp.MLPRegressor
    path = Path(neural_network.__file__).parent / "tests" / "test_mlp.py"
    told = Outcomes()
    # scikit-learn's settings of warnings are not ours, and its folder is not to be written to
    options = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=", "--rootdir", folder, "-c", "/dev/null"]
    pytest.main([str(path), *options], plugins=[told])
    print(json.dumps(vars(told)))


if __name__ == "__main__":
    main(sys.argv[1])
