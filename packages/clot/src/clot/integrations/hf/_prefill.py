"""Reading prompts, each shared beginning once."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from ._encode import Encoded
from ._identity import weights_version
from ._reader import Reader
from ._state import Side, State, gather


class Prefill:
    """Read prompts so that what several begin with alike, picture included, is read once and remembered.

    A beginning is always read alone and without padding, so it has the same bits whether it is read or remembered.

    Args:
        reader: The model.
        side: Where shorter rows are padded.
        capacity: Beginnings to remember between calls; the longest unused one goes first.
    """

    def __init__(self, reader: Reader, *, side: Side, capacity: int) -> None:
        self.reader = reader
        self.side = side
        self.capacity = capacity
        self._known: OrderedDict[tuple[int, bytes, tuple[int, ...]], State] = OrderedDict()

    def clear(self) -> None:
        """Forget all beginnings."""
        self._known.clear()

    def __call__(self, prompts: Sequence[Encoded]) -> list[tuple[State, int]]:
        """Give for each prompt the state that has read it and its row there. The states must not be changed."""
        found: list[tuple[State, int] | None] = [None] * len(prompts)
        for group, shared in _groups(prompts):
            rows: dict[tuple[int, ...], list[int]] = {}
            for at in group:
                rows.setdefault(prompts[at].ids, []).append(at)
            state = self._beginning(prompts[group[0]], shared)
            if len(rows) > 1 or shared < len(prompts[group[0]].ids):
                state = gather([(state, 0)] * len(rows), side=self.side)
                self.reader.suffix(state, [ids[shared:] for ids in rows], side=self.side)
            for row, places in enumerate(rows.values()):
                for at in places:
                    found[at] = state, row
        return [one for one in found if one is not None]

    def _beginning(self, prompt: Encoded, length: int) -> State:
        key = (weights_version(self.reader.model), prompt.picture, prompt.ids[:length])
        state = self._known.get(key)
        if state is None:
            state = self.reader.prompt(prompt, length)
            self._known[key] = state
            while len(self._known) > self.capacity:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return state


def _groups(prompts: Sequence[Encoded]) -> Iterator[tuple[list[int], int]]:
    """Positions of prompts to read together, and how many tokens they share.

    Prompts are sorted, and one joins the group before it while the shared beginning is at least half of it and holds
    the picture. Of different prompts, each keeps at least one token that is not shared, to predict what follows.
    """
    order = sorted(range(len(prompts)), key=lambda at: (prompts[at].picture, prompts[at].ids))
    group: list[int] = []
    shared = shortest = 0
    for at in order:
        one = prompts[at]
        if group and prompts[group[0]].picture == one.picture:
            first = prompts[group[0]].ids
            least = min(shortest, len(one.ids))
            common = shared if one.ids == first else min(shared, _alike(first, one.ids), least - 1)
            if 2 * common >= len(one.ids) and common >= one.free:
                group.append(at)
                shared, shortest = common, least
                continue
        if group:
            yield group, shared
        group, shared, shortest = [at], len(one.ids), len(one.ids)
    if group:
        yield group, shared


def _alike(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the beginning that two sequences share."""
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return at
    return min(len(first), len(second))
