"""Every reason to leave a segment alone can be read in plain words."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from publisher import refine, refining
from publisher.refinement import eligibility
from publisher.refinement.reasons import why

DOCS = (Path(refine.__file__).parents[1] / "docs" / "refinement.md").read_text("utf-8")


def returned(module) -> set[str]:
    """The words that functions of a module return: in these two, those are reasons."""
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    values = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return)]
    return {v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)}


REASONS = (
    returned(eligibility) | returned(refine) | {refine.REFINED, refine.UNSURE, refining.UNSEEN}
)


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_each_reason_has_its_sentence(reason):
    assert why(reason)


@pytest.mark.parametrize("reason", sorted(REASONS - {refine.REFINED, "empty"}))
def test_the_docs_name_each_reason(reason):
    assert reason in DOCS


def test_a_reason_that_says_it_all_needs_no_sentence():
    assert why("no mask: R506") == ""
