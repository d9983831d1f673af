"""What the catalogue lacks, and what of it is wrong."""

from __future__ import annotations

from collections.abc import Iterable

from ._entry import Entry, Exempt
from ._sites import Site, all_sites, matches
from ._stage import provoke


def wrong_entry(entry: Entry) -> str | None:
    """What of an entry is wrong, in words."""
    try:
        found = provoke(entry)
    except Exception as error:
        return f"{entry.title!r}: {type(error).__name__}: {error}"
    if found.kind is not entry.error:
        return f"{entry.title!r} raises {found.kind.__name__}, not {entry.error.__name__}: {found.message}"
    if not found.message.strip():
        return f"{entry.title!r} has an empty message"
    if bool(found.sites) == entry.foreign:
        where = "no statement of fastbp" if not found.sites else f"{min(found.sites)}"
        return f"{entry.title!r} is from {where}, but foreign={entry.foreign}: {found.message}"
    return None


def wrong_entries(entries: Iterable[Entry]) -> list[str]:
    """All that is wrong."""
    return [words for entry in entries for one in entry.each if (words := wrong_entry(one)) is not None]


def reached(entries: Iterable[Entry]) -> frozenset[Site]:
    """The sites that entries have come from."""
    return frozenset(site for entry in entries for one in entry.each for site in provoke(one).sites)


def without_an_entry(entries: Iterable[Entry], exempt: Iterable[Exempt]) -> list[Site]:
    """Sites that no entry reaches and that are not exempt, in the order of the files."""
    free = {site for one in exempt for site in matches(one, all_sites())}
    return sorted(set(all_sites()) - reached(entries) - free)


def wrong_exemptions(entries: Iterable[Entry], exempt: Iterable[Exempt]) -> list[str]:
    """Exemptions that stand for nothing, for several sites, or for one that an entry reaches."""
    hit, wrong = reached(entries), []
    for one in exempt:
        found = matches(one, all_sites())
        what = f"the exemption of {one.source!r} in {one.file}, {one.function}"
        if len(found) != 1:
            wrong.append(f"{what} stands for {len(found)} statements, not for one")
        elif found[0] in hit:
            wrong.append(f"{what} is not needed: an entry reaches it")
        elif not one.reason:
            wrong.append(f"{what} has no reason")
    return wrong
