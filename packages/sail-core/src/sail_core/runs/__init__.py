"""Seeds, devices, atomic files, checkpoints and run directories."""

from ._atomic import write_atomic as write_atomic
from ._checkpoint import CheckpointError as CheckpointError
from ._checkpoint import latest as latest
from ._checkpoint import load_state as load_state
from ._checkpoint import save_state as save_state
from ._device import pick_device as pick_device
from ._device import pick_dtype as pick_dtype
from ._env import env_report as env_report
from ._run import Run as Run
from ._seed import rng_state as rng_state
from ._seed import seed_everything as seed_everything
from ._seed import set_rng_state as set_rng_state

__all__ = [
    "CheckpointError",
    "Run",
    "env_report",
    "latest",
    "load_state",
    "pick_device",
    "pick_dtype",
    "rng_state",
    "save_state",
    "seed_everything",
    "set_rng_state",
    "write_atomic",
]
