"""Reports: what they say, that nothing hostile gets through, and what a baseline accepts."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher import report
from publisher.errors import FormatError, UsageError
from publisher.validate import RULES, Finding
from tests import strategies

EVIL = "<script>alert(1)</script>\x1b]52;c;x\x07\u202e\"'&$title.jpg"
FINDINGS = [
    Finding("I117", "info", "has no segment", "b.jpg"),
    Finding("A316", "error", "mask has no pixels", "a.jpg", 2, 17),
    Finding("C206", "warning", "category 'cup' (4) is not used"),
    Finding("J001", "error", f"bad {EVIL}", EVIL),
]


def many(n):
    return [
        Finding(code, RULES[code].severity, "x" * 60, f"{i}.jpg", 0, i)
        for i, code in zip(range(n), sorted(RULES) * n, strict=False)
    ]


class Page(HTMLParser):
    """The tags of a page, and the text of its cells."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.ids, self.text = [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("href", "src")]
        self.ids += [v for k, v in attrs if k == "id"]

    def handle_data(self, data):
        self.text += data


def test_a_page_runs_and_loads_nothing_of_what_it_shows():
    page = "".join(report.html(FINDINGS, EVIL))
    read = Page(page)
    assert read.tags.count("script") == 1
    assert "<script>alert(1)</script>\\u001b]52" in read.text
    assert not {"\x1b", "\x07", "\u202e"} & set(page)
    assert {link[1:] for link in read.links} <= set(read.ids)


def test_a_page_without_findings_says_so():
    assert "Nothing to complain about" in Page("".join(report.html([], "kitchen"))).text


def test_sarif_has_levels_rules_and_places():
    run = json.loads("".join(report.sarif(FINDINGS, "kitchen")))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [r["id"] for r in rules] == ["A316", "C206", "I117", "J001"]
    assert all(rules[x["ruleIndex"]]["id"] == x["ruleId"] for x in run["results"])
    assert [x["level"] for x in run["results"]] == ["note", "error", "warning", "error"]
    place = run["results"][1]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "a.jpg"
    assert place["logicalLocations"][0]["name"] == "segment 2"
    assert run["results"][3]["locations"][0]["physicalLocation"]["artifactLocation"][
        "uri"
    ].isascii()
    assert "**Why it matters:**" in rules[0]["help"]["markdown"]


@pytest.mark.parametrize("name", ["r.json", "r.sarif", "r.HTML", "r.txt"])
def test_every_form_holds_every_finding(name):
    said = "".join(report.render(FINDINGS, name, "kitchen"))
    assert all(f.code in said for f in FINDINGS)
    said.encode("utf-8")


def test_another_form_is_refused():
    with pytest.raises(UsageError, match=r"no report is called 'r\.pdf'"):
        report.render([], "r.pdf", "")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            Finding,
            st.sampled_from(["A316", "X1"]),
            st.just("info"),
            strategies.WEIRD,
            st.none() | strategies.WEIRD,
        ),
        max_size=4,
    )
)
def test_no_text_breaks_a_report(findings):
    for name in ("r.json", "r.sarif", "r.html", "r.txt"):
        "".join(report.render(findings, name, "t")).encode("utf-8")
    assert new_ones(findings, accepted(*findings)) == []


def test_the_terminal_gets_what_fits_it():
    lines, talk = report.brief(many(5000))
    assert len(lines) + len(talk) <= 20  # and up to three notes: 24 with the prompt
    assert "4,992 more: --report findings.html" in talk[0]
    assert lines[0].split()[3] == "error"
    assert len({line.split()[4] for line in lines}) == len(lines)  # no rule twice


def test_the_worst_come_first_and_each_rule_before_a_second_of_any():
    ordered = report.worst(many(300), 300)
    ranks = [report.SEVERITIES.index(f.severity) for f in ordered]
    assert all(a <= b for a, b in pairwise(ranks))


# ── the baseline ─────────────────────────────────────────────────────────────────────────────


def at(segment, key, code="A316", file="a.jpg"):
    return Finding(code, "error", "mask has no pixels", file, segment, key)


def accepted(*findings):
    return report.parse_baseline("".join(report.baseline(findings)).encode(), "b.json")


def new_ones(findings, before):
    return list(report.unaccepted(findings, before)[0])


def test_segments_that_change_places_are_still_accepted():
    assert new_ones([at(0, 9), at(5, 4)], accepted(at(0, 4), at(1, 9))) == []


def test_segments_that_get_new_ids_are_still_accepted():
    before = accepted(at(0, 1), at(1, 2), at(2, 3))
    assert new_ones([at(0, 2), at(1, 3), at(2, 4)], before) == []


def test_one_more_is_new_and_one_less_is_stale():
    new, known, stale = report.unaccepted([at(0, 1), at(3, 8)], accepted(at(0, 1), at(1, 2)))
    assert list(new) == [at(3, 8)]
    assert list(known) == [at(0, 1)]
    assert [(a.code, a.id) for a in stale] == [("A316", 2)]


def test_places_in_a_document_do_not_tell_findings_apart():
    before, after = (
        Finding(
            "P403", "error", f"annotations[{n}].segmentation[0]: ring has 3 coordinates", "a.jpg"
        )
        for n in (4, 7)
    )
    assert new_ones([after], accepted(before)) == []
    assert new_ones([after, after], accepted(before)) == [after]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"schema": "x", "findings": []}', b"\xff"])
def test_a_file_that_is_no_baseline_is_refused(body):
    with pytest.raises(FormatError, match=r"b\.json"):
        report.parse_baseline(body, "b.json")
