"""Recalibration against timm's SqueezeExcite: python bench_recalibrate.py --out rows.jsonl [--device cpu] [--quick]."""

import sys

from sail_core.bench.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["recalibrate", *sys.argv[1:]]))
