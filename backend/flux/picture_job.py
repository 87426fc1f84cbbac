"""One picture on its way through a model: text, control, denoise, decode."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..wire import GenerationRequest
from ..wire.request import is_from_picture
from ..wire.speeds import SPEEDS, Speed
from .check_picture import check_not_blank, check_numbers
from .compiled import NetPass
from .controls import ControlNetSteering, RestAfterWindow, Steering, passes_of, step_weights, tabulated
from .denoise import Guides, Negative, denoise
from .eight_bit import FORMS, best_form
from .forward import Conditions, Prepared, prepare
from .joined import Joined, beside, fill_channels
from .journal import Journal
from .latents import image_positions, noise, noise_at, pack, unpack
from .model import FluxModel
from .modulation import looked_up
from .place_weights import Check, no_check
from .places import TRANSFORMER, NetsInUse
from .preview import preview
from .redux import with_reference
from .samplers import SAMPLERS, Calls
from .schedules import SCHEDULES
from .source import Source, run_sigmas
from .step_cache import StepCache
from .text import Prompts, WeightedText
from .vae import computing_in_float32, scale_factor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]


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
class PictureJob:
    """One picture on its way through a model: text, control, denoise, decode, in this order.

    prompts: what is read in the place of the Request's own words, as they stand. journal: of a job for the same picture
    that could not be finished; its finished calls of the model are not made again. origin: top and left in pixels,
    multiples of 8, where this is a part of a larger picture, whose neighbours have the same noise where they overlap.
    """

    model: FluxModel
    request: GenerationRequest
    controls: list[ControlInput]
    prompts: Prompts | None = None
    journal: Journal = field(default_factory=Journal)
    origin: tuple[int, int] | None = None
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
    nets: NetsInUse = field(init=False)
    tokens: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.nets = NetsInUse(self.model.places, {})
        factor = scale_factor(self.model.vae)
        self.rows, self.columns = self.request.height // factor, self.request.width // factor
        schedule = SCHEDULES[self.request.schedule]
        sigmas = schedule(self.request.steps, self.rows * self.columns // 4, self.model.shift)
        self.sigmas = run_sigmas(sigmas, self.request.strength if is_from_picture(self.request.task) else 1.0)
        self.calls = SAMPLERS[self.request.sampler].calls(self.sigmas)

    @property
    def speed(self) -> Speed:
        return SPEEDS[self.request.speed]

    @property
    def steps(self) -> int:
        """Those that run: fewer than the Request's where the picture does not start from noise alone."""
        return len(self.sigmas) - 1

    def read_source(self, image: Picture, mask: NDArray[np.float32] | None) -> None:
        """Takes in the picture to start from or to edit, (height, width, 3) uint8.

        mask: (height, width) 0..1, how much each place of it may change; on FLUX.1-Fill 0.5 and more may.
        """
        self.model.places.begin("control")
        latents = self.model.encode(_values(image)).float()
        if self.request.task == "edit":
            self.joined = beside(latents.to(self.model.dtype))
            return
        hole = torch.from_numpy(mask) if mask is not None else None
        if hole is not None and self.model.files.condition == "mask":
            self.joined = Joined(fill_channels(self.model.encode, _values(image).to(self.model.device), hole))
            hole = None
        self.source = Source.of(latents, hole)
        self.original, self.is_kept = image, mask == 0.0 if mask is not None else None

    def read_text(self) -> None:
        self.model.places.begin("text")
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
        self.model.places.begin("control")
        if control.folder is None:
            self.joined = Joined(pack(self.model.encode(_values(control.picture))))
            return
        net = self.model.controlnet(control.folder, control.weights, check)
        latents = self.model.read_control(control.folder, net, control.picture)
        self.model.places.use(control.folder)
        self.nets.keys[id(net)] = control.folder
        by_step = step_weights(control.strength, control.start, control.end, self.steps)
        weights = [by_step[step] for step in self.calls.steps]
        self.steering.append(
            ControlNetSteering.of(net, latents, control.mode, self.conditions, weights, partial(self.nets.arrive, net))
        )

    def start(self) -> Tensor:
        tokens = self._noise()
        return tokens if self.source is None else self.source.start(tokens, float(self.sigmas[0]))

    def step_noise(self, step: int) -> Tensor:
        """Noise that a sampler adds in a step: another one for each step of each seed, the same on any machine."""
        return self._noise(step + 1)

    def _noise(self, step: int = 0) -> Tensor:
        channels = self.model.vae.config["latent_channels"]
        size = self.request.seed, channels, self.rows, self.columns
        if self.origin is None:
            found = noise(*size, step)
        else:
            factor = scale_factor(self.model.vae)
            found = noise_at(*size, (self.origin[0] // factor, self.origin[1] // factor), step)
        return pack(found).to(self.model.device)

    def denoise(self, on_step: Callable[[int, Tensor], None]) -> None:
        """on_step: called with each step's number from 0 and the tokens predicted there; ends the loop by raising."""
        net, places = self.model.transformer.model, self.model.places
        places.begin("denoising")
        with ExitStack() as stack:
            self.model.products = self._products()
            stack.enter_context(places.painting(self.model.products if self.model.products in FORMS else ""))
            prompts = [self._prepared(one) for one in (self.conditions, self.negative) if one is not None]
            prompt, *away = stack.enter_context(looked_up(net, prompts, places.adaln))
            controls = tabulated(self.steering, stack, places.adaln)
            passes = [NetPass(net, prompt), *passes_of(controls)]
            calls = stack.enter_context(self.model.running.painting(passes, places.placement, len(self.calls.steps)))
            controls = [replace(control, calls=calls) for control in controls]
            steering: list[Steering] = [*controls, RestAfterWindow.of(self.steering, self.nets.over)]
            stack.enter_context(places.streamed(TRANSFORMER))
            stack.callback(self.nets.close)
            negative = Negative(away[0], self.request.true_cfg, self._second_passes()) if away else None
            cache = self._step_cache()
            self.tokens = denoise(
                net,
                self.start(),
                self.sigmas,
                Guides(prompt, negative, steering, self.source, self.joined, calls),
                SAMPLERS[self.request.sampler],
                on_step,
                self.step_noise,
                self.journal,
                cache,
            )
        self.model.left_out += [cache.told] if cache is not None else []
        check_numbers(self.tokens)

    def _products(self) -> str:
        """How the transformer's blocks compute in 8 bits, for the plan; one of FORMS where they do."""
        if not self.speed.eight_bit:
            return ""
        if self.model.places.streams(TRANSFORMER):
            return "exact: blocks that come one by one are not made 8 bits"
        if not self.model.places.placement.eight_bit:
            return "exact: there is no room for a byte a weight"
        return best_form(self.model.device)

    def _second_passes(self) -> list[bool] | None:
        """In which calls true CFG's second pass is due: by the speed, and where a control comes, goes or changes.

        None for all.
        """
        if self.speed.cfg_every == 1:
            return None
        whole = math.ceil(self.speed.cfg_whole * self.steps)
        regimes = self._regimes()
        return [
            step < whole or (step - whole) % self.speed.cfg_every == 0 or regimes[call] != regimes[call - 1]
            for call, step in enumerate(self.calls.steps)
        ]

    def _regimes(self) -> list[tuple[float, ...]]:
        """What acts in each call."""
        return [tuple(control.weights[call] for control in self.steering) for call in range(len(self.calls.steps))]

    def _step_cache(self) -> StepCache | None:
        if not self.speed.cache:
            return None
        regimes = self._regimes()
        return StepCache.of(self.speed.cache, self.calls, regimes, self.request.sampler == "adaptive")

    def _prepared(self, conditions: Conditions) -> Prepared:
        places = self.joined.places(conditions.positions)
        return prepare(self.model.transformer.model, replace(conditions, positions=places))

    def preview(self, tokens: Tensor) -> Picture:
        """(height, width, 3) uint8 of predicted tokens, small."""
        return preview(tokens, self.rows, self.columns, self.model.latent_colours)

    def decode(self) -> Picture | NDArray[np.uint16]:
        """(height, width, 3): the finished picture, uint8 or uint16 by the Request's bit depth."""
        self.model.places.begin("decoding")
        exactly = computing_in_float32(self.model.vae) if self.request.bit_depth > 8 else nullcontext()
        with exactly:
            image = self.model.decode(unpack(self.tokens, self.rows, self.columns))
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


def _values(picture: Picture) -> Tensor:
    """(height, width, 3) uint8 -> (1, 3, height, width), -1..1."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1.0
