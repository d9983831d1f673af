"""Compile policy, and the cache of compiled code.

The cache is tried on small functions, where processes are needed in some that see a copy of the kernels alone.
"""

import hashlib
import importlib
import json
import os
import pkgutil
import re
import subprocess
import tempfile
from pathlib import Path

import numba
import pytest
from _processes import command, kernels_alone, succeed
from numba.core import event

import fastbp.kernels.cpu
from fastbp.kernels.cpu import _cache, _jit

# ---------------------------------------------------------------------------------------------------------------------
# Flags

BANNED = re.compile(r"\b(fast|contract|reassoc|nnan|ninf|arcp|afn)\b")
NAMES = re.compile(r'[@%!]"[^"]*"|"[^"]*"|[@%!#][\w.$-]+')  # of functions, values and metadata, which may be any word
FLOAT_OPERATION = re.compile(r"= (fadd|fsub|fmul|fdiv|fneg|fcmp) (.*)")


def instructions(ir):
    """Lines of LLVM's text without names."""
    return [NAMES.sub("", line) for line in ir.splitlines() if line.startswith(" ")]


def test_options_have_one_fast_math_flag():
    assert _jit.OPTIONS["fastmath"] == {"nsz"}
    assert _jit.OPTIONS["error_model"] == "numpy"
    assert _jit.OPTIONS["nogil"] is True
    assert _jit.OPTIONS.keys() == {"fastmath", "error_model", "nogil"}
    assert [name for name in _jit.PARALLEL.__slots__ if getattr(_jit.PARALLEL, name)] == ["enabled", "prange"]


def test_every_dispatcher_has_the_options():
    dispatchers = {}
    for module in pkgutil.iter_modules(fastbp.kernels.cpu.__path__, "fastbp.kernels.cpu."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, _jit.kernel):
                dispatchers |= {f"{name} as a part": value._part, f"{name} from Python": value.entry}
            elif isinstance(value, _jit.parallel):
                dispatchers |= {f"{name}, serial": value.serial, f"{name}, threaded": value.threaded}
    assert {"train_steps, serial", "predict_rows, threaded", "gemm as a part"} <= dispatchers.keys()
    for name, dispatcher in dispatchers.items():
        options = dict(dispatcher.targetoptions)
        assert {key: options[key] for key in _jit.OPTIONS} == _jit.OPTIONS, name
        assert options.get("parallel") is (_jit.PARALLEL if name.endswith("threaded") else None), name


# Compiling ahead into an empty folder, and what came of it: Numba keeps no text of code that it loads
AHEAD = """
import sys
from pathlib import Path
from fastbp import warmup
from fastbp.kernels.cpu.losses import block_softmax_cross_entropy, softmax_cross_entropy
from fastbp.kernels.cpu.output_losses import output_cross_entropy, output_poisson
from fastbp.kernels.cpu.robust_losses import row_sum
from fastbp.kernels.cpu.soft_targets import weighted_targets, soft_sigmoid_cross_entropy
from fastbp.kernels.cpu.rectifiers import rectifier_backward, rectifier_forward, rectifier_forward_slope
from fastbp.kernels.cpu.training import train_steps
assert warmup.main(["float32"]) == 0
(text,) = train_steps.serial.inspect_llvm().values()
Path(sys.argv[1]).write_text(text)
assert softmax_cross_entropy._part.signatures and not block_softmax_cross_entropy._part.signatures
unused = row_sum, weighted_targets, soft_sigmoid_cross_entropy, output_cross_entropy, output_poisson
assert not any(kernel._part.signatures for kernel in unused)
for other in (rectifier_backward, rectifier_forward, rectifier_forward_slope):
    assert not other._part.signatures
"""


@pytest.fixture(scope="module")
def ahead(tmp_path_factory):
    """Folder with the cache and the text of a training step, and the process that has compiled ahead."""
    folder = tmp_path_factory.mktemp("ahead")
    return folder, succeed("-c", AHEAD, folder / "ir", NUMBA_CACHE_DIR=folder)


