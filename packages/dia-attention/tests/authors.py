"""Networks with the module names and shapes of the authors' repositories, for their checkpoints; written anew."""

import torch
from torch import nn


class Block(nn.Module):
    """Bottleneck; ``attend(block, z)`` is what the repository does to the branch."""

    def __init__(self, inplanes, planes, stride, attend, bn3=nn.BatchNorm2d):
        super().__init__()
        width = 4 * planes
        self.conv1, self.bn1 = nn.Conv2d(inplanes, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, width, 1, bias=False), bn3(width)
        self.downsample = None
        if stride != 1 or inplanes != width:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.attend = attend

    def branch(self, x):
        z = self.bn1(self.conv1(x)).relu()
        z = self.bn2(self.conv2(z)).relu()
        return self.bn3(self.conv3(z)), x if self.downsample is None else self.downsample(x)

    def forward(self, x):
        z, skip = self.branch(x)
        return (self.attend(self, z) + skip).relu()


class Net(nn.Module):
    """Stem, three stages, classifier; ``make(block, stage)`` adds the repository's parameters to a block."""

    def __init__(self, blocks, make=lambda block, stage: None, attend=lambda block, z: z, bn3=nn.BatchNorm2d):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        inplanes = 16
        for number, planes in ((1, 16), (2, 32), (3, 64)):
            made = []
            for index in range(blocks):
                stride = 2 if number > 1 and index == 0 else 1
                block = Block(inplanes, planes, stride, attend, bn3)
                make(block, number)
                made.append(block)
                inplanes = 4 * planes
            setattr(self, f"layer{number}", self.wrap(made, number))
        self.fc = nn.Linear(256, 10)

    def wrap(self, made, number):
        return nn.Sequential(*made)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def vector(width, value):
    return nn.Parameter(torch.full((1, width, 1, 1), value))


def ras(blocks):
    """RAS: w, b of (1, C, 1, 1) and bn4 in every block."""

    def make(block, number):
        width = block.conv3.out_channels
        block.w, block.b, block.bn4 = vector(width, 0.0), vector(width, -1.0), nn.BatchNorm2d(width)

    def attend(block, z):
        a = block.bn4(z.mean((2, 3), keepdim=True) * block.w + block.b) * block.w + block.b
        return z * a.sigmoid()

    return Net(blocks, make, attend)


def lsas(blocks, order):
    """LSAS: fc1, fc2 and w, b, w2, b2, ... in the blocks of the last stage."""

    def make(block, number):
        if number < 3:
            return
        width = block.conv3.out_channels
        block.fc1, block.fc2 = nn.Linear(width, width // 16), nn.Linear(width // 16, width)
        for k in range(1, order + 1):
            setattr(block, f"w{k if k > 1 else ''}", vector(width, 0.5))
            setattr(block, f"b{k if k > 1 else ''}", vector(width, -0.5))

    def attend(block, z):
        if not hasattr(block, "fc1"):
            return z
        u = block.fc2(block.fc1(z.mean((2, 3))).relu())[:, :, None, None]
        a = u.sigmoid()
        for k in range(1, order + 1):
            u = u * getattr(block, f"w{k if k > 1 else ''}") + getattr(block, f"b{k if k > 1 else ''}")
            a = a * u.sigmoid()
        return z * a

    return Net(blocks, make, attend)


class Squeeze(nn.Module):
    """fc1, fc2 on a pooled map."""

    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, width // 16), nn.Linear(width // 16, width)

    def forward(self, z):
        return self.fc2(self.fc1(z.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


class ASRNorm(nn.Module):
    """A norm, its twin for deployment, and the attention of a learned vector."""

    def __init__(self, width):
        super().__init__()
        self.bn, self.fused_bn = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.vector, self.attention_module = vector(width, 0.1), Squeeze(width)

    def forward(self, z):
        return self.bn(z) * self.attention_module(self.vector)


def asr(blocks, both):
    """ASR over SE; with ``both`` an ordinary SE behind it."""

    def make(block, number):
        if both:
            block.attention_module = Squeeze(block.conv3.out_channels)

    return Net(blocks, make, lambda block, z: z * block.attention_module(z) if both else z, ASRNorm)


class Half(nn.Module):
    """One path of DIA's cell."""

    def __init__(self, width):
        super().__init__()
        self.seq = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, 4 * width))


class Cell(nn.Module):
    """w_ih and w_hh, lists with one layer."""

    def __init__(self, width):
        super().__init__()
        self.w_ih, self.w_hh = nn.ModuleList([Half(width)]), nn.ModuleList([Half(width)])


class Recurrent(nn.Module):
    """A stage: ModuleList and lstm."""

    def __init__(self, blocks, width):
        super().__init__()
        self.ModuleList, self.lstm, self.width = nn.ModuleList(blocks), Cell(width), width

    def forward(self, x):
        h = c = x.new_zeros(len(x), self.width)
        for block in self.ModuleList:
            z, skip = block.branch(x)
            gates = self.lstm.w_ih[0].seq(z.mean((2, 3))) + self.lstm.w_hh[0].seq(h)
            i, f, g, o = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.sigmoid()
            x = (z * h[:, :, None, None] + skip).relu()
        return x


class DIANet(Net):
    """DIANet's names."""

    def wrap(self, made, number):
        return Recurrent(made, 32 * 2**number)
