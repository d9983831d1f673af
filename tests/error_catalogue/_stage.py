"""Where the snippets of the catalogue run, and what becomes of their messages on the page."""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import fastbp
import fastbp.estimators._base
import fastbp.model
import fastbp.trainer
from fastbp.backends import get_backend

from ._entry import Entry
from ._sites import Site, site_at, sites_behind

# ---------------------------------------------------------------------------------------------------------------------
# Names that the snippets may use; the page shows these lines at its top

SETUP = """\
import numpy as np, fastbp

X = np.random.default_rng(0).normal(size=(12, 3))  # 12 samples of 3 features
labels = np.arange(12) % 3  # one of 3 classes for each
values = X.sum(axis=1)  # one number for each
model = fastbp.Sequential([fastbp.Dense(4, "relu"), fastbp.Dense(3)], n_features=3, random_state=0)
trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", random_state=0)
classifier = fastbp.MLPClassifier((4,), max_iter=2, random_state=0).fit(X, labels)
regressor = fastbp.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0).fit(X, values)
"""


def _assignments() -> dict[str, ast.stmt]:
    return {node.targets[0].id: node for node in ast.parse(SETUP).body if isinstance(node, ast.Assign)}  # type: ignore


@functools.cache
def _fitted(name: str) -> Any:
    """A fitted estimator of ``SETUP``; the fits cost more than all the rest."""
    return _made({name, "X", "labels", "values"}, fits=True)[name]


def _made(wanted: set[str], fits: bool = False) -> dict[str, Any]:
    """New objects under the names of ``SETUP`` that are wanted, and under those that they are made of."""
    names: dict[str, Any] = {"np": np, "fastbp": fastbp}
    statements = _assignments()
    needed = set(wanted)
    for name in reversed(statements):
        if name in needed:
            needed |= {node.id for node in ast.walk(statements[name]) if isinstance(node, ast.Name)}
    for name, statement in statements.items():
        if name in needed:
            if name in ("classifier", "regressor") and not fits:
                names[name] = copy.deepcopy(_fitted(name))
            else:
                exec(compile(ast.Module([statement], []), "<setup>", "exec"), names)
    return names


class Stage:
    """What ``Entry.given`` is called with.

    Attributes
    ----------
    patch : pytest.MonkeyPatch
        All that it does is undone when the snippet has ended.
    folder : Path
        An empty folder, which is the current one.
    names : dict
        What the snippet sees.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, names: dict[str, Any]) -> None:
        self.patch, self.folder, self.names = patch, folder, names

    def run(self, code: str) -> None:
        """Execute lines that the page does not show."""
        exec(compile(code, "<given>", "exec"), self.names)


@contextlib.contextmanager
def _stage(code: str, given: Callable[[Stage], None] | None) -> Iterator[Stage]:
    """A stage with the NumPy reference in the place of the compiled kernels: no snippet waits for the compiler."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        os.chdir(folder)
        try:
            for module in (fastbp.model, fastbp.trainer, fastbp.estimators._base):
                patch.setattr(module, "get_backend", lambda name: get_backend("reference" if name == "cpu" else name))
            used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                stage = Stage(patch, Path(folder), _made(used))
                if given is not None:
                    given(stage)
            with np.errstate(all="ignore"):  # compiled kernels say nothing of what overflows
                yield stage
        finally:
            os.chdir(here)


# ---------------------------------------------------------------------------------------------------------------------
# Messages


def readable(text: str, folder: str, hide: tuple[str, ...] = ()) -> str:
    """A message as the page has it: without what differs from machine to machine and from run to run."""
    for place in {folder, os.path.realpath(folder)}:
        text = text.replace(place + os.sep, "").replace(place, "folder")
    text = re.sub(r"\b0x[0-9a-f]+", "0x...", text)
    for pattern in hide:
        text, found = re.subn(pattern, "...", text)
        assert found, f"the pattern {pattern!r} hides nothing of {text!r}"
    # a set has no order; what has a colon is a dict
    text = re.sub(r"\{([^{}:]*)\}", lambda match: "{" + ", ".join(sorted(match[1].split(", "))) + "}", text)
    first, *others = text.split("\n")
    return f"{first} ..." if others else first


@dataclass(frozen=True)
class Provoked:
    """What an entry has provoked.

    Attributes
    ----------
    kind : type
    message : str
        As the page has it.
    sites : frozenset of Site
    """

    kind: type[BaseException]
    message: str
    sites: frozenset[Site]


def _watched(patch: pytest.MonkeyPatch, wanted: type[BaseException], sites: set[Site]) -> None:
    """Note the sites of such warnings: a recorded warning knows only the line that it points at."""
    warn = warnings.warn

    def noting(message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **options: Any) -> None:
        caller = sys._getframe(1)
        site = site_at(caller.f_code.co_filename, caller.f_lineno, warns=True)
        if site is not None and (category or UserWarning) is wanted:
            sites.add(site)
        warn(message, category, stacklevel + 1, source, **options)

    patch.setattr(warnings, "warn", noting)


@functools.cache
def provoke(entry: Entry) -> Provoked:
    """Run the snippet of an entry.

    Raises
    ------
    AssertionError
        Where it ends without the error or the warning.
    """
    code = compile(entry.code, "<snippet>", "exec")
    with _stage(entry.code, entry.given) as stage, contextlib.redirect_stdout(io.StringIO()):
        folder = str(stage.folder)
        if entry.is_warning:
            return _warned(entry, code, stage, folder)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                exec(code, stage.names)
            except Exception as error:
                message = str(error.args[0] if isinstance(error, KeyError) else error)  # a KeyError's str is a repr
                return Provoked(type(error), readable(message, folder, entry.hide), sites_behind(error))
    raise AssertionError(f"{entry.title!r} provokes nothing")


def _warned(entry: Entry, code: Any, stage: Stage, folder: str) -> Provoked:
    sites: set[Site] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _watched(stage.patch, entry.error, sites)
        exec(code, stage.names)
    found = [warning for warning in caught if warning.category is entry.error]
    assert len(found) == 1, f"{entry.title!r} gives the warnings {[str(warning.message) for warning in caught]}"
    message = readable(str(found[0].message), folder, entry.hide)
    return Provoked(found[0].category, message, frozenset(sites))
