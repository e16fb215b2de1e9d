"""COCO instances keep all that a dataset holds."""

from __future__ import annotations

from tests.formats.contract import FormatContract


class TestCoco(FormatContract):
    name = "coco"
