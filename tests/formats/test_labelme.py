from __future__ import annotations
from tests.formats.contract import FormatContract


class TestLabelme(FormatContract):
    name = "labelme"
