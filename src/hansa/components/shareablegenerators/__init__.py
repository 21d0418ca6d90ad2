"""Parts that translate between the global model and the messages of a round.

- `full_model_shareable_generator`: the whole model goes out; weights or differences come back
"""

from __future__ import annotations

from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator

__all__ = ["FullModelShareableGenerator"]
