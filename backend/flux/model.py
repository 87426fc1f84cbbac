"""A model in memory: its parts, and what they made that pictures share."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, T5Tokenizer

from .control_lora import apply_control_lora
from .controls import control_tokens
from .load_controlnet import load_controlnet
from .load_parts import load_part, load_shift
from .load_t5 import load_t5
from .load_transformer import LoadedTransformer, load_transformer
from .lora import LoraInput, LoraStack, loras_of, merges_fit
from .moves import CPU
from .net_family import check_net_width
from .place_weights import Check, no_check
from .placement import Placement
from .places import CLIP, REDUX, T5, TRANSFORMER, VAE, Places
from .preview import fit_latent_colours
from .redux import Redux, load_redux
from .running import Running
from .schedules import Shift
from .text import TextEncoders, WeightedText
from .tokenizers import load_tokenizer
from .vae import decode, encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

Key = TypeVar("Key")
Made = TypeVar("Made")
DEFAULT_PLACEMENT = Placement()
PROMPTS_KEPT = 8
CONTROLS_KEPT = 12
PROMPTS_KEPT_MAX, CONTROLS_KEPT_MAX = 128, 256
"""Of a batch. A prompt takes 4 MB, the latents of a control for 1024 x 1024 pixels half of one."""


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
    """Everything that was loaded from a model's folder, for one device. places: where each part of it lies.

    products: how the last picture's 8-bit products were made, "" where it had none. left_out: of each pass of the last
    picture, what its step cache tells.
    """

    files: ModelFiles
    device: torch.device
    dtype: torch.dtype
    transformer: LoadedTransformer
    vae: AutoencoderKL
    text: TextEncoders
    shift: Shift
    latent_colours: Tensor
    places: Places
    nets: dict[Path, FluxControlNetModel] = field(default_factory=dict)
    redux: Redux | None = None
    prompts: OrderedDict[WeightedText, tuple[Tensor, Tensor]] = field(default_factory=OrderedDict)
    control_latents: OrderedDict[tuple[str, str], Tensor] = field(default_factory=OrderedDict)
    loras: LoraStack = field(init=False)
    running: Running = field(init=False)
    prompts_ahead: list[WeightedText] = field(default_factory=list)
    prompts_kept: int = PROMPTS_KEPT
    controls_kept: int = CONTROLS_KEPT
    products: str = ""
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.running = Running(self.device, self.dtype)
        nets = {"transformer": self.transformer.model, "text_encoder": self.text.clip, "text_encoder_2": self.text.t5}
        self.loras = loras_of(nets, self.transformer.model.inner_dim, self.dtype, self.places.mover)

    def use_loras(self, loras: Sequence[LoraInput]) -> None:
        """Makes the model what it is with these LoRAs and no others; none for the model as it was loaded.

        Nothing is loaded again, and where only strengths differ from the last call, nothing is put together again.
        Raises `FailureError`.
        """
        before = self.loras.used
        if self.loras.merges and not self.loras.are_used(loras):
            self.places.use_whole_transformer()
        try:
            speaks_otherwise = self.loras.use(loras)
        except BaseException:
            self.prompts.clear()
            self._forget_made()
            raise
        if speaks_otherwise:
            self.prompts.clear()
        if self.loras.used != before:
            self._forget_made()

    def _forget_made(self) -> None:
        """Lets go of what was made of weights that are others now."""
        self.places.adaln.forget()
        self.places.eight_bits.forget()

    def place(self, placement: Placement, check: Check = no_check) -> None:
        """Makes the parts lie as another placement says; nothing is read again that a picture has in common with it.

        check: called between tensors; ends the change by raising, after which the model is to be thrown away.
        """
        self._forget_made()
        with self.loras.off():
            self.places.change(placement, check)
            stays = placement.transformer != "streamed" and not placement.encoders_leave
            layers, memory = self.loras.layers.anew(), psutil.virtual_memory().total
            self.loras.merges = stays and merges_fit(layers, memory, self.places.mover)
        self._forget_made()

    def expect(self, prompts: Sequence[WeightedText], controls: int) -> None:
        """Says what the next pictures take: their prompts are read in one go, and kept as their controls are.

        controls: how many of them there are in all those pictures. Nothing to come: no prompts, 0.
        """
        self.prompts_ahead = list(dict.fromkeys(prompts))[:PROMPTS_KEPT_MAX]
        self.prompts_kept = max(PROMPTS_KEPT, len(self.prompts_ahead) + 1)  # and the empty one, for weights
        self.controls_kept = min(CONTROLS_KEPT_MAX, max(CONTROLS_KEPT, controls))

    def controlnet(self, folder: Path, weights: str = "", check: Check = no_check) -> FluxControlNetModel:
        """The net, loaded now or before; what reads its picture is on the device.

        check: ends the loading by raising.
        """
        if folder not in self.nets:
            net = load_controlnet(folder, CPU, self.dtype, weights, check, self.device)
            check_net_width(folder, net.inner_dim, self.transformer.model.inner_dim)
            self.nets[folder] = net
        if not self.places.has_net(folder, self.nets[folder]):
            self.places.add_net(folder, self.nets[folder])
        self.places.use(folder, check)
        return self.nets[folder]

    def read_control(self, folder: Path, net: FluxControlNetModel, picture: Picture) -> Tensor:
        """`control_tokens` of a picture; those of the last few are remembered."""
        # The VAE makes the same of a picture for every net; a net that reads pixels makes its own.
        reader = "vae" if net.input_hint_block is None else str(folder)
        key = (reader, hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest())
        return _remembered(
            self.control_latents, key, self.controls_kept, lambda: control_tokens(net, self.encode, picture)
        )

    def encode(self, image: Tensor) -> Tensor:
        """(1, 3, height, width), -1..1 -> latents (1, channels, height / 8, width / 8), on the device."""
        self.places.use(VAE)
        return encode(self.vae, image, tile=self.places.placement.vae_tile)

    def decode(self, latents: Tensor) -> Tensor:
        """(1, channels, rows, columns) latents -> (1, 3, height, width), about -1..1, float32."""
        self.places.use(VAE)
        return decode(self.vae, latents, self.places.placement.vae_tile)

    def encode_reference(self, picture: Picture) -> Tensor:
        """(rows, columns, 3) uint8 -> (1, patches, T5 width); Redux is loaded when it is first asked."""
        if self.redux is None:
            assert self.files.redux is not None, "check_family refuses a reference without Redux"
            self.redux = load_redux(self.files.redux, self.text.t5.config.d_model, CPU, self.dtype)
            self.places.add(REDUX, self.redux.encoder, self.redux.words)
        self.places.use(REDUX)
        return self.redux.read(picture)

    def encode_prompt(self, prompt: str | WeightedText) -> tuple[Tensor, Tensor]:
        """text and pooled in the model's dtype; the last few prompts are remembered."""
        words = WeightedText(prompt) if isinstance(prompt, str) else prompt

        def encoded() -> tuple[Tensor, Tensor]:
            with self.places.reading():
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
            **self.running.plan(),
            **({"loras": loras} if (loras := self.loras.plan()) else {}),
            **({"products": self.products} if self.products else {}),
            **({"step_cache": "; ".join(self.left_out)} if self.left_out else {}),
        }


