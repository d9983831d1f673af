"""The page: every entry with the message that it has provoked."""

from __future__ import annotations

import re

from ._entry import Entry, Section
from ._stage import SETUP, provoke

COMMAND = "PYTHONPATH=tests python -m error_catalogue"

HEAD = f"""\
# Errors and warnings

All errors and warnings of fastbp, each with its cause and its remedy. To find one, search this page for some words of
the message: those that are not your own numbers and names. Within a section the messages are in alphabetical order.

A message begins with what failed, says what was expected, and ends with what to do. Most checks come before the first
step, and leave the model, the trainer or the estimator as it was before the call. Checks of one kind have one entry: of
`units must be an integer of at least 1` and `patience must be an integer of at least 1` the cause is the same. The
examples go on from these lines:

```python
{SETUP}```

In messages, `...` stands for what differs from machine to machine, and for words of another library.

This page is written by `{COMMAND}`, which runs every example and takes down the
message: change `tests/error_catalogue`, not the page.
"""


def code_span(text: str) -> str:
    """``text`` as inline code of Markdown."""
    ticks = "``" if "`" in text else "`"
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def cell(text: str) -> str:
    """Text for a table of Markdown, in which a pipe ends a cell, also within code."""
    return text.replace("|", r"\|")


def anchor(title: str) -> str:
    """The link to a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def order(entry: Entry) -> tuple[str, str]:
    """By the words of the message."""
    return re.sub(r"\W+", " ", provoke(entry).message).strip().lower(), entry.title


def formatted(code: str) -> str:
    """Lines of Python with the empty lines that the formatter of this repository puts between them."""
    code = re.sub(r"(?m)^((?:import|from) .*\n)(?!import|from|\n)", r"\1\n", code.strip("\n"))
    lines, block = list[str](), False
    for line in code.split("\n"):
        opens, inside = line.startswith(("class ", "def ")), line.startswith((" ", ")")) or not line
        if lines and not inside and (opens or block):
            while not lines[-1]:
                lines.pop()
            lines += ["", ""]
        if line.startswith("    def ") and lines[-1] and not lines[-1].startswith("class "):
            lines.append("")
        block = opens or (block and inside)
        lines.append(line)
    return "\n".join(lines)


def entry_lines(entry: Entry) -> list[str]:
    """An entry as it stands on the page: its messages, each with its lines where these are other ones."""
    lines, before = [f"### {entry.title}", ""], ""
    for one in entry.each:
        found = provoke(one)
        code = (one.code if one.shown is None else one.shown).strip("\n")
        lines += [f"> {code_span(f'{found.kind.__name__}: {found.message}')}", ""]
        if code != before:
            language = "console" if code.startswith("$") else "python"
            lines += [f"```{language}", code if code.startswith("$") else formatted(code), "```", ""]
        before = code
    return [*lines, f"- Cause: {entry.cause}", f"- Remedy: {entry.remedy}", ""]


def section_lines(section: Section) -> list[str]:
    """A section with its entries, those first whose messages come first."""
    lines = [f"## {section.title}", "", section.intro, ""]
    for entry in sorted(section.entries, key=order):
        lines += entry_lines(entry)
    return lines + ([*section.table(), ""] if section.table else [])


def page(sections: tuple[Section, ...]) -> str:
    """The whole of ``docs/errors.md``."""
    lines = [*HEAD.splitlines(), "", *(f"- [{one.title}](#{anchor(one.title)})" for one in sections), ""]
    for section in sections:
        lines += section_lines(section)
    return "\n".join(lines).rstrip("\n") + "\n"
