"""Pool a map, compute a gate from it, scale the map by the gate.

``pool`` and ``scale`` are plain tensor functions. ``recalibrate`` does pool, gate and scale as one operation whose
backward touches the map fewer times than autograd's; ``backend`` forces one of its forms and ``explain`` says which
form a call would take.
"""

from ._dispatch import backend as backend
from ._dispatch import explain as explain
from ._dispatch import recalibrate as recalibrate
from ._reference import pool as pool
from ._reference import scale as scale

__all__ = ["backend", "explain", "pool", "recalibrate", "scale"]
