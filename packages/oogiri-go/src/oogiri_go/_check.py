"""Check many pictures, in this process or in several."""

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from ._archive import FolderPictures, ZipPictures, open_pictures
from ._issue import Defect
from ._phash import Look
from ._picture import Check, Picture, inspect, inspect_look

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

_BATCH = 32


class Checked(msgspec.Struct, frozen=True):
    """What became of one picture.

    Attributes:
        image_id: Its identifier.
        code: Empty where the picture is good, else the kind of defect.
        message: The defect in words.
        content: blake2b-128 of the bytes in hexadecimal, empty where they could not be read.
        size: Number of bytes.
        picture: What it is, None where it could not be opened.
        look: How it looks, None unless that was asked for.
    """

    image_id: str
    code: str = ""
    message: str = ""
    content: str = ""
    size: int = 0
    picture: Picture | None = None
    look: Look | None = None


def check_one(pictures: FolderPictures | ZipPictures, image_id: str, *, check: Check, looks: bool) -> Checked:
    """Read and check one picture; a defect becomes part of the result."""
    content, size = "", 0
    try:
        data = pictures.read(image_id)
        content, size = blake2b(data, digest_size=16).hexdigest(), len(data)
        if looks:
            picture, seen = inspect_look(data)
            return Checked(image_id, "", "", content, size, picture, seen)
        return Checked(image_id, "", "", content, size, inspect(data, check=check))
    except Defect as defect:
        return Checked(image_id, defect.code, defect.message, content, size)


def check_pictures(
    path: str | os.PathLike[str], image_ids: Iterable[str], *, check: Check, looks: bool = False, workers: int = 1
) -> Iterator[Checked]:
    """Check pictures of a folder or zip file.

    Args:
        path: As `open_pictures` takes it.
        image_ids: Which ones.
        check: ``"header"`` or ``"decode"``.
        looks: Also compute how they look, which needs ``"decode"``.
        workers: Processes; the results do not depend on it.

    Yields:
        One result for each identifier, in their order.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1")
    if workers == 1:
        with open_pictures(path) as pictures:
            for image_id in image_ids:
                yield check_one(pictures, image_id, check=check, looks=looks)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    arguments = (os.fspath(path), check, looks)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_open, initargs=arguments) as pool:
        yield from _in_order(pool, _check_batch, _batches(image_ids), workers * 4)


def _in_order(
    pool: "ProcessPoolExecutor", run: Callable[[Any], list[Checked]], jobs: Iterator[list[str]], ahead: int
) -> Iterator[Checked]:
    """Map over jobs without handing out more than ``ahead`` of them before their results are taken."""
    waiting = [pool.submit(run, job) for job in islice(jobs, ahead)]
    while waiting:
        done = waiting.pop(0).result()
        waiting += [pool.submit(run, job) for job in islice(jobs, 1)]
        yield from done


def _batches(image_ids: Iterable[str]) -> Iterator[list[str]]:
    source = iter(image_ids)
    while batch := list(islice(source, _BATCH)):
        yield batch


_worker: tuple[FolderPictures | ZipPictures, Check, bool] | None = None


def _open(path: str, check: Check, looks: bool) -> None:
    global _worker
    _worker = open_pictures(path), check, looks


def _check_batch(image_ids: list[str]) -> list[Checked]:
    assert _worker is not None, "the pool's initializer has run"
    pictures, check, looks = _worker
    return [check_one(pictures, image_id, check=check, looks=looks) for image_id in image_ids]
