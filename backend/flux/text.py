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
        ids = self._ids(self.t5_tokenizer, prompt, self.max_tokens)
        text = self.t5(ids.to(self.t5.device)).last_hidden_state
        ids = self._ids(self.clip_tokenizer, prompt, min(CLIP_TOKENS_MAX, self.clip_tokenizer.model_max_length))
        pooled = self.clip(ids.to(self.clip.device)).pooler_output
        return text, pooled

    @staticmethod
    def _ids(tokenizer: CLIPTokenizer | T5Tokenizer, prompt: str, length: int) -> Tensor:
        tokens = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return tokens.input_ids
