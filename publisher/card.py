"""
What the maintainer says of a dataset (`dataset.yaml`), and the documents rendered from it.

No annotation tool knows what is a thing and what is stuff, whose pictures these are, or
what the data is for; the maintainer writes that once. README, LICENSE and CITATION are
rendered from it and from counted numbers, never edited by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import yaml

from .dataset import Category
from .errors import FormatError
from .names import markdown as _md
from .names import one_line as _line
from .names import printable
from .stats import Stats

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_YAML = 2**20  # bytes
_MAX_DEPTH = 32  # of YAML


class Creator(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A person or group to credit."""

    name: str
    orcid: str = ""
    affiliation: str = ""


class Source(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where pictures come from, and by what right they are published."""

    files: list[str]  # file names or patterns such as session_1/*.jpg
    license: str  # SPDX
    title: str = ""
    author: str = ""
    url: str = ""
    rights_basis: str = ""
    note: str = ""


class Uses(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the data is for, and what it is not for."""

    intended: str = ""
    out_of_scope: str = ""


class CategoryEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A category as the maintainer fixes it."""

    name: str
    id: int | None = None
    supercategory: str = ""
    isthing: bool = True
    color: str | None = None  # "#rrggbb"


class Card(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`dataset.yaml`. Only `name` is needed to start; a public release wants the rest."""

    name: str
    pretty_name: str = ""
    description: str = ""
    license: str = ""  # SPDX, of the annotations
    creators: list[Creator] = []
    contact: str = ""
    homepage: str = ""
    keywords: list[str] = []
    uses: Uses = Uses()
    limitations: str = ""
    personal_data: str = ""
    maintenance: str = ""
    sources: list[Source] = []
    categories: list[CategoryEntry] = []

    def source_of(self, file_name: str) -> Source | None:
        """The first source that names this picture."""
        for source in self.sources:
            if any(fnmatchcase(file_name, pattern) for pattern in source.files):
                return source
        return None


def parse(body: bytes, path: str = "dataset.yaml") -> Card:
    """
    Read `dataset.yaml`.

    Raises:
        FormatError: not YAML, unknown keys, or values that cannot be what they claim.
    """
    if len(body) > _MAX_YAML:
        raise FormatError(f"more than {_MAX_YAML:,} bytes of YAML", path=path)
    try:
        if not is_plain_yaml(body.decode("utf-8-sig")):
            raise FormatError("YAML aliases are refused, and deep nesting", path=path)
        card = msgspec.convert(yaml.safe_load(body), Card)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not valid YAML: {' '.join(str(error).split())}", path=path) from None
    except msgspec.ValidationError as error:
        raise FormatError(str(error), path=path) from None
    _check(card, path)
    return card


def is_plain_yaml(text: str) -> bool:
    """No aliases, of which nine lines unfold to gigabytes, and nothing deep: both take minutes."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):  # lazily: stops at the first of them
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            return False
    return True


def categories(card: Card, found: Sequence[Category]) -> tuple[Category, ...]:
    """
    The dataset's categories: the card's, with its ids, then what else was found.

    Colours that the card leaves out come from the source. New names get the next free ids, so
    that the ids of a released category never change.
    """
    by_name = {c.name: c for c in found}
    fixed = {c.id for c in card.categories if c.id is not None}
    listed = list(card.categories)
    listed += [CategoryEntry(n) for n in by_name if n not in {c.name for c in listed}]
    result, free = [], 1
    for entry in listed:
        number = entry.id
        while number is None:
            number, free = (free if free not in fixed else None), free + 1
        color = rgb(entry.color) if entry.color else None
        source = by_name.get(entry.name)
        result.append(
            Category(
                number,
                entry.name,
                entry.supercategory or (source.supercategory if source else ""),
                entry.isthing,
                color or (source.color if source else None),
            )
        )
    return tuple(sorted(result, key=lambda c: c.id))


def bare(name: str) -> Card:
    """A card for a dataset that has none: its name, made one that a bucket can hold."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-")[:64]
    return Card(name=slug or "dataset")


