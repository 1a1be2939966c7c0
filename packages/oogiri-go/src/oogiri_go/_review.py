"""One HTML file to look through records and their pictures, without a server and without a network."""

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._archive import open_pictures
from ._dataset import OogiriDataset
from ._groups import fold, group_key
from ._issue import Defect, Issue
from ._minhash import bands, grams, jaccard, minhash
from ._phash import LookIndex, look
from ._picture import open_rgb
from ._read import read_jsonl
from ._record import Record
from ._sources import PathLike, find_sources
from ._split import SPLITS
from .runs import write_atomic

if TYPE_CHECKING:
    from PIL import Image

_EDGE = 220
_NEAR = 0.6


def review(
    root: PathLike,
    *,
    out: PathLike,
    images: PathLike | None = None,
    limit: int = 2000,
    lang: str = "auto",
) -> int:
    """Write one self-contained HTML file: search, filters, pictures, and duplicates side by side.

    The page runs its own inline script on data inside it; its policy forbids it to load anything. Every text is shown
    as text, never as markup.

    Args:
        root: A build, a file of JSON lines, or a folder in the published layout.
        out: The HTML file.
        images: Folder or zip file of pictures, where they do not lie in ``root``.
        limit: Most records to show, the first ones; each of their pictures adds about 8 KB.
        lang: As in `read_jsonl`.

    Returns:
        The number of records shown.

    Raises:
        FileNotFoundError: There is nothing to show.
        ValueError: An argument has no such value.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1")
    page = _Page(limit)
    if Path(root, "manifest.json").is_file():
        _from_build(root, page)
    else:
        _from_sources(root, images, lang, page)
    data = {
        "title": Path(root).resolve().name,
        "records": page.rows,
        "issues": page.issues,
        "pictures": page.pictures,
        "duplicates": _duplicates(page),
        "cut": page.cut,
    }
    # Inside <script> only "<" can end the element or begin a comment; JSON may hold it only in strings.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    template = (Path(__file__).parent / "review.html").read_text(encoding="utf-8")
    write_atomic(out, template.replace("/*DATA*/null", text, 1))
    return len(page.rows)


class _Page:
    """What the page will show."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.records: list[Record] = []
        self.rows: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.pictures: dict[str, str | None] = {}
        self.index = LookIndex()
        self.contents: dict[str, str] = {}
        self.cut = False

    @property
    def full(self) -> bool:
        """Whether no record fits any more; then the page says that there are more."""
        self.cut = self.cut or len(self.rows) >= self.limit
        return len(self.rows) >= self.limit

    def add(self, record: Record, split: str) -> None:
        """Take a record."""
        self.records.append(record)
        row = {
            "id": record.id,
            "type": record.type,
            "lang": record.lang,
            "split": split,
            "question": record.question,
            "image": record.image,
            "text": record.text,
            "star": record.star,
            "group": group_key(record),
            "source": record.source,
            "license": record.license,
            "extra": json.dumps(record.extra, ensure_ascii=False) if record.extra else None,
        }
        self.rows.append({name: value for name, value in row.items() if value is not None})

    def show(self, name: str, data: bytes | None) -> None:
        """Take the bytes of a picture, or note that there is none."""
        self.pictures[name] = None
        if data is None:
            return
        try:
            image = open_rgb(data)
        except Defect as defect:
            self.spoiled(name, defect)
            return
        self.contents[name] = self.index.leader(name, look(image))
        self.pictures[name] = _thumbnail(image)

    def spoiled(self, name: str, defect: Defect) -> None:
        """Note what is wrong with a picture."""
        self.pictures[name] = None
        self.issues.append({"file": name, "line": 0, "code": defect.code, "message": defect.message})


def _from_build(root: PathLike, page: _Page) -> None:
    splits = {split: OogiriDataset(root, split=split) for split in SPLITS}
    total = sum(map(len, splits.values()))
    for split, data in splits.items():
        # every split is shown, by its share of the rows
        count = len(data) if total <= page.limit else min(len(data), max(1, page.limit * len(data) // total))
        page.cut = page.cut or count < len(data)
        for index in range(count):
            if len(page.rows) == page.limit:
                break
            record = data[index]
            page.add(record, split)
            if record.image is not None and record.image not in page.pictures:
                encoded = data.image_bytes(index)
                page.show(record.image, encoded)


def _from_sources(root: PathLike, images: PathLike | None, lang: str, page: _Page) -> None:
    sources = find_sources(root, images)
    for path in sources.files:
        for one in read_jsonl(path, lang=lang, on_error="collect"):
            if isinstance(one, Issue):
                page.issues.append({"file": path.name, "line": one.line, "code": one.code, "message": one.message})
            elif page.full:
                break
            else:
                page.add(one, "")
    if sources.images is None:
        return
    with open_pictures(sources.images) as pictures:
        for name in dict.fromkeys(record.image for record in page.records if record.image is not None):
            try:
                page.show(name, pictures.read(name))
            except Defect as defect:
                page.spoiled(name, defect)


def _thumbnail(image: "Image.Image") -> str:
    from PIL import Image

    image.thumbnail((_EDGE, _EDGE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _duplicates(page: _Page) -> list[dict[str, Any]]:
    """Pairs of answers that say the same or nearly, and pictures that look the same."""
    found: list[dict[str, Any]] = []
    buckets: dict[Any, list[int]] = {}
    sets = []
    for at, record in enumerate(page.records):
        members = grams(record.text)
        sets.append(members)
        near: set[int] = set()
        for key in bands(minhash(members), _NEAR):
            bucket = buckets.setdefault((record.lang, key), [])
            near.update(bucket)
            bucket.append(at)
        for other in sorted(near):
            similarity = jaccard(members, sets[other])
            if similarity >= _NEAR:
                same = fold(page.records[other].text) == fold(record.text)
                found.append({"kind": "exact" if same else "near", "a": other, "b": at, "s": round(similarity, 3)})
    for name, leader in page.contents.items():
        if leader != name:
            found.append({"kind": "picture", "a": leader, "b": name, "s": 1.0})
    return sorted(found, key=lambda one: -one["s"])
