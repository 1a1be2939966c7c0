"""Draws that depend on names alone, so that neither order nor number of what is drawn for changes any of them."""

from collections.abc import Sequence
from hashlib import blake2b


class Draws:
    """A few random numbers for one item: blake2b of seed and names, a different number at each call."""

    __slots__ = ("_key", "_state", "_used")

    def __init__(self, seed: int, *names: str) -> None:
        self._key = f"{seed}\0" + "\0".join(names)
        self._state = int.from_bytes(blake2b(self._key.encode("utf-8", "surrogatepass"), digest_size=32).digest())
        self._used = 0

    def _next(self) -> int:
        """32 fresh bits; another hash when the first 256 are used up."""
        if self._used % 8 == 0 and self._used:
            again = f"{self._key}\0{self._used}".encode("utf-8", "surrogatepass")
            self._state = int.from_bytes(blake2b(again, digest_size=32).digest())
        self._used += 1
        bits = self._state & 0xFFFFFFFF
        self._state >>= 32
        return bits

    def below(self, count: int) -> int:
        """A number from 0 to count - 1 (count far below 2^32, so that the remainder's bias does not matter)."""
        return self._next() % count

    def uniform(self) -> float:
        """A number from 0 to 1, without 1."""
        return self._next() / 4294967296

    def shuffled(self, count: int) -> list[int]:
        """The numbers from 0 to count - 1 in a random order."""
        order = list(range(count))
        for at in range(count - 1, 0, -1):
            other = self._next() % (at + 1)
            order[at], order[other] = order[other], order[at]
        return order


def draw(*names: object) -> int:
    """A number below 2^31 by the hash of names: a seed for what draws further."""
    text = "\0".join(map(str, names)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=4).digest()) >> 1


def shuffled(texts: Sequence[str], *names: object) -> list[str]:
    """Texts in an order that depends on them and on names only, not on the order they came in."""
    return sorted(texts, key=lambda text: (draw(*names, text), text))
