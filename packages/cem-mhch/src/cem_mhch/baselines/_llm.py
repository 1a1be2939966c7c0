"""A language model as the judge, asked through any server with OpenAI's chat interface."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cem_mhch._types import Dialogue

from ._rules import Scores

PROMPT = (
    "You watch a customer service chat between a user and a bot. Say how likely it is that the chat should be handed "
    "over to a human agent right after the last turn. Answer with one number between 0 and 1 and nothing else."
)


class JudgeError(RuntimeError):
    """The server did not give a number, even when asked again."""


class LLMJudge:
    """Ask a language model at every turn, with the dialogue up to it.

    Args:
        base_url: Such as `http://localhost:8000/v1`.
        model: The model's name at that server.
        api_key: Sent as a bearer token; None sends none.
        prompt: The instruction.
        timeout: Seconds for one answer.
        tries: How often a turn is asked before it fails.
        workers: Requests at the same time.

    Raises:
        ValueError: The address is not http or https, or a number is below 1.
    """

    name = "llm"

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        prompt: str = PROMPT,
        timeout: float = 30.0,
        tries: int = 3,
        workers: int = 4,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url is {base_url!r}; it must begin with http:// or https://")
        if tries < 1 or workers < 1 or not timeout > 0:
            raise ValueError(
                f"tries {tries}, workers {workers} and timeout {timeout} must be at least 1, 1 and above 0"
            )
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.model, self.prompt, self.timeout, self.tries, self.workers = model, prompt, timeout, tries, workers
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def score(self, dialogues: Sequence[Dialogue]) -> Scores:
        """The judge's probability of a handoff at each turn.

        Raises:
            ValueError: A turn has no text.
            JudgeError: The server cannot be reached, or gives no number.
        """
        asked = [text for one in dialogues for text in _prefixes(one)]
        with ThreadPoolExecutor(self.workers) as pool:
            found = iter(list(pool.map(self._ask, asked)))
        return [[next(found) for _ in one.turns] for one in dialogues]

    def _ask(self, chat: str) -> float:
        messages = [{"role": "system", "content": self.prompt}, {"role": "user", "content": chat}]
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 8}).encode()
        said = ""
        for _ in range(self.tries):
            request = urllib.request.Request(self.url, data=body, headers=self._headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    said = str(json.loads(answer.read())["choices"][0]["message"]["content"])
            except urllib.error.HTTPError as error:
                said = f"status {error.code}"
                if error.code < 500 and error.code not in (408, 429):
                    break
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
                said = f"{type(error).__name__}: {error}"
            else:
                number = re.search(r"(?<![\d.])(?:0?\.\d+|[01](?:\.\d+)?)(?![\d.]*\d)", said)
                if number and 0 <= float(number.group()) <= 1:
                    return float(number.group())
        raise JudgeError(f"{self.url} gave no number between 0 and 1: {said[:200]!r}")


def _prefixes(dialogue: Dialogue) -> list[str]:
    lines: list[str] = []
    prefixes = []
    for number, turn in enumerate(dialogue.turns):
        if turn.text is None:
            raise ValueError(
                f"dialogue {dialogue.id!r}, turn {number}: it has ids and no text for a language model to read"
            )
        lines.append(f"{turn.role}: {turn.text}")
        prefixes.append("\n".join(lines))
    return prefixes
