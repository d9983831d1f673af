"""``docs/errors.md``: every error and warning of fastbp is provoked, and has its cause and its remedy there."""

import itertools
import re

import numpy as np
import pytest
from error_catalogue import ENTRIES, EXEMPT, SECTIONS, Entry, Exempt, _check, _page, _sites, _stage, parameters
from error_catalogue._entry import Also

import fastbp

PAGE = _sites.ROOT / "docs/errors.md"
WRITE = f"write docs/errors.md anew by `{_page.COMMAND}`"
ADD = "give each an Entry in tests/error_catalogue (or an Exempt with its reason), and " + WRITE


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text("utf-8")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_an_entry_is_provoked_as_the_page_has_it(entry, page):
    assert _check.wrong_entries([entry]) == []
    assert "\n".join(_page.entry_lines(entry)) in page, WRITE


def test_the_page_is_what_the_catalogue_writes(page):
    written = _page.page(SECTIONS)
    lines = zip(page.splitlines(), written.splitlines(), strict=False)
    first = next((number for number, (here, there) in enumerate(lines, 1) if here != there), "the end")
    assert page == written, f"line {first} is another one: {WRITE}"


def test_every_statement_that_raises_or_warns_has_an_entry():
    missing = _check.without_an_entry(ENTRIES, EXEMPT)
    assert not missing, f"{len(missing)} statements have no entry; {ADD}:\n" + "\n".join(map(str, missing))


def test_exemptions_are_needed():
    wrong = _check.wrong_exemptions(ENTRIES, EXEMPT)
    assert not wrong, "\n".join(wrong)


def test_every_parameter_of_the_estimators_has_a_row(page):
    assert parameters.parameters().keys() == parameters.MISTAKES.keys(), "add it to MISTAKES in parameters.py"
    for kind in (fastbp.MLPClassifier, fastbp.MLPRegressor):
        assert set(kind().get_params()) <= parameters.MISTAKES.keys()
    assert "\n".join(parameters.table()) in page, WRITE


# ---------------------------------------------------------------------------------------------------------------------
# The words


def test_titles_are_unique():
    titles = [entry.title for entry in ENTRIES] + [section.title for section in SECTIONS]
    assert len(titles) == len(set(titles))


def test_causes_and_remedies_are_sentences_that_say_something():
    remedies = [entry.remedy for entry in ENTRIES]
    for entry in ENTRIES:
        for text in (entry.cause, entry.remedy):
            assert text.endswith(".") and len(text) >= 20, f"{entry.title}: {text}"
        assert entry.remedy not in (entry.cause, _stage.provoke(entry).message)
    often = {text for text in remedies if remedies.count(text) > 4}
    assert not often, f"the same remedy again and again: {often}"


def test_examples_are_short():
    for entry in itertools.chain.from_iterable(entry.each for entry in ENTRIES):
        shown = entry.code if entry.shown is None else entry.shown
        assert len(shown.strip().splitlines()) <= 6, entry.title
        assert max(map(len, shown.splitlines())) <= 120, entry.title


# ---------------------------------------------------------------------------------------------------------------------
# That these tests can fail

SOURCE = '''\
import warnings

class Layer:
    def check(self, n):
        """
        >>> raise ValueError("in a docstring")
        """
        if n < 0:
            raise ValueError(
                f"n must be at least 0, got {n}"
            )

        def inner():
            warnings.warn("old", stacklevel=2)
        try:
            inner()
        except ValueError:
            raise
'''


def test_sites_are_found():
    sites = _sites.sites_of(SOURCE, "fastbp/x.py")
    assert [(site.function, site.first_line, site.last_line, site.warns) for site in sites] == [
        ("Layer.check", 9, 11, False), ("Layer.check.inner", 14, 14, True), ("Layer.check", 18, 18, False),
    ]  # fmt: skip
    assert str(sites[0]) == ("fastbp/x.py:9 in Layer.check\n    raise ValueError(f'n must be at least 0, got {n}')")
    assert len(_sites.matches(Exempt("fastbp/x.py", "Layer.check", "raise ValueError", ""), sites)) == 1
    (bare,) = _sites.matches(Exempt("fastbp/x.py", "Layer.check", "raise", ""), sites)  # and not all that begin with it
    assert bare.source == "raise"
    assert len(_sites.matches(Exempt("fastbp/x.py", "Layer.check", "r", ""), sites)) == 2


def test_all_sites_of_the_package_are_looked_at():
    sites = _sites.all_sites()
    assert len(sites) > 200 and any(site.file.startswith("kernels/") for site in sites)
    assert sum(site.warns for site in sites) >= 5
    text = (_sites.ROOT / "fastbp/trainer.py").read_text("utf-8")
    assert len(re.findall(r"^ +raise ", text, re.M)) == sum(
        site.file == "fastbp/trainer.py" and not site.warns for site in sites
    )


