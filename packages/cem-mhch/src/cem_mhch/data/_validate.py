"""Checks of a corpus that no single dialogue can make of itself."""

from collections.abc import Sequence

from cem_mhch._types import Dialogue


def validate(
    dialogues: Sequence[Dialogue],
    *,
    vocab_size: int | None = None,
    max_turns: int | None = None,
    max_tokens: int | None = None,
    max_chars: int | None = None,
) -> None:
    """Check dialogues against a vocabulary and limits of length, and that no id comes twice.

    The values of the turns themselves were checked when each `Dialogue` was made.

    Args:
        dialogues: At least one.
        vocab_size: Every token id must be below it.
        max_turns: Most turns of a dialogue.
        max_tokens: Most ids of a turn.
        max_chars: Most characters of a turn's text.

    Raises:
        ValueError: What is wrong first, with id and turn.

    Example:
        >>> from cem_mhch import Turn
        >>> validate([Dialogue(id="a", turns=(Turn(role="user", tokens=(7,)),))], vocab_size=5)
        Traceback (most recent call last):
        ...
        ValueError: dialogue 'a', turn 0: token id 7 is outside the vocabulary of 5 ids
    """
    if not dialogues:
        raise ValueError("there is no dialogue")
    seen: set[str] = set()
    for dialogue in dialogues:
        if dialogue.id in seen:
            raise ValueError(f"dialogue {dialogue.id!r}: the id comes twice")
        seen.add(dialogue.id)
        if max_turns is not None and len(dialogue.turns) > max_turns:
            raise ValueError(f"dialogue {dialogue.id!r}: {len(dialogue.turns)} turns, at most {max_turns} are allowed")
        for number, turn in enumerate(dialogue.turns):
            where = f"dialogue {dialogue.id!r}, turn {number}"
            largest = max(turn.tokens or (0,))
            if vocab_size is not None and largest >= vocab_size:
                raise ValueError(f"{where}: token id {largest} is outside the vocabulary of {vocab_size} ids")
            for length, limit, unit in (
                (len(turn.tokens or ()), max_tokens, "tokens"),
                (len(turn.text or ""), max_chars, "characters"),
            ):
                if limit is not None and length > limit:
                    raise ValueError(f"{where}: {length} {unit}, at most {limit} are allowed")
