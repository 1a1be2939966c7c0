"""JSON requests to a server: time limits, retries with jitter, bounded answers, errors that say whose they are."""

import json
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oogiri_go.runs import needs

_RETRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_SETUP = frozenset({401, 403, 404, 405})


class ServerError(RuntimeError):
    """A server did not give a usable answer, however often it was asked."""


class RequestRefused(ValueError):
    """A server refuses one request for what it holds: too long, a picture it cannot read.

    Attributes:
        record_id: Identifier of the request.
    """

    def __init__(self, record_id: str, problem: str) -> None:
        super().__init__(f"record {record_id}: {problem}")
        self.record_id = record_id


class Unusable(Exception):
    """An answer that is no answer; asked again."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A usable answer.

    Attributes:
        body: What the server said.
        attempts: How often it was asked.
        seconds: How long it took, waiting included.
    """

    body: dict[str, Any]
    attempts: int
    seconds: float


class JsonClient:
    """Posts JSON. Threads may share it.

    Attributes:
        close: Closes the connections; done by itself when the client is gone.

    Args:
        base_url: What the paths are below.
        headers: Headers of every request.
        timeout: Seconds without a byte before a request is given up.
        retries: How often a failed request is sent again.
        max_body: Largest accepted answer, in bytes.
        sleep: Waits.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        retries: int,
        max_body: int,
        connections: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        with needs("sail-clot", "openai"):
            import httpx
        self._httpx = httpx
        self._client = httpx.Client(
            base_url=base_url,
            headers=dict(headers),
            timeout=timeout,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )
        self.close = weakref.finalize(self, self._client.close)
        self._timeout = timeout
        self._retries = retries
        self._max_body = max_body
        self._sleep = sleep
        self._jitter = random.Random()
        self._lock = threading.Lock()

    def post(self, path: str, body: Mapping[str, Any], name: str, check: Callable[[dict[str, Any]], None]) -> Answered:
        """Send until there is an answer that passes ``check``, which raises `Unusable`.

        Raises:
            RequestRefused: The server refuses this request.
            ServerError: There is no usable answer after all retries.
            ValueError: Address, model or key are wrong.
        """
        started = time.perf_counter()
        problem = ""
        for attempt in range(1, self._retries + 2):
            wait = None
            try:
                status, headers, data = self._send(path, body)
            except self._httpx.TimeoutException:
                problem = f"no answer within {self._timeout} s"
            except self._httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            except Unusable as error:
                problem = str(error)
            else:
                if status == 200:
                    try:
                        found = _object(data)
                        check(found)
                    except Unusable as error:
                        problem = str(error)
                    else:
                        return Answered(found, attempt, time.perf_counter() - started)
                else:
                    problem = f"status {status}, {_excerpt(data)}"
                    if status in _SETUP:
                        raise ValueError(f"the server answers {problem}; check base_url, model and api_key")
                    if status not in _RETRY:
                        raise RequestRefused(name, f"the server refuses it: {problem}")
                    wait = _retry_after(headers)
            if attempt <= self._retries:
                self._sleep(self._pause(attempt) if wait is None else wait)
        raise ServerError(f"request {name}: no usable answer in {self._retries + 1} attempts, at last {problem}")

    def _send(self, path: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        with self._client.stream("POST", path, json=dict(body)) as response:
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                if len(data) > self._max_body:
                    raise Unusable(f"an answer of more than {self._max_body} bytes")
            return response.status_code, response.headers, bytes(data)

    def _pause(self, attempt: int) -> float:
        """Between 0 and 0.5 * 2^attempt seconds, at most 30: clients that failed together do not return together."""
        with self._lock:
            return self._jitter.uniform(0, min(30.0, 0.5 * 2**attempt))


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        raise Unusable(f"no JSON but {_excerpt(data)}") from None
    if not isinstance(found, dict):
        raise Unusable(f"no object but {_excerpt(data)}")
    return found


def _excerpt(data: bytes) -> str:
    return repr(data[:200].decode("utf-8", "replace"))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, at most a minute."""
    try:
        return min(60.0, max(0.0, float(headers.get("retry-after", ""))))
    except ValueError:
        return None
