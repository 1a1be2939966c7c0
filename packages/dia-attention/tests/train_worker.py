"""A short training that test_train runs in processes of its own."""

import sys
from pathlib import Path

import torch
from dia_attention._splits import Data, Split
from dia_attention._train import TrainConfig, build, fit

CONFIG = TrainConfig(
    depth=20, per_class=4, epochs=6, batch_size=10, checkpoint_every=5, keep_best=True, seed=3
)  # 4 steps an epoch


def data(config):
    """Learnable images without scikit-learn: each class is a row of bright pixels under noise."""
    generator = torch.Generator().manual_seed(config.seed)

    def split(count):
        labels = torch.arange(10).repeat(count)
        images = torch.rand(len(labels), 1, 8, 8, generator=generator) - 1
        images[torch.arange(len(labels)), 0, labels // 2, (labels % 2) * 4] = 1
        return Split(images=images, labels=labels)

    return Data(train=split(config.per_class), validation=split(3), classes=tuple("0123456789"))


def train_in(directory, stderr):
    torch.set_num_threads(1)
    with Path(stderr).open("w") as sys.stderr:
        fit(build(CONFIG, data(CONFIG)), data(CONFIG), CONFIG, directory)
