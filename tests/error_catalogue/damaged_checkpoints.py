"""Errors of checkpoints whose parts were changed: numbers, arrays and states of callbacks out of their range."""

import numpy as np

from ._entry import Also, Entry, Section
from ._files import checkpoint, state
from .checkpoints import CHANGED, RESUME

WITH = 'trainer.fit(X, labels, epochs=4, resume_from="last.safetensors", callbacks=[{}])'
STOPPING = WITH.format('fastbp.EarlyStopping("loss")')


def _in(*keys, **values):
    """Other entries in a dict of the state."""

    def change(header, tensors):
        place = header["state"]
        for key in keys:
            place = place[key]
        place.update(values)

    return checkpoint(change=change)


def _array(name, change):
    return checkpoint(change=lambda header, tensors: tensors.update({name: change(tensors[name])}))


def _callback(made, change, arrays=lambda tensors: None):
    """The first training had this callback, whose state is changed."""

    def both(header, tensors):
        change(header["state"]["callbacks"][0][2])
        arrays(tensors)

    return checkpoint(f"before.fit(X, labels, epochs=2, callbacks=[{made}])", both)


def _stopping(arrays=lambda tensors: None, **values):
    return _callback("fastbp.EarlyStopping('loss')", lambda its: its.update(values), arrays)


def _normed(stage):
    for name in ("trainer", "before"):
        stage.run(
            f"{name} = fastbp.Trainer(fastbp.Sequential([fastbp.BatchNorm(), fastbp.Dense(3)], n_features=3, "
            "random_state=0), loss='softmax_cross_entropy', random_state=0)"
        )
    model = stage.names["before"].model
    checkpoint(
        "before = fastbp.Trainer(normed, loss='softmax_cross_entropy', random_state=0)".replace("normed", "mine"),
        lambda header, tensors: tensors["weights.variance1"].__isub__(9),
    )(_with(stage, mine=model))


def _with(stage, **names):
    stage.names.update(names)
    return stage


def _plateau(stage):
    code = (
        "{} = fastbp.Trainer(trainer.model, loss='softmax_cross_entropy', random_state=0, "
        "optimizer=fastbp.SGD(fastbp.schedules.ReduceOnPlateau(0.1, monitor='loss')))"
    )
    stage.run(code.format("trainer"))
    checkpoint(code.format("before"), lambda header, tensors: header["state"]["rates"].update(plateau=[1]))(stage)


def _other_length(stage):
    code = (
        "{} = fastbp.Trainer(trainer.model, loss='softmax_cross_entropy', random_state=0, "
        "optimizer=fastbp.SGD(fastbp.schedules.Cosine(0.1)))\n"
    )
    stage.run(code.format("trainer"))
    fit = code.format("before") + "before.fit(X, labels, epochs=4)"
    checkpoint(fit, lambda header, tensors: header["state"]["rates"].update(n_epochs=7))(stage)


def _mine(stage):
    stage.run(
        "class Mine(fastbp.Callback):\n    def get_state(self):\n        return {'best': 0.5}\n"
        "    def set_state(self, state):\n        self.best = state['worst']\n"
    )
    checkpoint("before.fit(X, labels, epochs=2, callbacks=[Mine()])")(stage)


def _negative(name):
    return lambda tensors: tensors.update({name: -np.abs(tensors[name]) - 1})


