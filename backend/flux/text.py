"""Prompts -> what the transformer reads: T5's states for each token, and CLIP's one summary."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

CLIP_TOKENS_MAX = 77


@dataclass(frozen=True, eq=False, slots=True)
class TextEncoders:
    """The two encoders with their tokenizers. max_tokens: how long a prompt T5 reads, 512 in FLUX.1-dev."""

    clip: CLIPTextModel
    clip_tokenizer: CLIPTokenizer
    t5: T5EncoderModel
    t5_tokenizer: T5Tokenizer
    max_tokens: int

    def encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        """text (1, max_tokens, T5 width) and pooled (1, CLIP width); a longer prompt is cut off."""
        return self.encode_all([prompt])

    def encode_all(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """As `encode`, for several prompts at once: (prompts, max_tokens, T5 width) and (prompts, CLIP width)."""
        ids = self._ids(self.t5_tokenizer, prompts, self.max_tokens)
        text = self.t5(ids.to(self.t5.device)).last_hidden_state
        ids = self._ids(self.clip_tokenizer, prompts, min(CLIP_TOKENS_MAX, self.clip_tokenizer.model_max_length))
        pooled = self.clip(ids.to(self.clip.device)).pooler_output
        return text, pooled

    @staticmethod
    def _ids(tokenizer: CLIPTokenizer | T5Tokenizer, prompts: list[str], length: int) -> Tensor:
        tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return tokens.input_ids
