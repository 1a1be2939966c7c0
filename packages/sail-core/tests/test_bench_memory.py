import doctest
import platform
import sys

import pytest
import torch
from sail_core.bench import _memory, peak_bytes, peak_resident

MIB = 2**20


def test_doctests():
    assert doctest.testmod(_memory).failed == 0


def test_the_peak_is_the_largest_sum_of_what_is_held_at_once():
    def call():
        first = torch.empty(MIB, dtype=torch.uint8)
        second = torch.empty(2 * MIB, dtype=torch.uint8)
        del first, second
        return torch.empty(MIB // 2, dtype=torch.uint8)

    assert peak_bytes(call) == 3 * MIB
    assert peak_bytes(lambda: None) == 0


def test_a_backward_pass_counts():
    x = torch.ones(256, 1024, requires_grad=True)

    def step():
        x.exp().sum().backward()
        x.grad = None

    step()
    assert peak_bytes(step) == pytest.approx(2 * MIB, rel=0.01)  # the exponential is saved, and the gradient is made


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_pages_of_any_allocator_count_and_are_gone_after_it():
    grown = [peak_resident(lambda size=size: b"x" * size) for size in (64 * MIB, 128 * MIB)]
    assert grown[0] == pytest.approx(64 * MIB, rel=0.2)
    assert grown[1] == pytest.approx(128 * MIB, rel=0.2)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have no call to give memory back")
def test_memory_that_was_freed_before_counts_again():
    blocks = [bytearray(MIB // 16) for _ in range(1024)]  # below the size that malloc maps by itself
    keep = blocks[-1]
    del blocks
    assert peak_resident(lambda: [bytearray(b"x") * (MIB // 16) for _ in range(512)]) > 24 * MIB
    assert len(keep) == MIB // 16


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_failure_in_the_child_is_told(capfd):
    with pytest.raises(RuntimeError, match="traceback is on stderr"):
        peak_resident(lambda: 1 / 0)
    assert "ZeroDivisionError" in capfd.readouterr().err
