"""Detection in small: boxes of digits on CIFAR-10 backgrounds, RetinaNet with a ResNet-18 backbone.

detection.py --out FILE [--root DIR] [--cache DIR] runs detection.json, which lies beside it, and appends one line with
every seed's value. All networks of a seed see the same images in the same order; the test images are used once.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from dia_attention import __version__, attach
from dia_attention._cifar10 import read_cifar10
from dia_attention._digits import digits, digits_test
from dia_attention._splits import Split, to_float
from sail_core.report import verdict
from sail_core.runs import env_report, seed_everything
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import box_iou

PROTOCOL = Path(__file__).with_suffix(".json")
Target = dict[str, Tensor]


def scenes(
    source: Split, pictures: Split, count: int, protocol: dict[str, Any], seed: int
) -> list[tuple[Tensor, Target]]:
    """Backgrounds with digits that do not overlap, and their boxes around the ink."""
    draw = torch.Generator().manual_seed(seed)
    side = protocol["image_size"]

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=draw))

    found = []
    for _ in range(count):
        picture = to_float(pictures.images[number(0, len(pictures) - 1)][None])
        image = 0.5 * nn.functional.interpolate(picture, (side, side), mode="bilinear", align_corners=False)[0]
        boxes: list[list[float]] = []
        labels = []
        for _ in range(number(*protocol["digits_per_image"])):
            row, size = number(0, len(source) - 1), number(*protocol["digit_sizes"])
            ink = nn.functional.interpolate((source.images[row][None] + 1) / 2, (size, size), mode="bilinear")[0, 0]
            top, left = number(0, side - size), number(0, side - size)
            rows, columns = (ink > 0.25).any(1).nonzero(), (ink > 0.25).any(0).nonzero()
            box = [
                left + int(columns.min()),
                top + int(rows.min()),
                left + int(columns.max()) + 1,
                top + int(rows.max()) + 1,
            ]
            if boxes and box_iou(torch.tensor([box], dtype=torch.float32), torch.tensor(boxes)).max() > 0:
                continue
            beneath = image[:, top : top + size, left : left + size]
            colour = 1.0 if beneath.mean() < 0 else -1.0
            image[:, top : top + size, left : left + size] = (1 - ink) * beneath + ink * colour
            boxes.append([float(value) for value in box])
            labels.append(0)  # one class: a digit, whichever it is
        found.append((image, {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}))
    return found


def detector(attention: str | None, protocol: dict[str, Any]) -> nn.Module:
    """RetinaNet on the last three stages of a ResNet-18 whose stem keeps small images large, untrained."""
    body = resnet18()
    body.conv1, body.maxpool = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.Identity()
    if attention is not None:
        attach(body, attention)
    layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
    backbone = BackboneWithFPN(body, layers, [128, 256, 512], protocol["fpn_channels"])
    sizes = ((12, 16), (20, 26), (32, 40), (64, 80))  # of the three levels and of the pooled one above them
    anchors = AnchorGenerator(sizes, ((0.75, 1.0),) * len(sizes))
    side = protocol["image_size"]
    return RetinaNet(
        backbone,
        num_classes=1,
        min_size=side,
        max_size=side,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        anchor_generator=anchors,
        score_thresh=protocol["score_threshold"],
        detections_per_img=20,
        topk_candidates=100,
    )


def train(model: nn.Module, data: list[tuple[Tensor, Target]], protocol: dict[str, Any], seed: int) -> float:
    """AdamW with a step schedule; return the mean loss of the last epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), protocol["learning_rate"], weight_decay=protocol["weight_decay"])
    draw = torch.Generator().manual_seed(seed)
    steps = protocol["epochs"] * (len(data) // protocol["batch_size"])
    done, mean = 0, 0.0
    model.train()
    for _ in range(protocol["epochs"]):
        losses = []
        for rows in torch.randperm(len(data), generator=draw).split(protocol["batch_size"]):
            passed = sum(done >= milestone * steps for milestone in protocol["milestones"])
            warm = min(1.0, (done + 1) / 20)
            optimizer.param_groups[0]["lr"] = protocol["learning_rate"] * warm * 0.1**passed
            batch = [data[int(row)] for row in rows]
            loss = sum(model([image for image, _ in batch], [target for _, target in batch]).values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            losses.append(loss.item())
            done += 1
        mean = sum(losses) / len(losses)
    return mean


@torch.no_grad()
def average_precision(model: nn.Module, data: list[tuple[Tensor, Target]], threshold: float) -> float:
    """Area under the interpolated precision-recall curve at one overlap."""
    model.eval()
    scored: list[tuple[float, bool]] = []
    present = 0
    for image, target in data:
        (found,) = model([image])
        present += len(target["boxes"])
        free = torch.ones(len(target["boxes"]), dtype=torch.bool)
        for at in found["scores"].argsort(descending=True).tolist():
            overlaps = box_iou(found["boxes"][at : at + 1], target["boxes"])[0] * free
            best = int(overlaps.argmax())
            right = bool(overlaps[best] >= threshold)
            free[best] &= not right
            scored.append((float(found["scores"][at]), right))
    if not scored:
        return 0.0
    right = torch.tensor([hit for _, hit in sorted(scored, reverse=True)], dtype=torch.float64)
    recall = right.cumsum(0) / present
    precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return float((envelope * recall.diff(prepend=torch.zeros(1))).sum())


def main() -> None:
    """Train every network on every seed, test once, and append the row."""
    parser = argparse.ArgumentParser(description="Detection of digits on CIFAR-10 backgrounds.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--root", type=Path, required=True, help="CIFAR-10's archive of JPEG files, or its folder")
    parser.add_argument("--cache", type=Path, help="a folder that keeps it decoded")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    protocol = json.loads(PROTOCOL.read_text())
    pictures = read_cifar10(arguments.root, cache=arguments.cache)
    values: dict[str, list[float]] = {name: [] for name in protocol["networks"]}
    losses: dict[str, list[float]] = {name: [] for name in protocol["networks"]}
    trained = []
    for seed in range(protocol["seeds"]):
        data = scenes(digits(seed=seed).train, pictures["train"], protocol["training_images"], protocol, seed)
        for name, attention in protocol["networks"].items():
            seed_everything(seed)
            model = detector(attention, protocol)
            losses[name].append(train(model, data, protocol, seed))
            trained.append((name, model))
            print(f"seed {seed}, {name}: loss {losses[name][-1]:.4f}", flush=True)
    test = scenes(digits_test(), pictures["test"], protocol["test_images"], protocol, seed=10_000)
    for name, model in trained:  # the only use of the test images
        values[name].append(average_precision(model, test, protocol["iou_threshold"]))
    reference = protocol["reference"]
    row: dict[str, Any] = {
        "package": "dia-attention",
        "version": __version__,
        "protocol": f"benchmarks/claims/{PROTOCOL.name}",
        "protocol_sha256": hashlib.sha256(PROTOCOL.read_bytes()).hexdigest(),
        "env": env_report(),
        "metrics": {"AP at IoU 0.5": values, "training loss of the last epoch": losses},
        "verdicts": [],
    }
    for name in values:
        if name != reference:
            differences = [ours - theirs for ours, theirs in zip(values[name], values[reference], strict=True)]
            found = verdict(f"{name} detects better than {reference}", f"{name} - {reference} > 0", differences)
            row["verdicts"].append(vars(found))
            print(f"{found.claim}: {found.measured:+.4f} {found.interval} holds {found.holds}")
    print(values)
    with arguments.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
