"""What holds for every rule."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings

from docs.generate import rules_page
from publisher import rules  # noqa: F401  registers them
from publisher.errors import FormatError
from publisher.rules.rule import scenes
from publisher.validate import RULES, Finding, check, mend, summary
from tests import strategies
from tests.rules import (
    test_annotations,
    test_categories,
    test_images,
    test_overlap,
    test_polygons,
    test_rle,
    test_splits,
)
from tests.rules.build import clean, dataset, look, sample, segment

ALL = sorted(RULES)
FAMILIES = (
    test_annotations,
    test_categories,
    test_images,
    test_overlap,
    test_polygons,
    test_rle,
    test_splits,
)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("code", ALL)
def test_every_rule_has_a_page(code):
    page = RULES[code].page
    assert re.fullmatch(r"[A-Z`][^\n]*[.?]", RULES[code].title)
    assert re.search(r"^Why it matters: .{20}", page, re.M)
    assert re.search(r"^Fix: .{5}", page, re.M)
    assert re.search(r"^Example: .{2}", page, re.M)
    assert not RULES[code].fixable or "automatic" in page


def test_every_rule_has_an_example():
    examples = {code for family in FAMILIES for code in family.EXAMPLES}
    assert {r.code for r in RULES.values() if r.scope != "reading"} == examples


def test_nothing_is_said_of_a_clean_dataset():
    assert list(check(clean(), look=look)) == []
    assert list(check(clean())) == []


def test_a_clean_dataset_is_not_mended():
    samples = list(mend(clean(), look=look))
    assert [s for s, _ in samples] == list(clean())
    assert all(fixed == [] for _, fixed in samples)


def test_ignored_codes_are_silent():
    empty = dataset(sample())
    assert "I117" in {f.code for f in check(empty)}
    assert "I117" not in {f.code for f in check(empty, ignore={"I117"})}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.hostile_datasets() | strategies.datasets())
def test_samples_are_judged_together_as_they_are_alone(data):
    with mock.patch("publisher.shapes.drawing._MANY", 0):
        together = list(check(data))
    with mock.patch("publisher.rules.chunk.SEGMENTS", 1):
        assert list(check(data)) == together


def test_samples_before_a_broken_one_are_judged():
    def samples():
        yield sample()
        raise FormatError("broken")

    seen = []
    with pytest.raises(FormatError, match="broken"):
        seen.extend(scene.sample for scene in scenes(samples(), {}))
    assert seen == [sample()]


def test_findings_are_printed_without_control_characters():
    finding = Finding("I109", "error", "name is \x1b]52;c;evil\x07", "\u202egpj.exe")
    assert str(finding) == "\\u202egpj.exe: error I109: name is \\u001b]52;c;evil\\u0007"


def test_the_summary_counts_by_severity_and_rule():
    line = (0.0, 0.0, 9.0, 9.0, 0.0, 0.0)
    counts = summary(check(dataset(sample(segment(line), segment(line)), categories=())))
    assert counts["error"] == 4
    assert counts["rules"]["A316"] == 2


def test_the_page_of_all_rules_is_up_to_date():
    hint = "run `python docs/generate.py`"
    assert (DOCS / "rules.md").read_text("utf-8") == rules_page(), hint


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.hostile_datasets(), strategies.looks())
def test_rules_never_raise(data, look):
    for finding in check(data, look=look):
        said = set(map(unicodedata.category, str(finding)))
        assert not said & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.hostile_datasets())
def test_mending_twice_is_mending_once(data):
    once = [s for s, _ in mend(data)]
    again = list(mend(dataset(*once, categories=data.categories)))
    assert repr([s for s, _ in again]) == repr(once)
    assert not any(fixed for _, fixed in again)


@settings(max_examples=60, deadline=None)
@given(strategies.datasets())
def test_mending_a_sound_dataset_moves_no_pixel(data):
    for sample_, (mended, fixed) in zip(data, mend(data), strict=True):
        if not any(f.code in ("A306", "A316", "R509") for f in fixed):
            size = sample_.height, sample_.width
            assert [s.mask(*size) for s in mended.segments] == [
                s.mask(*size) for s in sample_.segments
            ]


@settings(max_examples=60, deadline=None)
@given(strategies.datasets())
def test_sound_geometry_is_not_called_broken(data):
    broken = {"P401", "P403", "P404", "P406", "R503", "R504", "R505", "R506", "I108", "A304"}
    assert not broken & {f.code for f in check(data)}
