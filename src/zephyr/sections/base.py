"""What all sections share: their base class, and the kinds of values."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    Field(pattern=r"^\d+(\.\d+)?(m|k|[KMGTPE]i|[MGTPE])?$"),
]
"""An amount as Kubernetes writes it: 500m, 2, 16Gi."""
NAMED = re.compile(r"\$\{(\w+)\}")
"""${NAME} of an environment variable in an address."""
SECRET = re.compile(
    r"//[^\s/]*:[^\s/@]+@|//[^\s/:@]+@|[?&][^=&]*(key|token|secret|password|signature|credential)[^=&]*=[^&]",
    re.IGNORECASE,
)
"""In an address: user and password, or a query that signs or unlocks."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