def load_model(
    files: ModelFiles,
    device: torch.device,
    dtype: torch.dtype,
    check: Check,
    placement: Placement = DEFAULT_PLACEMENT,
) -> FluxModel:
    """Loads all but the ControlNets into main memory, weights as pages of their files, and puts them in their places.

    check: called between tensors; ends the loading by raising.
    """
    transformer = load_transformer(files.transformer, files.transformer_config, CPU, dtype, check)
    if files.control_lora is not None:
        apply_control_lora(transformer.model, files.control_lora, dtype, device)
    check()
    vae = load_part(AutoencoderKL, files.vae, CPU, dtype)
    check()
    text = _load_encoders(files, dtype, check)
    check()
    places = Places(device, dtype)
    # Merged layers are no pages of the file.
    places.add_net(TRANSFORMER, transformer.model, keep=files.control_lora is None)
    places.add_net(T5, text.t5)
    for key, part in ((VAE, vae), (CLIP, text.clip)):
        places.add(key, part)
    places.use(VAE)
    colours = fit_latent_colours(vae)
    model = FluxModel(files, device, dtype, transformer, vae, text, load_shift(files.scheduler), colours, places)
    model.place(placement, check)
    return model


def _load_encoders(files: ModelFiles, dtype: torch.dtype, check: Check) -> TextEncoders:
    clip = load_part(CLIPTextModel, files.text_encoder, CPU, dtype)
    clip_tokenizer = load_tokenizer(CLIPTokenizer, files.tokenizer, clip.config.vocab_size)
    check()
    t5 = load_t5(files.text_encoder_2, CPU, dtype, check)
    t5_tokenizer = load_tokenizer(T5Tokenizer, files.tokenizer_2, t5.config.vocab_size)
    return TextEncoders(clip, clip_tokenizer, t5, t5_tokenizer, files.max_text_tokens)


def _remembered(cache: OrderedDict[Key, Made], key: Key, most: int, make: Callable[[], Made]) -> Made:
    """What `make` makes, now or before; the cache keeps the `most` that were asked for last."""
    if key not in cache:
        cache[key] = make()
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
    return cache[key]