def test_causes_of_an_error_are_sites_too():
    def chained():
        try:
            fastbp.Dense(0)
        except ValueError as error:
            raise RuntimeError from error

    with pytest.raises(RuntimeError) as caught:
        chained()
    assert {site.function for site in _sites.sites_behind(caught.value)} == {"whole_number"}
    assert not _sites.sites_behind(ValueError())


def made(**changes):
    options = {"title": "t", "code": "fastbp.Dense(0)", "error": ValueError, "cause": "c", "remedy": "r"}
    return Entry(**options | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"code": "fastbp.Dense(1)"}, "provokes nothing"),
        ({"error": TypeError}, "raises ValueError, not TypeError"),
        ({"foreign": True}, "is from fastbp/_validation.py:"),
        ({"code": "np.zeros(-1)"}, "is from no statement of fastbp"),
        ({"hide": ("nowhere",)}, "hides nothing"),
        ({"error": UserWarning, "code": "1"}, "gives the warnings []"),
        ({"code": "import warnings; warnings.warn('unexpected')"}, "UserWarning"),
    ],
)
def test_wrong_entries_are_named(changes, words):
    assert _check.wrong_entry(made()) is None
    assert words in _check.wrong_entry(made(**changes))


def test_a_statement_without_an_entry_is_named():
    fewer = [entry for entry in ENTRIES if entry.title != "A momentum above 1"]
    assert [site.source for site in _check.without_an_entry(fewer, EXEMPT)] == [
        "raise ValueError(f'momentum must be a number from 0 to 1, got {self.momentum!r}')"
    ]
    others = EXEMPT[1:]
    assert len(_check.without_an_entry(ENTRIES, others)) == 1


def test_wrong_exemptions_are_named():
    reached = Exempt("fastbp/optimizers.py", "SGD.__post_init__", "momentum must be", "it cannot be reached")
    gone = Exempt("fastbp/optimizers.py", "SGD.__init__", "momentum must be", "it cannot be reached")
    first, second = _check.wrong_exemptions(ENTRIES, [reached, gone])
    assert "is not needed: an entry reaches it" in first
    assert "stands for 0 statements" in second


def test_messages_are_made_the_same_on_every_machine():
    text = "no folder /tmp/q, no /tmp/q/a.txt, <A at 0x7f3a>, among {'b', 'a'} and {'b': 1}, pool of 16\nmore"
    assert _stage.readable(text, "/tmp/q", (r"(?<=pool of )\d+",)) == (
        "no folder folder, no a.txt, <A at 0x...>, among {'a', 'b'} and {'b': 1}, pool of ... ..."
    )


def test_what_a_snippet_changes_is_undone():
    before = np.geterr(), fastbp.trainer.get_backend
    _stage.provoke(made(code="open('file', 'w').close()\nfastbp.Dense(0)"))
    assert (np.geterr(), fastbp.trainer.get_backend) == before


def test_signs_of_markdown_are_kept_apart():
    assert _page.code_span("a `b` c") == "``a `b` c``"
    assert _page.cell("`a|b`") == r"`a\|b`"
    assert _page.anchor("R^2 of one row, with L-BFGS") == "r2-of-one-row-with-l-bfgs"


def test_each_message_of_an_entry_is_provoked_and_shown():
    """``also``: what a variant does not say is the entry's; lines that are the same stand on the page once."""
    entry = made(also=(Also("fastbp.Dense(-1)"), Also(given=lambda stage: None)))
    assert [one.code for one in entry.each] == ["fastbp.Dense(0)", "fastbp.Dense(-1)", "fastbp.Dense(0)"]
    assert len({one.title for one in entry.each}) == 3 and not any(one.also for one in entry.each)
    text = "\n".join(_page.entry_lines(made(also=(Also(given=lambda stage: None), Also("fastbp.Dense(-1)")))))
    assert text.count("got 0`") == 2 and text.count("fastbp.Dense(0)") == 1 and text.count("got -1`") == 1
    assert _check.wrong_entries([made(also=(Also("fastbp.Dense(1)"),))]) == [
        "'t, 2': AssertionError: 't, 2' provokes nothing"
    ]


def test_lines_are_formatted():
    f = "def f(self):\n        return [\n            1,\n        ]\n"
    code = f"from a import b\nclass A:\n    x = 1\n    {f}g(\n    b,\n)\nh()"
    wanted = f"from a import b\n\n\nclass A:\n    x = 1\n\n    {f}\n\ng(\n    b,\n)\nh()"
    assert _page.formatted(code) == _page.formatted(wanted) == wanted
