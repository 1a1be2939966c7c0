"""Lists of messages as chat interfaces have them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cem_mhch._types import Dialogue, Turn

_SKIPPED = ("system", "developer", "tool", "function")


def from_messages(messages: Sequence[Mapping[str, Any]], *, id: str = "messages") -> Dialogue:
    """Read a list of `{"role", "content"}`.

    Args:
        messages: Roles as those of `Turn`; messages of `system`, `developer`, `tool` and `function` are left out. A
            content is a string, None, or a list of parts of which those with a text count.
        id: Names the dialogue.

    Raises:
        ValueError: No message is left, or one has another role or content.

    Example:
        >>> dialogue = from_messages([{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}])
        >>> [turn.role for turn in dialogue.turns]
        ['bot', 'user']
    """
    turns = []
    for number, message in enumerate(messages):
        where = f"dialogue {id!r}, message {number}"
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            raise ValueError(f"{where}: expected an object with 'role' and 'content'")
        if message["role"] in _SKIPPED:
            continue
        turns.append(Turn(role=message["role"], text=_text(message["content"], where)))
    return Dialogue(id=id, turns=tuple(turns))


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content):
        return " ".join(part["text"] for part in content if isinstance(part.get("text"), str))
    raise ValueError(f"{where}: its content is {type(content).__name__}; expected a string or a list of parts")
