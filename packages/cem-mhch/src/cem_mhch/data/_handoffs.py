"""Labels from what happened: the turn before a person took over was the one to hand over at."""

from dataclasses import replace

from cem_mhch._types import Dialogue


def label_handoff(dialogue: Dialogue) -> Dialogue | None:
    """Label the last turn before the first human turn 1, those before it 0, and cut there.

    A dialogue without a human turn keeps all turns, labelled 0, and is marked as censored: nobody took over, which does
    not say that nobody should have.

    Args:
        dialogue: A log, human turns included.

    Returns:
        The labelled dialogue, or None where the first turn is a human's already.

    Example:
        >>> from cem_mhch import Turn
        >>> roles = ("user", "bot", "user", "human", "user")
        >>> log = Dialogue(id="a", turns=tuple(Turn(role=one, text="") for one in roles))
        >>> [turn.handoff for turn in label_handoff(log).turns]
        [0, 0, 1]
    """
    first = next((number for number, turn in enumerate(dialogue.turns) if turn.role == "human"), None)
    if first == 0:
        return None
    turns = [replace(turn, handoff=0) for turn in dialogue.turns[:first]]
    if first is not None:
        turns[-1] = replace(turns[-1], handoff=1)
    return replace(dialogue, turns=tuple(turns), censored=first is None)
