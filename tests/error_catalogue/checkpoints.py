"""Errors of trainings that are written down and gone on from."""

import numpy as np

from ._entry import Entry, Section
from ._files import checkpoint, state

RESUME = 'trainer.fit(X, labels, epochs=4, resume_from="last.safetensors")'
CHANGED = "The file was changed by hand or by another program, or comes from a version that wrote it in another way."


def _rates(**values):
    return lambda header, tensors: header["state"]["rates"].update(values)


def _optimizer(**values):
    return lambda header, tensors: header["state"]["optimizer"].update(values)


def _infinite(header, tensors):
    tensors["weights.b1"][:] = np.inf


def _short_moment(header, tensors):
    name = header["state"]["optimizer"]["first"][0]["$tensor"]
    tensors[name] = tensors[name][:1]


SECTION = Section(
    "Checkpoints",
    "`Trainer.save` and `fastbp.Checkpoint` write a training down, and `fit(resume_from=...)` goes on from "
    "it. The whole file is checked before anything is changed. The file `last.safetensors` of the examples "
    "is of a training of two epochs.",
    (
        Entry(
            "A checkpoint before the first fit",
            'trainer.save("last.safetensors")',
            RuntimeError,
            "A checkpoint holds a training as it stands after a whole epoch, and there has been none yet, or Ctrl-C or "
            "an error has ended it within an epoch.",
            "Call `trainer.save` after `fit`. For the weights alone call `model.save`.",
        ),
        Entry(
            "A checkpoint within an epoch",
            "class Save(fastbp.Callback):\n"
            "    def on_chunk_end(self, trainer, epoch, step, logs):\n"
            '        trainer.save("last.safetensors")\n'
            "trainer.fit(X, labels, callbacks=[Save()])",
            RuntimeError,
            "A training goes on with a whole epoch, so that the same rows come in the same order.",
            "Save in `on_epoch_complete`, or leave it to `fastbp.Checkpoint`.",
        ),
        Entry(
            "A state with keys that are no strings",
            "class Count(fastbp.Callback):\n"
            "    def get_state(self):\n"
            "        return {1: 0.5}\n"
            "trainer.fit(X, labels, callbacks=[Count()])\n"
            'trainer.save("last.safetensors")',
            TypeError,
            "The state of a callback is written as JSON, whose keys are strings.",
            "Write `{str(key): value}`, and convert the keys in `set_state`.",
        ),
        Entry(
            "A state of objects",
            "class Best(fastbp.Callback):\n"
            "    def get_state(self):\n"
            '        return {"model": object()}\n'
            "trainer.fit(X, labels, callbacks=[Best()])\n"
            'trainer.save("last.safetensors")',
            TypeError,
            "A file holds numbers, strings, arrays, and lists and dicts of these. Objects are not pickled, since "
            "loading them would run code.",
            "Return the numbers that the object is made of, or None for no state.",
        ),
        Entry(
            "A state of arrays of another dtype",
            "class Names(fastbp.Callback):\n"
            "    def get_state(self):\n"
            '        return {"names": np.array(["a", "b"])}\n'
            "trainer.fit(X, labels, callbacks=[Names()])\n"
            'trainer.save("last.safetensors")',
            TypeError,
            "Arrays in a file are of float64, float32, int64, uint32, uint64 or bool.",
            "Convert the array by `astype`, or return a list by `tolist()`.",
        ),
        Entry(
            "The training of another network or data",
            'trainer.fit(X[:9], labels[:9], epochs=4, resume_from="last.safetensors")',
            ValueError,
            "A training that goes on must have the same model, loss, optimizer, batch_size and shuffle, and "
            "data of the same shape; the message names the first difference.",
            "Set it back. To change one on purpose, load the model by `fastbp.load` and begin a new training.",
            given=checkpoint(),
        ),
        Entry(
            "A checkpoint of more epochs",
            'trainer.fit(X, labels, epochs=1, resume_from="last.safetensors")',
            ValueError,
            "epochs is the length of the whole training, those before the checkpoint included.",
            "Add the epochs that you want to those of the checkpoint.",
            given=checkpoint(),
        ),
        Entry(
            "A schedule over another number of epochs",
            'trainer.fit(X, labels, epochs=4, resume_from="last.safetensors")',
            ValueError,
            "The schedule takes its length from epochs, so another number would have changed the rates of the epochs "
            "that are done.",
            "Pass the number of the first training, and give schedules a total where a training may become longer.",
            given=lambda stage: (
                stage.run(
                    "trainer = fastbp.Trainer(trainer.model, loss='softmax_cross_entropy', random_state=0,\n"
                    "    optimizer=fastbp.SGD(fastbp.schedules.Cosine(0.1)))"
                ),
                checkpoint(
                    "before = fastbp.Trainer(before.model, loss='softmax_cross_entropy', random_state=0,\n"
                    "    optimizer=fastbp.SGD(fastbp.schedules.Cosine(0.1)))"
                )(stage),
            ),
            shown=(
                "optimizer = fastbp.SGD(fastbp.schedules.Cosine(0.1))\n"
                'trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", optimizer=optimizer, random_state=0)\n'
            )
            + RESUME,
        ),
        Entry(
            "A generator of another kind",
            "rng = np.random.RandomState(np.random.PCG64(0))\n"
            'trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=rng)\n' + RESUME,
            ValueError,
            "The state of one generator of random numbers says nothing to another one.",
            "Give the trainer an int as random_state, or an instance of the kind that the first training had.",
            given=checkpoint(),
        ),
        Entry(
            "Callbacks that are missing",
            RESUME,
            ValueError,
            "The first training had a callback that decides, such as EarlyStopping, and without it the training would "
            "go another way.",
            "Pass the same callbacks as in the first training. Those that only write down may be left out.",
            given=checkpoint(
                "before.fit(X, labels, epochs=2, callbacks=[fastbp.EarlyStopping('loss')])",
            ),
        ),
        Entry(
            "A checkpoint of weights that are infinite",
            RESUME,
            ValueError,
            'The first training had on_divergence="ignore" and has diverged; this one is to raise an error there.',
            "Go on from an earlier checkpoint, with a smaller learning rate from the beginning.",
            given=checkpoint(change=_infinite),
        ),
        Entry(
            "A number of epochs that is none",
            RESUME,
            ValueError,
            CHANGED,
            "Go on from another checkpoint. Nothing of the trainer has been changed.",
            given=checkpoint(change=state(epoch=-1)),
        ),
        Entry(
            "An entry that is missing",
            RESUME,
            ValueError,
            "A part of the state is not in the file; the message lists the entries there, and those that are expected.",
            "Go on from another checkpoint.",
            given=checkpoint(change=lambda header, tensors: header["state"].pop("rates")),
        ),
        Entry(
            "An array that is missing",
            RESUME,
            ValueError,
            "The state names an array that the file does not hold.",
            "Go on from another checkpoint, or copy the file once more.",
            given=checkpoint(change=state(rows={"$tensor": "state.order"})),
        ),
        Entry(
            "An order of other rows",
            RESUME,
            ValueError,
            "The order of rows in the file is no permutation of the rows of X.",
            "Go on from another checkpoint of the same data.",
            given=checkpoint(change=lambda header, tensors: tensors["state.rows"].fill(0)),
        ),
        Entry(
            "A learning rate of another kind",
            RESUME,
            ValueError,
            "The file has the position in a schedule where the optimizer has a number, or the other way round, though "
            "it describes the same optimizer: its state was changed.",
            "Put the entry `rates` back, or go on from another checkpoint.",
            given=checkpoint(change=_rates(rate=None)),
        ),
        Entry(
            "A history of other values",
            RESUME,
            ValueError,
            "The curves in the file have other names, or another length, than a training of the same settings.",
            "Go on from another checkpoint, or load the model by `fastbp.load` and begin a new training.",
            given=checkpoint(change=lambda header, tensors: header["state"]["history"].pop("epoch_seconds")),
        ),
        Entry(
            "A state of other entries",
            RESUME,
            ValueError,
            "The state has other moments than the optimizer that the file describes: the state was changed.",
            "Go on from another checkpoint, or begin a new training from the weights of this one.",
            given=checkpoint(change=_optimizer(velocity=[])),
        ),
        Entry(
            "A state of fewer arrays",
            RESUME,
            ValueError,
            "The optimizer has a moment for each array of the model, and some are not in the file.",
            "Go on from another checkpoint.",
            given=checkpoint(change=_optimizer(first=[])),
        ),
        Entry(
            "A moment of another shape",
            RESUME,
            ValueError,
            "A moment has the shape and the dtype of the array that it belongs to, and this one has not.",
            "Go on from another checkpoint, with a model of the same layers and dtype.",
            given=checkpoint(change=_short_moment),
        ),
        Entry(
            "A word in the place of a number",
            RESUME,
            ValueError,
            "An entry of the state of the optimizer is of another kind than the optimizer has there.",
            "Go on from another checkpoint.",
            given=checkpoint(change=_optimizer(step="three")),
        ),
    ),
)
