"""The pytest plugin of the Sail workspace: rungs, devices, seeds, threads, network and real data. Needs only pytest."""

from sail_testkit.data import pytest_terminal_summary as pytest_terminal_summary
from sail_testkit.data import sail_data as sail_data
from sail_testkit.determinism import numeric_environment as numeric_environment
from sail_testkit.determinism import poisoned_empty as poisoned_empty
from sail_testkit.network import loopback_only as loopback_only
from sail_testkit.rungs import device as device
from sail_testkit.rungs import pytest_addoption as pytest_addoption
from sail_testkit.rungs import pytest_collection_modifyitems as pytest_collection_modifyitems
from sail_testkit.rungs import pytest_configure as pytest_configure
