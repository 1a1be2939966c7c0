"""A local server that speaks the chat protocol, and misbehaves on demand."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def chat(texts, *, prompt=10, completion=4):
    """An answer of the protocol."""
    choices = [
        {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for at, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": prompt, "completion_tokens": completion * len(texts)}
    return {"id": "x", "object": "chat.completion", "choices": choices, "usage": usage}


def letters(logprobs):
    """An answer of one token with the most probable ones."""
    body = chat(["A"], completion=1)
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in logprobs]
    body["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": top}]}
    return body


class FakeServer:
    """Answers with what `script` gives.

    Args:
        script: ``script(body, number)`` gives a body to send as JSON, bytes to send as they are, an integer to send as
            a status, a (status, headers, body) tuple, or a float: seconds to wait before a good answer.

    Attributes:
        bodies: What was asked, in order.
        most: The largest number of requests under way at once.
    """

    def __init__(self, script):
        self.script = script
        self.bodies, self.headers, self.most, self._now, self._lock = [], [], 0, 0, threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers) | {"path": self.path})
                    outer._now += 1
                    outer.most = max(outer.most, outer._now)
                try:
                    self.reply(outer.script(body, number), body)
                finally:
                    with outer._lock:
                        outer._now -= 1

            def reply(self, given, body):
                status, headers = 200, {}
                if isinstance(given, float):
                    time.sleep(given)
                    given = chat(["late"] * body.get("n", 1))
                if isinstance(given, tuple):
                    status, headers, given = given
                elif isinstance(given, int):
                    status, given = given, {"error": {"message": "no"}}
                data = given if isinstance(given, bytes) else json.dumps(given).encode()
                try:
                    self.send_response(status)
                    for name, value in ({"Content-Length": str(len(data))} | headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                    self.close_connection = "Content-Length" in headers  # a length that is not true: hang up
                except OSError:
                    self.close_connection = True  # the client gave up

            def log_message(self, *args):
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


def vllm(logprob):
    """A script for vLLM's extension: words are tokens, and each costs what `logprob(word)` says."""

    def script(body, number):
        texts = [one["content"] for one in body["messages"]]
        words = [word for text in texts for word in text.split()]
        answer = chat(["x"], prompt=len(words) + 3)
        if "prompt_logprobs" in body:
            assert body["continue_final_message"] is True
            assert body["add_generation_prompt"] is False
            head = [None, *[{"1": {"logprob": -9.0, "rank": 1, "decoded_token": "h"}}] * 2]
            tail = [{"7": {"logprob": logprob(word), "rank": 1, "decoded_token": word}} for word in words]
            answer["prompt_logprobs"] = head + tail
        return answer

    return script