@pytest.mark.slow
def test_no_float_instruction_of_a_step_has_a_banned_flag(ahead):
    text = (ahead[0] / "ir").read_text()
    lines = instructions(text)
    assert not [line for line in lines if BANNED.search(line)]
    assert not re.search(r'"(unsafe-fp-math|no-nans-fp-math|no-infs-fp-math)"="true"', text)
    flags = [match.group(2).split()[0] for line in lines if (match := FLOAT_OPERATION.search(line))]
    assert len(flags) > 300
    assert flags.count("nsz") > 200  # the rest is written by hand in simd.py


@pytest.mark.slow
def test_warmup_leaves_nothing_to_compile(ahead):
    """After it, training, prediction and validation of a fresh process write no file and say nothing."""
    cache, done = ahead
    assert "fastbp: compiling" in done.stderr and done.stderr.count("\n") == 1
    assert "float32: " in done.stdout and "float64: " not in done.stdout
    files = sorted(cache.rglob("*.bin"))
    assert len(files) == 9  # three entries, each with threads and without; apply_gradients, layer_rows and shuffle
    code = (
        "import numpy as np, fastbp\n"
        "X = np.random.default_rng(0).normal(size=(3000, 30)).astype('float32')\n"
        "for loss, y in (('softmax_cross_entropy', (X[:, 0] > 0).astype(int)), ('mean_squared_error', X[:, :2])):\n"
        "    model = fastbp.Sequential([fastbp.Dense(200, 'relu'), fastbp.Dense(2)], n_features=30, random_state=0)\n"
        "    for rows, batch_size in ((20, 3), (3000, 256)):\n"
        "        trainer = fastbp.Trainer(model, loss=loss, verify=rows == 20)\n"
        "        trainer.fit(X[:rows], y[:rows], batch_size=batch_size, validation_data=(X, y))\n"
        "        model.predict(X), model.predict(X[:2]), trainer.loss_and_gradients(X, y)\n"
        "fastbp.MLPClassifier((50,), max_iter=30, tol=1).fit(X, X[:, 0] > 0).predict_proba(X)\n"
    )
    for arguments in (("-c", code), ("-m", "fastbp.warmup", "float32")):
        done = succeed(*arguments, NUMBA_CACHE_DIR=cache)
        assert done.stderr == ""
        assert sorted(cache.rglob("*.bin")) == files
    assert "float32: " in done.stdout


def test_banned_flags_are_seen():
    seen = "  %1 = fmul contract nsz float %fast, %b\n  %2 = tail call nnan float @f(float %x)"
    assert len([line for line in instructions(seen) if BANNED.search(line)]) == 2
    unseen = '  %1 = fadd nsz float %fast, %contract\n  %2 = call fastcc float @"fast"(float %1)\ndefine fast\n'
    assert not [line for line in instructions(unseen) if BANNED.search(line)]


OTHER_NUMBA = """
import numba
numba.version_info = numba.version_info._replace(short=(99, 0))
import numpy as np
from fastbp.kernels.cpu import _jit
from fastbp.kernels.cpu.activations import activation_forward
from fastbp.kernels.layout import TANH
assert _jit.PART == {}
A = np.linspace(-3, 3, 37)
activation_forward(A, TANH)
np.testing.assert_allclose(A, np.tanh(np.linspace(-3, 3, 37)), rtol=1e-14)
"""


def test_numba_whose_insides_are_not_known_compiles_parts_as_a_whole(kernels, tmp_path):
    assert _jit.PART  # this one's are
    succeed("-c", OTHER_NUMBA, path=[kernels], NUMBA_CACHE_DIR=tmp_path)


