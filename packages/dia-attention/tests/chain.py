"""All attentions in one small network, for what is expensive to run once for each."""

import torch
from dia_attention import attach, list_attentions, register_block_adapter, share
from torch import nn

EVERY = [*list_attentions(), "shared"]


class Block(nn.Module):
    """relu(bn(conv(relu(x))) + x)."""

    def __init__(self, width):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(torch.relu(x))) + x)


register_block_adapter(Block, lambda block, x: (torch.relu(x), x, "relu"), last=("conv", "bn"))


class Chain(nn.Module):
    """A stage with each of the named attentions, of two blocks where these share something, and a classifier."""

    def __init__(self, names=EVERY, width=8):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, width, 3), nn.Linear(width, 4)
        self.parts = nn.ModuleDict()
        for name in names:
            blocks = 2 if name in ("dia", "step", "shared") else 1
            holder = nn.ModuleDict({"stage": nn.Sequential(*(Block(width) for _ in range(blocks)))})
            if name == "shared":
                share(holder, "cbam", reduction=2)
            else:
                reduced = {} if name in ("eca", "ras") else {"reduction": 2}
                attach(holder, name, **reduced)
            self.parts[f"{name}_part"] = holder

    def forward(self, x):
        x = self.stem(x)
        for part in self.parts.values():
            x = part["stage"](x)
        return self.fc(x.mean((2, 3)))
