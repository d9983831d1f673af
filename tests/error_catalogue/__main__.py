"""Write ``docs/errors.md``, and list what has no entry yet: ``PYTHONPATH=tests python -m error_catalogue``."""

import sys

from . import ENTRIES, EXEMPT, SECTIONS
from ._check import without_an_entry, wrong_entries
from ._page import page
from ._sites import ROOT


def main() -> int:
    wrong = wrong_entries(ENTRIES)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        return 1
    path = ROOT / "docs/errors.md"
    path.write_text(page(SECTIONS), encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {len(ENTRIES)} entries in {len(SECTIONS)} sections")
    missing = without_an_entry(ENTRIES, EXEMPT)
    if missing:
        print(f"{len(missing)} statements have no entry:\n" + "\n".join(map(str, missing)), file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    raise SystemExit(main())
