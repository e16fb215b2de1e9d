"""YOLO labels keep every pixel of instances, holes and parts."""

from __future__ import annotations

from dataclasses import replace

from tests.formats.contract import FormatContract


class TestYolo(FormatContract):
    name = "yolo"

    def expected(self, sample, data):
        """YOLO has no crowds: they are left out."""
        instances = tuple(s for s in sample.segments if not s.iscrowd)
        return super().expected(replace(sample, segments=instances), data)
