"""A headless Chromium over its debugging pipe, for the tests of pages: messages are JSON that ends in NUL."""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Browser:
    """One page of one browser process."""

    def __init__(self, program: str, profile: Path) -> None:
        switches = (
            *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "remote-debugging-pipe"),
            *("disable-background-networking", "disable-component-update", "disable-sync"),
        )
        options = [f"--{switch}" for switch in switches]
        ours, theirs = os.pipe(), os.pipe()
        launch = (
            "import fcntl, os, sys\n"
            "ends = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 20) for one in sys.argv[1:3]]\n"  # clear of 3 and 4
            "os.dup2(ends[0], 3), os.dup2(ends[1], 4)\n"
            "os.execv(sys.argv[3], sys.argv[3:])"
        )
        command = [sys.executable, "-c", launch, str(ours[0]), str(theirs[1]), program, *options]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "--window-size=1200,900", "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self.write, self.read = os.fdopen(ours[1], "wb", buffering=0), os.fdopen(theirs[0], "rb")
        self.number, self.session, self.events = 0, None, []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and give its result; events that come first are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def receive(self) -> dict[str, Any]:
        """The next message."""
        data = bytearray()
        while (byte := self.read.read(1)) != b"\0":
            assert byte, "the browser has gone"
            data += byte
        return json.loads(data)

    def open(self, url: str) -> None:
        """Load a page to its end."""
        self.call("Page.navigate", url=url)
        while not any(one.get("method") == "Page.loadEventFired" for one in self.events):
            self.events.append(self.receive())

    def evaluate(self, code: str) -> Any:
        """The value of an expression on the page, awaited."""
        result = self.call("Runtime.evaluate", expression=code, returnByValue=True, userGesture=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, code: str, seconds: float = 30) -> Any:
        """Wait until an expression is true and give its value."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(code)):
            assert time.monotonic() < end, f"{code} did not become true: {self.evaluate('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        """All text of an element."""
        return str(self.evaluate(f"document.querySelector({selector!r}).textContent"))

    def press(self, key: str) -> None:
        """Press and release one key."""
        code = {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": 8, "code": key}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **(code if kind == "keyDown" else {}))

    def type(self, text: str) -> None:
        """Type into what has the focus, key by key."""
        for character in text:
            self.call("Input.dispatchKeyEvent", type="char", text=character)

    def fill(self, selector: str, text: str) -> None:
        """Insert a whole text into a field."""
        self.click(selector)
        self.call("Input.insertText", text=text)
        time.sleep(0.5)  # gradio takes over what was typed a little later

    def clear(self, selector: str) -> None:
        """Empty a field as a person would."""
        self.click(selector)
        self.evaluate(f"document.querySelector({selector!r}).select()")
        self.call("Input.dispatchKeyEvent", type="keyDown", key="Delete", code="Delete", windowsVirtualKeyCode=46)
        self.call("Input.dispatchKeyEvent", type="keyUp", key="Delete", code="Delete", windowsVirtualKeyCode=46)
        time.sleep(0.5)

    def click(self, selector: str) -> None:
        """Wait for an element and click its middle."""
        self.wait(f"document.querySelector({selector!r}) !== null")
        x, y = self.evaluate(
            f"(() => {{ const node = document.querySelector({selector!r}); node.scrollIntoView({{block: 'center'}});"
            " const box = node.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def upload(self, selector: str, path: Path) -> None:
        """Give a file to a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def picture(self, path: Path) -> None:
        """Write the page as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        self.session = None
        self.call("Browser.close")
        self.process.wait(timeout=30)
        self.write.close()
        self.read.close()
