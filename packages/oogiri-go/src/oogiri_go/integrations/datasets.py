"""Read records from a data set of the library `datasets`, whatever its pictures are."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from oogiri_go._fields import is_image_id, to_record
from oogiri_go._issue import Defect, Issue
from oogiri_go._record import Record, language
from oogiri_go.runs import needs, write_atomic

with needs("oogiri-go", "hf"):
    import datasets  # type: ignore[import-untyped]


def from_datasets(
    dataset: "datasets.Dataset | datasets.IterableDataset", *, lang: str = "auto", images: Path | None = None
) -> Iterator[Record | Issue]:
    """Read the rows of a data set whose columns have the names of Oogiri-GO's fields.

    Pictures in a column ``image`` are not decoded. With ``images`` their bytes are written there, so that `build` finds
    them; a picture is named by ``image_id``, else by the stem of its path, else by the row's number. Rows that break a
    rule of `read_jsonl` come as issues whose ``line`` is the row's number from 1.

    Args:
        dataset: ``datasets.Dataset`` or ``IterableDataset``.
        lang: A language of `language`, or ``"auto"``: the row's own, else that of its script.
        images: A folder for pictures; None leaves them.

    Yields:
        Records and issues, in order.

    Raises:
        ValueError: ``lang`` is no language.
    """
    known = None if lang == "auto" else language(lang)
    features = dataset.features or {}
    if isinstance(features.get("image"), datasets.Image):
        dataset = dataset.cast_column("image", datasets.Image(decode=False))
    return _rows(dataset, known, lang != "auto", images)


def _rows(
    dataset: Iterable[Mapping[str, Any]], lang: Any, strict: bool, images: Path | None
) -> Iterator[Record | Issue]:
    for number, row in enumerate(dataset, start=1):
        fields = {name: value for name, value in row.items() if name != "image_id"}
        picture = row.get("image")
        try:
            if isinstance(picture, Mapping):
                fields["image"] = _name(row, picture, number)
                if images is not None:
                    _keep(picture, fields["image"], images)
            elif row.get("image_id") is not None:
                fields["image"] = row["image_id"]
            yield to_record(fields, lang=lang, strict_lang=strict, with_id=True)
        except Defect as defect:
            yield Issue(number, 0, defect.code, defect.message)


def _name(row: Mapping[str, Any], picture: Mapping[str, Any], number: int) -> str:
    name = row.get("image_id") or (Path(picture["path"]).stem if picture.get("path") else f"row-{number}")
    if not isinstance(name, str) or not is_image_id(name):
        raise Defect("image-id", f"the picture's name {ascii(name)[:80]} is no identifier")
    return name


def _keep(picture: Mapping[str, Any], name: str, images: Path) -> None:
    data = picture.get("bytes")
    if data is None and picture.get("path"):
        try:
            data = Path(picture["path"]).read_bytes()
        except OSError as error:
            raise Defect("image-missing", f"the picture cannot be read: {error.strerror}") from None
    if not data:
        raise Defect("image-missing", "the picture has neither bytes nor a readable path")
    suffix = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"RI": "webp"}.get(bytes(data[:2]), "bmp")
    path = images / f"{name}.{suffix}"
    if not path.exists() or path.read_bytes() != data:
        write_atomic(path, bytes(data))
