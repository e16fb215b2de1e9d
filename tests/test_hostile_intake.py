"""Hostile input: a one-line error with the right exit code, and no file outside the output."""

from __future__ import annotations

import io
import json
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from publisher import workspace
from publisher.dataset import Dataset, Sample
from publisher.errors import FormatError
from tests.makers import (
    SQUARE,
    coco_document,
    coco_folder,
    cvat_image,
    cvat_polygon,
    cvat_xml,
    picture,
    zipped,
)


def run(folder: Path, *arguments: object, memory: int = 2 * 2**30) -> subprocess.CompletedProcess:
    """`publisher ...` in a process of its own, with bounded memory and time."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    return subprocess.run(
        [sys.executable, "-m", "publisher", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
        env={"PATH": "", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
    )


def refused(folder: Path, source: Path, code: int = 3) -> str:
    """The one error line of an import that must fail and leave nothing behind."""
    before = everything(folder)
    done = run(folder, "import", source, "-o", folder / "out")
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert sum(line.startswith("error: ") for line in lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert everything(folder) == before
    return lines[0]


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*")) | set(folder.parent.glob("*"))


def xml_zip(folder: Path, xml: str, **members: bytes) -> Path:
    images = {"images/a.jpg": picture()}
    return zipped(folder / "in.zip", {"annotations.xml": xml, **images, **members})


@pytest.mark.parametrize(
    "name",
    ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "C:/evil.jpg", "a\\..\\evil.jpg", "a\nb"],
)
def test_an_archive_member_that_leads_out_is_refused(tmp_path, name):
    source = zipped(tmp_path / "in.zip", {"annotations.xml": cvat_xml(""), name: b"x"})
    assert "file name" in refused(tmp_path, source)


def test_a_link_in_an_archive_is_refused(tmp_path):
    link = zipfile.ZipInfo("images/a.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as z:
        z.writestr("annotations.xml", cvat_xml(cvat_image("a.jpg")))
        z.writestr(link, "/etc/passwd")
    assert "link or a device" in refused(tmp_path, tmp_path / "in.zip")


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path):
    bomb = zipped(
        tmp_path / "in.zip",
        {"annotations.xml": cvat_xml(""), "images/a.jpg": bytes(200 * 2**20)},
        zipfile.ZIP_DEFLATED,
    )
    assert bomb.stat().st_size < 2**19
    assert "zip bomb" in refused(tmp_path, bomb)


def test_members_over_the_same_bytes_are_refused(tmp_path):
    source = zipped(tmp_path / "in.zip", {"annotations.xml": cvat_xml(""), "b": b"x" * 50})
    body = bytearray(source.read_bytes())
    second = body.rindex(b"PK\x01\x02")
    body[second + 42 : second + 46] = struct.pack("<I", 0)  # the second starts at the first
    source.write_bytes(body)
    assert "overlap" in refused(tmp_path, source)


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    source = xml_zip(tmp_path, cvat_xml(cvat_image("a.jpg")))
    body = bytearray(source.read_bytes())
    at = body.rindex(b"PK\x01\x02")
    body[at + 16 : at + 20] = b"\0\0\0\0"  # the CRC
    source.write_bytes(body)
    assert "damaged" in refused(tmp_path, source)


BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x0 "ha">'
    + "".join(f'<!ENTITY x{i} "{f"&x{i - 1};" * 10}">' for i in range(1, 10))
    + "]><annotations>&x9;</annotations>"
)
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<annotations>&x;</annotations>"
)


@pytest.mark.parametrize("xml", [BILLION_LAUGHS, OUTSIDE], ids=["billion laughs", "outside entity"])
def test_xml_with_entities_is_refused(tmp_path, xml):
    assert "DOCTYPE or entities is refused" in refused(tmp_path, xml_zip(tmp_path, xml))


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<annotations><image", "not valid XML"),
        ("<annotations>" + "<a>" * 100_000, "nested deeper"),
        (cvat_xml(cvat_image("../../a.jpg")), "leads out"),
        (cvat_xml(cvat_image("/a.jpg")), "not a relative path"),
        (cvat_xml(cvat_image("a.jpg", size=(-5, 30))), "height is -5"),
        (cvat_xml(cvat_image("a.jpg", cvat_polygon("nan,1;9,1;9,9"))), "not finite"),
        (cvat_xml(cvat_image("a.jpg", cvat_polygon("1e9,1;9,1;9,9"))), "not finite"),
        (cvat_xml(cvat_image("a.jpg", cvat_polygon("inf,1;9,1;9,9"))), "not finite"),
        (cvat_xml(cvat_image("a.jpg", cvat_polygon("1,1;9,1"))), "needs 3"),
        (cvat_xml(cvat_image("a.jpg", cvat_polygon("1,1;9"))), "points are not"),
        (cvat_xml(cvat_image("a.jpg", cvat_polygon(label="ghost"))), "not among the labels"),
        (
            cvat_xml(
                cvat_image(
                    "a.jpg", '<mask label="hand" rle="3" left="0" top="0" width="2" height="2"/>'
                )
            ),
            "runs for 3 pixels, its box has 4",
        ),
        (
            cvat_xml(
                cvat_image(
                    "a.jpg",
                    '<mask label="hand" rle="0, 1" left="0" top="0" width="99999" height="99999"/>',
                )
            ),
            "mask box is",
        ),
        (cvat_xml(cvat_image("a.jpg", '<blob label="hand"/>')), "unknown shape <blob>"),
        (cvat_xml(cvat_image("a.jpg", size=(10**6, 10**6)) + cvat_image("b.jpg")), "no picture"),
    ],
)
def test_hostile_cvat_xml_is_refused(tmp_path, xml, said):
    assert said in refused(tmp_path, xml_zip(tmp_path, xml))


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"segmentation": {"size": [20, 30], "counts": [5, 5]}}, "covers 10 pixels, image has 600"),
        ({"segmentation": {"size": [20, 30], "counts": [-5, 605]}}, "negative"),
        ({"segmentation": {"size": [20, 30], "counts": "zzz~~"}}, "character COCO does not use"),
        ({"segmentation": {"size": [9**9, 9**9], "counts": "0"}}, "RLE is"),
        ({"segmentation": {"size": [20, 30], "counts": {}}}, "counts"),
        ({"segmentation": [[1, 1, 2]]}, "odd number"),
        ({"segmentation": [[1, 1, 9, 9]]}, "needs 3"),
        ({"segmentation": []}, "empty"),
        ({"segmentation": [[1e308, 1, 9, 1, 9, 9]]}, "not finite"),
        ({"segmentation": [[99999, 1, -99999, 1] * 3000]}, "outline is"),
        ({"image_id": 9}, "no image has id 9"),
        ({"category_id": 9}, "no category has id 9"),
        ({"iscrowd": 7}, "iscrowd is 7"),
        ({"id": "five"}, "Expected `int`"),
    ],
)
def test_hostile_coco_annotations_are_refused(tmp_path, annotation, said):
    source = coco_folder(tmp_path / "in", coco_document([annotation]))
    assert said in refused(tmp_path, source)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(coco_document([{"segmentation": SQUARE}])).replace("9.0", "NaN"), "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"images": 1, "annotations": [], "categories": []}', "no list 'images'"),
        ("\xff\xfe", "JSON"),
        (
            json.dumps(
                coco_document(images=[{"id": 1, "file_name": "../a.jpg", "height": 2, "width": 2}])
            ),
            "leads out",
        ),
    ],
    ids=["NaN", "deep", "shape", "bytes", "file_name"],
)
def test_hostile_coco_files_are_refused(tmp_path, text, said):
    source = coco_folder(tmp_path / "in", text) / "instances.json"
    assert said in refused(tmp_path, source)


def png(height: int, width: int) -> bytes:
    """A valid PNG of black pixels, whatever its size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    squeezer, out = zlib.compressobj(9), io.BytesIO()
    line = bytes(1 + (width + 7) // 8)
    for _ in range(height):
        out.write(squeezer.compress(line))
    out.write(squeezer.flush())
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", out.getvalue())
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (png(12_000, 12_000), "more than 134,217,728 pixels"),
        (b"not a picture", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
    ids=["pixel bomb", "text", "EPS"],
)
def test_hostile_pictures_are_refused(tmp_path, body, said):
    xml = cvat_xml(cvat_image("a.png", size=(12_000, 12_000)))
    source = zipped(tmp_path / "in.zip", {"annotations.xml": xml, "images/a.png": body})
    assert said in refused(tmp_path, source)


def test_memory_stays_bounded_on_a_pixel_bomb(tmp_path):
    xml = cvat_xml(cvat_image("a.png", size=(12_000, 12_000)))
    source = zipped(
        tmp_path / "in.zip", {"annotations.xml": xml, "images/a.png": png(12_000, 12_000)}
    )
    done = run(tmp_path, "import", source, "-o", tmp_path / "out", memory=600 * 2**20)
    assert done.returncode == 3


def test_a_foreign_folder_is_never_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    source = xml_zip(tmp_path, cvat_xml(cvat_image("a.jpg")))
    assert "was not written by this command" in refused(tmp_path, source, code=2)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_link_in_a_folder_that_leads_out_is_not_followed(tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(picture())
    source = coco_folder(tmp_path / "in", coco_document([{}]))
    (source / "images" / "a.jpg").unlink()
    (source / "images" / "a.jpg").symlink_to(secret)
    assert "leads out of the folder" in refused(tmp_path, source)


def test_control_characters_never_reach_the_terminal(tmp_path):
    xml = cvat_xml(cvat_image("a.jpg", cvat_polygon(label="&#x9;bad&#x202E;name")))
    line = refused(tmp_path, xml_zip(tmp_path, xml))
    assert "\u202e" not in line
    assert "\t" not in line


@pytest.mark.parametrize("split", ["../out", "a/b", "/etc", ""])
def test_a_split_that_leads_elsewhere_is_refused_before_files_are_named_after_it(split, tmp_path):
    sample = Sample(1, "a.jpg", 4, 4, split=split)
    workspace.write(tmp_path / "in", Dataset("d", (), (sample,)))
    with pytest.raises(FormatError) as error:
        list(workspace.read(tmp_path / "in"))
    assert error.value.code == "I109"
