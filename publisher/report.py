"""
Reports on findings: a summary for the terminal, text, JSON, SARIF and HTML; and the baseline.

Pure: findings in, text out. All that came from outside is escaped for where it goes. Findings
may be more than memory holds: they are gone through several times, and files come in parts.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from array import array
from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from html import escape
from itertools import chain, groupby, islice
from pathlib import PurePosixPath
from string import Template
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from . import __version__
from .errors import FormatError, UsageError
from .lazy import Lazy
from .names import printable
from .validate import RULES, Finding, summary, totals

SEVERITIES = ("error", "warning", "info")
MOST_ROWS = 20_000  # of an HTML page; browsers slow down beyond
BASELINE = "publisher/baseline/1"


def render(findings: Sequence[Finding], name: str, title: str) -> Iterator[str]:
    """
    A report in the form that a file's extension asks for: .json, .sarif, .html or .txt.

    It comes in parts.

    Raises:
        UsageError: another extension.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in WRITERS:
        known = ", ".join(WRITERS)
        raise UsageError(f"no report is called {name!r}", hint=f"reports end in {known}")
    return WRITERS[suffix](findings, title)


def plain(finding: Finding) -> dict[str, Any]:
    """A finding as plain values, without those that are unknown."""
    return {k: v for k, v in asdict(finding).items() if v is not None}


def worst(findings: Iterable[Finding], most: int) -> list[Finding]:
    """The first few: errors first; within a severity, one of each rule before a second of any."""
    told: Counter[str] = Counter()

    def ranked() -> Iterator[tuple[int, int, str, int, Finding]]:
        for place, f in enumerate(findings):
            told[f.code] += 1
            yield SEVERITIES.index(f.severity), told[f.code], f.code, place, f

    return [f for *_, f in heapq.nsmallest(most, ranked())]


def _busiest(findings: Sequence[Finding], most: int) -> tuple[list[tuple[int, str]], int]:
    """
    The files with the most findings, and how many files there are.

    Findings of one file mostly come together, and of each such run only a hash and a count
    are kept: that names fall on the same 64 bits is as good as impossible.
    """
    hashes, sizes = array("q"), array("q")
    for name, run in groupby(f.file_name or "" for f in findings):
        hashes.append(hash(name))
        sizes.append(sum(1 for _ in run))
    known, at = np.unique(np.asarray(hashes), return_inverse=True)
    counts = np.bincount(at, weights=np.asarray(sizes)).astype(np.int64)
    found: list[tuple[int, str]] = []
    for name, _ in groupby(f.file_name or "" for f in findings):
        key = -int(counts[known.searchsorted(hash(name))]), name
        if (len(found) < most or key < found[-1]) and key not in found:
            insort(found, key)
            del found[most:]
    return [(-n, name) for n, name in found], len(known)


# ── the terminal ─────────────────────────────────────────────────────────────────────────────


def brief(findings: Sequence[Finding], most: int = 8) -> tuple[list[str], list[str]]:
    """
    The worst findings, and the counts: together they fit 24 lines.

    Give both as lists of lines: the first are facts, the second talk.
    """
    counts = totals(findings)
    lines = [str(f) for f in worst(findings, most)]
    talk = []
    if len(findings) > most:
        rest = len(findings) - most
        talk.append(f"... and {rest:,} more: --report findings.html has all")
    rules = sorted(counts["rules"].items(), key=lambda r: (_gravity(r[0]), -r[1], r[0]))
    named = [(n, f"{code}  {title_of(code)}") for code, n in rules[:5]]
    talk += _top(named, len(rules), len(findings), "rules")
    files, of = _busiest(findings, 3)
    if of > 1:
        named = [(n, name or "the dataset as a whole") for n, name in files]
        talk += _top(named, of, len(findings), "files")
    said = ", ".join(f"{counts[s]} {s}s" for s in SEVERITIES)
    talk.append(said)
    return lines, talk


def title_of(code: str) -> str:
    """The first line of a rule's page; nothing for codes without one."""
    return RULES[code].title if code in RULES else ""


def _gravity(code: str) -> int:
    return SEVERITIES.index(RULES[code].severity) if code in RULES else 0


def _top(rows: Sequence[tuple[int, str]], of: int, total: int, what: str) -> Iterator[str]:
    for n, text in rows:
        yield f"{n:7,} {printable(text)}"
    if of > len(rows):
        n = total - sum(n for n, _ in rows)
        yield f"{n:7,} in {of - len(rows)} other {what}"


# ── files ────────────────────────────────────────────────────────────────────────────────────


