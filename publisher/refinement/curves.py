"""The risk-coverage curve as a picture: how much harm comes with how much refinement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from .scoring import Risk

GOAL = 0.01  # of harm, drawn as a line

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LEFT, _TOP, _WIDTH, _HEIGHT = 60, 20, 480, 300  # of the part that has the curves, in pixels
_LEGEND = 200  # pixels beside it


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of the picture, and where the rule as it stands is on it."""

    name: str
    risks: Sequence[Risk]
    coverage: float
    harm: float
    high: float  # the upper end of the interval of `harm`


def svg(curves: Sequence[Curve]) -> bytes:
    """
    Coverage to the right, harm upwards; both are shares of all objects.

    Harm beyond 10 % is cut off: nobody would accept it.
    """
    worst = max((r.harm for c in curves for r in c.risks), default=0.0)
    top = min(max(worst, 2 * GOAL), 0.1)
    return "\n".join(_drawn(curves, top)).encode()


def _drawn(curves: Sequence[Curve], top: float) -> Iterator[str]:
    width, height = _LEFT + _WIDTH + _LEGEND, _TOP + _HEIGHT + 50
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{width}" height="{height}" fill="white"/>'
    yield (
        f'<clipPath id="inside"><rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" '
        f'height="{_HEIGHT}"/></clipPath>'
    )
    yield from _axes(top)
    for index, curve in enumerate(curves):
        yield from _line(curve, index, top)
    yield "</svg>\n"


def _axes(top: float) -> Iterator[str]:
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    yield f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#888"/>'
    for step in range(5):
        x, y = _place(step / 4, top * step / 4, top)
        yield f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{25 * step} %</text>'
        yield (
            f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{25 * top * step:.1f} %</text>'
        )
    _, y = _place(0, GOAL, top)
    yield f'<path d="M{_LEFT} {y}H{right}" stroke="#888" stroke-dasharray="4 4"/>'
    middle = _LEFT + _WIDTH // 2
    yield f'<text x="{middle}" y="{bottom + 40}" text-anchor="middle">refined</text>'
    yield (
        f'<text x="14" y="{_TOP + _HEIGHT // 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_TOP + _HEIGHT // 2})">made worse</text>'
    )


def _line(curve: Curve, index: int, top: float) -> Iterator[str]:
    colour = _COLOURS[index % len(_COLOURS)]
    corners = [(0.0, 0.0), *((r.coverage, r.harm) for r in curve.risks)]
    points = " ".join("{},{}".format(*_place(*corner, top)) for corner in corners)
    yield (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5" '
        'clip-path="url(#inside)"/>'
    )
    x, y = _place(curve.coverage, min(curve.harm, top), top)
    yield f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>'
    x, y = _LEFT + _WIDTH + 20, _TOP + 20 + 34 * index
    yield f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colour}"/>'
    yield f'<text x="{x + 10}" y="{y}">{escape(curve.name)}, {curve.coverage:.0%} refined</text>'
    yield (
        f'<text x="{x + 10}" y="{y + 14}" fill="#555">'
        f"{curve.harm:.2%} worse, at most {curve.high:.2%}</text>"
    )


def _place(coverage: float, harm: float, top: float) -> tuple[float, float]:
    return round(_LEFT + _WIDTH * coverage, 1), round(_TOP + _HEIGHT * (1 - harm / top), 1)
