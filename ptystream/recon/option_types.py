"""What kinds of value options have; closed groups of them."""

from typing import Annotated

from annotated_types import Ge, Gt, Le

Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Gt(0)]
Depth = Annotated[int, Ge(1), Le(6)]
Steps = Annotated[int, Ge(0)]
Weight = Annotated[float, Ge(0)]

CLOSED = {"extra": "forbid", "use_attribute_docstrings": True}
"""An unknown key is an error, and each key's docstring is its help."""
