"""What the simulator's settings are made of: frozen groups of checked numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0)]


class Group(BaseModel):
    """Settings that belong together: an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


def kind_of(value: object, default: str) -> str:
    """Return the ``kind`` that settings name, whether raw or made already."""
    if isinstance(value, dict):
        return str(value.get("kind", default))
    return str(getattr(value, "kind", default))
