"""The theorems' quantities before training, arm by arm and seed by seed: claims_initial.py --out DIRECTORY.

The protocol is initial.json beside this file; its SHA-256 stands in report.json. Data: scikit-learn's digits.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from sail_core.report import Report, verdict
from scalelong import __version__, diagnose, plots
from scalelong._data import load_images
from scalelong._diffusion import noise_schedule
from scalelong.nn import UViT

PROTOCOL = Path(__file__).with_name("initial.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, judge, write report, figures and rows."""
    parser = argparse.ArgumentParser(description="Norms, gradients and gains before training.")
    parser.add_argument("--out", type=Path, required=True, help="receives report.json, figures and claims.jsonl")
    arguments = parser.parse_args(argv)
    protocol = json.loads(PROTOCOL.read_text(encoding="utf-8"))
    report = Report("scalelong", __version__, seed=0, profile="initial", device="cpu", protocol=PROTOCOL)
    images = load_images("digits")
    found: dict[str, list] = {arm: [] for arm in protocol["arms"]}
    for seed in range(protocol["seeds"]):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(images), generator=generator)[: protocol["batch_size"]]
        pixels = images.pixels[rows]
        noise = torch.randn(pixels.shape, generator=generator)
        t = torch.randint(0, 1000, (len(pixels),), generator=generator)
        noisy = noise_schedule().add_noise(pixels, noise, t)
        for arm, options in protocol["arms"].items():
            torch.manual_seed(seed)
            net = UViT(**protocol["network"] | options)
            found[arm].append(diagnose(net, (noisy, t), target=noise, iterations=protocol["iterations"]))
            print(f"seed {seed} {arm}: gain {found[arm][-1].gain:.4g}", flush=True)
    values = {
        arm: {
            "last feature": [one.sites[0].feature for one in ones],
            "gradient": [one.gradient for one in ones],
            "gain": [one.gain for one in ones],
            "bound": [one.bound for one in ones],
            "gain over bound": [one.gain / one.bound for one in ones],
        }
        for arm, ones in found.items()
    }
    report.metrics |= values
    for row in protocol["comparisons"]:
        ours = [math.log(value) for value in values[row["arm"]][row["metric"]]]
        theirs = [math.log(v) for v in values[row["against"]][row["metric"]]] if row["against"] else [0.0] * len(ours)
        differences = [a - b for a, b in zip(ours, theirs, strict=True)]
        report.verdicts.append(verdict(row["claim"], "log ratio < 0", differences, direction="less"))
    first = {arm: ones[0] for arm, ones in found.items()}
    report.add_figure(plots.plot_skips(first), "initial-skips")
    report.add_figure(plots.plot_gain(first), "initial-gain")
    report.write(arguments.out)
    with (arguments.out / "claims.jsonl").open("w", encoding="utf-8") as file:
        for arm, ones in found.items():
            for seed, one in enumerate(ones):
                file.write(json.dumps({"experiment": "initial", "arm": arm, "seed": seed, **one.as_dict()}) + "\n")
    print(report.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
