"""Records as the chat messages that multimodal models are tuned on."""

from typing import Any

from ._record import Record

_INSTRUCTIONS = {
    ("en", "T2T"): "Answer this question with something unexpected and funny.",
    ("en", "I2T"): "Look at the picture and say something unexpected and funny about it.",
    ("en", "IT2T"): "Look at the picture and complete its text with something unexpected and funny.",
    ("zh", "T2T"): "请用出人意料又好笑的话回答这个问题。",
    ("zh", "I2T"): "请看图，说一句出人意料又好笑的话。",
    ("zh", "IT2T"): "请看图，把图中的文字补充得出人意料又好笑。",
    ("ja", "T2T"): "このお題に、意外で面白い答えを一つ返してください。",
    ("ja", "I2T"): "この画像を見て、意外で面白い一言を返してください。",
    ("ja", "IT2T"): "この画像を見て、文の空いた所を意外で面白い言葉で埋めてください。",
}


def instruction_of(record: Record) -> str:
    """The default instruction of a record's language and game."""
    return _INSTRUCTIONS[record.lang, record.type]


def to_messages(record: Record, *, instruction: str | None = None) -> list[dict[str, Any]]:
    """Write a record as a conversation of two messages, the content in typed parts as chat templates expect it.

    Args:
        record: The record.
        instruction: What to ask for; None takes the default of the language and game.

    Returns:
        The user's message, with ``{"type": "image", "image": identifier}``
        before the text where there is a picture, and
        the assistant's.

    Example:
        >>> user, assistant = to_messages(Record("", "T2T", "Why?", None, "Why not?", 5, "en"))
        >>> print(user["content"][0]["text"])
        Answer this question with something unexpected and funny.
        Why?
        >>> assistant["content"][0]["text"]
        'Why not?'
    """
    answer = {"role": "assistant", "content": [{"type": "text", "text": record.text}]}
    return [user_message(record, instruction or instruction_of(record)), answer]


def user_message(record: Record, instruction: str) -> dict[str, Any]:
    """The message that asks."""
    content: list[dict[str, Any]] = []
    if record.image is not None:
        content.append({"type": "image", "image": record.image})
    text = instruction if record.question is None else f"{instruction}\n{record.question}"
    return {"role": "user", "content": [*content, {"type": "text", "text": text}]}
