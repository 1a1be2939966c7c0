"""Words that are probably nouns, found without any dependency.

This is a guess, and named so wherever it is chosen. In English a word counts after an article, a possessive or a
preposition when nothing that follows makes it an attribute, or by an ending that nouns have. In Japanese runs of two or
more kanji or katakana count, in Chinese what stands between function words and is two or three signs long.
"""

import re

_ARTICLES = frozenset(
    re.findall(
        r"\w+",
        "a an the this that these those my your his her its our their some any no every each another one two three",
    )
)
_PREPOSITIONS = frozenset(
    re.findall(
        r"\w+",
        "of in on at by for with from into onto about over under through between behind without against like near",
    )
)
_ENDINGS = ("tion", "sion", "ment", "ness", "ity", "ship", "hood", "ism", "ist", "ology", "ance", "ence", "age")
_NEVER = frozenset(
    re.findall(
        r"\w+",
        """
    i you he she it we they me him us them who what which whom whose there here not and or but so if then than as is are
    was were be been being am do does did have has had will would can could shall should may might must just very too
    also only even still never always often again more most less least much many few all both other same such own first
    last new old good bad big small great little long high low young right wrong next early late best better worst
    worse nice happy sad free full sure able back down up out off away now today tonight tomorrow yesterday something
    anything nothing everything someone anyone everyone nobody thing things way lot kind sort bit dont cant wont lets
    going getting being making doing having saying looking trying telling making because while when where why how
    """,
    )
)
_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*|[.,!?;:]")
_JAPANESE = re.compile(r"[\u4e00-\u9fff々]{2,}|[\u30a1-\u30fa\u30fc]{2,}")
_HAN = re.compile(r"[\u4e00-\u9fff]+")
_CHINESE_FUNCTION = re.compile(
    "我们|你们|他们|她们|它们|咱们|自己|这个|那个|这样|那样|这里|那里|什么|怎么|为什么|哪里|哪个|多少|因为|所以|但是|"
    "可是|如果|虽然|然后|而且|或者|还是|不是|没有|已经|一个|一样|可以|应该|知道|觉得|时候|现在|"
    "[的了是在我你他她它们这那有不没和与跟对从到把被让给向往就都也还又再很太最更吗呢吧啊呀哦嗯着过要会能可想去来说看用"
    "为以之而且若但或因如何谁哪几多少个只次两一二三四五六七八九十上下里中前后大小好坏新老]"
)


def heuristic_nouns(text: str, lang: str) -> list[str]:
    """Words of a text that are probably nouns."""
    if lang == "en":
        return _english(text.lower())
    if lang == "ja":
        return _JAPANESE.findall(text)
    pieces = (piece for run in _HAN.findall(text) for piece in _CHINESE_FUNCTION.split(run))
    return [piece for piece in pieces if 2 <= len(piece) <= 3]


def _english(text: str) -> list[str]:
    words = _WORD.findall(text)
    found = []
    for at, word in enumerate(words):
        if len(word) < 3 or word in _NEVER or word in _ARTICLES or word in _PREPOSITIONS or not word[0].isalpha():
            continue
        before = words[at - 1] if at else ""
        after = words[at + 1] if at + 1 < len(words) else "."
        led = before in _ARTICLES or before in _PREPOSITIONS
        attribute = (
            led and after.isalpha() and after not in _NEVER | _ARTICLES | _PREPOSITIONS and after.endswith(_ENDINGS)
        )
        ending = word.endswith(_ENDINGS) and len(word) > 6
        if (led and not attribute and not word.endswith(("ing", "ly", "ed"))) or ending:
            found.append(word.removesuffix("'s").removesuffix("’s"))
    return found
