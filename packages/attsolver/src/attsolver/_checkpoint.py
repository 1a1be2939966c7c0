"""One safetensors file for a solver: its arrays, and in the header what they mean."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from sail_core.runs import write_atomic
from torch import Tensor

from ._activation import denominator_is_positive
from ._attsolver import SCALES, WEIGHTS, AttSolver
from ._neurvec import NeurVec
from ._tableaus import TABLEAUS

FORMAT = 1
_OPTIONS = (
    "base", "dt", "dim", "features", "hidden", "activation", "linear", "scaling", "preserve_equilibria",
    "conditioning", "normalize",
)  # fmt: skip
_HEADER = {"format", "class", "options", "order", "tableau", "system", "params_hash", "dtype", "sha256", "versions"}


def save_solver(solver: AttSolver, path: str | Path) -> None:
    """Write a solver to one file, atomically.

    Raises:
        ValueError: When the solver has no weights, or weights that are not finite.
    """
    solver.corrector()  # refuses what could not be read again
    tensors = {name: getattr(solver, name).detach().cpu().contiguous() for name in (*WEIGHTS, *SCALES)}
    header = {
        "format": FORMAT,
        "class": "NeurVec" if isinstance(solver, NeurVec) else "AttSolver",
        "options": {name: getattr(solver, name) for name in _OPTIONS},
        "order": solver.tableau.order,
        "tableau": solver.tableau.hash,
        "system": solver.system,
        "params_hash": solver.params_hash,
        "dtype": str(solver.w1.dtype).removeprefix("torch."),
        "sha256": _digest(tensors),
        "versions": {"attsolver": _installed("attsolver"), "torch": torch.__version__},
    }
    write_atomic(path, safetensors.torch.save(tensors, metadata={"attsolver": json.dumps(header)}))


def load_solver(path: str | Path) -> AttSolver:
    """Read and check a file of ``save_solver``.

    Raises:
        ValueError: For a file that is damaged, foreign, of another format or of another tableau.
        FileNotFoundError: There is no such file.
    """
    header, tensors = _read(Path(path))
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} has format {header.get('format')!r}; this version reads format {FORMAT}")
    options = header.get("options")
    if not isinstance(options, dict):
        options = {}
    if set(header) != _HEADER or set(options) != set(_OPTIONS):
        raise ValueError(f"{path}: the header does not describe a solver of format {FORMAT}")
    if set(tensors) != {*WEIGHTS, *SCALES}:
        raise ValueError(f"{path}: the arrays differ from a solver's in {sorted(set(tensors) ^ {*WEIGHTS, *SCALES})}")
    if _digest(tensors) != header["sha256"]:
        raise ValueError(f"{path} is damaged: its numbers are not those that were saved; use a copy")
    base = TABLEAUS.get(options["base"])
    if base is None or base.hash != header["tableau"] or base.order != header["order"]:
        raise ValueError(
            f"{path} was trained on a base method {options['base']!r} with other coefficients than this version's; "
            "a correction is worth nothing on another method: train it again"
        )
    solver = _construct(path, header, options)
    for name, value in tensors.items():
        own = getattr(solver, name)
        if own.shape != value.shape or own.dtype != value.dtype:
            raise ValueError(f"{path}: {name} is {value.dtype} {tuple(value.shape)}; expected {own.dtype} {own.shape}")
        own.data.copy_(value)
    if solver.activation == "published" and not denominator_is_positive(tuple(solver.coefficients.tolist())):
        raise ValueError(f"{path}: the denominator of the rational function vanishes for a real x")
    solver.system, solver.params_hash = str(header["system"]), str(header["params_hash"])
    try:
        solver.corrector()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return solver


def _construct(path: str | Path, header: dict[str, Any], options: dict[str, Any]) -> AttSolver:
    dtype = {"float32": torch.float32, "float64": torch.float64}.get(header["dtype"])
    if dtype is None or not isinstance(options["dim"], int):
        raise ValueError(f"{path}: weights of {header['dtype']!r} for {options['dim']!r} states are not known here")
    try:
        if header["class"] == "NeurVec":
            named = {name: options[name] for name in ("base", "dt", "dim", "hidden")}
            return NeurVec(**named, dtype=dtype)
        return AttSolver(**options, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["attsolver"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not a solver saved by attsolver ({type(error).__name__}: {error})") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the header is not an object")
    return header, tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "0+source"
