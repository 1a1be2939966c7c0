"""Made-up records and pictures in the published layout, broken ones among them, for the demo, tests and benchmarks."""

import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from PIL import Image, ImageDraw

from .runs import write_atomic

BROKEN = ("truncated", "empty", "text", "bomb", "cut-header")
_ENGLISH = """
cat boss moon umbrella toaster monday lawyer pigeon sandwich meeting ghost taxi dentist pyramid sofa robot grandmother
volcano email cactus penguin elevator biscuit wizard invoice trombone
""".split()  # noqa: SIM905 - a list of words reads better so
_HAN = (
    "猫老板月亮雨伞面包星期一律师鸽子会议幽灵出租车牙医金字塔沙发"
    "机器人奶奶火山邮件企鹅电梯饼干魔法师发票今天明天为什么因为所以"
)
_JAPANESE = (
    "猫の上司は月から傘を持って来たパンと会議で幽霊がタクシーに乗る"
    "歯医者ロボットおばあちゃん火山メールペンギン今日も明日もしかし"
)


def sentence(rng: random.Random, lang: str) -> str:
    """A sentence without much sense."""
    if lang == "en":
        return " ".join(rng.choices(_ENGLISH, k=rng.randint(3, 9))).capitalize() + rng.choice(".!?")
    letters = _HAN if lang == "zh" else _JAPANESE
    return "".join(rng.choices(letters, k=rng.randint(6, 20))) + rng.choice("。！？")


def lines(count: int, *, lang: str, seed: int, pictures: list[str], first: int = 0) -> Iterator[bytes]:
    """Lines of the published schema: two thirds with a picture, about five answers to a prompt.

    Args:
        count: How many.
        lang: ``"en"``, ``"zh"`` or ``"ja"``.
        seed: Seed.
        pictures: Identifiers to use; made up where empty.
        first: Number that tells these prompts from those of other calls.
    """
    rng = random.Random(f"{seed} {lang} {first}")
    prompts = max(1, count // 5)
    for number in range(count):
        prompt = random.Random(f"{seed} {lang} {first} {rng.randrange(prompts)}")
        drawn = prompt.random()
        name = prompt.choice(pictures) if pictures else str(prompt.randrange(10**9))
        game = "T2T" if drawn < 0.33 else "IT2T" if drawn < 0.38 and lang != "en" else "I2T"
        yield msgspec.json.encode(
            {
                "type": game,
                "question": sentence(prompt, lang) if game == "T2T" else None,
                "image": None if game == "T2T" else name,
                "text": f"{sentence(rng, lang)} {number}" if rng.random() < 0.9 else sentence(rng, lang),
                "star": None if rng.random() < 0.22 else int(rng.paretovariate(0.9)),
            }
        )


def picture(seed: int, *, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture that looks like no other: a few shapes on a ground."""
    rng = random.Random(seed)
    width, height = size

    def colour() -> tuple[int, int, int]:
        return rng.randrange(256), rng.randrange(256), rng.randrange(256)

    image = Image.new("RGB", size, colour())
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = rng.randrange(width), rng.randrange(height)
        box = (x, y, x + rng.randrange(10, width // 2), y + rng.randrange(10, height // 2))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=colour())
    return image


def encoded(image: Image.Image, form: str = "JPEG") -> bytes:
    """A picture's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def broken(kind: str, seed: int) -> bytes:
    """The bytes of a picture that must not pass."""
    good = encoded(picture(seed))
    if kind == "truncated":
        return good[: len(good) // 2]
    if kind == "cut-header":
        return good[:12]
    if kind == "bomb":
        return encoded(Image.new("1", (9000, 9000)), "PNG")
    return b"" if kind == "empty" else b"<html>404 Not Found</html>"


def write_layout(folder: Path, *, records: int, pictures: int, bad: int, seed: int) -> None:
    """Write ``en.jsonl``, ``cn.jsonl``, ``jp.jsonl`` and ``images.zip``.

    Among the records are some with a defect and some that repeat another, exactly or nearly; ``bad`` pictures are
    broken, and one good picture in ten is another one again, smaller and compressed anew.
    """
    names = [str(5_650_000 + number) for number in range(pictures)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for number, name in enumerate(names):
            if number < bad:
                data = broken(BROKEN[number % len(BROKEN)], number)
            elif number % 10 == 9 and number > bad:
                smaller = picture(seed + number - 1).resize((120, 90))
                data = encoded(smaller)
            else:
                data = encoded(picture(seed + number))
            member = zipfile.ZipInfo(f"images/{name}.jpg", (2024, 1, 1, 0, 0, 0))
            archive.writestr(member, data)
    write_atomic(folder / "images.zip", buffer.getvalue())
    rng = random.Random(seed)
    for at, (file, lang) in enumerate((("en", "en"), ("cn", "zh"), ("jp", "ja"))):
        share = records // 3 + (at < records % 3)
        spoiled = max(1, share // 25)
        repeated = max(1, share // 20)
        rows = list(lines(share - spoiled - repeated, lang=lang, seed=seed, pictures=names))
        again = [rows[rng.randrange(len(rows))] for _ in range(repeated)]
        rows += [row if number % 3 else row.replace(b'","star"', b'!!","star"') for number, row in enumerate(again)]
        rows += [_spoil(rows[rng.randrange(len(rows))], number) for number in range(spoiled)]
        rng.shuffle(rows)
        write_atomic(folder / f"{file}.jsonl", b"\n".join(rows) + b"\n")


def _spoil(line: bytes, number: int) -> bytes:
    """Break a line in one of the ways in which real files are broken."""
    ways = (
        line[: len(line) // 2],
        line.replace(b'"text":"', b'"text":"\xff', 1),
        line.replace(b'"star":', b'"star":1,"star":', 1),
        line.replace(b'"type":"', b'"type":"X', 1),
        line.replace(b'"text":"', b'"text":"\\ud800', 1),
        line.rpartition(b'"star":')[0] + b'"star":5.5}',
        line.replace(b'"image":', b'"image":"../../etc/passwd","was":', 1),
    )
    return ways[number % len(ways)]