def text(findings: Sequence[Finding], title: str) -> Iterator[str]:
    """One line a finding, worst first, then the counts by rule."""
    counts = totals(findings)
    rules = (f"{n:7} {code}  {title_of(code)}" for code, n in counts["rules"].items())
    said = ", ".join(f"{counts[s]} {s}s" for s in SEVERITIES)
    lines = chain([printable(title)], map(str, _by_severity(findings)), rules, [said])
    return (f"{line}\n" for line in lines)


def as_json(findings: Sequence[Finding], title: str) -> Iterator[str]:
    """Counts by severity, rule and file, and every finding."""
    document = {"title": title, **summary(findings), "findings": []}
    return _json(document, "findings", map(plain, findings))


def sarif(findings: Sequence[Finding], title: str) -> Iterator[str]:
    """
    SARIF 2.1.0 (OASIS), which code hosts and editors show beside the files.

    Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    """
    codes = list(totals(findings)["rules"])
    number = {code: n for n, code in enumerate(codes)}
    driver = {
        "name": "publisher",
        "version": __version__,
        "rules": [_sarif_rule(code) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "properties": {"title": printable(title)},
        "results": [],
    }
    schema = (
        "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
    )
    document = {"$schema": schema, "version": "2.1.0", "runs": [run]}
    return _json(document, "results", (_sarif_result(f, number[f.code]) for f in findings))


_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def _sarif_rule(code: str) -> dict[str, Any]:
    if code not in RULES:
        return {"id": code}
    r = RULES[code]
    return {
        "id": code,
        "name": r.check.__name__,
        "shortDescription": {"text": r.title},
        "fullDescription": {"text": _flowing(_labelled(r.page).get("Why it matters", r.title))},
        "help": {"text": r.page, "markdown": _markdown(r.page)},
        "defaultConfiguration": {"level": _LEVELS[r.severity]},
    }


def _sarif_result(f: Finding, number: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "ruleId": f.code,
        "ruleIndex": number,
        "level": _LEVELS[f.severity],
        "message": {"text": printable(f.message)},
        "partialFingerprints": {"publisher/v1": _digest(f)},
    }
    if f.file_name:
        uri = quote(f.file_name.encode("utf-8", "surrogatepass"))
        location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri}}}
        if f.segment is not None:
            name = f"segment {f.segment}"
            location["logicalLocations"] = [{"name": name, "kind": "element"}]
        said["locations"] = [location]
    return said


def html(findings: Sequence[Finding], title: str) -> Iterator[str]:
    """One page that needs nothing else: counts by rule and by file, every finding, every page."""
    counts = summary(findings)
    cards = "".join(
        f'<div class="card {s}"><b>{counts[s]:,}</b> {s}{"" if counts[s] == 1 else "s"}</div>'
        for s in SEVERITIES
    )
    rest = len(findings) - MOST_ROWS
    cut = (
        f"<p>The first {MOST_ROWS:,}; {rest:,} more are in a .json report.</p>" if rest > 0 else ""
    )
    rules = sorted(counts["rules"].items(), key=lambda r: (_gravity(r[0]), -r[1], r[0]))
    files = heapq.nsmallest(MOST_ROWS, counts["files"].items(), key=lambda r: (-r[1], r[0]))
    shown = islice(_by_severity(findings), MOST_ROWS)
    parts = [
        f"<h1>{escaped(title)}</h1><div class=cards>{cards}</div>",
        "" if findings else "<p class=good>Nothing to complain about.</p>",
        table("By rule", ("Rule", "Findings", "What"), (_rule_row(c, n) for c, n in rules)),
        table("By file", ("File", "Findings"), (_file_row(name, n) for name, n in files)),
        table("Findings", ("", "Rule", "File", "Segment", "What"), map(_row, shown)),
        cut,
        "<h2>Rules</h2>" if rules else "",
        *(_rule_page(code) for code, _ in rules),
    ]
    yield page(title, parts)


def _by_severity(findings: Sequence[Finding]) -> Iterator[Finding]:
    return (f for s in SEVERITIES for f in findings if f.severity == s)


def _rule_row(code: str, n: int) -> tuple[str, ...]:
    return f'<a href="#{escaped(code)}">{escaped(code)}</a>', f"{n}", escaped(title_of(code))


def _file_row(name: str, n: int) -> tuple[str, ...]:
    return escaped(name) if name else "<i>the dataset as a whole</i>", f"{n}"


def _row(f: Finding) -> tuple[str, ...]:
    return (
        f'<span class="mark {f.severity}">{f.severity}</span>',
        f'<a href="#{escaped(f.code)}">{escaped(f.code)}</a>',
        escaped(f.file_name or ""),
        "" if f.segment is None else f"{f.segment}",
        escaped(f.message),
    )


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """A page of HTML that needs nothing else, of parts that are HTML; `style` is more CSS."""
    body = "\n".join(p for p in parts if p)
    return _PAGE.substitute(title=escaped(title), body=body, style=style)