SECTION = Section(
    "Damaged checkpoints",
    "Each number, array and entry of a checkpoint is checked before it is used; after one of these errors the trainer, "
    "its model and its callbacks are as before. Other programs change files, and so do mistakes of a disk in a file of "
    "an earlier fastbp, which has no digest.",
    (
        Entry(
            "A schedule of another length than its training",
            RESUME,
            ValueError,
            CHANGED,
            "Resume from another checkpoint of that training.",
            given=_other_length,
        ),
        Entry(
            "Numbers that no training has",
            RESUME,
            ValueError,
            CHANGED,
            "Go on from an earlier checkpoint of the same training.",
            given=checkpoint(change=state(stopped=0)),
            also=(
                Also(given=checkpoint(change=state(epochs=1))),
                Also(given=_in("rates", step=19)),
                Also(given=_in("rates", rate=-0.1)),
                Also(given=_in("random_state", gauss=float("nan"))),
                Also(given=_plateau),
            ),
        ),
        Entry(
            "Arrays that no training has",
            RESUME,
            ValueError,
            "Some numbers of an array cannot be those of a training, or the array has another shape or dtype.",
            "Go on from another checkpoint; the weights alone may still be good: load them by `fastbp.load`.",
            given=_array("state.optimizer.first.0", lambda a: a * np.nan),
            also=(
                Also(given=_array("state.optimizer.second.0", lambda a: a - 1)),
                Also(given=_array("state.history.loss", lambda a: a[:1])),
                Also(given=_normed),
            ),
        ),
        Entry(
            "A part of the file that is of another kind",
            RESUME,
            ValueError,
            "A list, a dict or a number stands where the file has something else.",
            "Load another copy of the file.",
            given=checkpoint(change=lambda header, tensors: header["state"].update(optimizer=3)),
        ),
        Entry(
            "States of callbacks that are none",
            RESUME,
            ValueError,
            "The list of the states of callbacks was changed.",
            "Go on from another checkpoint, or remove all of the states: `callbacks` and `callback_keys` become `[]`.",
            given=checkpoint(change=state(callbacks=3)),
            also=(
                Also(given=checkpoint(change=state(callbacks=[3], callback_keys=[None]))),
                Also(given=checkpoint(change=state(callbacks=[["A", True, {}]], callback_keys=[3]))),
            ),
        ),
        Entry(
            "A state of EarlyStopping out of its range",
            STOPPING,
            ValueError,
            "The state names an epoch that the training has not come to, or weights that the model does not have.",
            "Go on from another checkpoint.",
            given=_stopping(best_epoch=3),
            also=(
                Also(given=_stopping(best_weights=3)),
                Also(given=_callback("fastbp.EarlyStopping('loss')", lambda its: its["best_weights"].pop())),
            ),
        ),
        Entry(
            "A state of EarlyStopping without weights",
            STOPPING,
            ValueError,
            "The first training did not keep the best weights, and this one is to go back to them.",
            "Pass restore_best=False, as in the first training.",
            given=checkpoint(
                "before.fit(X, labels, epochs=2, callbacks=[fastbp.EarlyStopping('loss', restore_best=False)])"
            ),
        ),
        Entry(
            "A state of Checkpoint out of its range",
            WITH.format('fastbp.Checkpoint("{epoch}.safetensors")'),
            ValueError,
            "The path of the file that was written last is no string.",
            "Leave the callback out once: it may be missing, and begins anew.",
            given=_callback("fastbp.Checkpoint('{epoch}.safetensors')", lambda its: its.update(last_path=3)),
        ),
        Entry(
            "A state of LearningRateLogger out of its range",
            WITH.format("fastbp.LearningRateLogger()"),
            ValueError,
            "A learning rate in the state is negative, infinite or NaN.",
            "Leave the logger out of the training that goes on, or go on from another checkpoint.",
            given=_callback("fastbp.LearningRateLogger()", lambda its: None, _negative("state.callbacks.0.2.rates")),
        ),
        Entry(
            "A state of CSVLogger out of its range",
            WITH.format('fastbp.CSVLogger("log.csv")'),
            ValueError,
            "The columns or the last line in the state are no list of strings.",
            "Leave the logger out of the training that goes on, or give it another path.",
            given=_callback("fastbp.CSVLogger('log.csv')", lambda its: its.update(columns="epoch")),
        ),
        Entry(
            "A callback that does not take its state",
            WITH.format("Mine()"),
            ValueError,
            "`set_state` of your callback has raised an error, named in brackets: the state is that of another "
            "version of the class.",
            "Let `set_state` read what earlier versions of `get_state` have written, or leave the callback out.",
            given=_mine,
        ),
    ),
)
