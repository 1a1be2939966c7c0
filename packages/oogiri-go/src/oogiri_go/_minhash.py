"""MinHash over character n-grams, for scripts with and without spaces."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from struct import Struct

from ._groups import fold

PLACES = 64
_SALTS = (b"0", b"1", b"2", b"3")  # a digest of 64 bytes holds 16 hashes
_WORDS = Struct("<64I")
# Hiragana to Katakana, Han with extension A, Hangul syllables, compatibility Han, Han beyond the basic plane
_DENSE = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x3134F))


def grams(text: str) -> frozenset[str]:
    r"""Give the set of character n-grams by which texts are compared.

    A gram that begins with a Han character, a kana or a Hangul syllable has two characters, any other three; such a
    character carries about as much as a short syllable of an alphabet. Spaces and punctuation are left out, so that
    texts with and without spaces compare alike; a mark stands before and after the text.

    Args:
        text: Any text; it is folded first.

    Returns:
        The grams.

    Example:
        >>> sorted(grams("猫が好き"))
        ['\x02猫', 'が好', 'き\x03', '好き', '猫が']
    """
    kept = "".join(filter(str.isalnum, fold(text))) or fold(text)
    marked = f"\2{kept}\3"
    found = set()
    for at, first in enumerate(marked[:-1]):
        after = marked[at + 1] if first == "\2" else first
        width = 2 if after > "\u303f" and any(low <= ord(after) <= high for low, high in _DENSE) else 3
        found.add(marked[at : at + width])
    return frozenset(found)


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """|A ∩ B| / |A ∪ B|, 1 for two empty sets."""
    both = len(a & b)
    return both / (len(a) + len(b) - both) if a or b else 1.0


def minhash(members: frozenset[str]) -> tuple[int, ...]:
    """Sketch a set so that two sketches agree in each of 64 places with probability J(A, B).

    sketch[i] = min over the members of h_i(member), with 64 independent hashes h_i

    Args:
        members: A set that is not empty.

    Returns:
        64 integers.

    References:
        Broder: On the resemblance and containment of documents, 1997.
    """
    return tuple(map(min, zip(*map(_hashes, members), strict=True)))


@lru_cache(maxsize=8192)
def _hashes(member: str) -> tuple[int, ...]:
    data = member.encode()
    return _WORDS.unpack(b"".join(blake2b(data, salt=salt).digest() for salt in _SALTS))


def bands(sketch: Sequence[int], threshold: float) -> Iterator[tuple[int, ...]]:
    """Cut a sketch into bands, each a key under which sets of similarity ``threshold`` and more meet.

    Two sets share at least one of 64 / r bands of r places with probability 1 - (1 - J^r)^(64 / r). r is the largest
    power of two for which this is at least 0.999 at J = ``threshold``.
    """
    rows = max((r for r in (1, 2, 4, 8) if 1 - (1 - threshold**r) ** (PLACES // r) >= 0.999), default=1)
    for band, at in enumerate(range(0, PLACES, rows)):
        yield (band, *sketch[at : at + rows])
