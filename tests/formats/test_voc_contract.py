"""Pascal VOC and semantic masks keep what they declare."""

from tests.formats.contract import FormatContract


class TestVoc(FormatContract):
    name = "voc"


class TestSemantic(FormatContract):
    name = "semantic"
