"""Errors of fits that meet: within each other, or in several threads; and of generators that were set."""

from types import SimpleNamespace

import numpy as np

from fastbp._orders import Twister

from ._entry import Also, Entry, Section

AGAIN = "class Again(fastbp.Callback):\n    def on_epoch_end(self, *arguments):\n        {}\n{}"
POOL = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)"


def _pool(stage):
    stage.run(POOL)


def _order(stage):
    """A callback has set a state before the next order of rows; without compiled code."""
    twister = object.__new__(Twister)
    twister.generator, twister.state = np.random.MT19937(0), np.full(625, 10**6, np.uint32)
    twister.generator = SimpleNamespace(lock=twister.generator.lock)
    stage.names["start"] = lambda: twister.shuffle(np.arange(3))


SECTION = Section(
    "Several fits at once",
    "A trainer, a model and an estimator have one `fit` at a time. The fit that is under way goes on undisturbed. In "
    "the examples `pool` is a `concurrent.futures.ThreadPoolExecutor`.",
    (
        Entry(
            "A fit within a fit of the same trainer",
            AGAIN.format("trainer.fit(X, labels)", "trainer.fit(X, labels, callbacks=[Again()])"),
            RuntimeError,
            "A callback, or a second thread, has called `fit` of a trainer that is within a fit.",
            "Train another model in the callback, by a Trainer of its own.",
        ),
        Entry(
            "A model that two threads train",
            AGAIN.format(
                'pool.submit(fastbp.Trainer(model, loss="softmax_cross_entropy").fit, X, labels).result()',
                "trainer.fit(X, labels, callbacks=[Again()])",
            ),
            RuntimeError,
            "Two trainers of the same model are within a fit, in two threads.",
            "Give each of them a model of its own: `copy.deepcopy(model)`.",
            given=_pool,
        ),
        Entry(
            "A trainer that another thread asks",
            AGAIN.format(
                'pool.submit(trainer.save, "last.safetensors").result()', "trainer.fit(X, labels, callbacks=[Again()])"
            ),
            RuntimeError,
            "The state of a training changes with each step, so that another thread would see it half changed.",
            "Call it in a callback of the fit, or wait for the end of the fit.",
            given=_pool,
            also=(
                Also(
                    AGAIN.format(
                        "pool.submit(model.set_weights, model.get_weights()).result()",
                        "trainer.fit(X, labels, callbacks=[Again()])",
                    )
                ),
            ),
        ),
        Entry(
            "A fit within a fit of the same estimator",
            AGAIN.format(
                "mine.fit(X, labels)", "mine = fastbp.MLPClassifier((4,), callbacks=[Again()])\nmine.fit(X, labels)"
            ),
            RuntimeError,
            "A callback, or a second thread, has called `fit` or `partial_fit` of an estimator that is being fitted.",
            "Fit a clone: `sklearn.base.clone(mine)`.",
        ),
        Entry(
            "A generator that was set to a place it does not have",
            "rng = np.random.RandomState(0)\n"
            "state = rng.get_state(legacy=False)\n"
            'state["state"]["pos"] = 625\n'
            "rng.set_state(state)\n"
            "fastbp.Sequential([fastbp.Dense(3)], n_features=3, random_state=rng)",
            ValueError,
            "NumPy takes any state without a look, and would read beyond the memory of the generator.",
            "Give set_state the result of get_state as it is, or pass an int as random_state.",
            also=(
                Also(
                    "start()",
                    _order,
                    'state["state"]["pos"] = 10**6\n'
                    "rng.set_state(state)  # in a callback of a fit with random_state=rng",
                ),
            ),
        ),
    ),
)
