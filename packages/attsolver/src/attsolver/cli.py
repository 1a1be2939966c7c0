"""The command `attsolver`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sail_core.command import main as run_command
from sail_core.extras import needs
from sail_core.report import Report, figure_style
from sail_core.runs import write_atomic

from . import __version__, _plots, systems
from ._advise import advise as run_advise
from ._attsolver import AttSolver
from ._evaluate import evaluate as run_evaluate
from ._fit import fit
from ._generate import TrajectoryData, generate
from ._neurvec import load_neurvec_checkpoint
from ._targets import system_of
from ._work_precision import WorkPoint, work_precision
from .demo import demo
from .systems import System

Base = Literal["euler", "midpoint", "heun", "rk3", "rk4", "rk4_classic", "dopri5", "dop853"]


@dataclass(frozen=True, kw_only=True)
class _Named:
    system: str = "elastic_pendulum"
    """Name of the system; a wrong one lists them."""
    size: int | None = None
    """Links, bodies, masses, sites or hidden units of the systems that have a size."""

    def get(self) -> System:
        """The system."""
        return systems.get(self.system, size=self.size)


@dataclass(frozen=True, kw_only=True)
class SimulateCommand(_Named):
    """Reference trajectories of a system, by DOP853 to 1e-12, as .npz."""

    out: Path
    """The .npz file."""
    trajectories: int = 100
    """How many."""
    steps: int = 50
    """Steps of dt each."""
    dt: float | None = None
    """Distance of the times; the system's own when left out."""
    noise: float = 0.0
    """Standard deviation of the noise, in units of the local error of the system's base method."""
    seed: int = 0
    """Of initial states and noise."""


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a corrector on trajectories; the same command goes on where a killed one stopped."""

    data: Path
    """What simulate wrote."""
    out: Path
    """Run directory: solver.safetensors, fit.json, checkpoints. Another configuration in it is refused."""
    base: Base = "rk4"
    """Base method."""
    dt: float | None = None
    """Step; that of the data when left out, else a multiple of it."""
    features: Literal["state", "increment", "both"] = "both"
    """What the network reads."""
    hidden: int = 32
    """Width; 0 is the linear part alone."""
    activation: Literal["rational", "relu", "silu", "tanh"] = "rational"
    """Of the hidden layer."""
    linear: bool = True
    """Whether there is a linear part in closed form."""
    conditioned: bool = False
    """Whether the network reads the system's parameters too."""
    iterations: int = 1200
    """Of Adam."""
    lr: float = 3e-3
    """Learning rate."""
    rollout: int = 1
    """Steps through which an iteration runs."""
    seed: int = 0
    """Of weights and batches."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """A trained corrector and its base method on trajectories it has not seen, as JSON."""

    solver: Path
    """What train or import-neurvec wrote."""
    data: Path
    """What simulate wrote, with another seed."""


@dataclass(frozen=True, kw_only=True)
class BenchCommand(_Named):
    """Error against time of our methods and of the other libraries that are installed, as JSON lines."""

    out: Path
    """The .jsonl file."""
    solvers: tuple[Path, ...] = ()
    """Trained correctors to put beside them."""
    batches: tuple[int, ...] = (1, 100)
    """Batch sizes."""
    peers: bool = True
    """Whether other libraries take part."""
    seed: int = 0
    """Of the trajectories."""


@dataclass(frozen=True, kw_only=True)
class AdviseCommand(_Named):
    """Which method to take, measured on this machine; "no corrector" is one of the answers."""

    rtol: float = 1e-4
    """Wanted relative error."""
    batch: int = 100
    """Trajectories at once."""
    widths: tuple[int, ...] = (8, 16, 32, 64)
    """Widths of the correctors to consider."""
    seed: int = 0
    """Of data and trainings."""
    json_out: Path | None = None
    """Also write the candidates as JSON."""


@dataclass(frozen=True, kw_only=True)
class PlotCommand:
    """Time against error from what bench wrote, as SVG, PNG and CSV."""

    data: Path
    """What bench wrote."""
    out: Path = Path("runs/plot/attsolver")
    """Folder of the figures."""


@dataclass(frozen=True, kw_only=True)
class ImportCommand:
    """Convert a checkpoint of the authors' NeurVec repository."""

    checkpoint: Path
    """The .pth file."""
    out: Path
    """The solver's file."""
    base: Base
    """Base method it was trained with (the authors' rk4 is rk4_classic)."""
    dt: float
    """Step it was trained with."""


