"""The README of a built dataset."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._split import SPLITS

NOTICE = (
    "The texts and pictures of Oogiri-GO were crawled from public platforms by its authors. "
    "Their rights lie with those who wrote and drew them. Before publishing a copy, check that you may; "
    "the columns `source` and `license` say what is known of each record."
)
_COLUMNS = (
    "Columns: `id` (over language, game, prompt and text), `type`, `question`, `image`, `image_id`, `text`, `star` "
    "(likes), `lang`, `source`, `license`, `group` (equal for answers to one prompt), `cluster` (what the split was "
    "decided by) and `extra` (JSON of whatever else the source held)."
)
_CATEGORIES = {"T2T": "text-generation", "I2T": "image-text-to-text", "IT2T": "image-text-to-text"}


def card(root: str | os.PathLike[str]) -> str:
    """Write the card of a build: front matter for `datasets` and the hub, tables of what it holds, and the notice.

    Args:
        root: A directory that `build` made.

    Returns:
        Markdown, the same that `build` wrote.

    Raises:
        FileNotFoundError: The directory has no manifest.
    """
    return render_card(read_manifest(root))


def read_manifest(root: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a build; an error says where none is."""
    path = Path(root) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{os.fspath(root)!r} has no manifest.json, so no build is there; oogiri-go build makes one"
        )
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} is no JSON: {error}") from None
    if not isinstance(manifest, dict) or not {"splits", "shards", "options", "schema"} <= manifest.keys():
        raise ValueError(f"{os.fspath(path)!r} is no manifest of a build")
    return manifest


def render_card(manifest: Mapping[str, Any]) -> str:
    """The card from a manifest alone."""
    splits = manifest["splits"]
    kinds = sorted({kind for part in splits.values() for kind in part["counts"]})
    languages = [one for one in ("en", "zh", "ja") if any(kind.startswith(one) for kind in kinds)]
    tasks = sorted({_CATEGORIES[kind.split()[1]] for kind in kinds})
    options = manifest["options"]
    total = sum(part["rows"] for part in splits.values())
    lines = [
        "---",
        "pretty_name: Oogiri-GO",
        "license: other",
        *_yaml_list("language", languages),
        *_yaml_list("task_categories", tasks),
        "tags:",
        "- humor",
        f"size_categories:\n- {_size(total)}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(line for name in SPLITS for line in (f"  - split: {name}", f"    path: data/{name}-*")),
        "---",
        "",
        "# Oogiri-GO",
        "",
        "Answers to prompts of Oogiri, a game of humorous responses: to a text (T2T), a picture (I2T) or both (IT2T).",
        "",
        "| language, game | " + " | ".join(SPLITS) + " |",
        "|---|" + "---:|" * len(SPLITS),
        *(
            f"| {kind} | " + " | ".join(f"{splits[s]['counts'].get(kind, 0):,}" for s in SPLITS) + " |"
            for kind in kinds
        ),
        "| all rows | " + " | ".join(f"{splits[s]['rows']:,}" for s in SPLITS) + " |",
        "| prompts | " + " | ".join(f"{splits[s]['prompts']:,}" for s in SPLITS) + " |",
        "",
        _division(options),
        "",
        "Left out: "
        + ", ".join(f"{count:,} {_REASONS[reason]}" for reason, count in manifest["dropped"].items())
        + ". `issues.jsonl` lists the defects.",
        "",
        _COLUMNS,
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'dataset = load_dataset("PATH_OR_NAME", split="train")',
        "```",
        "",
        "## Rights",
        "",
        NOTICE,
        "",
    ]
    return "\n".join(lines)


_REASONS = {
    "exact": "exact duplicates",
    "near": "near duplicates",
    "crossing": "records between two splits",
    "defects": "with a defect",
}


def _division(options: Mapping[str, Any]) -> str:
    shares = " / ".join(f"{share:g}" for share in options["ratios"])
    if options["split_by"] == "row":
        return f"Split by row ({shares}, seed {options['seed']}), as in the paper: answers to a prompt are spread."
    return f"Split by prompt ({shares}, seed {options['seed']}): no prompt and no picture is in two splits."


def _yaml_list(name: str, values: list[str]) -> list[str]:
    return [f"{name}:", *(f"- {value}" for value in values)] if values else []


def _size(rows: int) -> str:
    for bound, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if rows < bound:
            return name
    return "1M<n<10M"
