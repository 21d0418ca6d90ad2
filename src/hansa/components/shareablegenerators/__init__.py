"""Parts that translate between the global model and the messages of a round.

- `full_model_shareable_generator`: the whole model goes out; weights or differences come back
- `fed_opt`: the same with an optimizer on the server
- `train_settings`: what sites are told with each training task, by round
"""

from __future__ import annotations

from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator

__all__ = ["FullModelShareableGenerator"]
