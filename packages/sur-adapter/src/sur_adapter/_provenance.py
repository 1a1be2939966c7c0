"""Where an adapter comes from and where it belongs; written into its config.json."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Provenance:
    """What an adapter was trained for, and with.

    Attributes:
        base_model_id: The pipeline whose text encoder it was trained on, such as a Hub id.
        encoder_slot: The pipeline's attribute that holds that encoder, such as ``"text_encoder_2"``.
        encoder_field: The output it adapts: ``"last"`` or ``"hidden_states[-2]"``.
        teacher_id: The language model whose vectors were the teacher.
        teacher_layer: Its layer, such as ``"-1"`` or ``"-1:raw"``.
        teacher_pooling: How its token states became one vector, such as ``"mean"``.

    Example:
        >>> Provenance(base_model_id="org/base", encoder_slot="text_encoder").encoder_slot
        'text_encoder'
    """

    base_model_id: str | None = None
    encoder_slot: str | None = None
    encoder_field: str | None = None
    teacher_id: str | None = None
    teacher_layer: str | None = None
    teacher_pooling: str | None = None
