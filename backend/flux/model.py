"""A model in memory, and the way from a Request to a picture through it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from torch import Tensor
from torch.nn import Module
from transformers import CLIPTextModel, CLIPTokenizer, T5Tokenizer

from ..wire import GenerationRequest
from ..wire.request import is_from_picture
from .check_picture import check_not_blank, check_numbers
from .control_lora import apply_control_lora
from .controls import ControlNetSteering, RestAfterWindow, Steering, control_tokens, step_weights, tabulated
from .denoise import Guides, Negative, denoise
from .forward import Conditions, Prepared, prepare
from .joined import Joined, beside, control_channels, fill_channels
from .latents import image_positions, noise, pack, unpack
from .load_controlnet import load_controlnet
from .load_parts import load_part, load_shift
from .load_t5 import load_t5
from .load_transformer import LoadedTransformer, load_transformer
from .lora import LoraInput, LoraStack, loras_of
from .memory import net_rest, total_memory
from .modulation import looked_up
from .net_family import check_net_width
from .place_weights import Check, no_check
from .preview import fit_latent_colours, preview
from .redux import Redux, load_redux, with_reference
from .samplers import SAMPLERS, Calls
from .schedules import SCHEDULES, Shift
from .source import Source, run_sigmas
from .text import Prompts, TextEncoders, WeightedText
from .tokenizers import load_tokenizer
from .vae import computing_in_float32, decode, encode, scale_factor

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
without_gradients = torch.inference_mode
"""Everything here runs inside `with without_gradients():`, loading too."""


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


@dataclass(frozen=True, eq=False, slots=True)
class ControlInput:
    """One control as the engine takes it. picture: (height, width, 3) uint8, what the net in `folder` gets.

    folder: None where the model itself takes the picture, in all of its steps. weights: the number format to pack the
    net's weights in when it is loaded; "" for as they are.
    """

    folder: Path | None
    mode: int | None
    picture: Picture
    strength: float
    start: float
    end: float
    weights: str = ""


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


@dataclass(eq=False, slots=True)
class PictureJob:
    """One picture on its way through a model: text, control, denoise, decode, in this order.

    prompts: what is read in the place of the Request's own words, as they stand.
    """

    model: FluxModel
    request: GenerationRequest
    controls: list[ControlInput]
    prompts: Prompts | None = None
    sigmas: Tensor = field(init=False)
    calls: Calls = field(init=False)
    rows: int = field(init=False)
    columns: int = field(init=False)
    conditions: Conditions = field(init=False)
    negative: Conditions | None = field(init=False, default=None)
    source: Source | None = field(init=False, default=None)
    original: Picture | None = field(init=False, default=None)
    is_kept: NDArray[np.bool_] | None = field(init=False, default=None)
    joined: Joined = field(init=False, default_factory=Joined)
    steering: list[ControlNetSteering] = field(init=False, default_factory=list)
    tokens: Tensor = field(init=False)

    def __post_init__(self) -> None:
        factor = scale_factor(self.model.vae)
        self.rows, self.columns = self.request.height // factor, self.request.width // factor
        schedule = SCHEDULES[self.request.schedule]
        sigmas = schedule(self.request.steps, self.rows * self.columns // 4, self.model.shift)
        self.sigmas = run_sigmas(sigmas, self.request.strength if is_from_picture(self.request.task) else 1.0)
        self.calls = SAMPLERS[self.request.sampler].calls(self.sigmas)

    @property
    def steps(self) -> int:
        """Those that run: fewer than the Request's where the picture does not start from noise alone."""
        return len(self.sigmas) - 1

    def read_source(self, image: Picture, mask: NDArray[np.float32] | None) -> None:
        """Takes in the picture to start from or to edit, (height, width, 3) uint8.

        mask: (height, width) 0..1, how much each place of it may change; on FLUX.1-Fill 0.5 and more may.
        """
        latents = encode(self.model.vae, _values(image)).to(self.model.device).float()
        if self.request.task == "edit":
            self.joined = beside(latents.to(self.model.dtype))
            return
        hole = torch.from_numpy(mask) if mask is not None else None
        if hole is not None and self.model.files.condition == "mask":
            self.joined = Joined(fill_channels(self.model.vae, _values(image).to(self.model.device), hole))
            hole = None
        self.source = Source.of(latents, hole)
        self.original, self.is_kept = image, mask == 0.0 if mask is not None else None

    def read_text(self) -> None:
        own = Prompts(WeightedText(self.request.prompt), WeightedText(self.request.negative_prompt))
        prompts = self.prompts or own
        self.conditions = self._conditions(prompts.positive)
        if self.request.true_cfg > 1.0:
            self.negative = self._conditions(prompts.negative)

    def read_reference(self, picture: Picture) -> None:
        """Adds a reference picture's words to the prompt's, not to the negative one's; after `read_text`."""
        words = self.model.encode_reference(picture)
        text = with_reference(self.conditions.text, words, self.request.reference_strength)
        self.conditions = replace(self.conditions, text=text)

    def _conditions(self, prompt: WeightedText) -> Conditions:
        text, pooled = self.model.encode_prompt(prompt)
        positions = image_positions(self.rows, self.columns).to(self.model.device)
        return Conditions(text, pooled, positions, self.calls.levels, self.request.guidance)

    def read_control(self, control: ControlInput, check: Check = no_check) -> None:
        """Takes one control in: its net, its picture through the VAE, its weights by step.

        check: called while the net is loaded; ends that by raising.
        """
        if control.folder is None:
            self.joined = Joined(control_channels(self.model.vae, _values(control.picture)))
            return
        net = self.model.controlnet(control.folder, control.weights, check)
        latents = self.model.read_control(control.folder, net, control.picture)
        by_step = step_weights(control.strength, control.start, control.end, self.steps)
        weights = [by_step[step] for step in self.calls.steps]
        self.steering.append(ControlNetSteering.of(net, latents, control.mode, self.conditions, weights))

    def start(self) -> Tensor:
        channels = self.model.vae.config["latent_channels"]
        tokens = pack(noise(self.request.seed, channels, self.rows, self.columns)).to(self.model.device)
        return tokens if self.source is None else self.source.start(tokens, float(self.sigmas[0]))

    def step_noise(self, step: int) -> Tensor:
        """Noise that a sampler adds in a step: another one for each step of each seed, the same on any machine."""
        channels = self.model.vae.config["latent_channels"]
        return pack(noise(self.request.seed, channels, self.rows, self.columns, step + 1)).to(self.model.device)

    def denoise(self, on_step: Callable[[int, Tensor], None]) -> None:
        """on_step: called with each step's number from 0 and the tokens predicted there; ends the loop by raising."""
        net = self.model.transformer.model
        prompts = [self._prepared(one) for one in (self.conditions, self.negative) if one is not None]
        with ExitStack() as stack:
            prompt, *away = stack.enter_context(looked_up(net, prompts))
            steering: list[Steering] = [*tabulated(self.steering, stack)]
            if self.model.net_rest is not None:
                steering.append(RestAfterWindow.of(self.steering, self.model.net_rest))
            negative = Negative(away[0], self.request.true_cfg) if away else None
            self.tokens = denoise(
                net,
                self.start(),
                self.sigmas,
                Guides(prompt, negative, steering, self.source, self.joined),
                SAMPLERS[self.request.sampler],
                on_step,
                self.step_noise,
            )
        check_numbers(self.tokens)

    def _prepared(self, conditions: Conditions) -> Prepared:
        places = self.joined.places(conditions.positions)
        return prepare(self.model.transformer.model, replace(conditions, positions=places))

    def preview(self, tokens: Tensor) -> Picture:
        """(height, width, 3) uint8 of predicted tokens, small."""
        return preview(tokens, self.rows, self.columns, self.model.latent_colours)

    def decode(self) -> Picture | NDArray[np.uint16]:
        """(height, width, 3): the finished picture, uint8 or uint16 by the Request's bit depth."""
        exactly = computing_in_float32(self.model.vae) if self.request.bit_depth > 8 else nullcontext()
        with exactly:
            image = decode(self.model.vae, unpack(self.tokens, self.rows, self.columns))
        check_numbers(image, " in the VAE")
        values = (image[0].permute(1, 2, 0) / 2.0 + 0.5).clamp(0.0, 1.0)
        pixels = whole_numbers(values, self.request.bit_depth)
        check_not_blank(pixels, self.original)
        if self.is_kept is not None and self.original is not None:
            # What may not change at all is the artist's own pixels, not what the VAE makes of them.
            pixels[self.is_kept] = self.original[self.is_kept].astype(pixels.dtype) * (
                257 if pixels.itemsize > 1 else 1
            )
        return pixels


def whole_numbers(values: Tensor, bits: int) -> Picture | NDArray[np.uint16]:
    """0..1 -> the nearest of 2**8 values as uint8, or of 2**16 as uint16."""
    scaled = values.mul(2.0**bits - 1.0).round()
    return scaled.to(torch.uint8 if bits == 8 else torch.uint16).cpu().numpy()


def _remembered(cache: OrderedDict[Key, Made], key: Key, most: int, make: Callable[[], Made]) -> Made:
    """What `make` makes, now or before; the cache keeps the `most` that were asked for last."""
    if key not in cache:
        cache[key] = make()
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
    return cache[key]


def _values(picture: Picture) -> Tensor:
    """(height, width, 3) uint8 -> (1, 3, height, width), -1..1."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1.0
