"""Command lines: frozen dataclasses in, exit codes and one-line errors out."""

import functools
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from typing import Annotated, Any, Union

from ._extras import MissingExtra

Command = Callable[[Any], int | None]

_BAD_INPUT = (ValueError, TypeError, FileNotFoundError, MissingExtra)


def main(commands: Mapping[str, Command], *, prog: str, description: str, argv: Sequence[str] | None = None) -> int:
    """Run the subcommand that the command line names, and return the exit code of the process.

    The fields of its configuration become options, without a prefix; the docstrings are the help. ``--debug`` may stand
    anywhere and prints the traceback of an error before its line.

    Args:
        commands: By subcommand, functions of one argument ``config`` that is annotated with a frozen dataclass. They
            return None, or an exit code of their own.
        prog: The name of the program, which begins every error line.
        description: What ``--help`` says first.
        argv: The arguments; None takes those of the process.

    Returns:
        0 for success and ``--help``; 1 for a failure; 2 for bad input or usage (ValueError, TypeError,
        FileNotFoundError, a missing extra); 130 for an interrupt. An error is one line on stderr, ``prog: message``; a
        closed output pipe is 1 without a line.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Config:
        ...     seed: int = 0
        >>> def draw(config: Config) -> None:
        ...     "Print the seed."
        ...     print(config.seed)
        >>> main({"draw": draw}, prog="lots", description="Draws lots.", argv=["draw", "--seed", "3"])
        3
        0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [one for one in arguments if one != "--debug"]
    try:
        chosen = _parse(commands, arguments, prog, description)
        code = (chosen() or 0) if chosen else 0
        sys.stdout.flush()  # a closed pipe must be noticed here, not when the interpreter ends
        return code
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exception(error)
        if isinstance(error, BrokenPipeError):
            _discard_output()
            return 1
        code, message = _judge(error)
        print(f"{prog}: {' '.join(message.split())}", file=sys.stderr)
        return code


def _judge(error: BaseException) -> tuple[int, str]:
    """Choose the exit code of an error and the words for it."""
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, _BAD_INPUT):
        return 2, str(error) or type(error).__name__
    return 1, f"{type(error).__name__}: {error} (--debug shows the traceback)"


def _discard_output() -> None:
    """Send what the closed pipe did not take nowhere, for the interpreter flushes once more when it ends."""
    with suppress(OSError):  # there may be no file behind sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(
    commands: Mapping[str, Command], arguments: list[str], prog: str, description: str
) -> Callable[[], int | None] | None:
    """Return the chosen command with its configuration filled in, or None when help was printed instead."""
    import tyro

    choices: list[Any] = [
        Annotated[Any, tyro.conf.subcommand(name=name, constructor=_deferred(command))]
        for name, command in commands.items()
    ]
    choices.append(Annotated[None, tyro.conf.Suppress])  # with one command, its word is still required
    either: Any = Union[tuple(choices)]  # noqa: UP007  the members are only known now
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            chosen: Any = tyro.cli(
                either,
                prog=prog,
                description=f"{description.rstrip('.')}. --debug, anywhere, shows the traceback of an error.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        raise ValueError(_usage_error(said.getvalue(), prog)) from None
    if chosen is None:
        raise ValueError(f"expected one of {', '.join(commands)}; {prog} --help explains them")
    return chosen  # type: ignore[no-any-return]


def _deferred(command: Command) -> Callable[..., Callable[[], int | None]]:
    """Keep signature and docstring for the parser, which builds the configuration but must not run the command."""

    @functools.wraps(command)
    def bind(config: Any) -> Callable[[], int | None]:
        return functools.partial(command, config)

    return bind


def _usage_error(box: str, prog: str) -> str:
    """Reduce tyro's message, a title and paragraphs between rules, to the first paragraph on one line."""
    _, *lines = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines() or [""]
    words: list[str] = []
    for line in lines:
        text = line.strip(" │╰╯")
        if text.strip("─-"):
            words += text.split()
        elif words:
            break
    message = " ".join(words or box.split()).replace("Error parsing __tyro-dummy-inner__.config: ", "")
    return f"{message.rstrip('.')}; {prog} --help explains the usage"