def table(title: str, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table under a heading; its cells are HTML. Nothing where it has no rows."""
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(f"<th>{escaped(h)}</th>" for h in header)
    return (
        f"<h2>{escaped(title)}</h2><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _rule_page(code: str) -> str:
    if code not in RULES:
        return f'<section id="{escaped(code)}"><h3>{escaped(code)}</h3></section>'
    r = RULES[code]
    paragraphs = "".join(
        f"<dt>{escaped(label)}</dt><dd>{escaped(_flowing(said))}</dd>"
        for label, said in _labelled(r.page).items()
    )
    mark = f'<span class="mark {r.severity}">{r.severity}</span>'
    return (
        f'<section id="{escaped(code)}"><h3>{escaped(code)} {mark}</h3><p>{escaped(r.title)}</p>'
        f"<dl>{paragraphs}</dl></section>"
    )


def _labelled(page: str) -> dict[str, str]:
    """The labelled paragraphs of a rule's page."""
    found = re.split(r"^(Why it matters|Fix|Looks at|Example): ", page, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], map(str.strip, found[1::2]), strict=True))


def _flowing(said: str) -> str:
    return " ".join(said.split())


def _markdown(page: str) -> str:
    title = page.partition("\n")[0]
    return "\n\n".join([title, *(f"**{k}:** {_flowing(v)}" for k, v in _labelled(page).items())])


def escaped(said: str) -> str:
    """Text from outside, harmless in a page."""
    return escape(printable(said))


def _json(document: dict[str, Any], key: str, records: Iterable[dict[str, Any]]) -> Iterator[str]:
    for part in chain(filled(document, key, records, indent=1), ["\n"]):
        yield part.encode("utf-8", "backslashreplace").decode()  # lone surrogates


def filled(
    document: dict[str, Any],
    key: str,
    records: Iterable[dict[str, Any]],
    *,
    indent: int | None = None,
) -> Iterator[str]:
    """The JSON of a document, in parts; its only empty list at `key` has these records instead."""
    write = partial(json.dumps, ensure_ascii=False, sort_keys=True, indent=indent)
    head, mark, tail = write(document).partition(f'"{key}": []')
    yield head + mark[:-1]
    outer = "" if indent is None else "\n" + " " * (len(head) - head.rindex("\n") - 1)
    inner = outer + " " * (indent or 0)
    before = inner
    for record in records:
        yield before + write(record).replace("\n", inner)
        before = ("," if inner else ", ") + inner
    yield ("]" if before == inner else outer + "]") + tail


WRITERS = {".json": as_json, ".sarif": sarif, ".html": html, ".txt": text}


# ── the baseline ─────────────────────────────────────────────────────────────────────────────


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finding that somebody has seen and lives with."""

    code: str
    file: str = ""
    segment: int | None = None  # its position in the sample
    id: int | None = None  # its own
    message: str = ""  # of findings about no segment, what they say but for positions


class _Baseline(msgspec.Struct):
    schema: str
    findings: list[Accepted]


def baseline(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings as a file of accepted ones, sorted; in parts."""
    lines = sorted(msgspec.json.encode(_accepted(f)) for f in findings)
    yield f'{{"schema": "{BASELINE}", "findings": [\n'
    for place, line in enumerate(lines):
        yield ("" if place == 0 else ",\n") + line.decode()
    yield "\n]}\n"


def parse_baseline(body: bytes, label: str) -> tuple[Accepted, ...]:
    """
    Read what `baseline` writes.

    Raises:
        FormatError: it is something else.
    """
    try:
        document = msgspec.json.decode(body, type=_Baseline)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not a baseline: {error}", path=label) from None
    if document.schema != BASELINE:
        raise FormatError(f"schema is {document.schema!r}, not {BASELINE!r}", path=label)
    return tuple(document.findings)


def entries(accepted: Sequence[Accepted]) -> list[dict[str, Any]]:
    """Entries of a baseline as plain values."""
    plain_ones: list[dict[str, Any]] = msgspec.to_builtins(accepted)
    return plain_ones


class _Some(Lazy[Finding]):
    """Those at some places, or all others; looked up when they are asked for."""

    def __init__(self, findings: Sequence[Finding], places: Collection[int], others: bool) -> None:
        self._findings = findings
        self._places = array("q", sorted(places))
        self._others = others

    def __len__(self) -> int:
        listed = len(self._places)
        return len(self._findings) - listed if self._others else listed

    def __iter__(self) -> Iterator[Finding]:
        ahead = iter(self._places)
        awaited = next(ahead, -1)
        for place, f in enumerate(self._findings):
            listed = place == awaited
            if listed:
                awaited = next(ahead, -1)
            if listed != self._others:
                yield f

    def _at(self, index: int) -> Finding:
        if not self._others:
            return self._findings[self._places[index]]
        before = range(len(self._places))  # each listed place moves those behind it by one
        passed = bisect_right(before, index, key=lambda k: self._places[k] - k)
        return self._findings[index + passed]