BY_TYPE = """
import sys
import numba
if sys.argv[1] == "whole":
    numba.version_info = numba.version_info._replace(short=(99, 0))
import numpy as np
import pytest
from numba import types
from fastbp.kernels.cpu import _jit
assert bool(_jit.PART) == (sys.argv[1] == "part")

def of_all(X, columns, i):
    return scaled(X[i])

def of_some(X, columns, i):
    return scaled(X[columns[i]]) + UNKNOWN

@_jit.kernel
def scaled(x):
    return 10 * x

@_jit.by_type
def element(X, columns, i):
    "What i names."
    return {types.NoneType: of_all, types.Array: of_some}.get(type(columns))

@_jit.parallel
def elements(out, X, columns):
    for i in numba.prange(out.shape[0]):
        out[i] = element(X, columns, i)

def run(entry, columns):
    out = np.zeros(3)
    entry(out, np.arange(5.0), columns)
    return out.tolist()

for entry in (elements.serial, elements.threaded):
    assert run(entry, None) == [0, 10, 20]
    if "UNKNOWN" == "0":
        assert run(entry, np.array([4, 3, 1])) == [40, 30, 10]
    else:  # a body is looked at only where it is chosen
        pytest.raises(numba.TypingError, run, entry, np.zeros(3, int)).match("UNKNOWN")
    pytest.raises(numba.TypingError, run, entry, 1.5)
pytest.raises(NotImplementedError, element, np.arange(5.0), None, 0)
assert (element.__name__, element.__doc__) == ("element", "What i names.")
"""


