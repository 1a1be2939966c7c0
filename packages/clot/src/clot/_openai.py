"""Any OpenAI-compatible server as a backend: vLLM, SGLang, hosted models.

What does not change stands first in a prompt (picture, instruction, question), so that a server with prefix caching
reads it once for all candidates and orders of options.
"""

import base64
import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ._backend import Generation, OptionLogprobs, OptionRequest, Prompt, Request
from ._http import Answered, JsonClient, RequestRefused, Unusable

_SIGNATURES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))
_TOP = 20

Asked = TypeVar("Asked")
Given = TypeVar("Given")


@dataclass(slots=True)
class Usage:
    """What requests have cost so far.

    Attributes:
        requests: Number of answered requests.
        attempts: Number of requests sent, repeated ones counted.
        prompt_tokens: Tokens read, as the server counts.
        completion_tokens: Tokens written, as the server counts.
        cost: In the currency of ``price``; 0 without prices.

    Example:
        >>> Usage(requests=1, attempts=2).cost
        0.0
    """

    requests: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class OpenAIBackend:
    """Ask a server that speaks the chat protocol. At most ``concurrency`` requests are under way at once.

    A failed request (429, 5xx, no answer in time, an answer that is none) is sent again after a random pause that
    doubles, or after the time that the server asks for. A request that the server refuses raises an error with
    ``record_id``. Letters are scored by the ``top_logprobs`` of the first token: a letter that is not among them counts
    with the least probability given, and with 0 tokens, so that it can be counted. Whole answers need
    ``prompt_logprobs=True`` and a server with that extension of vLLM.

    Args:
        model: The model's name at the server.
        base_url: Address up to and with ``/v1``.
        api_key: Key; None takes the environment variable ``OPENAI_API_KEY``, or sends none.
        concurrency: Requests under way at once, at least 1.
        timeout: Seconds without a byte before a request is given up.
        retries: How often a failed request is sent again.
        price: Price of a million tokens read and of a million written, for `usage`.
        log: A file to append a line of JSON to for each answered request: id, tokens, cost, seconds, attempts.
        max_image: Largest picture that is sent, in bytes.
        max_body: Largest answer that is read, in bytes.
        prompt_logprobs: The server gives log-probabilities of the prompt's tokens (vLLM).
        sleep: Waits between attempts, for so many seconds.

    Attributes:
        digest: Names server and model.
        usage: What was used so far.

    Raises:
        MissingExtra: httpx is not installed.
        ValueError: An argument has no such value.

    Example:
        >>> with OpenAIBackend("Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1") as server:
        ...     print(server.generate([]), server.usage.requests)
        [] 0
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        price: tuple[float, float] = (0.0, 0.0),
        log: str | os.PathLike[str] | None = None,
        max_image: int = 8 << 20,
        max_body: int = 16 << 20,
        prompt_logprobs: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if concurrency < 1 or retries < 0 or timeout <= 0:
            raise ValueError(
                f"concurrency is {concurrency}, retries {retries}, timeout {timeout}; expected at least 1, at least 0, "
                "and seconds above 0"
            )
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url is {base_url!r}; expected an address such as http://localhost:8000/v1")
        key = os.environ.get("OPENAI_API_KEY") if api_key is None else api_key
        self._client = JsonClient(
            base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            retries=retries,
            max_body=max_body,
            connections=concurrency,
            sleep=sleep,
        )
        self._model = model
        self._concurrency = concurrency
        self._price = price
        self._log = None if log is None else Path(log)
        self._max_image = max_image
        self._prompt_logprobs = prompt_logprobs
        self._lock = threading.Lock()
        self.usage = Usage()
        self.digest = hashlib.sha256(f"openai\0{base_url.rstrip('/')}\0{model}".encode()).hexdigest()

    def __enter__(self) -> "OpenAIBackend":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """Answer each request.

        Raises:
            RequestRefused: The server refuses a request.
            ServerError: There is no usable answer after all retries.
        """
        return self._all(self._generate, requests)

    def option_logprobs(self, requests: Sequence[OptionRequest]) -> list[OptionLogprobs]:
        """Give the log-probabilities of each request's options.

        Raises:
            RequestRefused: The server refuses a request.
            ServerError: There is no usable answer after all retries.
            ValueError: The server gives no log-probabilities, or whole answers are asked for without
                ``prompt_logprobs``.
        """
        return self._all(self._options, requests)

    def _all(self, call: Callable[[Asked], Given], requests: Sequence[Asked]) -> list[Given]:
        from concurrent.futures import ThreadPoolExecutor  # not at import: it brings logging

        with ThreadPoolExecutor(min(self._concurrency, max(1, len(requests)))) as pool:
            futures = [pool.submit(call, one) for one in requests]
            try:
                return [one.result() for one in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what has not begun need not be paid for
                raise

    def _generate(self, request: Request) -> Generation:
        texts: list[str] = []
        while len(texts) < request.n:  # some servers give one answer whatever n says
            body = {
                "model": self._model,
                "messages": [self._message(request.prompt, request.id)],
                "n": request.n - len(texts),
                "max_tokens": request.max_new_tokens,
                "temperature": request.temperature,
                "top_p": request.top_p,
                "seed": request.seed + len(texts),
            }
            answered = self._post(request.id, body, _check_texts)
            texts += [one["message"]["content"] or "" for one in answered.body["choices"]]
        return Generation(request.id, tuple(texts[: request.n]))

    def _options(self, request: OptionRequest) -> OptionLogprobs:
        if all(len(option) == 1 for option in request.options):
            return self._letters(request)
        if not self._prompt_logprobs:
            raise ValueError(
                f"request {request.id}: a chat server scores letters, not whole answers; use the letter or generate "
                "scorer, or a vLLM server and prompt_logprobs=True"
            )
        return self._contents(request)

    def _letters(self, request: OptionRequest) -> OptionLogprobs:
        body = {
            "model": self._model,
            "messages": [self._message(request.prompt, request.id)],
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": _TOP,
        }
        found = _top_logprobs(self._post(request.id, body, _check_choices).body, request.id)
        floor = min(logprob for _, logprob in found)
        logprobs, tokens = [], []
        for option in request.options:
            same = [logprob for token, logprob in found if token.strip(" \u2581\u0120") == option]
            logprobs.append(_logsumexp(same) if same else floor)
            tokens.append(1 if same else 0)
        return OptionLogprobs(request.id, tuple(logprobs), tuple(tokens))

    def _contents(self, request: OptionRequest) -> OptionLogprobs:
        """Sum the log-probabilities of each option's tokens at the end of a prompt that holds it as an answer begun."""
        message = self._message(request.prompt, request.id)
        common = {"model": self._model, "max_tokens": 1, "temperature": 0.0}
        start = self._post(request.id, common | {"messages": [message]}, _check_usage).body["usage"]["prompt_tokens"]
        logprobs, tokens = [], []
        for option in request.options:
            body = common | {
                "messages": [message, {"role": "assistant", "content": option}],
                "add_generation_prompt": False,
                "continue_final_message": True,
                "prompt_logprobs": 0,
            }
            entries = self._post(request.id, body, _check_prompt).body["prompt_logprobs"][start:]
            values = [_logprob(entry) for entry in entries]
            if not values:
                raise ValueError(f"request {request.id}: the option {option!r} adds no token to the prompt")
            logprobs.append(math.fsum(values))
            tokens.append(len(values))
        return OptionLogprobs(request.id, tuple(logprobs), tuple(tokens))

    def _message(self, prompt: Prompt, name: str) -> dict[str, Any]:
        if prompt.image is None:
            return {"role": "user", "content": prompt.text}
        kind = next((kind for signature, kind in _SIGNATURES if prompt.image.startswith(signature)), None)
        if kind is None:
            raise RequestRefused(name, "its picture is neither PNG, JPEG, GIF nor WebP")
        if len(prompt.image) > self._max_image:
            raise RequestRefused(name, f"its picture has {len(prompt.image)} bytes; max_image is {self._max_image}")
        url = f"data:image/{kind};base64,{base64.b64encode(prompt.image).decode()}"
        return {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt.text}],
        }

    def _post(self, name: str, body: dict[str, Any], check: Callable[[dict[str, Any]], None]) -> Answered:
        answered = self._client.post("/chat/completions", body, name, check)
        usage = answered.body.get("usage")
        read, written = (
            int(usage[key]) if isinstance(usage, dict) and isinstance(usage.get(key), int) else 0
            for key in ("prompt_tokens", "completion_tokens")
        )
        cost = (read * self._price[0] + written * self._price[1]) / 1e6
        row = {"id": name, "prompt_tokens": read, "completion_tokens": written, "cost": cost}
        row |= {"seconds": round(answered.seconds, 3), "attempts": answered.attempts}
        with self._lock:
            self.usage.requests += 1
            self.usage.attempts += answered.attempts
            self.usage.prompt_tokens += read
            self.usage.completion_tokens += written
            self.usage.cost += cost
            if self._log is not None:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return answered


