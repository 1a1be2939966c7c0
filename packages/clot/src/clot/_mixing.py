"""What the next training learns from: the records of the first stage, and those that the model chose itself."""

from collections.abc import Sequence

from oogiri_go import Record, record_id

from ._candidate import Candidate
from ._draw import draw

SOURCE = "self-refinement"


def record_of(candidate: Candidate, truth: Record, round: int) -> Record:
    """Write a kept candidate as a record of its prompt.

    Args:
        candidate: The candidate.
        truth: The record whose prompt it answers.
        round: The round.

    Returns:
        A record without likes, whose ``extra`` says where it comes from.
    """
    text = candidate.text or ""
    name = record_id(lang=truth.lang, type=truth.type, question=truth.question, image=truth.image, text=text)
    about = {"of": truth.id, "round": round, "candidate": candidate.index, "condition": candidate.condition}
    about["margin"] = candidate.margin
    return Record(
        name, truth.type, truth.question, truth.image, text, None, truth.lang,
        source=SOURCE, license=truth.license, extra={"refined": about},
    )  # fmt: skip


def mix_records(old: Sequence[Record], new: Sequence[Record], *, share: float, seed: int = 0) -> list[Record]:
    """Add the new records to the old ones; where they were more than a share of all, hashes choose which stay.

    ``new / (old + new) <= share``

    Args:
        old: Records of the first stage.
        new: Records that refinement kept.
        share: Largest share, above 0 and below 1.
        seed: Another number chooses others.

    Returns:
        The old records, then the new ones in their order.

    Example:
        >>> rows = [Record(str(at), "T2T", "Why?", None, str(at), None, "en") for at in range(8)]
        >>> len(mix_records(rows[:3], rows[3:], share=0.5))
        6
    """
    most = int(share / (1 - share) * len(old) + 1e-9)
    if len(new) > most:
        chosen = sorted(range(len(new)), key=lambda at: (draw(seed, "mix", new[at].id), at))[:most]
        new = [new[at] for at in sorted(chosen)]
    return [*old, *new]
