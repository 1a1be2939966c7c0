"""The warning that a scaling and a checkpoint do not belong together."""


class ScalingWarning(UserWarning):
    """Weights were loaded whose long skips were scaled in another way than those of the model."""
