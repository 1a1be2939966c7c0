"""Hosts: the networks that score a handoff turn by turn."""

from ._base import HandoffModel as HandoffModel
from ._base import HostOutput as HostOutput
from ._base import State as State
from ._hgru import HGRU as HGRU

__all__ = ["HGRU", "HandoffModel", "HostOutput", "State"]