def unaccepted(
    findings: Sequence[Finding], accepted: Sequence[Accepted]
) -> tuple[Sequence[Finding], Sequence[Finding], list[Accepted]]:
    """
    Findings that are new, those that the baseline has, and its entries that fit none any more.

    A segment is known by its id, which lasts when segments change places, or by its place,
    which lasts when ids are given anew; in each file, by the one that explains more.
    """
    if not accepted:
        return findings, (), []
    known: dict[tuple[str, str], list[Accepted]] = defaultdict(list)
    for a in accepted:
        known[a.code, a.file].append(a)
    groups: dict[tuple[str, str], array[int]] = defaultdict(lambda: array("q"))
    for place, f in enumerate(findings):
        if (key := (f.code, printable(f.file_name or ""))) in known:
            groups[key].append(place)
    old_ones: list[int] = []
    stale = [a for key, entries in known.items() if key not in groups for a in entries]
    for key, places in groups.items():
        mine = [_accepted(findings[place]) for place in places]
        ways = (_explained(mine, known[key], by) for by in ("id", "segment"))
        old, rest = max(ways, key=lambda way: len(way[0]))
        old_ones += (places[i] for i in old)
        stale += rest
    return _Some(findings, old_ones, others=True), _Some(findings, old_ones, others=False), stale


def _explained(
    mine: Sequence[Accepted], entries: Sequence[Accepted], by: str
) -> tuple[list[int], list[Accepted]]:
    """Which of mine an entry has, each entry once, and the entries that are left."""
    left: dict[tuple[Any, str], list[Accepted]] = defaultdict(list)
    for a in entries:
        left[getattr(a, by), a.message].append(a)
    old = []
    for i, a in enumerate(mine):
        found = left[getattr(a, by), a.message]
        if found:
            found.pop()
            old.append(i)
    return old, [a for rest in left.values() for a in rest]


def _accepted(f: Finding) -> Accepted:
    file = printable(f.file_name or "")
    if f.segment is not None:
        return Accepted(f.code, file, f.segment, f.segment_id)
    return Accepted(f.code, file, message=re.sub(r"\[\d+\]", "[]", printable(f.message)))


def _digest(f: Finding) -> str:
    a = _accepted(f)
    mark = f"{a.code}\0{a.file}\0{a.segment if a.id is None else f'#{a.id}'}\0{a.message}"
    return hashlib.sha256(mark.encode("utf-8", "surrogatepass")).hexdigest()[:32]


_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { --ink: #1d2733; --soft: #5c6b7a; --line: #dfe5eb; --paper: #fff; --wash: #f5f7f9;
  --error: #b42318; --warning: #9a5b00; --info: #175cd3; --link: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9fb0c0; --line: #33404d;
  --paper: #141a21; --wash: #1c242d; --error: #ff8a7d; --warning: #ffc266; --info: #8ab8ff;
  --link: #8ab8ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.cards { display: flex; gap: .8rem; flex-wrap: wrap; }
.card { border: 1px solid var(--line); border-radius: .6rem; padding: .6rem 1.1rem;
  background: var(--wash); } .card b { font-size: 1.5rem; margin-right: .3rem; }
.error { color: var(--error); } .warning { color: var(--warning); } .info { color: var(--info); }
.card.error, .card.warning, .card.info { color: var(--ink); }
.card.error b { color: var(--error); } .card.warning b { color: var(--warning); }
.card.info b { color: var(--info); }
.mark { font-size: .8rem; font-weight: 600; }
.scroll { overflow: auto; max-height: 36rem; border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; }
th { position: sticky; top: 0; background: var(--wash); text-align: left; cursor: pointer;
  font-weight: 600; color: var(--soft); }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
td:nth-child(2) { white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
dt { font-weight: 600; color: var(--soft); } dd { margin: 0 0 .5rem 0; }
.good { font-size: 1.1rem; } section:target { background: var(--wash); }
$style</style></head><body>
$body
<script>
for (const th of document.querySelectorAll("th")) th.onclick = () => {
  const body = th.closest("table").tBodies[0], at = th.cellIndex, up = th.dataset.up !== "1";
  for (const other of th.parentNode.children) delete other.dataset.up;
  th.dataset.up = up ? "1" : "0";
  const text = row => row.cells[at].textContent;
  const rows = [...body.rows].sort((a, b) =>
    text(a).localeCompare(text(b), "en", {numeric: true}) * (up ? 1 : -1));
  body.append(...rows);
};
</script></body></html>
""")
