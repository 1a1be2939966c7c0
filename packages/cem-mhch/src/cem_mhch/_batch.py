"""Dialogues as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._vocab import UNKNOWN, Encoder

if TYPE_CHECKING:
    from ._types import Dialogue, Turn

ROLE_IDS = {"user": 0, "bot": 1}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B dialogues of at most T turns of at most S tokens.

    Attributes:
        tokens: `(B, T, S)` int64, 0 = padding.
        mask: `(B, T)` bool, the real turns.
        role: `(B, T)` int64, 0 user, 1 bot; 0 on padding.
        handoff: `(B, T)` int64, 0 or 1; -1 on padding and without a label.
        sentiment: `(B, T)` int64, 0 negative, 1 neutral, 2 positive; -1 on padding and without a label.
        satisfaction: `(B,)` int64, 0 unsatisfied, 1 met, 2 well satisfied; -1 without a label.
        action: `(B, T)` int64, the logged action, -1 where there is none; None where no turn has one.
        propensity: `(B, T)`, the probability of the logged action, NaN where there is none; None as `action`.
        cost: `(B, T)`, the cost seen after the logged action, NaN where there is none; None as `action`.
    """

    tokens: Tensor
    mask: Tensor
    role: Tensor
    handoff: Tensor
    sentiment: Tensor
    satisfaction: Tensor
    action: Tensor | None = None
    propensity: Tensor | None = None
    cost: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in moved.items() if value is not None})


def collate(
    dialogues: Sequence[Dialogue],
    vocab: Encoder | None = None,
    *,
    max_turns: int | None = None,
    max_tokens: int | None = None,
) -> Batch:
    """Put dialogues into one padded batch.

    Args:
        dialogues: At least one, without turns of a human.
        vocab: Turns text into ids; not needed where all turns have ids. Ids go before the text.
        max_turns: Dialogues are cut to their first turns; None keeps all.
        max_tokens: Utterances are cut to their first tokens; None keeps all.

    Raises:
        ValueError: There is no dialogue, a turn is a human's, or one has only text and there is no vocabulary.

    Example:
        >>> from cem_mhch import Dialogue, Turn
        >>> two = (Turn(role="user", tokens=(5, 6), handoff=0), Turn(role="bot", tokens=(7,), handoff=1))
        >>> collate([Dialogue(id="a", turns=two)]).tokens.tolist()
        [[[5, 6], [7, 0]]]
    """
    if not dialogues:
        raise ValueError("there is no dialogue to put into a batch")
    rows = [dialogue.turns[:max_turns] for dialogue in dialogues]
    ids = [
        [
            encode(turn, vocab, f"dialogue {dialogue.id!r}, turn {number}")[:max_tokens]
            for number, turn in enumerate(row)
        ]
        for dialogue, row in zip(dialogues, rows, strict=True)
    ]
    count, turns = len(rows), max(map(len, rows))
    width = max(len(one) for row in ids for one in row)
    padding = [0] * width
    tokens = torch.tensor(
        [[one + padding[len(one) :] for one in row] + [padding] * (turns - len(row)) for row in ids], dtype=torch.int64
    )

    def column(name: str, fill: float, dtype: torch.dtype) -> Tensor:
        values = [[getattr(turn, name) for turn in row] for row in rows]
        filled = [[fill if value is None else value for value in row] + [fill] * (turns - len(row)) for row in values]
        return torch.tensor(filled, dtype=dtype)

    lengths = torch.tensor([len(row) for row in rows])
    logged = any(turn.action is not None for row in rows for turn in row)
    return Batch(
        tokens=tokens.reshape(count, turns, width),
        mask=torch.arange(turns) < lengths[:, None],
        role=torch.tensor([[ROLE_IDS[turn.role] for turn in row] + [0] * (turns - len(row)) for row in rows]),
        handoff=column("handoff", -1, torch.int64),
        sentiment=column("sentiment", -1, torch.int64),
        satisfaction=torch.tensor([-1 if one.satisfaction is None else one.satisfaction for one in dialogues]),
        action=column("action", -1, torch.int64) if logged else None,
        propensity=column("propensity", float("nan"), torch.get_default_dtype()) if logged else None,
        cost=column("cost", float("nan"), torch.get_default_dtype()) if logged else None,
    )


def encode(turn: Turn, vocab: Encoder | None, where: str) -> list[int]:
    """Ids of one turn; an empty utterance reads as one unknown word."""
    if turn.role not in ROLE_IDS:
        raise ValueError(
            f"{where}: it is a {turn.role}'s; cut the dialogue before its first human turn, see label_handoff"
        )
    if turn.tokens is not None:
        return list(turn.tokens) or [UNKNOWN]
    if vocab is None:
        raise ValueError(f"{where}: it has text and no ids; give the vocabulary that the model was trained with")
    return vocab.encode(turn.text or "") or [UNKNOWN]
