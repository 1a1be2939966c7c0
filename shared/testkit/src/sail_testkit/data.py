"""Real data: found through SAIL_DATA, a stated skip where absent, and a count of such skips."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REASON = "real data missing: "


def default_sail_data(root: Path) -> None:
    """Point SAIL_DATA to ../shared/data beside the checkout when it is unset and that folder exists."""
    beside = root.parent / "shared" / "data"
    if "SAIL_DATA" not in os.environ and beside.is_dir():
        os.environ["SAIL_DATA"] = str(beside)


@pytest.fixture(scope="session")
def sail_data() -> Callable[[str], Path]:
    """Return a function from a path below SAIL_DATA to the real path; it skips the test where that is absent."""

    def find(relative: str) -> Path:
        root = os.environ.get("SAIL_DATA")
        if root is None:
            pytest.skip(f"{REASON}SAIL_DATA is not set ({relative})")
        path = Path(root) / relative
        if not path.exists():
            pytest.skip(f"{REASON}SAIL_DATA holds no {relative}")
        return path

    return find


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests were skipped for want of data, zero included."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if REASON in str(report.longrepr)]
    terminalreporter.write_line(f"skipped for missing data: {len(skipped)}")
