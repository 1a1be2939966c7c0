"""What a run found: report.json, its figures, and the same as a table."""

import hashlib
import io
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._atomic import write_atomic
from ._env import env_report
from ._extras import needs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every common colour vision; black comes last, for it looks like an axis.
_OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")


@dataclass(frozen=True)
class Verdict:
    """A claim beside what was measured.

    Attributes:
        claim: The claim, in a sentence.
        expected: What it predicts, in words or as a number.
        measured: The measured value, or None when it was not measured.
        interval: (low, high), or None when there is none.
        holds: True or False when the interval decides it, else None.
    """

    claim: str
    expected: str | float
    measured: float | None
    interval: tuple[float, float] | None
    holds: bool | None


class Report:
    """Everything a run says at its end; the clock of ``seconds`` starts at construction.

    Args:
        package: The distribution that ran.
        version: Its version.
        seed: The seed of the run.
        profile: Its profile, such as ``"default"`` or ``"full"``.
        device: The device it ran on, ``"cpu"`` here.
        protocol: The committed file that fixed the protocol before the run; its SHA-256 goes into the report.

    Attributes:
        metrics: Numbers, strings and nested mappings or lists of them, by name. Fill it.
        verdicts: The verdicts. Fill it.

    Raises:
        FileNotFoundError: ``protocol`` does not exist.

    Example:
        >>> report = Report("oogiri-go", "0.1.0", seed=0, profile="default", device="cpu")
        >>> report.metrics["accuracy"] = 0.9825
        >>> report.verdicts.append(Verdict("No prompt is in two splits", "> 0", 0.4, (-0.1, 0.9), None))
        >>> print(report.table())
        accuracy  0.9825
        <BLANKLINE>
        claim                       expected  measured  interval     result
        No prompt is in two splits  > 0       0.4       -0.1 .. 0.9  undecided
    """

    def __init__(
        self,
        package: str,
        version: str,
        *,
        seed: int,
        profile: str,
        device: object,
        protocol: str | os.PathLike[str] | None = None,
    ) -> None:
        self._started = time.perf_counter()
        self._head = {"package": package, "version": version, "seed": seed, "profile": profile, "device": str(device)}
        self._protocol = None if protocol is None else hashlib.sha256(Path(protocol).read_bytes()).hexdigest()
        self._figures: dict[str, bytes] = {}
        self.metrics: dict[str, Any] = {}
        self.verdicts: list[Verdict] = []

    def add_figure(self, fig: "Figure", name: str) -> None:
        """Draw a figure as SVG and PNG for `write`. The same figure always gives the same bytes.

        Args:
            fig: A ``matplotlib.figure.Figure``; build it without pyplot, inside `figure_style`.
            name: Its file name without suffix: letters, digits, ``-`` and ``_``.

        Raises:
            ValueError: The name has other characters, or was used before.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"the figure name {name!r} may hold only letters, digits, '-' and '_'")
        if f"{name}.svg" in self._figures:
            raise ValueError(f"there is a figure {name!r} already; choose another name")
        self._figures[f"{name}.svg"] = _draw(fig, "svg")
        self._figures[f"{name}.png"] = _draw(fig, "png")

    def write(self, directory: str | os.PathLike[str]) -> Path:
        """Write the figures, then ``report.json``, each atomically.

        Args:
            directory: Made when missing.

        Returns:
            The path of ``report.json``. In it a float that JSON lacks is null.

        Raises:
            TypeError: A metric is something that JSON cannot hold.
        """
        directory = Path(directory)
        content = {
            **self._head,
            "protocol": self._protocol,
            "env": env_report(),
            "seconds": round(time.perf_counter() - self._started, 3),
            "metrics": _json(self.metrics, "metrics"),
            "verdicts": [_json(asdict(one), "verdicts") for one in self.verdicts],
            "figures": list(self._figures),
        }
        for name, data in self._figures.items():
            write_atomic(directory / name, data)
        path = directory / "report.json"
        write_atomic(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
        return path

    def table(self) -> str:
        """Lay the metrics and the verdicts out for a terminal.

        Returns:
            Aligned lines without a trailing newline.
        """
        blocks = []
        if self.metrics:
            blocks.append(_aligned([[name, _words(value)] for name, value in _flat(self.metrics)]))
        if self.verdicts:
            rows = [["claim", "expected", "measured", "interval", "result"]]
            for one in self.verdicts:
                interval = "-" if one.interval is None else " .. ".join(map(_words, one.interval))
                result = {True: "holds", False: "does not hold", None: "undecided"}[one.holds]
                rows.append([one.claim, _words(one.expected), _words(one.measured), interval, result])
            blocks.append(_aligned(rows))
        return "\n\n".join(blocks)


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw readable figures inside the block: Okabe-Ito colours, constrained layout, no box.

    Only matplotlib's settings inside the block change. pyplot is not imported and no backend is chosen: build
    ``matplotlib.figure.Figure`` objects, which draw themselves without either.

    Raises:
        MissingExtra: matplotlib is not installed.

    Example:
        >>> with figure_style():
        ...     from matplotlib.figure import Figure
        ...     axes = Figure().subplots()
        ...     axes.plot([1, 2])[0].get_color()
        '#0072B2'
    """
    with needs("oogiri-go", "demo"):
        import matplotlib
        from matplotlib.rcsetup import cycler
    style: dict[Any, Any] = {
        "axes.prop_cycle": cycler(color=_OKABE_ITO),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.3,
        "axes.titlesize": 12,
        "axes.labelsize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "figure.figsize": (6.4, 4.0),
        "figure.constrained_layout.use": True,
    }
    with matplotlib.rc_context(style):
        yield


def _draw(fig: "Figure", form: Literal["svg", "png"]) -> bytes:
    """Render with Agg or the SVG writer, whatever backend is set, without date, version or random identifiers."""
    import matplotlib

    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "oogiri-go", "svg.fonttype": "path"}):
        fig.savefig(buffer, format=form, dpi=150, metadata=metadata)
    return buffer.getvalue()


def _json(value: Any, path: str) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # a NumPy scalar, a 0-dim array or tensor
        value = value.item()
    if isinstance(value, Mapping):
        return {str(name): _json(one, f"{path}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one, f"{path}[{index}]") for index, one in enumerate(value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(
        f"{path} is of type {type(value).__name__}; a report holds numbers, strings, and lists and mappings of them"
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_words, value))
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
