"""COCO panoptic keeps what a flat map can hold."""

from __future__ import annotations

from tests.formats.contract import FormatContract


class TestCocoPanoptic(FormatContract):
    name = "coco-panoptic"
