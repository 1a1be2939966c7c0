"""The ledger of self-refinement: what was done to which candidate, on the disk before anything builds on it."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from ._candidate import Block, Move

__all__ = ["Ledger", "read_ledger"]

_FORM: Final = 1


class Ledger:
    r"""An append-only file of JSON lines; a resumed run writes the bytes that an uninterrupted one writes.

    The first line names the configuration's digest. Then, for each block of records, every stage is one commit: a line
    with (round, record, candidate, config) and the new state for each candidate that is not final, written at once and
    fsynced before `commit` returns. A commit of which only a part is on the disk counts as not done: it is cut off, and
    the stage is done again with the same candidates.

    What was done is replayed block by block, so the memory that a ledger needs does not grow with it.

    Args:
        path: The file; made when missing.
        config: Digest of everything that decides what the candidates are.
        resume: Go on where there is something already.

    Raises:
        ValueError: The file belongs to another configuration, holds something already and ``resume`` is False, or is
            damaged elsewhere than at its end.
        BlockingIOError: Another process has it open.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "ledger.jsonl"), "abc") as ledger:
        ...     block = Block.of(1, ["r1"], 2)
        ...     ledger.commit(block, [("planned", {"condition": "moon"}), ("planned", {"condition": None})])
        ...     print(Path(folder, "ledger.jsonl").read_text().splitlines()[1])
        {"round":1,"record":"r1","candidate":0,"config":"abc","state":"planned","condition":"moon"}
    """

    def __init__(self, path: str | os.PathLike[str], config: str, *, resume: bool = True) -> None:
        self.path = Path(path)
        self.config: Final = config
        self._line = 0
        self._file: IO[bytes] = self._open()
        try:
            self._begin(resume)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._file.close()

    def mark(self, line: Mapping[str, Any]) -> None:
        """Write a line that stands between blocks, such as the beginning of a round; replayed, it must be the same.

        Raises:
            ValueError: Another line stands there.
        """
        found = self._next()
        if found is None:
            self._append(_encode(line))
        elif found != json.loads(_encode(line)):
            raise ValueError(
                f"{self.path}, line {self._line}: {json.dumps(found)} stands where {json.dumps(dict(line))} was "
                "expected: model or data are not those of the first run. Start anew with force=True (--force-new)."
            )

    def replay(self, block: Block) -> None:
        """Bring a new block to the last stage that is whole on the disk, and cut off what follows in part.

        Raises:
            ValueError: The ledger's next lines are not about this block.
        """
        while pending := block.pending():
            whole = self._file.tell()
            stage: list[dict[str, Any]] = []
            for one in pending:
                at = self._line
                found = self._next()
                if found is None:
                    self._cut(whole, at - len(stage))
                    return
                key = {"round": block.round, "record": one.record, "candidate": one.index, "config": self.config}
                about = {name: found.pop(name, None) for name in key}
                if about != key:
                    raise ValueError(f"{self.path}, line {self._line}: it is about {about} and not about {key}")
                stage.append(found)
            try:
                for one, fields in zip(pending, stage, strict=True):
                    one.move(fields.pop("state", ""), fields)
            except ValueError as error:
                raise ValueError(f"{self.path}, a stage that ends in line {self._line}: {error}") from None

    def commit(self, block: Block, stage: Sequence[Move]) -> None:
        """Move the candidates that are not final by one state, and return when that is on the disk.

        Args:
            block: The block.
            stage: For each of ``block.pending()`` its next state and what that adds.

        Raises:
            ValueError: There is not one move for each, or a state cannot follow.
        """
        pending = block.pending()
        if len(stage) != len(pending):
            raise ValueError(f"a stage of {len(pending)} candidates got {len(stage)} moves; expected one for each")
        lines = []
        for one, (state, fields) in zip(pending, stage, strict=True):
            one.move(state, fields)
            key = {"round": block.round, "record": one.record, "candidate": one.index, "config": self.config}
            lines.append(_encode({**key, "state": state, **fields}))
        self._append(b"".join(lines))

    def _open(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        file = os.fdopen(descriptor, "r+b")
        try:
            _lock(file)
        except BlockingIOError:
            file.close()
            raise BlockingIOError(f"{self.path} is open in another process; wait for it or end it") from None
        return file

    def _begin(self, resume: bool) -> None:
        head = {"ledger": _FORM, "config": self.config}
        found = self._next()
        if found is None:
            self._append(_encode(head))
            _sync_directory(self.path.parent)
        elif not resume:
            raise ValueError(
                f"{self.path} holds a run already; go on with resume=True (--resume), or start anew with force=True "
                "(--force-new)"
            )
        elif found != head:
            raise ValueError(
                f"{self.path} was made with the configuration {found.get('config')}, and this one is {self.config}: "
                "model, data, nouns, templates or settings differ (config.json beside it has them). Take another "
                "folder, or start anew with force=True (--force-new)."
            )

    def _next(self) -> dict[str, Any] | None:
        """The next whole line; at the end, where only a torn one may follow, it is cut off and there is None."""
        start = self._file.tell()
        line = self._file.readline()
        found = _decode(line)
        if found is not None:
            self._line += 1
            return found
        if any(_decode(later) is not None for later in self._file):
            raise ValueError(
                f"{self.path}, line {self._line + 1} is damaged, and more follows it: {line[:60]!r}. The ledger cannot "
                "be repaired; start anew with force=True (--force-new)."
            )
        self._cut(start, self._line)
        return None

    def _cut(self, offset: int, line: int) -> None:
        self._line = line
        self._file.seek(offset)
        if offset < os.fstat(self._file.fileno()).st_size:
            self._file.truncate(offset)
            os.fsync(self._file.fileno())

    def _append(self, data: bytes) -> None:
        if not data:
            return
        if self._file.read(1):
            raise ValueError(f"{self.path} has lines after line {self._line} that were not replayed")
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._line += data.count(b"\n")


def read_ledger(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Read a ledger's lines, without the first, one by one; a torn end is left out.

    Args:
        path: The file, which may be in use.

    Yields:
        The lines.

    Raises:
        ValueError: It is not a ledger.
    """
    with Path(path).open("rb") as file:
        head = _decode(file.readline())
        if head is None or head.get("ledger") != _FORM:
            raise ValueError(f"{path} is not a ledger of clot")
        for line in file:
            found = _decode(line)
            if found is not None:
                yield found


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _decode(line: bytes) -> dict[str, Any] | None:
    """A whole line, or None."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _lock(file: IO[bytes]) -> None:
    """Keep other processes out until the file is closed or this one ends; on Windows nothing does."""
    if os.name == "nt":
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_directory(path: Path) -> None:
    """Return when the names in a directory are on the disk (Windows has no such call and needs none)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
