"""The test ladder: which rung a test stands on, and when it runs."""

import os

import pytest

from sail_testkit.data import default_sail_data
from sail_testkit.determinism import cap_threads

RUNGS = {
    "interpret": "Triton kernels under the interpreter, in a process of their own (TRITON_INTERPRET=1)",
    "aot": "Triton kernels compiled ahead of time for targets that need not be present, in a process of their own",
    "slow": "inductor, several processes, host integrations end to end, kill series, fuzz and soak",
    "gpu": "numerics, determinism, CUDA graphs and very large tensors on a real GPU",
    "bench": "speed and memory, never asserted by default",
    "browser": "pages in a real Chromium (on PATH or SAIL_BROWSER)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --device and --seed."""
    group = parser.getgroup("sail")
    group.addoption("--device", default="cpu", help="device of the tests that take one: cpu or cuda (default cpu)")
    group.addoption("--seed", default=0, type=int, help="seed set before every test (default 0)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the rungs, cap the threads before torch loads, and find the real data."""
    for name, what in RUNGS.items():
        config.addinivalue_line("markers", f"{name}: {what}")
    cap_threads()
    default_sail_data(config.rootpath)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the unmarked tests, unless -m or a test's own name asks for a rung; refuse to fake a GPU."""
    named = any("::" in argument for argument in config.invocation_params.args)
    if not config.option.markexpr and not named:
        climbing = [item for item in items if any(item.get_closest_marker(rung) for rung in RUNGS)]
        if climbing:
            config.hook.pytest_deselected(items=climbing)
            items[:] = [item for item in items if item not in climbing]
    if any(item.get_closest_marker("gpu") for item in items) and not _cuda():
        if os.environ.get("SAIL_REQUIRE_GPU") == "1":
            raise pytest.UsageError("SAIL_REQUIRE_GPU=1, but torch sees no CUDA device")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """Return the device of --device; skip where it is absent."""
    name = str(request.config.getoption("--device"))
    if name != "cpu" and not _cuda():
        pytest.skip(f"--device {name}: torch sees no CUDA device")
    return name
