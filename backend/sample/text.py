"""The text encoders: tokenizers whose words are the grammar's, and a training that has them tell apart what it says.

T5 and CLIP learn from captions alone to predict the appearance behind each caption. What they make of a caption then
already says which colour belongs to which thing, and the transformer need not find that out from pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from ..flux.text import TextEncoders
from .model_files import clip_config, t5_config, write_clip_tokenizer, write_t5_tokenizer
from .nets import TEXT_TOKENS, TEXT_WIDTH
from .training import Stage, run_stage
from .world.captions import NOUNS, random_caption, words
from .world.looks import BACKGROUNDS, COLOURS, LIGHTS, MATERIALS, SIDES, Appearance, random_appearance

BATCH = 64
CLIP_TOKENS = 44
"""CLIP's attention looks back only, so that what pads a caption after its end need not be computed in training."""
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "subject.colour": tuple(COLOURS),
    "subject.material": MATERIALS,
    "ground.colour": tuple(COLOURS),
    "ground.material": MATERIALS,
    "second.colour": (*COLOURS, ""),
    "second.material": (*MATERIALS, ""),
    "background": BACKGROUNDS,
    "background_colour": tuple(COLOURS),
    "light": LIGHTS,
    "side": SIDES,
}


def write_tokenizers(folder: Path) -> tuple[int, int]:
    """Writes tokenizer/ (CLIP's) and tokenizer_2/ (T5's); returns how many words each knows."""
    clip_words = write_clip_tokenizer(folder / "tokenizer", byte_pair_merges(words()))
    return clip_words, write_t5_tokenizer(folder / "tokenizer_2", t5_pieces(), TEXT_TOKENS)


def byte_pair_merges(vocabulary: Sequence[str]) -> list[tuple[str, str]]:
    """The merges that make each word one token: always the most frequent pair, of several the first by the alphabet.

    The tokenizers library's trainer breaks ties by chance, and a vocabulary in another order is another language to
    the encoder that was trained with it.
    """
    split = [[*word[:-1], f"{word[-1]}</w>"] for word in vocabulary]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in split for pair in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [_merged(parts, best) for parts in split]
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found


def t5_pieces() -> list[tuple[str, float]]:
    """Words as pieces; what is no word falls into letters."""
    # transformers builds the normaliser anew, without lower case: words with a capital are pieces of their own.
    both = dict.fromkeys(form for word in words() for form in (word, word.capitalize()))
    letters = [(chr(code), -8.0) for code in range(0x21, 0x7F)]
    return [("\u2581", -6.0), *((f"\u2581{word}", -3.0) for word in both), *letters]


def make_encoders(folder: Path) -> TextEncoders:
    """Untrained encoders, and their tokenizers in `folder`."""
    clip_words, t5_words = write_tokenizers(folder)
    torch.manual_seed(1)
    clip = CLIPTextConfig(**clip_config(clip_words, TEXT_WIDTH, inner=256, layers=2, heads=4))
    t5 = T5Config(**t5_config(t5_words, TEXT_WIDTH, inner=256, layers=3, heads=4))
    return TextEncoders(
        CLIPTextModel(clip),
        CLIPTokenizer.from_pretrained(str(folder / "tokenizer")),
        T5EncoderModel(t5),
        T5Tokenizer.from_pretrained(str(folder / "tokenizer_2")),
        TEXT_TOKENS,
    )


class Guesser(nn.Module):
    """Guesses the appearance: from T5's states by attention, one query an attribute; from CLIP's summary directly."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(ATTRIBUTES), TEXT_WIDTH) * 0.1)
        self.from_states = nn.ModuleList(nn.Linear(TEXT_WIDTH, len(values)) for values in ATTRIBUTES.values())
        self.from_summary = nn.ModuleList(nn.Linear(TEXT_WIDTH, len(values)) for values in ATTRIBUTES.values())

    def forward(self, states: Tensor, summary: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(batch, tokens, width), (batch, width) -> for each attribute the logits from both."""
        focus = torch.softmax(torch.einsum("btw,aw->bat", states, self.queries), dim=2)
        seen = torch.einsum("bat,btw->baw", focus, states)
        pairs = zip(self.from_states, self.from_summary, strict=True)
        return [(first(seen[:, index]), second(summary)) for index, (first, second) in enumerate(pairs)]


def labels_of(look: Appearance) -> list[int]:
    """The index of each attribute's value."""
    found = []
    for name, values in ATTRIBUTES.items():
        value: object = look
        for part in name.split("."):
            value = getattr(value, part) if value is not None else None
        found.append(values.index(str(value) if value is not None else ""))
    return found


def random_texts(seed: tuple[int, ...], count: int) -> tuple[list[str], Tensor]:
    """Captions and (count, attributes) labels."""
    rng = np.random.default_rng(seed)
    captions, labels = [], []
    for _ in range(count):
        background = str(rng.choice(BACKGROUNDS))
        shapes = [str(rng.choice(list(NOUNS))) for _ in range(2)]
        look = random_appearance(rng, rng.random() < 0.45, background)
        captions.append(random_caption(rng, look, (shapes[0], shapes[1] if look.second else None)))
        labels.append(labels_of(look))
    return captions, torch.tensor(labels)


def _states(encoders: TextEncoders, captions: list[str]) -> tuple[Tensor, Tensor]:
    """As `TextEncoders.encode_all`, for captions that CLIP_TOKENS are enough for."""
    short = encoders.clip_tokenizer(
        captions, padding="max_length", max_length=CLIP_TOKENS, truncation=True, return_tensors="pt"
    )
    long = encoders.t5_tokenizer(
        captions, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
    )
    return encoders.t5(long.input_ids).last_hidden_state, encoders.clip(short.input_ids).pooler_output


def train_text(folder: Path, encoders: TextEncoders, stage: Stage) -> None:
    """Trains the encoders, or loads them where that is done."""
    torch.manual_seed(2)
    guesser = Guesser()
    nets: dict[str, nn.Module] = {"t5": encoders.t5, "clip": encoders.clip, "guesser": guesser}
    parameters = [parameter for net in nets.values() for parameter in net.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=stage.rate, betas=(0.9, 0.98), weight_decay=1e-4)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        captions, labels = random_texts((7, step), BATCH)
        loss, hits = torch.zeros(()), []
        with torch.autocast("cpu", torch.bfloat16):
            guesses = guesser(*_states(encoders, captions))
        for index, (first, second) in enumerate((first.float(), second.float()) for first, second in guesses):
            loss = loss + cross_entropy(first, labels[:, index]) + cross_entropy(second, labels[:, index])
            hits.append((first.argmax(1) == labels[:, index]).float().mean().item())
            hits.append((second.argmax(1) == labels[:, index]).float().mean().item())
        figures = {
            "loss": loss.item(),
            "t5 colour": hits[0],
            "clip colour": hits[1],
            "clip material": hits[3],
            "clip ground": hits[5],
        }
        return loss / (2 * len(ATTRIBUTES)), figures

    run_stage(stage, folder, nets, [optimizer], step_loss)
    for net in (encoders.t5, encoders.clip):
        net.eval().requires_grad_(False)
