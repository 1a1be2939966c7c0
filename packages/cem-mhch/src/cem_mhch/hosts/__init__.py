"""Hosts: the networks that score a handoff turn by turn."""

from ._base import HandoffModel as HandoffModel
from ._base import HostOutput as HostOutput
from ._base import State as State
from ._dami import DAMILite as DAMILite
from ._hgru import HGRU as HGRU
from ._rssn import RSSN as RSSN

__all__ = ["HGRU", "RSSN", "DAMILite", "HandoffModel", "HostOutput", "State"]