def rgb(text: str) -> tuple[int, int, int]:
    """`#rrggbb` as numbers."""
    r, g, b = bytes.fromhex(text.removeprefix("#"))
    return r, g, b


def _check(card: Card, path: str) -> None:
    if not NAME.fullmatch(card.name):
        raise FormatError(f"name {card.name!r} is not [a-z0-9][a-z0-9._-]*", path=path)
    names = [c.name for c in card.categories]
    ids = [c.id for c in card.categories if c.id is not None]
    if len(set(names)) < len(names) or len(set(ids)) < len(ids):
        raise FormatError("two categories share a name or an id", path=path, code="C201")
    for c in card.categories:
        if c.id is not None and not 0 < c.id < 2**31:
            raise FormatError(f"category id {c.id} is not positive", path=path, code="C203")
        if c.color is not None and not re.fullmatch(r"#[0-9a-fA-F]{6}", c.color):
            raise FormatError(f"color {c.color!r} is not #rrggbb", path=path)


# ── rendering ────────────────────────────────────────────────────────────────────────────────

_HF_LICENSES = {  # Hugging Face's ids are not SPDX; hub-docs, repositories-licenses.md
    "CC0-1.0": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-2.0": "cc-by-2.0",
    "CC-BY-3.0": "cc-by-3.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-SA-3.0": "cc-by-sa-3.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "CC-BY-ND-4.0": "cc-by-nd-4.0",
    "CC-BY-NC-ND-4.0": "cc-by-nc-nd-4.0",
    "ODbL-1.0": "odbl",
    "ODC-By-1.0": "odc-by",
    "PDDL-1.0": "pddl",
    "CDLA-Permissive-2.0": "cdla-permissive-2.0",
    "CDLA-Sharing-1.0": "cdla-sharing-1.0",
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
}
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def readme(card: Card, stats: Stats, classes: Sequence[Category]) -> str:
    """README.md: Hugging Face front matter, then the dataset in words and numbers."""
    front = yaml.safe_dump(_front_matter(card, stats), sort_keys=False, allow_unicode=True)
    title = _md(card.pretty_name or card.name)
    parts = [f"---\n{front}---\n\n# {title}", _md(card.description)]
    parts += ["## What is in it", _split_table(stats), _class_table(stats, classes)]
    parts.append(_refined(stats))
    parts += ["## Layout", _LAYOUT]
    sections = (
        ("Intended use", card.uses.intended),
        ("Out of scope", card.uses.out_of_scope),
        ("Limitations", card.limitations),
        ("Personal and sensitive data", card.personal_data),
        ("Maintenance", card.maintenance),
        ("Contact", card.contact),
    )
    for heading, text in sections:
        if text:
            parts += [f"## {heading}", _md(text)]
    if card.sources:
        parts += ["## Pictures and their licences", _source_table(card.sources)]
    if card.license:
        parts += ["## Licence", f"Annotations: {_md(card.license)}. Pictures: see LICENSE."]
    return "\n\n".join(p for p in parts if p) + "\n"


def license_text(card: Card) -> str:
    """LICENSE: what the annotations and each group of pictures are under."""
    terms = card.license or "no licence is stated, so all rights are reserved"
    lines = [f"Annotations of {_line(card.pretty_name or card.name)}: {_line(terms)}"]
    lines += [f"  {url}" for url in [_license_url(card.license)] if url]
    lines += ["", "Pictures:" if card.sources else "Pictures: no source is recorded."]
    for s in card.sources:
        who = ", ".join(printable(t) for t in (s.title, s.author) if t)
        lines.append(
            f"- {', '.join(map(printable, s.files))}: {s.license}" + (f" ({who})" if who else "")
        )
        lines += [f"  {printable(t)}" for t in (s.url, s.note) if t]
    return "\n".join(lines) + "\n"


