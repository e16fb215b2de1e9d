"""
Write the pages that come from the code: `python docs/generate.py`.

docs/rules.md: one entry a rule, its docstring.
"""

from __future__ import annotations

from pathlib import Path

from publisher import rules
from publisher.validate import RULES, Rule

INTRODUCTION = """\
# Validation rules

Written by `python docs/generate.py` from the docstrings in `publisher/rules/`; change those.

`publisher validate PATH` runs all of them. An **error** stops a release, a **warning** needs a
look, an **info** is good to know. Rules marked *fixable* are mended by `validate --fix -o DIR`,
which writes a new dataset and reports every fix. Rules marked *reading* are found while a file
is read. Codes never change their meaning.
"""


def rules_page() -> str:
    """The text of docs/rules.md."""
    sections = [INTRODUCTION, _overview()]
    for family in rules.__all__:
        module = getattr(rules, family)
        members = _members(module.__name__)
        sections.append(f"## {family.capitalize()}\n\n{_first_line(module.__doc__)}\n")
        sections += [_entry(r) for r in members]
    return "\n".join(sections)


def _members(module: str) -> list[Rule]:
    return [RULES[code] for code in sorted(RULES) if RULES[code].check.__module__ == module]


def _overview() -> str:
    lines = ["| Code | Severity | | What |", "|---|---|---|---|"]
    for code in sorted(RULES):
        r = RULES[code]
        lines.append(f"| [{code}](#{code.lower()}) | {r.severity} | {_marks(r)} | {r.title} |")
    return "\n".join(lines) + "\n"


def _entry(r: Rule) -> str:
    """Its code as the heading, so that links to it stay; each labelled part a paragraph."""
    marks = ", ".join(m for m in (f"**{r.severity}**", _marks(r)) if m)
    parts = [r.title, *_paragraphs(r.page.partition("\n")[2])]
    return f"### {r.code}\n\n{marks}\n\n" + "\n\n".join(parts) + "\n"


def _marks(r: Rule) -> str:
    marks = {"fixable": r.fix is not None, "reading": r.scope == "reading"}
    return ", ".join(f"*{m}*" for m, there in marks.items() if there)


def _paragraphs(text: str) -> list[str]:
    """Join wrapped lines; a line that starts with a label starts a paragraph."""
    paragraphs: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        label, colon, rest = line.partition(": ")
        if colon and label in ("Why it matters", "Fix", "Looks at", "Example"):
            paragraphs.append(f"**{label}:** {rest}")
        else:
            paragraphs[-1] += f"\n{line}"
    return paragraphs


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


if __name__ == "__main__":
    Path(__file__).with_name("rules.md").write_text(rules_page(), "utf-8")
