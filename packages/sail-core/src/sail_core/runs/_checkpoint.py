"""Checkpoints that are whole or absent: safetensors and JSON under a SHA-256 manifest, no pickle.

``directory/step-00000042/`` holds ``tensors.safetensors``, ``state.json`` and ``manifest.json``. It is written under
the name ``.tmp-...``, every file is fsynced, and one rename makes it visible. A checkpoint that is written again steps
aside as ``step-00000042.old`` until its successor is in place, so that one of the two exists at every moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from ._atomic import sync_directory, write_synced
from ._tree import flatten, unflatten

if sys.platform != "win32":
    import fcntl

_FORMAT = "sail-checkpoint/1"
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_NAME = re.compile(r"step-(\d{8,})(\.old)?")


class CheckpointError(ValueError):
    """A checkpoint is missing, incomplete, changed or foreign. The message names the file and how to mend it."""


def save_state(directory: str | os.PathLike[str], state: Any, *, step: int, keep: int = 2) -> Path:
    """Save a checkpoint, whole or not at all, then remove the oldest beyond ``keep``.

    Args:
        directory: The directory of all checkpoints of a run; made when missing.
        state: Any nesting of dict, OrderedDict, Counter (keys str or int), list, tuple, Tensor, NumPy array or scalar,
            None, bool, int, float and str: module, optimizer and scheduler state dicts, `rng_state()`. Tensors may
            lie on any device, be views, share memory.
        step: The step it belongs to, >= 0. An existing checkpoint of this step is replaced.
        keep: How many to keep, >= 1: the new one and those of the highest steps.

    Returns:
        The new checkpoint, ``directory/step-<8 digits>``.

    Raises:
        TypeError: The state holds something that cannot be stored; the message names the place.
        ValueError: ``step`` or ``keep`` is out of range.
        OSError: The disk is full or cannot be written; the earlier checkpoints are unchanged.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_state(folder, {"w": torch.ones(2), "betas": (0.9, 0.99), 0: None}, step=3)
        ...     print(path.name, load_state(latest(folder)))
        step-00000003 {'w': tensor([1., 1.]), 'betas': (0.9, 0.99), 0: None}
    """
    for name, value, least in (("step", step, 0), ("keep", keep, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}; it must be an int of at least {least}")
    tree, tensors = flatten(state)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with _only_writer(directory) as alone:
        if alone:  # whatever is under a temporary name was left by a writer that died
            for leftover in directory.glob(".tmp-*/"):
                shutil.rmtree(leftover, ignore_errors=True)
        temporary = directory / f".tmp-{secrets.token_hex(6)}"
        temporary.mkdir()
        try:
            _fill(temporary, tree, tensors, step)
            path = _publish(temporary, directory / f"step-{step:08d}")
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        others = [one for one in _complete(directory) if one.name != path.name]
        for old in others[max(0, keep - 1) :]:
            _remove(old)
    return path


def latest(directory: str | os.PathLike[str]) -> Path | None:
    """Find the checkpoint of the highest step, passing over incomplete ones.

    Args:
        directory: The directory given to `save_state`; it need not exist.

    Returns:
        The path to give to `load_state`, or None when there is no complete checkpoint.
    """
    return next(iter(_complete(Path(directory))), None)


def load_state(path: str | os.PathLike[str]) -> Any:
    """Load a checkpoint after checking every byte of it against its manifest. Nothing is unpickled.

    Args:
        path: A checkpoint: what `save_state` or `latest` returned.

    Returns:
        The state as it was saved, of the same types, tensors on the CPU. A Parameter comes back as a plain tensor.

    Raises:
        CheckpointError: The checkpoint is missing, incomplete, changed or foreign.
    """
    path = Path(path)
    files = _manifest(path)
    present = {entry.name for entry in os.scandir(path)}
    if foreign := sorted(present - files.keys() - {_MANIFEST}):
        raise CheckpointError(f"{path / foreign[0]} does not belong to this checkpoint: remove it")
    for name, (size, digest) in files.items():
        _verify(path / name, size, digest)
    try:
        tensors = safetensors.torch.load_file(path / _TENSORS)
        return unflatten(json.loads((path / _STATE).read_bytes()), tensors)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} matches its manifest but is no state of this format ({error}): it was made by another program or "
            "version; load it with that one"
        ) from error


def _fill(directory: Path, tree: Any, tensors: dict[str, Any], step: int) -> None:
    """Write the three files of a checkpoint and return when they are on the disk."""
    write_synced(directory / _STATE, json.dumps(tree, allow_nan=False))
    try:
        safetensors.torch.save_file(tensors, directory / _TENSORS)
    except SafetensorError as error:
        raise OSError(f"cannot write {directory / _TENSORS}: {error}") from error
    shutil.copymode(directory / _STATE, directory / _TENSORS)  # safetensors makes it readable to its owner only
    with (directory / _TENSORS).open("rb") as file:
        os.fsync(file.fileno())
    files = {
        name: {"bytes": (directory / name).stat().st_size, "sha256": _sha256(directory / name)}
        for name in (_STATE, _TENSORS)
    }
    write_synced(directory / _MANIFEST, json.dumps({"format": _FORMAT, "step": step, "files": files}, indent=1))
    sync_directory(directory)


def _publish(temporary: Path, path: Path) -> Path:
    """Give a finished checkpoint its name; a checkpoint of that name steps aside first and goes last."""
    aside = path.with_name(f"{path.name}.old")
    if path.exists():
        if aside.exists():
            _remove(aside)
        path.rename(aside)
    temporary.rename(path)
    sync_directory(path.parent)
    if aside.exists():
        _remove(aside)
    return path


def _remove(path: Path) -> None:
    """Make a checkpoint disappear at once, then free its space."""
    if path.is_symlink():
        path.unlink()
        return
    trash = path.with_name(f".tmp-{secrets.token_hex(6)}")
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


@contextmanager
def _only_writer(directory: Path) -> Iterator[bool]:
    """Wait for other writers of this directory; yields False where the file system or the system has no locks."""
    if sys.platform == "win32":
        yield False
        return
    with (directory / ".lock").open("ab") as file:
        locked = False
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
            locked = True
        try:
            yield locked
        finally:
            if locked:  # closing is not enough: a process forked meanwhile has the file open too
                fcntl.flock(file, fcntl.LOCK_UN)


def _complete(directory: Path) -> list[Path]:
    """List the checkpoints whose files are all there at their full sizes, the highest step first."""
    if not directory.is_dir():
        return []
    found = []
    for path in directory.iterdir():
        if match := _NAME.fullmatch(path.name):
            with suppress(CheckpointError, OSError):
                if all((path / name).stat().st_size == size for name, (size, _) in _manifest(path).items()):
                    found.append((int(match[1]), match[2] is None, path))
    return [path for *_, path in sorted(found, reverse=True)]


def _manifest(path: Path) -> dict[str, tuple[int, str]]:
    """Read a manifest: size and SHA-256 of exactly the two files a checkpoint has."""
    hint = "use another checkpoint of this run (latest() finds one) or restore this one from a copy"
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a checkpoint directory: {hint}")
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        if manifest["format"] != _FORMAT:
            raise CheckpointError(
                f"{path / _MANIFEST} has the format {manifest['format']!r}, this version reads {_FORMAT!r}"
            )
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        raise CheckpointError(
            f"{path / _MANIFEST} is missing, so {path.name} is incomplete or foreign: {hint}"
        ) from None
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path / _MANIFEST} cannot be read ({type(error).__name__}: {error}): {hint}") from error
    if files.keys() != {_STATE, _TENSORS}:
        raise CheckpointError(f"{path / _MANIFEST} lists {sorted(files)}, not {_STATE} and {_TENSORS}: {hint}")
    return files


def _verify(path: Path, size: int, digest: str) -> None:
    hint = "use another checkpoint of this run or restore the file from a copy"
    try:
        actual = path.stat().st_size
        if actual != size:
            raise CheckpointError(f"{path} has {actual} bytes, its manifest says {size}: {hint}")
        if _sha256(path) != digest:
            raise CheckpointError(
                f"{path} was changed after it was written (its SHA-256 is not the manifest's): {hint}"
            )
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): {hint}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
