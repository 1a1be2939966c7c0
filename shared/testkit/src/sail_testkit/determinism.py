"""One thread, one seed, and memory that nobody wrote is NaN."""

import contextlib
import os
import random
import sys
from collections.abc import Iterator

import pytest

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def cap_threads() -> None:
    """Let numerical libraries that load from now on, in child processes too, use one thread."""
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"
    if "hypothesis" in sys.modules or _importable("hypothesis"):
        from hypothesis import settings

        settings.register_profile("sail", derandomize=True, deadline=None, max_examples=25, print_blob=True)
        settings.load_profile("sail")


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


@pytest.fixture(autouse=True)
def numeric_environment(request: pytest.FixtureRequest) -> None:
    """Seed every generator that is loaded and hold torch to one thread."""
    seed = int(request.config.getoption("--seed"))
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(seed)
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)


@pytest.fixture
def poisoned_empty() -> Iterator[None]:
    """Fill what torch.empty and its kin return with NaN, so that an output nobody wrote is seen."""
    with contextlib.ExitStack() as stack:
        from sail_core.testing import poison_empty

        stack.enter_context(poison_empty())
        yield
