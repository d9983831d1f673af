"""Errors of files that are damaged, of another kind, or larger than a file of fastbp may be."""

import json
import os
import struct

from safetensors import SafetensorError

import fastbp._files

from ._entry import Also, Entry, Exempt, Section
from ._files import model_with

LOAD = 'fastbp.load("model.safetensors")'
SAVE = "class Mine(fastbp.Callback):\n    def get_state(self):\n        return {}\n"
SAVE += 'trainer.fit(X, labels, callbacks=[Mine()])\ntrainer.save("last.safetensors")'


def _flipped(stage):
    """A bit of the last array is another one."""
    stage.run('fastbp.Sequential([fastbp.Dense(3)], n_features=3, random_state=0).save("model.safetensors")')
    path = stage.folder / "model.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)


def _many_arrays(stage):
    text = b'"data_offsets"' * 150_001
    (stage.folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


def _fails_later(stage):
    """The second look at the file finds something else, though it has not changed."""
    stage.run('fastbp.Sequential([fastbp.Dense(3)], n_features=3, random_state=0).save("model.safetensors")')
    opened, calls = fastbp._files.safe_open, []

    def fails(path, **options):
        calls.append(path)
        if len(calls) == 2:
            raise SafetensorError("I/O error")
        return opened(path, **options)

    stage.patch.setattr("fastbp._files.safe_open", fails)


def _memory(stage):
    model_with(lambda header, tensors: None)(stage)

    def fails(path):
        raise MemoryError

    stage.patch.setattr("fastbp._files._open", fails)


def _raw(shape, dtype):
    """A file that holds an array of this shape, without elements."""

    def given(stage):
        model_with(lambda header, tensors: None)(stage)
        path = stage.folder / "model.safetensors"
        whole = path.read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        head = json.loads(whole[8 : 8 + size])
        text = head["__metadata__"]["fastbp"]
        head = {
            "__metadata__": {"fastbp": text, "fastbp.sha256": "0"},
            "weights.W1": {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]},
        }
        encoded = json.dumps(head).encode()
        path.write_bytes(struct.pack("<Q", len(encoded)) + encoded)

    return given


def _deep():
    value = []
    for _ in range(60):
        value = [value]
    return value


def _spoiled(text):
    """The description is this text, with a digest."""

    def given(stage):
        digest = fastbp._files._Digest(text)
        metadata = {"fastbp": text, "fastbp.sha256": digest.text()}
        fastbp._files.save_file({}, stage.folder / "model.safetensors", metadata)

    return given


SECTION = Section(
    "Damaged and special files",
    "A file of fastbp has a digest of its contents, so that a flipped bit is found. Files by other programs, and those "
    "of an earlier fastbp, have none: each part of them is looked at before it is used.",
    (
        Entry(
            "A name that no file can have",
            'model.save("run\\0.safetensors")',
            ValueError,
            "The name has a character of code 0, which ends a name for the system.",
            "Remove it, `path.replace(chr(0), '')`, and look how it came into the name.",
        ),
        Entry(
            "A folder in the place of a file",
            'model.save(".")',
            IsADirectoryError,
            "A file is written under another name and renamed, and cannot replace a folder, a pipe or a device.",
            'Add the name of a file: `os.path.join(folder, "model.safetensors")`.',
        ),
        Entry(
            "A pipe in the place of a file",
            'fastbp.load("pipe")',
            OSError,
            "A pipe, a socket or a device is at the path. A file is read twice, once for its digest.",
            "Write what comes out of the pipe to a file, and load that.",
            given=lambda stage: os.mkfifo(stage.folder / "pipe"),
        ),
        Entry(
            "Contents that have changed",
            LOAD,
            ValueError,
            "A disk, a copy or another program has changed a part of the file after it was written.",
            "Load another copy. Where a program is to change a file, it has to leave out the entry `fastbp.sha256`.",
            given=_flipped,
        ),
        Entry(
            "Arrays that no file of fastbp holds",
            LOAD,
            ValueError,
            "The file was written by another program: it has an array of a dtype that fastbp does not write, or of a "
            "shape that no array has.",
            "Convert the arrays there to float32 or float64, or load them by `safetensors.numpy.load_file`.",
            given=_raw([0], "F16"),
            also=(Also(given=_raw([0, 2**62, 2**62], "F32"), hide=(r"(?<=\) \().*(?=\)\. )",)),),
        ),
        Entry(
            "A description with numbers that JSON does not have",
            LOAD,
            ValueError,
            "Another program has written NaN or Infinity as Python does, or has put another word in the place of one.",
            'Write them as `{"$float": "nan"}`, "inf" or "-inf".',
            given=_spoiled('{"version": 1, "kind": NaN}'),
            also=(Also(given=_spoiled('{"version": 1, "kind": {"$float": 3}}')),),
        ),
        Entry(
            "A file of too many arrays",
            LOAD,
            ValueError,
            "The head of the file lists more arrays than the largest training that fastbp writes.",
            "Look who has written the file: it is none of `model.save` or `trainer.save`.",
            given=_many_arrays,
        ),
        Entry(
            "A file of too many layers",
            LOAD,
            ValueError,
            "The description has more layers than a model in a file may have.",
            "Look at the description: it was changed by hand or by another program.",
            given=model_with(lambda header, tensors: header["model"].update(layers=[{"type": "Dense"}] * 10_001)),
        ),
        Entry(
            "A file that fails while it is read",
            LOAD,
            ValueError,
            "The arrays could not be read, though the head of the file could: the disk has an error, or the connection "
            "to it was lost.",
            "Copy the file to another disk, and load the copy.",
            given=_fails_later,
        ),
        Entry(
            "A file larger than the memory",
            LOAD,
            ValueError,
            "The file asks for more memory than there is: its sizes are damaged, or the model is too large.",
            "Compare the size of the file with that of the original. Load a model of this size on a larger machine.",
            given=_memory,
        ),
        Entry(
            "A state that is nested too deep",
            SAVE.replace("{}", '{"lists": deep}'),
            TypeError,
            "The state of a callback has dicts or lists within each other, more than 50 deep, or holds itself.",
            "Return a flat state: a list of rows, or an array.",
            given=lambda stage: stage.names.update(deep=_deep()),
        ),
        Entry(
            "A state of one reserved key",
            SAVE.replace("{}", '{"values": {"$float": "inf"}}'),
            TypeError,
            "`$float` and `$tensor` stand for numbers and arrays that JSON does not have.",
            "Choose another key; infinities and arrays need no mark of their own.",
        ),
        Entry(
            "A state of too many arrays",
            SAVE.replace("{}", '{"arrays": [np.zeros(1)] * 150_001}'),
            ValueError,
            "Each array of a state has an entry in the head of the file.",
            "Put them together by `np.stack` or `np.concatenate`.",
        ),
    ),
    (
        Exempt(
            "fastbp/_files.py", "damage_named", "damaged(path, error)", "for names of arrays that UTF-8 cannot hold"
        ),
        Exempt("fastbp/_checkpoint.py", "Saved._named", "raise", "passes on what names the file"),
        Exempt("fastbp/_descriptions.py", "load_model", "raise", "passes on what names the file"),
        Exempt(
            "fastbp/_files.py",
            "damage_named",
            "type(error).__name__",
            "for what no check of a part has foreseen: none is known that leads there",
        ),
    ),
)
