"""A model in memory: its parts, and what they made that pictures share."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from torch import Tensor
from torch.nn import Module
from transformers import CLIPTextModel, CLIPTokenizer, T5Tokenizer

from .control_lora import apply_control_lora
from .controls import control_tokens
from .cuda_settings import engine_settings
from .load_controlnet import load_controlnet
from .load_parts import load_part, load_shift
from .load_t5 import load_t5
from .load_transformer import LoadedTransformer, load_transformer
from .lora import LoraInput, LoraStack, loras_of
from .memory import net_rest, total_memory
from .net_family import check_net_width
from .place_weights import Check, no_check
from .preview import fit_latent_colours
from .redux import Redux, load_redux
from .schedules import Shift
from .text import TextEncoders, WeightedText
from .tokenizers import load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

Key = TypeVar("Key")
Made = TypeVar("Made")
PROMPTS_KEPT = 8
CONTROLS_KEPT = 12
PROMPTS_KEPT_MAX, CONTROLS_KEPT_MAX = 128, 256
"""Of a batch. A prompt takes 4 MB, the latents of a control for 1024 x 1024 pixels half of one."""


@contextmanager
def without_gradients() -> Iterator[None]:
    """Everything here runs inside `with without_gradients():`, loading too; with the engine's settings of torch."""
    with torch.inference_mode(), engine_settings():
        yield


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where the parts lie. condition: how the model's family takes one in, as `ModelVariant.control` says.

    redux: the folders of its image encoder and of Redux itself, for models that read reference pictures. control_lora:
    what makes a Depth or Canny model of the transformer.
    """

    transformer: Path
    transformer_config: Path
    vae: Path
    text_encoder: Path
    text_encoder_2: Path
    tokenizer: Path
    tokenizer_2: Path
    scheduler: Path
    max_text_tokens: int
    condition: str = ""
    redux: tuple[Path, Path] | None = None
    control_lora: Path | None = None


@dataclass(eq=False, slots=True)
class FluxModel:
    """Everything that was loaded from a model's folder, on one device.

    net_rest: where ControlNets wait when their part of the steps is over; None to keep them on the device.
    """

    files: ModelFiles
    device: torch.device
    dtype: torch.dtype
    transformer: LoadedTransformer
    vae: AutoencoderKL
    text: TextEncoders
    shift: Shift
    latent_colours: Tensor
    nets: dict[Path, FluxControlNetModel] = field(default_factory=dict)
    redux: Redux | None = None
    prompts: OrderedDict[WeightedText, tuple[Tensor, Tensor]] = field(default_factory=OrderedDict)
    control_latents: OrderedDict[tuple[str, str], Tensor] = field(default_factory=OrderedDict)
    net_rest: torch.device | None = None
    loras: LoraStack = field(init=False)
    prompts_ahead: list[WeightedText] = field(default_factory=list)
    prompts_kept: int = PROMPTS_KEPT
    controls_kept: int = CONTROLS_KEPT

    def __post_init__(self) -> None:
        nets = {"transformer": self.transformer.model, "text_encoder": self.text.clip, "text_encoder_2": self.text.t5}
        self.loras = loras_of(nets, self.transformer.model.inner_dim, self.dtype)

    def use_loras(self, loras: Sequence[LoraInput]) -> None:
        """Makes the model what it is with these LoRAs and no others; none for the model as it was loaded.

        Nothing is loaded again, and where only strengths differ from the last call, nothing is put together again.
        Raises `FailureError`.
        """
        try:
            speaks_otherwise = self.loras.use(loras)
        except BaseException:
            self.prompts.clear()
            raise
        if speaks_otherwise:
            self.prompts.clear()

    def expect(self, prompts: Sequence[WeightedText], controls: int) -> None:
        """Says what the next pictures take: their prompts are read in one go, and kept as their controls are.

        controls: how many of them there are in all those pictures. Nothing to come: no prompts, 0.
        """
        self.prompts_ahead = list(dict.fromkeys(prompts))[:PROMPTS_KEPT_MAX]
        self.prompts_kept = max(PROMPTS_KEPT, len(self.prompts_ahead) + 1)  # and the empty one, for weights
        self.controls_kept = min(CONTROLS_KEPT_MAX, max(CONTROLS_KEPT, controls))

    def controlnet(self, folder: Path, weights: str = "", check: Check = no_check) -> FluxControlNetModel:
        """The net, loaded now or before, on the model's device. check: ends the loading by raising."""
        if folder not in self.nets:
            net = load_controlnet(folder, self.device, self.dtype, weights, check)
            check_net_width(folder, net.inner_dim, self.transformer.model.inner_dim)
            self.nets[folder] = net
        Module.to(self.nets[folder], self.device)
        return self.nets[folder]

    def read_control(self, folder: Path, net: FluxControlNetModel, picture: Picture) -> Tensor:
        """`control_tokens` of a picture; those of the last few are remembered."""
        # The VAE makes the same of a picture for every net; a net that reads pixels makes its own.
        reader = "vae" if net.input_hint_block is None else str(folder)
        key = (reader, hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest())
        return _remembered(
            self.control_latents, key, self.controls_kept, lambda: control_tokens(net, self.vae, picture)
        )

    def encode_reference(self, picture: Picture) -> Tensor:
        """(rows, columns, 3) uint8 -> (1, patches, T5 width); Redux is loaded when it is first asked."""
        if self.redux is None:
            assert self.files.redux is not None, "check_family refuses a reference without Redux"
            self.redux = load_redux(self.files.redux, self.text.t5.config.d_model, self.device, self.dtype)
        return self.redux.read(picture)

    def encode_prompt(self, prompt: str | WeightedText) -> tuple[Tensor, Tensor]:
        """text and pooled in the model's dtype; the last few prompts are remembered."""
        words = WeightedText(prompt) if isinstance(prompt, str) else prompt

        def encoded() -> tuple[Tensor, Tensor]:
            text, pooled = self.text.encode(words.text)
            text, pooled = text.to(self.device, self.dtype), pooled.to(self.device, self.dtype)
            return (self.text.weigh(words, text, self.encode_prompt("")[0]) if words.spans else text), pooled

        return _remembered(self.prompts, words, self.prompts_kept, encoded)

    def plan(self) -> dict[str, Any]:
        """The settings that decide the pixels beside the Request."""
        return {
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            "linears": dict(sorted(self.transformer.types.items())),
            "torch": torch.__version__,
            **({"loras": loras} if (loras := self.loras.plan()) else {}),
        }


