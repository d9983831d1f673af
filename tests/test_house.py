"""The rules of the house, held against the sources themselves."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FASTBP = sorted((ROOT / "fastbp").rglob("*.py"))
KERNELS = sorted((ROOT / "kernels").rglob("*.py"))
COMPILERS = {"jit", "njit", "vectorize", "guvectorize", "stencil", "cfunc", "jit_module", "register_jitable"}
OPTIONS = {"fastmath", "error_model", "nogil", "boundscheck", "parallel", "cache", "jit_options", "looplift"}
BANNED_FLAGS = re.compile(r"\b(contract|reassoc|nnan|ninf|fast)\b")
MAX_LINES = 400


def name_of(path):
    """A source file as the tests name it."""
    return path.relative_to(ROOT).as_posix()


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=name_of)


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree):
    """Full dotted names of all that a module imports, relative imports left out."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def attributes(tree):
    """Dotted names such as ``numba.config`` that a module uses."""
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def compilers_used(tree):
    """What of Numba's compiling decorators a module imports or uses."""
    names = imports(tree) | {name for name in attributes(tree) if name.startswith("numba.")}
    return {name for name in names if name.split(".")[0] == "numba" and name.split(".")[-1] in COMPILERS}


def texts(tree):
    """String constants that are not docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return [node.value for node in constants if isinstance(node.value, str)]


def test_the_sources_are_found():
    assert ROOT / "fastbp/__init__.py" in FASTBP
    assert ROOT / "kernels/cpu/_jit.py" in KERNELS


@each(FASTBP + KERNELS)
def test_module_has_a_docstring(path):
    assert ast.get_docstring(tree_of(path))


@each(FASTBP + KERNELS)
def test_module_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@each(FASTBP)
def test_nothing_in_fastbp_is_compiled(path):
    assert not compilers_used(tree_of(path))


@each([path for path in KERNELS if "cuda" not in path.parts])
def test_only_one_file_calls_the_compiler(path):
    if path != ROOT / "kernels/cpu/_jit.py":
        assert not compilers_used(tree_of(path))


@each([path for path in KERNELS if path != ROOT / "kernels/cpu/_jit.py"])
def test_only_one_file_sets_compile_options(path):
    calls = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
    assert not {keyword.arg for call in calls for keyword in call.keywords} & OPTIONS


@each(FASTBP + KERNELS)
def test_only_the_shim_imports_cuda(path):
    """``_target.py`` and its two sides, one for a GPU and one for the simulator."""
    if path not in [ROOT / "kernels/cuda" / name for name in ("_target.py", "_instructions.py", "_simulator.py")]:
        tree = tree_of(path)
        assert not [name for name in imports(tree) | attributes(tree) if re.match(r"numba[._]cuda\b", name)]


@each(KERNELS)
def test_kernels_import_numpy_numba_and_themselves(path):
    # and numba-cuda's, which is Numba's own namespace
    allowed = {"numpy", "numba", "llvmlite", "_numba_cuda_redirector"} | set(sys.stdlib_module_names)
    foreign = {name for name in imports(tree_of(path)) if name.split(".")[0] not in allowed}
    assert not {name for name in foreign if not name.startswith("fastbp.kernels.")}


@each(KERNELS)
def test_no_banned_fast_math_flag(path):
    tree = tree_of(path)
    assert not [text for text in texts(tree) if BANNED_FLAGS.search(text)]
    # fastmath=True would switch all of them on
    pairs = [(node.arg, node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs += [(getattr(key, "value", None), value) for key, value in zip(node.keys, node.values, strict=True)]
    assert not [value for key, value in pairs if key == "fastmath" and getattr(value, "value", None) is True]


def test_the_checks_see_what_they_forbid():
    assert compilers_used(ast.parse("from numba import njit")) == {"numba.njit"}
    assert compilers_used(ast.parse("import numba\n@numba.njit(cache=True)\ndef f(): pass")) == {"numba.njit"}
    assert not compilers_used(ast.parse("import numba\nfrom numba import prange\nnumba.get_num_threads()"))
    assert "numba.cuda" in imports(ast.parse("from numba import cuda"))
    assert [text for text in texts(ast.parse("'''fast'''\nf = {'nsz', 'nnan'}")) if BANNED_FLAGS.search(text)] == [
        "nnan"
    ]
