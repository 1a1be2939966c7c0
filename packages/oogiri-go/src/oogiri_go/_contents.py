"""Which identifiers mean the same picture."""

from collections.abc import Iterable

from ._check import Checked, check_pictures
from ._phash import LookIndex
from ._sources import PathLike


def picture_contents(images: PathLike, image_ids: Iterable[str], *, workers: int = 1) -> dict[str, str]:
    """Give identifiers of the same picture the same name: equal bytes, or a look that is nearly equal.

    The look is that of the picture averaged to 9 x 8 pixels: at most 4 of the 64 signs of its horizontal differences
    differ, and its colours by at most 6 of 255 on average. Size, format and compression do not matter. A picture takes
    the name of the first one that it looks like, so later pictures never change the name of an earlier one.

    Args:
        images: Folder or zip file of pictures.
        image_ids: Identifiers, in the order of the records.
        workers: Processes.

    Returns:
        For each picture that opens, blake2b-128 of the bytes of the first like it. Pass it as ``pictures`` to
        `group_key`, `groups`, `dedup`, `split` and whatever else takes it.
    """
    names = dict.fromkeys(image_ids)
    return contents_of(check_pictures(images, names, check="decode", looks=True, workers=workers))


def contents_of(checked: Iterable[Checked]) -> dict[str, str]:
    """The same from checked pictures, in their order; broken ones have none."""
    index = LookIndex()
    return {one.image_id: index.leader(one.content, one.look) for one in checked if one.look is not None}