@pytest.mark.parametrize("way", ["part", "whole"])
@pytest.mark.parametrize("unknown", ["0", "no_such_name"])
def test_body_is_chosen_by_type_and_no_other_is_compiled(kernels, tmp_path, way, unknown):
    succeed("-c", BY_TYPE.replace("UNKNOWN", unknown), way, path=[kernels], NUMBA_CACHE_DIR=tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Cache

SMALL = """
import json, os, sys, tempfile
from numba.core import event
from fastbp.kernels.cpu import _cache, _jit
exec(sys.argv[1])
recorder = event.install_recorder("numba:compile")
seen = recorder.__enter__()

def doubled(x):
    return x + x

f = _jit._compile(doubled)
print(json.dumps({"value": f(21.0), "compiled": len(seen.buffer) // 2, "file": _jit.__file__,
                  "folder": str(_cache.cache_folder()), "hits": sum(f.stats.cache_hits.values())}))
"""


@pytest.fixture
def kernels(tmp_path):
    return kernels_alone(tmp_path / "site")


def small(kernels, before="", **changes):
    """What a process with one small function says, and its error output."""
    done = succeed("-c", SMALL, before, path=[kernels], **changes)
    said = json.loads(done.stdout)
    assert said["value"] == 42 and Path(said["file"]).is_relative_to(kernels)
    return said, done.stderr


def files(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


def assert_whole(path):
    data = path.read_bytes()
    assert len(data) > 32 and hashlib.sha256(data[32:]).digest() == data[:32]


def test_second_process_compiles_nothing(kernels, tmp_path):
    said, errors = small(kernels, NUMBA_CACHE_DIR=tmp_path / "cache")
    assert said["compiled"] == 1 and said["hits"] == 0
    assert errors.count("fastbp: compiling doubled") == 1 and said["folder"] in errors
    before = files(tmp_path / "cache")
    assert len(before) == 1 and Path(said["folder"]) == next(iter(before)).parent
    said, errors = small(kernels, NUMBA_CACHE_DIR=tmp_path / "cache")
    assert said["compiled"] == 0 and said["hits"] == 1
    assert errors == ""
    assert files(tmp_path / "cache") == before


@pytest.mark.parametrize(
    "before, changes", [("_jit.VECTOR_BITS *= 2", {}), ("", {"NUMBA_CPU_NAME": "generic"})], ids=["vectors", "cpu"]
)
def test_other_vectors_or_another_cpu_have_their_own_code(kernels, tmp_path, before, changes):
    assert small(kernels, NUMBA_CACHE_DIR=tmp_path / "cache")[0]["compiled"] == 1
    assert small(kernels, before, NUMBA_CACHE_DIR=tmp_path / "cache", **changes)[0]["compiled"] == 1
    assert len(files(tmp_path / "cache")) == 2


def test_cached_caller_sees_a_change_in_another_file(kernels, tmp_path):
    inner, outer = (kernels / "fastbp/kernels/cpu" / name for name in ("inner.py", "outer.py"))
    start = "from fastbp.kernels.cpu._jit import kernel\n"
    outer.write_text(
        f"{start}from fastbp.kernels.cpu.inner import scaled\n@kernel\ndef twice(x):\n    return 2 * scaled(x)\n"
    )
    for factor in (3, 5):
        inner.write_text(f"{start}@kernel\ndef scaled(x):\n    return {factor} * x\n")
        code = "from fastbp.kernels.cpu.outer import twice; print(twice(1.0))"
        done = succeed("-c", code, path=[kernels], NUMBA_CACHE_DIR=tmp_path / "cache", PYTHONDONTWRITEBYTECODE="1")
        assert float(done.stdout) == 2 * factor
    assert len({path.parent for path in files(tmp_path / "cache")}) == 2


def test_folder_is_another_one_for_every_change_that_compiled_code_can_see(kernels, monkeypatch):
    root = kernels / "fastbp/kernels"
    monkeypatch.setattr(_cache, "__file__", str(root / "cpu/_cache.py"))
    digest = _cache.sources_digest.__wrapped__
    assert digest() == _cache.sources_digest()  # the copy is the same as what is imported here
    digests = {digest()}
    changed = [*sorted((root / "cpu").glob("*.py")), root / "layout.py"]
    for path in changed:
        path.write_text(path.read_text() + "#\n")
        digests.add(digest())
    assert len(digests) == 1 + len(changed)
    for name in ("schedule.py", "reference/gemm.py"):
        (root / name).write_text("")
        assert digest() in digests
    monkeypatch.setattr(numba, "__version__", "0.0")
    assert digest() not in digests


def test_read_only_cache_is_read(kernels, tmp_path):
    said, _ = small(kernels, NUMBA_CACHE_DIR=tmp_path / "cache")
    before = files(tmp_path)
    # root may write anywhere, so the permission alone would not do
    refuse = "access = os.access; os.access = lambda path, mode: not mode & os.W_OK and access(path, mode)"
    os.chmod(said["folder"], 0o555)
    try:
        said, errors = small(kernels, refuse, NUMBA_CACHE_DIR=tmp_path / "cache", PYTHONDONTWRITEBYTECODE="1")
    finally:
        os.chmod(next(iter(files(tmp_path / "cache"))).parent, 0o755)
    assert said["compiled"] == 0 and said["folder"] == "None" and errors == ""
    assert files(tmp_path / "cache").items() <= before.items()


def test_home_that_cannot_be_written_leaves_the_temporary_folder(kernels, tmp_path):
    file, temporary = tmp_path / "file", tmp_path / "temporary"
    file.touch()
    temporary.mkdir()
    changes = {"NUMBA_CACHE_DIR": None, "HOME": file / "home", "XDG_CACHE_HOME": file / "home", "TMPDIR": temporary}
    for compiled in (1, 0):
        said, _ = small(kernels, **changes)
        assert said["compiled"] == compiled
        assert Path(said["folder"]).parents[1] == temporary


def test_no_folder_at_all_costs_a_compilation_and_nothing_more(kernels, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for _ in range(2):
        said, errors = small(
            kernels, f"tempfile.tempdir = {str(file / 'temporary')!r}", NUMBA_CACHE_DIR=file / "cache", HOME=file
        )
        assert said["compiled"] == 1 and said["folder"] == "None"
        assert "not kept" in errors
    assert file.read_bytes() == b""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache folder for functions that are compiled in this process."""
    monkeypatch.setattr(_cache, "_folders", lambda: ([tmp_path], tmp_path))
    monkeypatch.setattr(_cache, "_announced", False)
    return tmp_path


def tripled(x):
    return x + x + x


def compilations():
    """How often the compiler runs for a small function, and with the right result."""
    with event.install_recorder("numba:compile") as seen:
        assert _jit._compile(tripled)(7.0) == 21
    return len(seen.buffer) // 2


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: data[:-1], lambda data: data[:20], lambda data: b"",
     lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:]],
    ids=["half", "one byte short", "less than its digest", "empty", "one bit"],
)  # fmt: skip
def test_damaged_file_is_compiled_again(folder, damage, capsys):
    assert compilations() == 1
    assert "compiling tripled" in capsys.readouterr().err
    assert compilations() == 0
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert compilations() == 1
    assert_whole(path)
    assert list(folder.iterdir()) == [path]
    assert compilations() == 0


def test_disk_that_fills_up_leaves_nothing_behind(folder, monkeypatch):
    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert compilations() == 1
    assert list(folder.iterdir()) == []


AT_ONCE = """
import sys, time
from pathlib import Path
from fastbp.kernels.cpu import _jit
functions = []
for k in range(3):
    exec(f"def f{k}(x): return {k} * x")
    functions.append(_jit._compile(globals()[f"f{k}"]))
mine = Path(sys.argv[1]) / sys.argv[2]
for k, f in enumerate(functions):  # together at every function
    (mine.parent / f"{mine.name}-{k}").touch()
    while len(list(mine.parent.glob(f"*-{k}"))) < 2:
        time.sleep(0.0005)
    assert f(2.0) == 2 * k and f(2) == 2 * k
"""


def test_two_processes_may_compile_at_once(kernels, tmp_path):
    (tmp_path / "meeting").mkdir()
    arguments = [
        command("-c", AT_ONCE, tmp_path / "meeting", name, path=[kernels], NUMBA_CACHE_DIR=tmp_path / "cache")
        for name in ("one", "other")
    ]
    processes = [subprocess.Popen(**each, stderr=subprocess.PIPE) for each in arguments]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    paths = list(files(tmp_path / "cache"))
    assert len(paths) == 6 and all(path.suffix == ".bin" for path in paths)
    for path in paths:
        assert_whole(path)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files on this system")
@pytest.mark.parametrize("foreign", ["fastbp", "fastbp/*"])
def test_code_in_a_folder_of_somebody_else_is_not_read(tmp_path, monkeypatch, foreign):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    readable, writable = _cache._folders.__wrapped__()
    ours = tmp_path / "fastbp" / _cache.sources_digest()
    assert writable == ours and ours in readable
    assert ours.stat().st_mode & 0o022 == 0
    (other,) = tmp_path.glob(foreign)
    stat, uid = Path.stat, os.getuid()

    def stat_of(path, **options):
        found = stat(path, **options)
        return os.stat_result((*found[:4], uid + 12345, *found[5:])) if path == other else found

    monkeypatch.setattr(Path, "stat", stat_of)
    readable, writable = _cache._folders.__wrapped__()
    assert ours not in readable and writable != ours


def test_a_user_without_a_name_has_a_folder(tmp_path, monkeypatch):
    """No terminal to ask for the login, no HOME, no entry in passwd: the temporary folder is left."""

    def fails(*arguments):
        raise OSError("no terminal")

    monkeypatch.setattr(os, "getlogin", fails, raising=False)
    monkeypatch.delattr(os, "getuid", raising=False)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(_cache.AppDirs, "user_cache_dir", "~/.cache/fastbp")  # what expanduser leaves
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (folder,), writable = _cache._folders.__wrapped__()
    assert folder == writable and folder.is_relative_to(tmp_path) and not (tmp_path / "~").exists()
    monkeypatch.setattr(tempfile, "gettempdir", fails)
    assert _cache._folders.__wrapped__() == ([], None)
