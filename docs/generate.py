"""
Write the pages that come from the code: `python docs/generate.py`.

docs/rules.md: one entry a rule, its docstring.
docs/formats.md: what each format keeps, by its declaration, and its module's docstring.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from publisher import rules
from publisher.formats import FORMATS, TRAITS, Format
from publisher.validate import RULES, Rule

INTRODUCTION = """\
# Validation rules

Written by `python docs/generate.py` from the docstrings in `publisher/rules/`; change those.

`publisher validate PATH` runs all of them. An **error** stops a release, a **warning** needs a
look, an **info** is good to know. Rules marked *fixable* are mended by `validate --fix -o DIR`,
which writes a new dataset and reports every fix. Rules marked *reading* are found while a file
is read. Codes never change their meaning.
"""

FORMATS_INTRODUCTION = """\
# Formats

Written by `python docs/generate.py` from `publisher/formats/`; change that.

```
publisher import SRC... -o DIR                 # take in, with pictures
publisher convert PATH --to FORMAT -o OUT      # annotations from any format to any other
```

PATH is a file, a folder or a zip; its format is told by its content (`--format` overrides that).
Files of one format are one dataset, such as a JSON for each split or an XML for each CVAT export.
Annotations of another format beside them, which would be left out, are errors
([J009](rules.md#j009)); pictures and files that are not read are named ([I104](rules.md#i104),
[J010](rules.md#j010)).
`convert` first says what the target cannot hold of this very dataset, then writes, reads back what
it wrote, and prints images, segments and pixels by class on both sides. They must differ by exactly
the reasons it lists, or nothing is kept. It replaces a folder that it has written, but neither PATH
nor one in which something is newer; and two classes of one name only go where classes have ids.
Tags, points and lines are "marks": they have no pixels. Where PATH knows no image sizes (YOLO
labels), say where the pictures are: `--images DIR`. Formats that give each pixel to one segment
take `--overlap`.
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


def formats_page() -> str:
    """The text of docs/formats.md."""
    sections = [FORMATS_INTRODUCTION, _table_of_formats(), _table_of_traits()]
    return "\n".join([*sections, *map(_format_entry, FORMATS.values())])


def _table_of_formats() -> str:
    lines = ["| Format | | read | write |", "|---|---|---|---|"]
    for f in FORMATS.values():
        can = ("yes" if f.read else "", "yes" if f.write else "")
        lines.append(f"| [{f.name}](#{f.name}) | {f.title} | {can[0]} | {can[1]} |")
    lines.append("| publisher | the working dataset between stages | yes | yes |")
    return "\n".join(lines) + "\n"


def _table_of_traits() -> str:
    """What survives writing and reading back; the contract in tests/formats holds it true."""
    written = [f for f in FORMATS.values() if f.write]
    lines = ["What survives being written and read back:\n"]
    lines += [
        "| | " + " | ".join(f.name for f in written) + " |",
        "|---" * (len(written) + 1) + "|",
    ]
    for trait in TRAITS:
        marks = ["✓" if trait in f.keeps else "–" for f in written]
        lines.append(f"| {trait} | " + " | ".join(marks) + " |")
    return "\n".join(lines) + "\n"


def _format_entry(f: Format) -> str:
    module = inspect.getmodule(f.read or f.write)
    return f"## {f.name}\n\n{inspect.getdoc(module)}\n"


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
    marks = {"fixable": r.fixable, "reading": r.scope == "reading"}
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
    for name, page in (("rules", rules_page()), ("formats", formats_page())):
        Path(__file__).with_name(f"{name}.md").write_text(page, "utf-8")
