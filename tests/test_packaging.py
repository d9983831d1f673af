"""``kernels/`` becomes ``fastbp.kernels`` however the package is made importable."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]


def package_folder(package):
    """Where the sources of a package lie in the checkout."""
    inside = package.removeprefix("fastbp.kernels")
    return ROOT / ("kernels" + inside if inside != package else package).replace(".", "/")


def without_site(*arguments, path=(), cwd=None):
    """Run Python on given folders before the dependencies' own, blind to how fastbp is installed here.

    ``-S`` leaves out the .pth files of this environment, and with them an editable install of this checkout.
    """
    dependencies = [entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}]
    search = os.pathsep.join(map(str, [*path, *dependencies]))
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        env={**os.environ, "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def build(kind, source, out):
    """Call the build backend's hook in a copy of the sources, without an installer or a network; the file it made."""
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = without_site("-c", code, str(out), cwd=source)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a build reads, so that it leaves nothing behind here and finds nothing left behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("fastbp", "kernels"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


def imported_from(path, start=""):
    """File that ``fastbp.kernels.layout`` is imported from in a fresh process."""
    code = "import fastbp.kernels.cpu, fastbp.kernels.reference, fastbp.kernels.layout as m; print(m.__file__)"
    done = without_site("-W", "error", "-c", start + code, path=path)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1]).resolve()


def test_package_list_names_every_folder():
    folders = {path.parent for top in ("fastbp", "kernels") for path in (ROOT / top).rglob("*.py")}
    assert {package_folder(package) for package in PACKAGES} == folders
    assert all((folder / "__init__.py").is_file() for folder in folders)
    assert len(PACKAGES) == len(set(PACKAGES))


def test_version_is_the_one_of_the_metadata():
    import fastbp

    assert fastbp.__version__ == PROJECT["project"]["version"]


def test_dependencies_have_lower_bounds_only():
    project = PROJECT["project"]
    for text in sum(project["optional-dependencies"].values(), project["dependencies"]):
        requirement = Requirement(text)
        operators = [specifier.operator for specifier in requirement.specifier]
        assert operators == ([] if requirement.name == "fastbp" else [">="]), text


def test_wheel_holds_the_sources_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        f"{package.replace('.', '/')}/{path.name}"
        for package in PACKAGES
        for path in package_folder(package).glob("*.py")
    }
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == expected | {"fastbp/py.typed"}
    assert "fastbp/kernels/__init__.py" in names
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_source_distribution_builds_the_same_wheel(checkout, wheel, tmp_path):
    archive = build("sdist", checkout, tmp_path)
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_installed_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    assert imported_from([tmp_path]) == tmp_path.resolve() / "fastbp/kernels/layout.py"


def test_editable_install(checkout, tmp_path):
    with zipfile.ZipFile(build("editable", checkout, tmp_path)) as archive:
        archive.extractall(tmp_path / "site")
    # what the interpreter does at its start with a folder that packages are installed in
    start = f"import site; site.addsitedir({str(tmp_path / 'site')!r}); "
    assert imported_from([tmp_path / "site"], start) == checkout.resolve() / "kernels/layout.py"


def test_bare_checkout(checkout):
    assert imported_from([checkout]) == checkout.resolve() / "kernels/layout.py"


def test_kernels_refuse_to_be_a_top_level_package(checkout):
    done = without_site("-c", "import kernels", path=[checkout])
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "fastbp.kernels" in done.stderr
