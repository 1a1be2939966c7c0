"""The adapter as a diffusers model, for those who load everything with diffusers."""

import os
from pathlib import Path
from typing import Any, Self, cast

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from sur_adapter._adapter import SURAdapter
from sur_adapter._local_model import model_source
from sur_adapter._provenance import Provenance
from sur_adapter._save import FORMAT_VERSION, PICKLES, WEIGHTS, check_folder, describe, read_weights
from sur_adapter.functional import Mixing, Residual


class SURAdapterModel(ModelMixin, SURAdapter, ConfigMixin):  # type: ignore[misc]  # diffusers' own two disagree
    """A `SURAdapter` with diffusers' ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    It reads and writes the folder that `SURAdapter` reads and writes.

    Args:
        hidden_size: As in `SURAdapter`, as are all up to ``init``.
        depth: See there.
        num_heads: See there.
        ff_dim: See there.
        scale: See there.
        mixing: See there.
        residual: See there.
        dropout: See there.
        low_rank: See there.
        mask_padding: See there.
        init: See there.
        base_model_id: As in `Provenance`, as are the five after it.
        encoder_slot: See there.
        encoder_field: See there.
        teacher_id: See there.
        teacher_layer: See there.
        teacher_pooling: See there.
        format_version: Of the folder.

    Raises:
        ValueError: An option is out of range, or the folder is of another format.

    Example:
        >>> from sur_adapter.integrations.diffusers import SURAdapterModel
        >>> SURAdapterModel(64, ff_dim=128).config.hidden_size
        64
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        hidden_size: int,
        depth: int = 2,
        num_heads: int = 8,
        ff_dim: int = 2048,
        scale: float = 0.1,
        mixing: Mixing = "tokens",
        residual: Residual = "add",
        dropout: float = 0.0,
        low_rank: int | None = None,
        mask_padding: bool = False,
        init: Any = "identity",
        base_model_id: str | None = None,
        encoder_slot: str | None = None,
        encoder_field: str | None = None,
        teacher_id: str | None = None,
        teacher_layer: str | None = None,
        teacher_pooling: str | None = None,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        if format_version != FORMAT_VERSION:
            raise ValueError(f"format_version is {format_version}; this version reads {FORMAT_VERSION}")
        SURAdapter.__init__(
            self,
            hidden_size,
            depth=depth,
            num_heads=num_heads,
            ff_dim=ff_dim,
            scale=scale,
            mixing=mixing,
            residual=residual,
            dropout=dropout,
            low_rank=low_rank,
            mask_padding=mask_padding,
            init=init,
            provenance=Provenance(
                base_model_id, encoder_slot, encoder_field, teacher_id, teacher_layer, teacher_pooling
            ),
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:  # type: ignore[override]
        """Load from a local folder, or from the Hub what is named like ``user/model`` and is no folder here.

        Args:
            pretrained_model_name_or_path: The folder or the Hub's name.
            **kwargs: Of diffusers' ``ModelMixin.from_pretrained``; pickles stay refused.

        Returns:
            The model, in evaluation mode.

        Raises:
            FileNotFoundError: There is no such folder, and if the name could be the Hub's, no such model there.
            ValueError: It is a pickle, or a damaged file.
        """
        name = pretrained_model_name_or_path
        options = kwargs | {"use_safetensors": True}
        host: Any = super()
        if not Path(name).exists() and Path(name).suffix not in PICKLES:
            source = model_source(name if isinstance(name, str) else Path(name))
            try:
                return cast(Self, host.from_pretrained(source, **options))
            except OSError as error:
                raise FileNotFoundError(
                    f"there is no folder {name} here, and the Hub gave no model of that name ({error})"
                ) from error
        folder = Path(name, kwargs.get("subfolder") or "")
        check_folder(folder)
        read_weights(folder / WEIGHTS)  # diffusers takes a damaged safetensors file for a pickle
        return cast(Self, host.from_pretrained(name, **options))

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Any = None) -> None:
        """Recompute the encoder's layers in the backward pass; there is one way to do it, so no function is taken."""
        if gradient_checkpointing_func is not None:
            raise ValueError("SURAdapterModel uses torch's checkpoint; leave gradient_checkpointing_func out")
        SURAdapter.enable_gradient_checkpointing(self)

    def disable_gradient_checkpointing(self) -> None:
        """Keep the activations again."""
        SURAdapter.disable_gradient_checkpointing(self)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save as diffusers does, with the scale and the provenance of now.

        Args:
            save_directory: The folder.
            **kwargs: Of diffusers' ``ModelMixin.save_pretrained``.
        """
        host: Any = super()
        host.register_to_config(**describe(self))
        host.save_pretrained(save_directory, **kwargs)
