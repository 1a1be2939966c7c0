"""A solver's arrays in one .npz file, for programs without torch."""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
from sail_core.runs import write_atomic

from ._attsolver import AttSolver
from ._tableaus import TABLEAUS


def export_npz(solver: AttSolver, path: str | Path) -> None:
    """Write every field of ``solver.corrector()`` and the base method's a, b, c to an .npz file that needs no pickle.

    Args:
        solver: A fitted solver.
        path: The file.

    Raises:
        ValueError: When the solver has no weights yet.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_npz(AttSolver("heun", 0.1, dim=2, hidden=4), f"{folder}/solver.npz")
        ...     with np.load(f"{folder}/solver.npz") as file:
        ...         print(file["w1"].shape, file["tableau_b"])
        (4, 4) [0.5 0.5]
    """
    arrays = {name: np.asarray(value) for name, value in asdict(solver.corrector()).items()}
    a, b, c = TABLEAUS[solver.base].floats
    square = np.zeros((len(b), len(b)))
    for i, row in enumerate(a):
        square[i, : len(row)] = row
    file = io.BytesIO()
    np.savez(file, **arrays, tableau_a=square, tableau_b=np.asarray(b), tableau_c=np.asarray(c))  # type: ignore[arg-type]
    write_atomic(path, file.getvalue())
