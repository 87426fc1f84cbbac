"""The tokenizers of the two text encoders, from a folder on disk. Without torch: a prompt is read before a model is."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from transformers import CLIPTokenizer, T5Tokenizer

from ..wire import FailureError, FailureKind
from .model_parts import broken, require

Tokenizer = TypeVar("Tokenizer", CLIPTokenizer, T5Tokenizer)
CLIP_TOKENS_MAX = 77

VOCABULARIES: dict[type, tuple[tuple[str, ...], ...]] = {
    CLIPTokenizer: (("tokenizer.json",), ("vocab.json", "merges.txt")),
    T5Tokenizer: (("tokenizer.json",), ("spiece.model",)),
}
"""The files that can hold a tokenizer's words. Without any, the library makes a tokenizer that knows none."""


def read_tokenizer(kind: type[Tokenizer], folder: Path) -> Tokenizer:
    """A tokenizer from the files in `folder`. Raises `FailureError` where they are not there or damaged."""
    require(folder, "tokenizer_config.json")
    choices = VOCABULARIES[kind]
    if not any(all((folder / name).is_file() for name in choice) for choice in choices):
        require(folder, *choices[-1])
    try:
        return kind.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exceptions for a damaged file
        raise broken(folder, error) from error


def load_tokenizer(kind: type[Tokenizer], folder: Path, words_max: int) -> Tokenizer:
    """As `read_tokenizer`, refusing one that does not suit its encoder. words_max: how many words that knows."""
    tokenizer = read_tokenizer(kind, folder)
    if len(tokenizer) > words_max:
        raise FailureError.of(
            FailureKind.MODEL_UNSUPPORTED,
            f"The tokenizer in {folder.name} knows {len(tokenizer):,} words, its text encoder {words_max:,}.",
            "Download this model again, or choose another one.",
            str(folder),
        )
    return tokenizer


def token_places(tokenizer: CLIPTokenizer | T5Tokenizer, text: str) -> list[tuple[int, int]]:
    """The start and the end, in characters of the text, of each of its tokens, however many; no marks among them."""
    tokens = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, padding=False, verbose=False
    )
    return [(start, end) for start, end in tokens["offset_mapping"]]


def clip_limit(tokenizer: CLIPTokenizer) -> int:
    """How many tokens CLIP reads, its two marks among them."""
    return min(CLIP_TOKENS_MAX, tokenizer.model_max_length)