def choose_device(name: str) -> tuple[torch.device, torch.dtype]:
    """ "auto", or a torch device's name -> the device, and the dtype to compute in on it."""
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    device = torch.device(name)
    return device, torch.float32 if device.type == "cpu" else torch.bfloat16


def load_model(files: ModelFiles, device: torch.device, dtype: torch.dtype, check: Callable[[], None]) -> FluxModel:
    """Loads all but the ControlNets. `check` is called between tensors and ends the loading by raising."""
    transformer = load_transformer(files.transformer, files.transformer_config, device, dtype, check)
    if files.control_lora is not None:
        apply_control_lora(transformer.model, files.control_lora, dtype)
    check()
    vae = load_part(AutoencoderKL, files.vae, device, dtype)
    check()
    clip = load_part(CLIPTextModel, files.text_encoder, device, dtype)
    clip_tokenizer = load_tokenizer(CLIPTokenizer, files.tokenizer, clip.config.vocab_size)
    check()
    t5 = load_t5(files.text_encoder_2, device, dtype, check)
    t5_tokenizer = load_tokenizer(T5Tokenizer, files.tokenizer_2, t5.config.vocab_size)
    text = TextEncoders(clip, clip_tokenizer, t5, t5_tokenizer, files.max_text_tokens)
    check()
    colours = fit_latent_colours(vae)
    model = FluxModel(files, device, dtype, transformer, vae, text, load_shift(files.scheduler), colours)
    model.net_rest = net_rest(device, total_memory(device))
    return model


def _remembered(cache: OrderedDict[Key, Made], key: Key, most: int, make: Callable[[], Made]) -> Made:
    """What `make` makes, now or before; the cache keeps the `most` that were asked for last."""
    if key not in cache:
        cache[key] = make()
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
    return cache[key]