def simulate(config: SimulateCommand) -> None:
    """Simulate reference trajectories."""
    system = config.get()
    dt = system.dt if config.dt is None else config.dt
    data = generate(system, config.trajectories, config.steps, dt, noise=config.noise, seed=config.seed)
    data.save(config.out)
    print(f"{config.trajectories} trajectories of {config.steps} steps of {dt:g}: {config.out}")


def train(config: TrainCommand) -> None:
    """Train a corrector, or go on with the training of the run directory."""
    data = TrajectoryData.load(config.data)
    solver = AttSolver(
        config.base,
        config.dt or data.dt,
        features=config.features,
        hidden=config.hidden,
        activation=config.activation,
        linear=config.linear,
        conditioning=len(system_of(data).rhs.param_names) if config.conditioned else 0,
    )
    report = fit(
        solver,
        data,
        seed=config.seed,
        iterations=config.iterations,
        lr=config.lr,
        rollout=config.rollout,
        out=config.out,
    )
    solver.save(config.out / "solver.safetensors")
    write_atomic(config.out / "fit.json", json.dumps(asdict(report), indent=1) + "\n")
    print(
        f"local error left: {report.rel_linear:.3g} by the linear part, {report.rel_local:.3g} by all; "
        f"{report.seconds:.1f} s, {config.out / 'solver.safetensors'}"
    )


def evaluate(config: EvaluateCommand) -> None:
    """Evaluate a corrector on unseen trajectories."""
    solver, data = AttSolver.load(config.solver), TrajectoryData.load(config.data)
    system = system_of(data)
    coarse = run_evaluate(system, data, solver.base, dt=solver.dt)
    found = run_evaluate(system, data, solver)
    row = {
        "system": data.system,
        "base": solver.base,
        "dt": solver.dt,
        "trajectories": len(data.y),
        "coarse_mse": _finite(coarse.mse),
        "corrected_mse": _finite(found.mse),
        "ratio": _finite(coarse.mse / found.mse) if found.mse else None,
        "trajectories_outside_the_training_box": found.left_domain,
    }
    print(json.dumps(row, indent=1))


def bench(config: BenchCommand) -> None:
    """Measure error against time."""
    solvers = [AttSolver.load(path) for path in config.solvers]
    peers = None if config.peers else ()
    points = work_precision(config.get(), solvers, batches=config.batches, peers=peers, seed=config.seed)
    write_atomic(config.out, "".join(json.dumps(asdict(point)) + "\n" for point in points))
    for p in points:
        print(f"{p.method:20} batch {p.batch:6}  error {p.rmse:9.2e}  {p.microseconds:10.4g} us a trajectory")


def advise(config: AdviseCommand) -> None:
    """Say which method to take."""
    advice = run_advise(config.get(), rtol=config.rtol, batch=config.batch, widths=config.widths, seed=config.seed)
    if config.json_out is not None:
        rows = [asdict(one) for one in advice.candidates]
        write_atomic(config.json_out, json.dumps({"reason": advice.reason, "candidates": rows}, indent=1) + "\n")
    print(f"{advice.table()}\n\n{advice.reason}")


def plot(config: PlotCommand) -> None:
    """Plot what bench measured."""
    with needs("attsolver", "demo"):
        import matplotlib.figure  # noqa: F401
    try:
        points = [WorkPoint(**json.loads(line)) for line in config.data.read_text().splitlines()]
    except (TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{config.data} is not what bench writes: {error}") from error
    if not points:
        raise ValueError(f"{config.data} holds no points")
    report = Report("attsolver", __version__, seed=0, profile="plot", device="cpu")
    with figure_style():
        figure, table = _plots.work_precision_curves(points)
        report.add_figure(figure, "work-precision")
    report.write(config.out)
    write_atomic(config.out / "work-precision.csv", _plots.as_csv(table))
    print(config.out / "work-precision.svg")


def import_neurvec(config: ImportCommand) -> None:
    """Convert a NeurVec checkpoint."""
    load_neurvec_checkpoint(config.checkpoint, base=config.base, dt=config.dt).save(config.out)
    print(config.out)


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None


def main() -> int:
    """Run the command line and give its exit code: 0 done, 1 failed, 2 bad input or usage."""
    return run_command(
        {
            "demo": demo,
            "simulate": simulate,
            "train": train,
            "evaluate": evaluate,
            "bench": bench,
            "advise": advise,
            "plot": plot,
            "import-neurvec": import_neurvec,
        },
        prog="attsolver",
        description="A fused ODE engine with a learned correction, and the measurement of which to take.",
    )