def _check_choices(body: dict[str, Any]) -> None:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(one, dict) for one in choices):
        raise Unusable("an answer without choices")


def _check_texts(body: dict[str, Any]) -> None:
    _check_choices(body)
    for one in body["choices"]:
        message = one.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
            raise Unusable("a choice without a message")


def _check_usage(body: dict[str, Any]) -> None:
    usage = body.get("usage")
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        raise Unusable("an answer without the number of the prompt's tokens")


def _check_prompt(body: dict[str, Any]) -> None:
    entries = body.get("prompt_logprobs")
    if entries is None:
        raise ValueError("the server gives no prompt_logprobs; it needs to be vLLM, or use the letter scorer")
    try:
        sound = all(math.isfinite(_logprob(entry)) for entry in entries[1:])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise Unusable("prompt_logprobs of another form")


def _logprob(entry: dict[str, Any]) -> float:
    """The log-probability of the token that stands in the prompt, the only one that is asked for."""
    return float(list(entry.values())[0]["logprob"])  # noqa: RUF015 - StopIteration would end a generator silently


def _top_logprobs(body: dict[str, Any], name: str) -> list[tuple[str, float]]:
    try:
        listed = body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = [(str(one["token"]), float(one["logprob"])) for one in listed]
    except (IndexError, KeyError, TypeError, ValueError):
        found = []
    found = [(token, logprob) for token, logprob in found if math.isfinite(logprob)]
    if not found:
        raise ValueError(
            f"request {name}: the server gives no top_logprobs; start it so that it does (vLLM: --max-logprobs {_TOP}) "
            "or use the generate scorer"
        )
    return found


def _logsumexp(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(one - highest) for one in values))
