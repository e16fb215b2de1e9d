"""Lists as plain text: of classes, of images."""

from __future__ import annotations

from ..errors import FormatError
from ..files import Tree

_MAX_TEXT = 2**26  # bytes


def read_lines(tree: Tree, name: str) -> list[str]:
    """
    The lines of a text file, without the empty ones.

    Raises:
        FormatError: it is no UTF-8, or too large.
    """
    return [line.rstrip("\r") for line in _lines(tree, name) if line.strip()]


def read_classes(tree: Tree, name: str) -> list[str]:
    """
    The names of classes, a line each, whose place is their number.

    Raises:
        FormatError: as `read_lines`; or an empty line, which some tools count and others do not.
    """
    lines = [line.strip() for line in _lines(tree, name)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise FormatError(
            f"line {lines.index('') + 1} is empty, and the place of a line is its class",
            path=name,
            hint="take the line out, or name the class; then every tool counts alike",
        )
    return lines


def _lines(tree: Tree, name: str) -> list[str]:
    body = tree.read(name, _MAX_TEXT)
    if len(body) > _MAX_TEXT:
        raise FormatError(f"more than {_MAX_TEXT:,} bytes of text", path=name)
    try:
        return body.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise FormatError("not UTF-8", path=name, code="J001") from None
