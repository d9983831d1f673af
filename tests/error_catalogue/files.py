"""Errors of files of models: saving them and loading them."""

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

import fastbp._files

from ._entry import Entry, Section
from ._files import model_with

LOAD = 'fastbp.load("model.safetensors")'


def _written(text: str | None):
    """A safetensors file with this description, or with none."""

    def given(stage):
        metadata = {"framework": "pt"} if text is None else {"fastbp": text}
        save_file({"w": np.zeros(2)}, stage.folder / "model.safetensors", metadata)

    return given


def _refuse(stage):
    """The disk is full."""

    def fails(*arguments):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    stage.patch.setattr("fastbp._files.save_file", fails)


def _gone(stage):
    """The file is cut short between two looks at it."""
    stage.run('fastbp.Sequential([fastbp.Dense(3)], n_features=3, random_state=0).save("model.safetensors")')
    opened, calls = fastbp._files.safe_open, []

    def second_fails(path, **options):
        calls.append(path)
        if len(calls) == 2:
            open(path, "wb").close()
        return opened(path, **options)

    stage.patch.setattr("fastbp._files.safe_open", second_fails)


SECTION = Section(
    "Files of models",
    "`Sequential.save`, `fastbp.load` and `Trainer.save` write and read safetensors files with a description of the "
    "layers. Saving writes the whole file or leaves the old one, and loading runs no code of the file.",
    (
        Entry(
            "A path that is none",
            "model.save(3)",
            TypeError,
            "The name of a file is a string or a `pathlib.Path`, and an open file is neither.",
            "Pass the path. Bytes and numbers are converted by you.",
        ),
        Entry(
            "A folder that is missing",
            'model.save("runs/7/model.safetensors")',
            FileNotFoundError,
            "No folder is made for the file, since a mistake in the path would make many.",
            'Make it before: `os.makedirs("runs/7", exist_ok=True)`.',
        ),
        Entry(
            "A disk that is full",
            'model.save("model.safetensors")',
            OSError,
            "The system cannot write the file: the disk is full, or a quota is reached. The reason in brackets is its "
            "own. The file of that name, if there was one, is as before.",
            "Make room, or save to another disk.",
            given=_refuse,
            hide=(r"(?<=written: ).*",),
        ),
        Entry(
            "Weights that are infinite",
            'model.save("model.safetensors")',
            ValueError,
            'The training has diverged with on_divergence="ignore". A file of such weights would be refused by '
            "`fastbp.load`.",
            "Train anew with a smaller learning rate, or go back to a checkpoint.",
            given=lambda stage: stage.names["model"]._weights[0].fill(np.nan),
        ),
        Entry(
            "A function as an initializer",
            "def zeros(rng, fan_in, fan_out, activation):\n"
            "    return np.zeros((fan_in, fan_out)), np.zeros(fan_out)\n"
            'fastbp.Sequential([fastbp.Dense(3, initializer=zeros)], n_features=3).save("model.safetensors")',
            TypeError,
            "The layers are written down as names and numbers, and a function of yours has neither.",
            "Save the weights by `numpy.savez`, make the model by your own code again, and call `set_weights`; or use "
            "an initializer by name.",
        ),
        Entry(
            "A file that is not there",
            'fastbp.load("modle.safetensors")',
            FileNotFoundError,
            "The path is misspelled, or relative to another folder than the current one.",
            "Print `os.getcwd()`, or give the whole path.",
        ),
        Entry(
            "A file that is cut short",
            LOAD,
            ValueError,
            "A download or a copy has ended too early, or the file is no safetensors file, but a pickle for example.",
            "Copy it once more, and compare the sizes. Files that fastbp writes are whole or not there.",
            given=lambda stage: (stage.folder / "model.safetensors").write_bytes(b"\x80\x04abcdefgh"),
            hide=(r"(?<=else \().*(?=\)\. )",),
        ),
        Entry(
            "A file that changes while it is read",
            LOAD,
            OSError,
            "Another process has written to the file after its head was read.",
            "Load it again when the writing has ended. fastbp itself replaces a file in one moment; `cp` does not.",
            given=_gone,
        ),
        Entry(
            "A file of another library",
            LOAD,
            ValueError,
            "It is a safetensors file, but without the description of layers that fastbp adds: weights of a PyTorch "
            "model, for example.",
            "Read the arrays by `safetensors.numpy.load_file`, make the model, and pass them to `set_weights`.",
            given=_written(None),
        ),
        Entry(
            "A description that cannot be read",
            LOAD,
            ValueError,
            "The text that describes the layers was changed by hand or by another program.",
            "Load a copy from before the change, or write the file anew with `model.save`.",
            given=_written('{"version": 1, '),
            hide=(r"(?<=JSON \().*(?=\)\. )",),
        ),
        Entry(
            "A description without a version",
            LOAD,
            ValueError,
            "The text that describes the layers is JSON, but not such as fastbp writes.",
            "Look who has written the file: `fastbp.load` reads those of `model.save` and `trainer.save` alone.",
            given=_written("[1, 2]"),
        ),
        Entry(
            "A file of a newer fastbp",
            LOAD,
            ValueError,
            "The format of files has changed since the version that is installed here.",
            "Upgrade the clone that fastbp was installed from: `git pull`, and then `pip install .` in it.",
            given=model_with(lambda header, tensors: header.update(version=99)),
        ),
        Entry(
            "A file of something else",
            LOAD,
            ValueError,
            "The file is one of fastbp, but holds neither a model nor a checkpoint.",
            "Look at the path: a file for another purpose has this name.",
            given=model_with(lambda header, tensors: header.update(kind="history")),
        ),
        Entry(
            "A model that is not described whole",
            LOAD,
            ValueError,
            "A part of the description is missing: it was changed by hand or by another program.",
            "Load a copy from before the change. The weights can still be read, by `safetensors.numpy.load_file`.",
            given=model_with(lambda header, tensors: header["model"].pop("link")),
        ),
        Entry(
            "A link that the layers do not have",
            LOAD,
            ValueError,
            "The description names another output activation than its last layer has.",
            "Put the activation of the last layer back into the description, or load a copy from before the change.",
            given=model_with(lambda header, tensors: header["model"].update(link="tanh")),
        ),
        Entry(
            "A layer of a newer fastbp",
            LOAD,
            ValueError,
            "The file names a class that the installed version does not have.",
            "Upgrade fastbp where the file is read, or save the model with the older version.",
            given=model_with(lambda header, tensors: header["model"]["layers"][0].update(type="Attention")),
        ),
        Entry(
            "A field of a newer fastbp",
            LOAD,
            ValueError,
            "A layer has got an option since the version that is installed here.",
            "Upgrade fastbp where the file is read.",
            given=model_with(lambda header, tensors: header["model"]["layers"][0].update(sparse=True)),
        ),
        Entry(
            "A layer with impossible numbers",
            LOAD,
            ValueError,
            "The description was changed, and a layer refuses the values that it has now.",
            "Correct the value that the message names, or take the original file.",
            given=model_with(lambda header, tensors: header["model"]["layers"][0].update(units=-3)),
        ),
        Entry(
            "Arrays that are missing",
            LOAD,
            ValueError,
            "The layers need more arrays than there are in the file.",
            "Take the original file; arrays are called weights.W1, weights.b1 and so on, layer by layer.",
            given=model_with(lambda header, tensors: tensors.pop("weights.b1")),
        ),
        Entry(
            "Arrays of another shape",
            LOAD,
            ValueError,
            "The arrays were changed, or the description was: they do not belong together.",
            "Take the original file. To change layers, make a new model and pass it the arrays by `set_weights`.",
            given=model_with(lambda header, tensors: tensors.update({"weights.b1": np.zeros(2, np.float32)})),
        ),
    ),
)
