"""The error that belongs to one record."""


class RecordError(ValueError):
    """A record cannot be read or scored: its picture, its length, or what the model makes of it.

    Attributes:
        record_id: Identifier of the request or instruction.
    """

    def __init__(self, record_id: str, problem: str) -> None:
        super().__init__(f"record {record_id}: {problem}")
        self.record_id = record_id
