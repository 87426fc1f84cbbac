"""Prompts -> what the transformer reads: T5's states for each token, and CLIP's one summary.

Weights act on T5's states, by the convention that users know from ComfyUI: a token of weight w gets
empty + w * (state - empty), where `empty` is the state that the empty prompt has at the same place. Weight 1 is the
plain prompt to the bit. CLIP reads the words without their weights: its summary has no place for one word.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from .low_rank import place_of
from .tokenizers import clip_limit


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A prompt.

    spans: start, end (characters) and weight of the parts whose weight is not 1, sorted and apart.
    """

    text: str
    spans: tuple[tuple[int, int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a picture should show, and what not; the second is read at a true CFG above 1 only."""

    positive: WeightedText
    negative: WeightedText


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
        # Not `t5.device`, which tells of its first parameter: that one's block may rest in main memory.
        text = self.t5(ids.to(place_of(self.t5.get_input_embeddings()))).last_hidden_state
        ids = self._ids(self.clip_tokenizer, prompts, clip_limit(self.clip_tokenizer))
        pooled = self.clip(ids.to(self.clip.device)).pooler_output
        return text, pooled

    def weigh(self, words: WeightedText, text: Tensor, empty: Tensor) -> Tensor:
        """`encode`'s text of the words, with their weights. empty: that of the empty prompt, (1, max_tokens, width)."""
        weights = self._token_weights(words).to(text.device)[None, :, None]
        weighed = empty.float() + weights * (text.float() - empty.float())
        return torch.where(weights == 1.0, text, weighed.to(text.dtype))

    def _token_weights(self, words: WeightedText) -> Tensor:
        """(max_tokens,): the mean weight of the characters that each token stands for, spaces aside."""
        by_character = torch.ones(len(words.text))
        for start, end, weight in words.spans:
            by_character[start:end] = weight
        is_counted = torch.tensor([not symbol.isspace() for symbol in words.text], dtype=torch.bool)
        tokens = self.t5_tokenizer(
            words.text, max_length=self.max_tokens, truncation=True, return_offsets_mapping=True
        )  # fmt: skip
        weights = torch.ones(self.max_tokens)
        for place, (start, end) in enumerate(tokens["offset_mapping"]):
            meant = by_character[start:end][is_counted[start:end]]
            if len(meant):
                weights[place] = meant.mean()
        return weights

    @staticmethod
    def _ids(tokenizer: CLIPTokenizer | T5Tokenizer, prompts: list[str], length: int) -> Tensor:
        tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return tokens.input_ids
