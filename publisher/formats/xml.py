"""XML in and out, one element at a time. What comes in is hostile, what goes out is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from ..errors import FormatError

_MAX_DEPTH = 32
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def elements(stream: BinaryIO) -> Iterator[Element]:
    """
    The root without its children, then each child of it, one at a time; then it is freed.

    Raises:
        FormatError: J001, not XML, cut short, nested too deep, or with a DOCTYPE.
    """
    depth = 0
    root: Element | None = None
    try:
        for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
            if event == "start":
                depth += 1
                if root is None:
                    root = element
                    yield Element(root.tag, root.attrib)
                if depth > _MAX_DEPTH:
                    raise FormatError(f"XML is nested deeper than {_MAX_DEPTH}", code="J001")
                continue
            depth -= 1
            if depth == 1 and root is not None:
                yield element
                root.clear()
    except DefusedXmlException as error:
        raise FormatError(
            f"XML with a DOCTYPE or entities is refused ({type(error).__name__})", code="J001"
        ) from error
    except (ParseError, UnicodeDecodeError, LookupError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"not valid XML: {error}", code="J001") from error
    if depth or root is None:
        raise FormatError("XML ends too early", code="J001")


class Xml:
    """Writes indented XML to a stream; `replaced` counts characters that XML cannot hold."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._depth = 0
        self.replaced = 0
        stream.write(b'<?xml version="1.0" encoding="utf-8"?>\n')

    @contextmanager
    def element(self, tag: str, attributes: Mapping[str, str] = {}) -> Iterator[None]:
        """An element that holds what is written meanwhile."""
        self._line(f"<{tag}{self._attributes(attributes)}>")
        self._depth += 1
        yield
        self._depth -= 1
        self._line(f"</{tag}>")

    def leaf(self, tag: str, text: str = "", attributes: Mapping[str, str] = {}) -> None:
        """An element that holds text, kept to the last space."""
        said = escape(self._clean(text), {"\r": "&#13;"})
        self._line(f"<{tag}{self._attributes(attributes)}>{said}</{tag}>")

    def _attributes(self, attributes: Mapping[str, str]) -> str:
        return "".join(f" {k}={quoteattr(self._clean(v))}" for k, v in attributes.items())

    def _clean(self, text: str) -> str:
        clean, many = _NOT_XML.subn("\ufffd", text)
        self.replaced += many
        return clean

    def _line(self, text: str) -> None:
        self._stream.write(f"{'  ' * self._depth}{text}\n".encode())


def clean(text: str) -> str:
    """Text as it comes back: characters that XML cannot hold become U+FFFD."""
    return _NOT_XML.sub("\ufffd", text)


def holds(text: str) -> bool:
    """Can XML hold the text as it is?"""
    return _NOT_XML.search(text) is None
