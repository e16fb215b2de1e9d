"""
The rule engine: what is wrong with a dataset, said like a compiler says it.

A rule looks and reports; it never raises, prints or changes anything. Rules live in
`rules/`, one file a family. Their docstrings are docs/rules.md. Codes are stable and are
never used for something else.

Geometry may be hostile. `check` rasterises each segment once, through the checks of
masks.py; what cannot be rasterised has no mask, and its error becomes a finding.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from .dataset import Category, Dataset, Sample, Segment
from .errors import FormatError
from .masks import Mask

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, how bad it is, and where."""

    code: str
    severity: Severity
    message: str
    file_name: str | None = None
    segment: int | None = None  # its position in the sample, from 0

    def __str__(self) -> str:
        place = self.file_name or "dataset"
        if self.segment is not None:
            place += f" segment {self.segment}"
        return f"{place}: {self.severity} {self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file says of itself."""

    format: str  # Pillow's name: JPEG, PNG, ...
    height: int
    width: int
    mode: str  # Pillow's name: RGB, L, CMYK, ...
    orientation: int  # EXIF, 1 to 8; 1 is upright
    frames: int
    sha256: str
    has_location: bool  # EXIF holds a GPS position
    dhash: int = 0  # 64-bit difference hash of the pixels, for near-duplicates


Look = Callable[[Sample], ImageFacts]
"""Opens the image of a sample; raises FormatError with code I103, I112 or I119."""


class Scene:
    """A sample as rules see it: its categories, its masks, its image file."""

    def __init__(
        self, sample: Sample, categories: Mapping[int, Category], look: Look | None = None
    ) -> None:
        self.sample = sample
        self.categories = categories
        self._look = look

    @cached_property
    def masks(self) -> tuple[Mask | None, ...]:
        """One a segment, in order; None where the geometry is broken."""
        return tuple(m if isinstance(m, Mask) else None for m in self._rasterised)

    @cached_property
    def broken(self) -> tuple[tuple[int, FormatError], ...]:
        """Position and reason of every segment without a mask."""
        results = enumerate(self._rasterised)
        return tuple((i, r) for i, r in results if isinstance(r, FormatError))

    @cached_property
    def image(self) -> ImageFacts | FormatError | None:
        """What the image file says, why it cannot be read, or None where it is not looked at."""
        if self._look is None:
            return None
        try:
            return self._look(self.sample)
        except FormatError as error:
            return error

    @property
    def facts(self) -> ImageFacts | None:
        """The image file's facts where there are any."""
        return self.image if isinstance(self.image, ImageFacts) else None

    def find(self, message: str, segment: int | None = None) -> Finding:
        """A finding about this sample; the engine puts in the rule's code and severity."""
        return Finding("", "error", message, self.sample.file_name, segment)

    @cached_property
    def _rasterised(self) -> tuple[Mask | FormatError, ...]:
        size = self.sample.height, self.sample.width
        return tuple(_rasterise(segment, *size) for segment in self.sample.segments)


SceneCheck = Callable[[Scene], Iterator[Finding]]
DatasetCheck = Callable[[Dataset], Iterator[Finding]]
Fix = Callable[[Scene], Sample]


@dataclass(frozen=True, slots=True)
class Rule:
    """
    A check and its page in docs/rules.md.

    `scope` says what the check is given: "scene", one sample at a time; "dataset", all of
    it; "reading", nothing, because only a reader sees the fault and raises it as a
    FormatError with this code.
    """

    code: str
    severity: Severity
    scope: Literal["scene", "dataset", "reading"]
    check: Callable[[Any], Iterator[Finding]]
    fix: Fix | None = None

    @property
    def page(self) -> str:
        """The docstring: what, why it matters, how to fix."""
        return inspect.getdoc(self.check) or ""

    @property
    def title(self) -> str:
        """The first line of the page."""
        return self.page.partition("\n")[0]


RULES: dict[str, Rule] = {}


def rule(
    code: str, severity: Severity, *, fix: Fix | None = None
) -> Callable[[SceneCheck], SceneCheck]:
    """Register a rule about one sample. `fix` takes the scene and gives a mended sample."""
    return lambda check: _register(Rule(code, severity, "scene", check, fix))


def dataset_rule(code: str, severity: Severity) -> Callable[[DatasetCheck], DatasetCheck]:
    """Register a rule about the dataset as a whole."""
    return lambda check: _register(Rule(code, severity, "dataset", check))


def reading_rule(code: str, severity: Severity = "error") -> Callable[[SceneCheck], SceneCheck]:
    """Register the page of a fault that only readers meet, as a FormatError with this code."""
    return lambda check: _register(Rule(code, severity, "reading", check))


def _register(new: Rule) -> Any:
    if new.code in RULES:
        raise ValueError(f"rule code {new.code} is taken by {RULES[new.code].check.__name__}")
    RULES[new.code] = new
    return new.check


def check(
    dataset: Dataset, *, look: Look | None = None, ignore: Collection[str] = ()
) -> Iterator[Finding]:
    """
    Run every rule that is not ignored; findings come sample by sample, then the dataset's.

    Args:
        look: how to open images; without it, rules about image files stay silent.
        ignore: codes to leave out.
    """
    rules = [r for r in _rules() if r.code not in ignore]
    categories = dataset.category_of
    for sample in dataset:
        scene = Scene(sample, categories, look)
        for r in rules:
            if r.scope == "scene":
                yield from _run(r, scene)
    for r in rules:
        if r.scope == "dataset":
            yield from _run(r, dataset)


def mend(
    dataset: Dataset, *, look: Look | None = None, ignore: Collection[str] = ()
) -> Iterator[tuple[Sample, list[Finding]]]:
    """
    Give each sample after all safe fixes, with the findings that were fixed.

    A fix runs only where its rule fires, and again until the rule is silent, so mending
    what is mended changes nothing.
    """
    rules = [r for r in _rules() if r.fix is not None and r.code not in ignore]
    categories = dataset.category_of
    for original in dataset:
        sample, fixed = original, list[Finding]()
        for r in rules:
            scene = Scene(sample, categories, look)
            while (found := list(_run(r, scene))) and r.fix is not None:
                sample = r.fix(scene)
                if sample == scene.sample:
                    break
                fixed += found
                scene = Scene(sample, categories, look)
        yield sample, fixed


def summary(findings: Iterable[Finding]) -> dict[str, Any]:
    """Counts by severity and by rule, for reports and `dvc metrics`."""
    counts = Counter((f.severity, f.code) for f in findings)
    severities = {s: 0 for s in ("error", "warning", "info")}
    for (severity, _), n in counts.items():
        severities[severity] += n
    by_rule = {code: n for (_, code), n in sorted(counts.items(), key=lambda c: c[0][1])}
    return {**severities, "rules": by_rule}


def finding_of(error: FormatError, file_name: str | None = None) -> Finding:
    """A reader's complaint as a finding."""
    _rules()
    severity = RULES[error.code].severity if error.code in RULES else "error"
    return Finding(error.code, severity, str(error), file_name)


def _run(r: Rule, subject: Scene | Dataset) -> Iterator[Finding]:
    for finding in r.check(subject):
        yield replace(finding, code=r.code, severity=r.severity)


def _rules() -> list[Rule]:
    from . import rules  # noqa: F401  registers them; here, since rules/ imports this module

    return [RULES[code] for code in sorted(RULES)]


def _rasterise(segment: Segment, height: int, width: int) -> Mask | FormatError:
    try:
        return segment.mask(height, width)
    except FormatError as error:
        return error