def citation(card: Card) -> str:
    """CITATION.cff 1.2.0 (https://citation-file-format.github.io)."""
    said: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this dataset, please cite it as below.",
        "type": "dataset",
        "title": card.pretty_name or card.name,
        "authors": [_author(c) for c in card.creators] or [{"name": "The maintainers"}],
    }
    optional = {
        "abstract": card.description.strip(),
        "license": card.license if card.license in _HF_LICENSES else "",
        "url": card.homepage,
        "keywords": card.keywords,
    }
    said |= {k: v for k, v in optional.items() if v}
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def _front_matter(card: Card, stats: Stats) -> dict[str, Any]:
    said: dict[str, Any] = {"pretty_name": card.pretty_name or card.name}
    if card.license in _HF_LICENSES:
        said["license"] = _HF_LICENSES[card.license]
    elif card.license:
        said |= {"license": "other", "license_name": card.license, "license_link": "LICENSE"}
    said["task_categories"] = ["image-segmentation"]
    said["task_ids"] = ["instance-segmentation", "panoptic-segmentation"]
    size = next((name for limit, name in _SIZES if stats.images < limit), "n>1M")
    said["size_categories"] = [size]
    said["tags"] = ["image", "coco", "panoptic", *card.keywords]
    return said


def _author(creator: Creator) -> dict[str, str]:
    said = {"name": creator.name, "orcid": creator.orcid, "affiliation": creator.affiliation}
    return {k: v for k, v in said.items() if v and (k != "affiliation")}


def _split_table(stats: Stats) -> str:
    rows = ["| split | images | segments |", "|---|---:|---:|"]
    rows += [f"| {_md(n)} | {s.images:,} | {s.segments:,} |" for n, s in stats.splits.items()]
    return "\n".join([*rows, f"| all | {stats.images:,} | {stats.segments:,} |"])


def _class_table(stats: Stats, classes: Sequence[Category]) -> str:
    rows = ["| id | class | kind | segments | pixels |", "|---:|---|---|---:|---:|"]
    for c in classes:
        n, px = stats.classes.get(c.name, (0, 0))
        kind = "thing" if c.isthing else "stuff"
        rows.append(f"| {c.id} | {_md(c.name)} | {kind} | {n:,} | {px:,} |")
    return "\n".join(rows)


def _refined(stats: Stats) -> str:
    """How many masks a network made; nothing where none."""
    if not stats.refined:
        return ""
    digests = sorted({digest for weights in stats.refined for digest in weights})
    made = ", ".join(f"`{_md(digest[:16])}`" for digest in digests)
    return (
        f"Of all {stats.segments:,} masks, {stats.refined.total():,} were refined by a network "
        f"from outlines that people drew (sha256 of its weights: {made}); the others are as "
        "people drew them. How, is in `provenance.json`."
    )


def _source_table(sources: Sequence[Source]) -> str:
    rows = ["| pictures | title | author | licence |", "|---|---|---|---|"]
    for s in sources:
        files = ", ".join(f"`{_md(f)}`" for f in s.files)
        rows.append(f"| {files} | {_md(s.title)} | {_md(s.author)} | {_md(s.license)} |")
    return "\n".join(rows)


def _license_url(spdx: str) -> str:
    match = re.fullmatch(r"CC-(BY(?:-[A-Z]+)*)-(\d\.\d)", spdx)
    if match:
        return f"https://creativecommons.org/licenses/{match[1].lower()}/{match[2]}/"
    if spdx == "CC0-1.0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    return f"https://spdx.org/licenses/{spdx}.html" if spdx in _HF_LICENSES else ""


_LAYOUT = """\
```
annotations/instances_<split>.json   COCO instances: compressed RLE, iscrowd 0
annotations/panoptic_<split>.json    COCO panoptic: segments_info of every image
<split>/images/...                   pictures, pixels as they were annotated
<split>/panoptic/<stem>.png          RGB, segment id = R + 256 G + 65536 B, 0 = void
<split>/metadata.jsonl               one line an image (Hugging Face imagefolder)
```"""


def to_json(card: Card) -> Mapping[str, Any]:
    """The card as plain values."""
    plain: Mapping[str, Any] = msgspec.to_builtins(card)
    return plain
