"""A blinded page for rating pairs of pictures, as one HTML file, and the tally of what raters saved.

The page loads nothing: pictures are inside as data, and its policy forbids every connection. Sides are drawn for each
pair; which picture is whose is shown only in the tally, after the last rating.
"""

import base64
import csv
import hashlib
import io
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sail_core.runs import write_atomic

from ._paired import mcnemar

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Tally:
    """Ratings of all raters.

    Attributes:
        adapter: Ratings that prefer the adapter's picture.
        base: Those that prefer the base's.
        tie: Those that prefer neither.
        raters: How many files there were.
        p: Two-sided sign test over pairs: each pair counts once, for the side that more raters prefer.
    """

    adapter: int
    base: int
    tie: int
    raters: int
    p: float


def write_pairs_page(
    path: str | os.PathLike[str],
    prompts: Sequence[str],
    base: Sequence["Image"],
    adapter: Sequence["Image"],
    *,
    question: str = "Which picture fits the prompt better?",
    seed: int = 0,
) -> Path:
    """Write the page.

    Args:
        path: Of the HTML file.
        prompts: One a pair, shown above it as text.
        base: The base's pictures.
        adapter: The adapter's, for the same prompts and seeds.
        question: The title.
        seed: Of the sides and of the order of the pairs.

    Returns:
        The path.

    Raises:
        ValueError: There is no pair, or the lengths differ.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     one, other = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
        ...     page = write_pairs_page(f"{folder}/pairs.html", ["a blue square"], [one], [other])
        ...     print(page.name, "default-src 'none'" in page.read_text())
        pairs.html True
    """
    if not prompts or not len(prompts) == len(base) == len(adapter):
        raise ValueError(
            f"{len(prompts)} prompts, {len(base)} and {len(adapter)} pictures came; a page needs as many of each, "
            "at least one"
        )
    draw = random.Random(seed)
    pairs = []
    order = draw.sample(range(len(prompts)), len(prompts))
    for number, at in enumerate(order):
        first = draw.randrange(2)  # 0: the adapter's picture is stored first
        images = [_data_url(adapter[at]), _data_url(base[at])]
        pairs.append(
            {
                "prompt": prompts[at],
                "images": images[::-1] if first else images,
                "order": draw.randrange(2),
                "code": (first + number) % 2,
            }
        )
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12]
    data = json.dumps({"page": digest, "question": question, "pairs": pairs})  # ASCII: no U+2028 to break a line
    data = data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    page = (files(__package__) / "_pairs_page.html").read_text(encoding="utf-8")
    write_atomic(Path(path), page.replace("/*DATA*/null", data))
    return Path(path)


def tally(paths: Sequence[str | os.PathLike[str]]) -> Tally:
    r"""Count the ratings that raters saved from one page.

    Args:
        paths: CSV files, one a rater.

    Returns:
        The counts and the sign test.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: There is no file, one is not from a page, or they are of different pages.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saved = Path(folder, "ratings.csv")
        ...     _ = saved.write_text("page,pair,choice,winner\n0a,0,left,adapter\n0a,1,left,base\n0a,2,tie,tie\n")
        ...     print(tally([saved]))
        Tally(adapter=1, base=1, tie=1, raters=1, p=1.0)
    """
    if not paths:
        raise ValueError("there are no ratings; give the CSV files that the page saved")
    pages: set[str] = set()
    counts = {"adapter": 0, "base": 0, "tie": 0}
    votes: dict[str, int] = {}
    for path in paths:
        rows = list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"))))
        if not rows or rows[0].keys() != {"page", "pair", "choice", "winner"}:
            raise ValueError(f"{path} has no ratings; give a CSV file that the page saved")
        for row in rows:
            if row["winner"] not in counts:
                raise ValueError(f"{path} has the winner {row['winner']!r}; expected {', '.join(counts)}")
            pages.add(row["page"])
            counts[row["winner"]] += 1
            votes[row["pair"]] = votes.get(row["pair"], 0) + {"adapter": 1, "base": -1, "tie": 0}[row["winner"]]
    if len(pages) > 1:
        raise ValueError(f"the files are of the pages {', '.join(sorted(pages))}; tally one page at a time")
    won, lost = sum(vote > 0 for vote in votes.values()), sum(vote < 0 for vote in votes.values())
    return Tally(counts["adapter"], counts["base"], counts["tie"], len(paths), mcnemar(won, lost))


def _data_url(image: "Image") -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
