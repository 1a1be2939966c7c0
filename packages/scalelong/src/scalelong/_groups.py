"""What a GroupNorm behind the concatenation does to a constant on the skip half."""

from typing import Literal

from torch import nn


def group_fold(
    norm: nn.Module, columns: tuple[int, int], shortcut: nn.Module | None
) -> tuple[Literal["approximate", "never"], str]:
    """Judge a residual block that begins with a GroupNorm and has a linear shortcut.

    Groups that lie in the skip undo the constant up to eps, so only the shortcut sees it; a group across the border
    mixes both.

    Args:
        norm: The norm.
        columns: Channels (start, stop) of the skip.
        shortcut: The 1 x 1 convolution beside the block, or None.

    Returns:
        What `fold` can do, and why it is not exact.
    """
    if not isinstance(norm, nn.GroupNorm):
        return "never", f"a {type(norm).__name__} stands between the concatenation and the weights"
    if not any(isinstance(one, nn.Conv1d | nn.Conv2d | nn.Conv3d) for one in (shortcut.modules() if shortcut else ())):
        return "never", "a GroupNorm stands before the weights, and the shortcut has no weights"
    if columns[0] % (norm.num_channels // norm.num_groups):
        return "never", "a group of the GroupNorm before the weights spans backbone and skip channels"
    return "approximate", "a GroupNorm stands before the weights: its groups undo the constant only up to eps"
