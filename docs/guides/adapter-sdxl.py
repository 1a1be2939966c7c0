"""What the page's blocks stand on in the tests: a random SDXL of the real classes, saved as the folder ``sdxl``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "packages" / "sur-adapter" / "tests"))

import tiny_pipelines

tiny_pipelines.build("sdxl").save_pretrained("sdxl")
