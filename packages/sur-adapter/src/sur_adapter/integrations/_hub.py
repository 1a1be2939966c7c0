"""Adapters and bundles to the Hub and from it."""

import re
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from sur_adapter._adapter import SURAdapter
from sur_adapter._bundle import SURAdapterBundle, load_folder

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ("*.json", "*.safetensors")


def push_to_hub(
    adapter: SURAdapter | SURAdapterBundle,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload SUR-adapter",
) -> str:
    """Upload the folder of an adapter or a bundle.

    Args:
        adapter: What to upload.
        repo_id: ``user/name``; made when missing.
        private: Whether a new repository is private; None is the account's default.
        token: Of the account; None is the one that is logged in.
        commit_message: Of the upload.

    Returns:
        The address of the commit.
    """
    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        adapter.save_pretrained(folder)
        commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message)
    return commit.commit_url


def load_from_hub(
    repo_id: str, *, revision: str | None = None, token: str | None = None
) -> SURAdapter | SURAdapterBundle:
    """Download an adapter or a bundle, its JSON and safetensors files alone, and load it.

    Args:
        repo_id: ``user/name``.
        revision: A branch, tag or commit; None is the main branch.
        token: Of the account; None is the one that is logged in.

    Returns:
        What the repository holds, in evaluation mode.

    Raises:
        ValueError: It is a path of this machine, or what was downloaded is damaged.
    """
    if not _REPO.fullmatch(repo_id) or Path(repo_id).exists():
        raise ValueError(f"{repo_id!r} is not a name of the Hub, user/name; load a local folder with from_pretrained")
    return load_folder(snapshot_download(repo_id, revision=revision, token=token, allow_patterns=list(_FILES)))
