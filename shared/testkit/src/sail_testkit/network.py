"""No test reaches beyond this machine."""

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest


class NetworkBlockedError(RuntimeError):
    """A test tried to reach an address that is not loopback."""


def _refuse_beyond_loopback(address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else None
    if host is None or host in {"", "localhost"}:
        return
    try:
        local = ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        local = False
    if not local:
        raise NetworkBlockedError(f"a test tried to reach {host!r}; tests may use loopback only")


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Let Python sockets connect, send and resolve to loopback and Unix addresses only."""
    originals = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}
    resolve = socket.getaddrinfo

    def guarded(name: str) -> Any:
        def call(self: socket.socket, *args: Any) -> Any:
            _refuse_beyond_loopback(args[-1])
            return originals[name](self, *args)

        return call

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in {None, socket.gethostname()}:
            _refuse_beyond_loopback((host.decode() if isinstance(host, bytes) else host,))
        return resolve(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name in originals:
            patch.setattr(socket.socket, name, guarded(name))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield
