"""The statements that raise errors and give warnings, by the syntax trees of the sources."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ._entry import Exempt

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, order=True)
class Site:
    """A statement. ``file`` is as in the repository, ``source`` as ``ast.unparse`` writes it."""

    file: str
    first_line: int
    last_line: int
    function: str
    source: str
    warns: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.first_line} in {self.function}\n    {self.source}"


def _walk(node: ast.AST, function: str, file: str) -> Iterator[Site]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # as __qualname__ has it, without the "<locals>" of functions in functions
            name = child.name if function == "<module>" else f"{function}.{child.name}"
            yield from _walk(child, name, file)
            continue
        warns = isinstance(child, ast.Call) and ast.unparse(child.func) in ("warnings.warn", "warn")
        if isinstance(child, ast.Raise) or warns:
            last = child.end_lineno or child.lineno
            yield Site(file, child.lineno, last, function, ast.unparse(child), warns)
        yield from _walk(child, function, file)


def sites_of(text: str, file: str) -> list[Site]:
    """All sites of a source."""
    return list(_walk(ast.parse(text), "<module>", file))


@functools.cache
def all_sites() -> tuple[Site, ...]:
    """Those of the whole package."""
    paths = sorted([*(ROOT / "fastbp").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")])
    return tuple(
        site for path in paths for site in sites_of(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    )


@functools.cache
def _of_file(filename: str) -> tuple[Site, ...]:
    """Those of a file by its name, also where the package is installed elsewhere."""
    parts = Path(filename).as_posix()
    return tuple(site for site in all_sites() if parts.endswith("/" + site.file))


def site_at(filename: str, line: int, *, warns: bool = False) -> Site | None:
    """The site at a line of a file, if there is one."""
    found = (site for site in _of_file(filename) if site.warns == warns and site.first_line <= line <= site.last_line)
    return next(found, None)


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next


def sites_behind(error: BaseException) -> frozenset[Site]:
    """The sites that an exception has come from, those of its causes and of what it was raised in the place of."""
    chain: list[BaseException | None] = [error]
    for one in chain:
        if one is not None:
            chain += [other for other in (one.__cause__, one.__context__) if other not in chain]
    frames = (frame for one in chain if one is not None for frame in _frames(one.__traceback__))
    return frozenset(site for frame in frames if (site := site_at(*frame)) is not None)


def matches(exempt: Exempt, sites: Iterable[Site]) -> list[Site]:
    """The sites that an exemption stands for: it should be one."""
    here = [site for site in sites if (site.file, site.function) == (exempt.file, exempt.function)]
    exact = [site for site in here if site.source == exempt.source]  # a bare raise is a part of every other one
    return exact or [site for site in here if exempt.source in site.source]
