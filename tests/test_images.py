"""Pictures: what files say of themselves, and damage that shows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from publisher import images
from publisher.errors import FormatError
from tests.makers import picture


def facts(body):
    return images.look(body)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_each_format_says_its_size(kind):
    found = facts(picture(20, 30, kind))
    assert (found.format, found.height, found.width, found.orientation) == (kind, 20, 30, 1)
    assert images.size_of(io.BytesIO(picture(20, 30, kind))) == (20, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_picture_is_found_out(kind):
    body = picture(200, 300, kind)
    with pytest.raises(FormatError) as e:
        facts(body[: len(body) // 2])
    assert e.value.code == "I112"


def test_orientation_and_position_are_seen():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    found = facts(picture(exif=exif))
    assert found.orientation == 6
    assert found.has_location


def test_the_same_picture_at_another_size_has_nearly_the_same_hash():
    with Image.open(io.BytesIO(picture(480, 640, seed=3))) as image:
        small = io.BytesIO()
        image.resize((320, 240)).save(small, "JPEG", quality=50)
    one = facts(picture(480, 640, seed=3)).dhash
    two = facts(small.getvalue()).dhash
    other = facts(picture(480, 640, seed=4)).dhash
    assert (one ^ two).bit_count() <= 4
    assert (one ^ other).bit_count() > 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_header_alone_says_size_and_orientation(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = picture(200, 300, kind, exif=exif), picture(200, 300, kind)
    assert images.header_of(io.BytesIO(turned)) == (200, 300, 6)
    assert images.header_of(io.BytesIO(plain[: len(plain) // 2])) == (200, 300, 1)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda s: arrays(np.bool_, s)))
def test_masks_are_grey_pngs_that_anyone_decodes(mask):
    body = images.png_of_mask(mask)
    with Image.open(io.BytesIO(body)) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), mask.astype(np.uint8))
    assert np.array_equal(images.read_mask(body), mask)


def test_a_mask_larger_than_allowed_is_refused_before_it_is_decoded():
    body = images.png_of_mask(np.zeros((30, 40), bool))
    with pytest.raises(FormatError) as e:
        images.read_mask(body, most=1199)
    assert e.value.code == "I119"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_coloured_mask_is_refused(mode):
    out = io.BytesIO()
    Image.new(mode, (3, 2)).save(out, "PNG")
    with pytest.raises(FormatError, match="not grey"):
        images.read_mask(out.getvalue())


def test_a_colour_profile_survives_stripping():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    body = picture(icc_profile=profile, comment=b"who made it")
    clean = images.strip_metadata(body)
    with Image.open(io.BytesIO(clean)) as image:
        assert image.info["icc_profile"] == profile
        assert "comment" not in image.info


def test_png_text_and_what_follows_its_end_are_removed():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Author", "Somebody")
    body = picture(kind="PNG", pnginfo=info) + b"PK\x03\x04 a zip behind the picture"
    clean = images.strip_metadata(body)
    assert b"Somebody" not in clean
    assert b"a zip" not in clean
    with Image.open(io.BytesIO(body)) as a, Image.open(io.BytesIO(clean)) as b:
        assert np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "CMYK", "LA"])
def test_a_picture_of_any_mode_becomes_rgb(mode):
    grey = np.linspace(0, 255, 12).reshape(3, 4).astype(np.uint8)
    body = io.BytesIO()
    image = Image.fromarray(grey).convert("RGB").convert(mode)
    image.save(body, "TIFF")
    rgb = images.pixels_of(body.getvalue())
    assert (rgb.shape, rgb.dtype) == ((3, 4, 3), np.uint8)
    assert (np.abs(rgb.astype(int) - np.asarray(image.convert("RGB"))) <= 1).all()


@pytest.mark.parametrize(("values", "seen"), [([0, 32768, 65535], [0, 128, 255])])
def test_sixteen_bits_are_cut_to_eight_and_not_clipped(values, seen):
    body = io.BytesIO()
    Image.fromarray(np.array([values], dtype=np.uint16)).save(body, "PNG")
    assert images.pixels_of(body.getvalue())[0, :, 0].tolist() == seen


def test_a_picture_is_decoded_as_it_is_stored():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.pixels_of(picture(20, 30, exif=exif)).shape == (20, 30, 3)


@pytest.mark.parametrize("body", [b"", b"GIF89a", picture()[:100]])
def test_what_is_no_picture_is_refused(body):
    with pytest.raises(FormatError) as e:
        images.pixels_of(body)
    assert e.value.code == "I112"


@pytest.mark.parametrize("cut", [1, 12, 16, 20])
def test_a_png_without_its_end_is_found_out_though_all_pixels_are_there(cut):
    with pytest.raises(FormatError, match="cut short"):
        facts(picture(kind="PNG")[:-cut])


def test_a_png_whose_pixels_fit_no_checksum_is_found_out():
    body = bytearray(picture(kind="PNG", compress_level=0))
    body[body.index(b"IDAT") + 40] ^= 1
    with pytest.raises(FormatError, match="checksum of b'IDAT'"):
        facts(bytes(body))
