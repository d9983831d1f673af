"""The examples in the docstrings of ``fastbp`` and ``fastbp.kernels``, and those of the README.

pytest's own collection would import ``kernels/`` under that name, which it refuses; here modules are imported by the
names that they are installed under.
"""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    """Every module of the package by name; those that need a GPU's libraries and command lines are left out."""
    for top, prefix in (("fastbp", ()), ("kernels", ("fastbp",))):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = (*prefix, *path.relative_to(ROOT).with_suffix("").parts)
            if "cuda" not in parts and parts[-1] != "__main__":
                yield ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", list(modules()))
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


@pytest.mark.slow
def test_readme():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
