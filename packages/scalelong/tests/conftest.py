"""The models of the zoo, built once a session; zero-initialised layers are filled, or nothing could be seen."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scalelong_zoo import ZOO, build


@pytest.fixture(scope="session")
def _built():
    return {}


@pytest.fixture
def zoo(_built):
    """Give (model, inputs, case) of a name; the model is the same object for every test, so tests restore it."""

    def get(name):
        if name not in _built:
            _built[name] = build(name)
        return (*_built[name], ZOO[name])

    return get
