"""CVAT's formats keep masks, outlines, z-order and attributes, both ways."""

from __future__ import annotations

from tests.formats.contract import FormatContract


class TestCvat(FormatContract):
    name = "cvat"


class TestCvatVideo(FormatContract):
    name = "cvat-video"
