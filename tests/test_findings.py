"""Findings in any number come back as they were, and few of them are in memory."""

from __future__ import annotations

import gc
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher import findings, report
from publisher.findings import BLOCK, Findings
from publisher.stages import checking
from publisher.validate import Finding, totals
from tests import strategies

ANY = st.builds(
    Finding,
    st.sampled_from(["A316", "X1"]),
    st.sampled_from(report.SEVERITIES),
    strategies.WEIRD,
    st.none() | strategies.WEIRD,
    st.none() | st.integers(0, 9),
    st.none() | st.integers(-(2**80), 2**80),
)


def many(n):
    return (Finding("A314", "warning", f"said {i}", f"{i // 4}.jpg", i % 4, i) for i in range(n))


def alive():
    gc.collect()
    return sum(type(o) is Finding for o in gc.get_objects())


@given(st.lists(ANY, max_size=9), st.integers(1, 4))
def test_findings_come_back_as_they_were_and_where_they_were(given_ones, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "BLOCK", block)
        kept = Findings(given_ones)
        assert list(kept) == list(kept) == given_ones
        assert [kept[i] for i in range(len(kept))] == given_ones
        assert kept[-2:] == given_ones[-2:]


def test_few_findings_are_in_memory_whatever_is_done_with_them(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    n, before = 20 * BLOCK, alive()
    most = []

    def watched():
        for i, f in enumerate(many(n)):
            if i % (5 * BLOCK) == BLOCK - 1:
                most.append(alive())
            yield f

    monkeypatch.setattr(checking, "check", lambda *_, **__: watched())
    found = checking.run(tmp_path / "a.json").findings
    most.append(alive())
    assert len(found) >= n
    assert totals(found)["rules"]["A314"] == n
    report.brief(found)
    for name in ("r.json", "r.sarif", "r.txt"):
        for place, _ in enumerate(report.render(found, name, "t")):
            if place == n // 2:
                most.append(alive())
    accepted = "".join(report.baseline(islice(found, BLOCK))).encode()
    new, known, _ = report.unaccepted(found, report.parse_baseline(accepted, "b.json"))
    assert (len(new), len(known)) == (len(found) - BLOCK, BLOCK)
    assert new[0] == found[BLOCK]
    assert known[-1] == next(iter(islice(known, BLOCK - 1, None)))
    most.append(alive())
    assert max(most) - before < 4 * BLOCK


def test_the_terminal_names_the_busiest_files_wherever_their_findings_are():
    scattered = [Finding("A314", "warning", "x", f"{i % 7}.jpg") for i in range(30)]
    _, talk = report.brief(scattered)
    assert [line.split() for line in talk[2:6]] == [
        ["5", "0.jpg"],
        ["5", "1.jpg"],
        ["4", "2.jpg"],
        ["16", "in", "4", "other", "files"],
    ]
