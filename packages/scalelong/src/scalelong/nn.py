"""Networks and scalings as modules."""

from ._scalings import ConstantScale as ConstantScale
from ._scalings import LSScalar as LSScalar
from ._scalings import LSStatic as LSStatic
from ._scalings import LSToken as LSToken
from ._uvit import UViT as UViT

__all__ = ["ConstantScale", "LSScalar", "LSStatic", "LSToken", "UViT"]
