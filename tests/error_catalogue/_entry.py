"""What the catalogue is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Also:
    """Another message with the cause and the remedy of an entry: ``code`` and ``given`` are the entry's where None."""

    code: str | None = None
    given: Callable[[Any], None] | None = None
    shown: str | None = None
    hide: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One error or warning: how to meet it, why it comes, and what to do.

    Parameters
    ----------
    title : str
        A few words, which no other entry has.
    code : str
        The lines of Python that provoke it. They are executed, and shown on the page. They may use the names of
        ``_stage.MAKERS`` and those that ``given`` makes.
    error : type
        Class of the exception or of the warning.
    cause, remedy : str
        Sentences. The remedy is an action.
    given : callable, optional
        Called with a ``_stage.Stage`` before the code: files, broken machines, names for the code.
    shown : str, optional
        What the page shows in place of ``code``, where that does by hand what a user meets in another way; a command
        of the shell begins with ``$``.
    hide : tuple of str
        Regular expressions: what they match becomes "..." on the page, as words of other libraries and numbers that
        another machine has.
    foreign : bool
        Whether it is raised by Python, NumPy, SciPy or scikit-learn, and not by a statement of ours.
    also : tuple of Also
        Other messages of the same cause and remedy.
    """

    title: str
    code: str
    error: type[BaseException]
    cause: str
    remedy: str
    given: Callable[[Any], None] | None = None
    shown: str | None = None
    hide: tuple[str, ...] = ()
    foreign: bool = False
    also: tuple[Also, ...] = ()

    @property
    def each(self) -> tuple[Entry, ...]:
        """The entry for each of its messages alone."""
        first = replace(self, also=())
        others = (
            replace(
                first,
                title=f"{self.title}, {k}",
                code=one.code or self.code,
                given=one.given or self.given,
                shown=one.shown if one.code or one.shown else self.shown,
                hide=one.hide,
            )
            for k, one in enumerate(self.also, 2)
        )
        return (first, *others)

    @property
    def is_warning(self) -> bool:
        return issubclass(self.error, Warning)


@dataclass(frozen=True)
class Exempt:
    """A ``raise`` or a ``warnings.warn`` that no entry reaches, and why.

    ``source`` is the statement as ``ast.unparse`` writes it, or a part of it that no other one in ``function`` has.
    """

    file: str
    function: str
    source: str
    reason: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Parameters
    ----------
    title : str
    intro : str
        A paragraph before the entries.
    entries : tuple of Entry
        In any order: the page sorts them by their messages.
    exempt : tuple of Exempt
    table : callable, optional
        Gives lines of Markdown that follow the entries.
    """

    title: str
    intro: str
    entries: tuple[Entry, ...]
    exempt: tuple[Exempt, ...] = ()
    table: Callable[[], list[str]] | None = None
