"""Files of models and of trainings that are broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from fastbp._files import DIGEST, KEY, _Digest

from ._stage import Stage

Change = Callable[[dict[str, Any], dict[str, Any]], object]


def changed(path: Path, change: Change, *, strict: bool = False) -> None:
    """Change header and arrays of a file; ``strict`` keeps a digest, otherwise the file is as by an earlier fastbp."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()[KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, tensors)
    metadata = {KEY: json.dumps(header)}
    if strict:
        digest = _Digest(metadata[KEY])
        for name in sorted(tensors):
            digest.add(name, tensors[name])
        metadata[DIGEST] = digest.text()
    save_file(tensors, path, metadata)


def model_with(change: Change, *, strict: bool = False) -> Callable[[Stage], None]:
    """There is a file ``model.safetensors``, changed in this way."""

    def given(stage: Stage) -> None:
        stage.run('fastbp.Sequential([fastbp.Dense(3)], n_features=3, random_state=0).save("model.safetensors")')
        changed(stage.folder / "model.safetensors", change, strict=strict)

    return given


def checkpoint(code: str = "", change: Change = lambda header, tensors: None) -> Callable[[Stage], None]:
    """There is a file ``last.safetensors`` of a training of two epochs, changed in this way.

    ``code`` makes the trainer of that training, ``before``, in another way than ``SETUP`` makes ``trainer``.
    """

    def given(stage: Stage) -> None:
        stage.run(
            "layers = [fastbp.Dense(4, 'relu'), fastbp.Dense(3)]\n"
            "before = fastbp.Trainer(fastbp.Sequential(layers, n_features=3, random_state=0), "
            "loss='softmax_cross_entropy', random_state=0)\n" + code + "\n"
            "if before._fit is None:\n    before.fit(X, labels, epochs=2)\n"
            "before.save('last.safetensors')"
        )
        changed(stage.folder / "last.safetensors", change)

    return given


def state(**values: Any) -> Change:
    """Other entries in the state of a checkpoint."""
    return lambda header, tensors: header["state"].update(values)
