"""Pictures that are broken, huge or odd."""

import io
import struct
import warnings
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oogiri_go._issue import Defect
from oogiri_go._picture import inspect, inspect_look, open_rgb, plain_bytes
from oogiri_go._synthetic import encoded, picture
from PIL import Image, ImageSequence


def code(data, **options):
    with pytest.raises(Defect) as caught:
        inspect(data, **options)
    return caught.value.code


def jpeg(**options):
    buffer = io.BytesIO()
    picture(1).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_a_good_picture():
    found = inspect(jpeg())
    assert (found.format, found.width, found.height, found.mode, found.frames, found.plain) == (
        "JPEG",
        160,
        120,
        "RGB",
        1,
        True,
    )


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_truncated_jpeg_passes_verify_but_not_us(keep):
    data = jpeg()[: int(keep * len(jpeg()))]
    Image.open(io.BytesIO(data)).verify()  # Pillow's own check lets it through
    assert inspect(data, check="header").format == "JPEG"
    assert code(data) == "image-truncated"
    with pytest.raises(Defect, match="does not decode"):
        open_rgb(data)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP"])
def test_other_truncated_files(form):
    data = encoded(picture(2), form)
    assert inspect(data).format == form
    assert code(data[: len(data) // 2]) in ("image-truncated", "image-format")


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"<html>", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0" + bytes(50)]
)
def test_what_is_no_picture(data):
    for check in ("header", "decode"):
        assert code(data, check=check) == "image-format"


def huge_png(width, height):
    """A header that promises pixels, and hardly any data."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


@pytest.mark.parametrize("edge", [6_400, 9_000, 14_000, 60_000])
def test_a_bomb_is_refused_by_its_header(edge):
    for check in ("header", "decode"):
        assert code(huge_png(edge, edge), check=check) == "image-bomb"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert code(huge_png(edge, edge)) == "image-bomb"


def test_just_below_the_limit_the_header_passes():
    assert inspect(huge_png(6_324, 6_324), check="header").width == 6_324
    assert code(huge_png(6_324, 6_324)) == "image-truncated"


def modes():
    base = picture(3)
    alpha = base.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(base.size))
    wide = Image.new("I;16", base.size)
    wide.putdata([at * 257 % 65_536 for at in range(base.width * base.height)])
    return {
        "cmyk": (base.convert("CMYK"), "JPEG"),
        "16 bit": (wide, "PNG"),
        "palette": (base.convert("P"), "PNG"),
        "palette, transparent": (alpha.quantize(), "PNG"),
        "alpha": (alpha, "PNG"),
        "grey and alpha": (alpha.convert("LA"), "PNG"),
        "one bit": (base.convert("1"), "PNG"),
        "grey": (base.convert("L"), "JPEG"),
        "bitmap": (base, "BMP"),
    }


@pytest.mark.parametrize("name", list(modes()))
def test_every_mode_becomes_rgb(name):
    image, form = modes()[name]
    data = encoded(image, form)
    found = inspect(data)
    rgb = open_rgb(data)
    assert (rgb.mode, rgb.size) == ("RGB", image.size)
    kept = plain_bytes(data, found)
    assert (kept == data) == found.plain == (name == "grey")
    again = Image.open(io.BytesIO(kept))
    again.load()
    assert again.mode in ("RGB", "L")


def test_sixteen_bits_keep_their_range():
    wide = Image.new("I;16", (256, 1))
    wide.putdata([at * 257 for at in range(256)])
    assert open_rgb(encoded(wide, "PNG")).tobytes()[::3] == bytes(range(256))


def test_transparency_lies_on_white():
    assert open_rgb(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert open_rgb(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 255)), "PNG")).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    buffer = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {}
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=50, **options)
    data = buffer.getvalue()
    found = inspect(data)
    assert (found.frames, found.plain) == (3, False)
    kept = Image.open(io.BytesIO(plain_bytes(data, found)))
    assert len(list(ImageSequence.Iterator(kept))) == 1
    assert kept.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def test_the_orientation_is_applied():
    data = jpeg(exif=exif(6))
    found = inspect(data)
    assert not found.plain
    assert open_rgb(data).size == (120, 160)
    kept = plain_bytes(data, found)
    assert Image.open(io.BytesIO(kept)).size == (120, 160)
    assert not Image.open(io.BytesIO(kept)).getexif()
    assert inspect(jpeg(exif=exif(1))).plain


@pytest.mark.parametrize(
    "broken",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0\0\0\0",
        b"Exif\0\0",
    ],
)
def test_broken_exif_is_ignored(broken):
    data = jpeg(exif=broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = inspect(data)
        assert open_rgb(data).size == (160, 120)
        kept = plain_bytes(data, found)
        image = Image.open(io.BytesIO(kept))
        image.getexif()
        image.load()


@given(st.binary(max_size=200), st.integers(0, 3000), st.integers(0, 40))
def test_spoiled_bytes_give_a_picture_or_a_defect(noise, at, cut):
    good = GOODS[len(noise) % 3]
    data = good[: at % len(good)] + noise + good[at % len(good) + cut :]
    defect = None
    try:
        found, look = inspect_look(data)
    except Defect as error:
        defect = error
    if defect is not None:
        assert defect.code in ("image-format", "image-truncated", "image-bomb")
    else:
        assert found.width * found.height <= 40_000_000
        assert len(look.thumbnail) == 216
        assert open_rgb(data).mode == "RGB"


GOODS = [jpeg(), encoded(picture(4), "PNG"), encoded(picture(5), "WEBP")]
