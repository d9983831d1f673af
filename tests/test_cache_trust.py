"""Whose compiled code is loaded: who else can write to a folder, or to one above it, decides."""

import hashlib
import os
import stat
import tempfile
import types
from pathlib import Path

import pytest
from _processes import kernels_alone
from test_compile import compilations, files, small

from fastbp.kernels.cpu import _cache, _jit

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files on this system")


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """The folders to read from and to write to, with one that is named and a temporary one as the second choice."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "above" / "named"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return lambda: _cache._folders.__wrapped__()


def within(folders, name):
    return [folder for folder in folders if name in folder.parts]


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_folders_that_are_made_are_nobody_elses_to_write_to(umask, chosen, tmp_path):
    before = os.umask(umask)
    try:
        readable, writable = chosen()
    finally:
        os.umask(before)
    assert writable == readable[0] == tmp_path / "above/named/fastbp" / _cache.sources_digest()
    for folder in (writable, *writable.parents):
        if folder == tmp_path:
            break
        assert not folder.stat().st_mode & 0o022


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777, 0o770])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_folder_that_others_can_write_to_is_not_read_and_not_written(mode, level, chosen):
    _, ours = chosen()
    folder = (ours, *ours.parents)[level]
    folder.chmod(mode)
    before = files(ours.parents[2])
    readable, writable = chosen()
    if mode == 0o1777 and level > 1:  # as /tmp: nobody else can put another folder in the place of ours
        assert writable == ours
    else:
        assert ours not in readable and writable != ours and within([writable], "temporary")
    assert files(ours.parents[2]) == before


def test_nothing_is_made_in_a_folder_that_others_can_write_to(chosen, tmp_path):
    (tmp_path / "above").mkdir()
    (tmp_path / "above").chmod(0o777)
    _, writable = chosen()
    assert within([writable], "temporary") and not list((tmp_path / "above").iterdir())


@pytest.mark.parametrize("which", ["candidate", "digest"])
def test_a_link_to_a_folder_that_others_can_write_to_is_not_followed(which, chosen, tmp_path):
    foreign = tmp_path / "foreign"
    (foreign / _cache.sources_digest()).mkdir(parents=True)
    foreign.chmod(0o777)
    _, ours = chosen()
    link = ours if which == "digest" else ours.parent
    (ours.rmdir() if which == "digest" else (ours.rmdir(), ours.parent.rmdir()))
    link.symlink_to(foreign / ours.name if which == "digest" else foreign)
    readable, writable = chosen()
    assert not within(readable, "foreign") and within([writable], "temporary")
    foreign.chmod(0o755)  # one that is ours is
    readable, writable = chosen()
    assert writable == foreign / ours.name


def test_a_group_of_one_is_the_user(chosen, monkeypatch):
    _, ours = chosen()
    uid, gid = os.getuid(), ours.stat().st_gid + 54321
    user = types.SimpleNamespace(pw_gid=gid, pw_name="me")
    group = types.SimpleNamespace(gr_name="me", gr_mem=["me"])
    found, others = Path.stat, [0o775]

    def stat_of(path, **options):
        there = found(path, **options)
        values = (stat.S_IFDIR | others[0], *there[1:4], uid, gid, *there[6:])
        return os.stat_result(values) if path == ours.parent else there

    monkeypatch.setattr(Path, "stat", stat_of)
    monkeypatch.setattr("pwd.getpwuid", lambda number: user)
    monkeypatch.setattr("grp.getgrgid", lambda number: group)
    assert chosen()[1] == ours
    for place, name, value in (
        (group, "gr_mem", ["me", "you"]),
        (group, "gr_name", "staff"),
        (user, "pw_gid", gid + 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            assert ours not in chosen()[0]
    others[0] = 0o777
    assert ours not in chosen()[0]
    others[0] = 0o775

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr("grp.getgrgid", unknown)
    assert ours not in chosen()[0]


# ---------------------------------------------------------------------------------------------------------------------
# Files


def doubled(x):
    return x + x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_folders", lambda: ([tmp_path], tmp_path))
    monkeypatch.setattr(_cache, "_announced", True)
    return tmp_path


def test_code_of_another_function_is_not_loaded(folder):
    assert compilations() == 1
    (tripled,) = folder.iterdir()
    assert _jit._compile(doubled)(7.0) == 14
    (other,) = set(folder.iterdir()) - {tripled}
    tripled.write_bytes(other.read_bytes())
    assert compilations() == 1  # and 7 + 7 + 7 is 21
    assert compilations() == 0


def test_code_of_other_sources_is_not_loaded(folder, monkeypatch):
    assert compilations() == 1
    (path,) = folder.iterdir()
    content = path.read_bytes()
    monkeypatch.setattr(_cache, "sources_digest", lambda: "other")
    path.unlink()
    assert compilations() == 1
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert compilations() == 1


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_file_that_others_can_write_to_is_not_loaded(mode, folder):
    assert compilations() == 1
    (path,) = folder.iterdir()
    assert compilations() == 0
    path.chmod(mode)
    assert compilations() == 1
    assert path.stat().st_mode & 0o777 == 0o644 and compilations() == 0


def test_files_are_nobody_elses_to_write_to_whatever_the_umask(folder):
    before = os.umask(0)
    try:
        assert compilations() == 1
    finally:
        os.umask(before)
    (path,) = folder.iterdir()
    assert not path.stat().st_mode & 0o022
    content = path.read_bytes()
    assert hashlib.sha256(content[32:]).digest() == content[:32]


def test_a_process_goes_by_it(tmp_path):
    """From end to end: code in a folder that others can write to is neither loaded nor replaced."""
    kernels, cache = kernels_alone(tmp_path / "site"), tmp_path / "cache"
    changes = {"NUMBA_CACHE_DIR": cache, "TMPDIR": tmp_path / "temporary"}
    (tmp_path / "temporary").mkdir()
    said, _ = small(kernels, "os.umask(0)", **changes)
    assert said["compiled"] == 1 and small(kernels, **changes)[0]["hits"] == 1
    Path(said["folder"]).chmod(0o777)
    before = files(cache)
    said, errors = small(kernels, **changes)
    assert said["compiled"] == 1 and Path(said["folder"]).is_relative_to(tmp_path / "temporary")
    assert "kept in" in errors and files(cache) == before
