"""``scalelong demo``: a plain U-ViT against scaled ones on real digits, under a protocol fixed beforehand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sail_core.extras import needs
from sail_core.runs import pick_device

from ._compare import compare

PROTOCOLS = Path(__file__).parent / "protocols"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Train a plain U-ViT, constant and learned scaling on scikit-learn's digits; compare stability and samples."""

    out: Path = Path("runs/demo/scalelong")
    """Receives the trainings, report.json and the figures; the same command goes on where a killed one stopped."""
    seed: int = 0
    """The first of the protocol's seeds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    full: bool = False
    """The longer protocol, five minutes at most on two cores, instead of half a minute."""
    workers: int | None = None
    """Trainings at once; one a core by default."""


def demo(config: DemoConfig) -> None:
    """Run the protocol, print its table and write the report."""
    from . import __version__

    with needs("scalelong", "demo"):
        import accelerate  # noqa: F401
        import diffusers  # noqa: F401
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    profile = "full" if config.full else "default"
    path = PROTOCOLS / f"demo-{profile}.json"
    device = str(pick_device(config.device))
    report = compare(
        path, config.out, version=__version__, seed=config.seed, profile=profile, device=device, workers=config.workers
    )
    print(report.table())
