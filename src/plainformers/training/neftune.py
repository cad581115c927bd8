"""NEFTune: noise on the embeddings while a model is trained (Jain et al., 2023, https://arxiv.org/abs/2310.05914)."""

from typing import Any

import torch
from torch import Tensor, nn


class Noise:
    """Adds uniform noise of at most alpha / sqrt(tokens of the sequence * C) to embeddings [B, T, C], in training only.

    The tokens are the real ones of each sequence, so that padding and packing change nothing of its size. alpha None:
    nothing is added.
    """

    def __init__(self, model: Any, alpha: float | None):
        self.alpha, self.mask = alpha or 0.0, None
        self.handle = model.get_input_embeddings().register_forward_hook(self) if alpha is not None else None

    def end(self) -> None:
        if self.handle is not None:
            self.handle.remove()

    def __call__(self, embedding: nn.Module, inputs: Any, x: Tensor) -> Tensor:
        if not embedding.training:
            return x
        return x + torch.empty_like(x).uniform_(-1, 1) * self.size(x)

    def size(self, x: Tensor) -> Tensor:
        """[B or 1, T or 1, 1]: the most that is added."""
        mask: Any = self.mask
        if hasattr(mask, "lengths"):
            lengths = torch.tensor(mask.lengths, device=x.device)
            tokens = lengths.repeat_interleave(lengths)[None, :, None]
        elif isinstance(mask, Tensor) and mask.dim() == 2:
            tokens = mask.to(x.device).ne(0).sum(1)[:, None, None]
        else:
            tokens = torch.tensor(x.shape[1], device=x.device)[None, None, None]
        return self.alpha / (tokens.clamp(min=1) * x.shape[-1]).to(x.dtype).sqrt()
