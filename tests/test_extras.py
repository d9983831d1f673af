"""Messages name what an extra needs: under the name fastbp an index may have anything."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fastbp._extras import how_to_install

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", ["plot", "cuda"])
def test_the_requirements_of_an_extra_are_named(extra):
    quoted = " ".join(f'"{requirement}"' for requirement in EXTRAS[extra])
    assert how_to_install(extra) == f"pip install {quoted}"


def test_a_bare_checkout_is_installed_from_itself(tmp_path):
    """Where there is no metadata, there is a clone."""
    (tmp_path / "fastbp").mkdir()
    shutil.copy(ROOT / "fastbp" / "_extras.py", tmp_path / "fastbp" / "_extras.py")
    (tmp_path / "fastbp" / "__init__.py").touch()
    code = "import sys; sys.path.insert(0, sys.argv[1]); from fastbp._extras import how_to_install; "
    code += "print(how_to_install('plot'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, tmp_path], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "pip install '.[plot]' in a clone of fastbp", done.stderr


def test_no_message_asks_an_index_for_fastbp():
    sources = [
        path
        for top in ("fastbp", "kernels", "scripts", "docs")
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".md")
    ]
    for path in (*sources, ROOT / "README.md"):
        assert not re.search(r"install[^\n]*fastbp\[", path.read_text()), path
