"""torch.compile of both nets' blocks, in the background: a job runs as it is while what the next ones use is made.

A net's blocks are few kinds of the same thing, so one of each kind is compiled, as a function of the block (regional
compilation). What is compiled for is a key: the block's layers, their number formats and shapes, and the shapes that go
in. A job whose every block has its program runs compiled, any other one does not, from its first step to its last.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import pad

from .forward import Prepared
from .modulation import LookUp

log = logging.getLogger("grisaille.flux")
Net = FluxTransformer2DModel | FluxControlNetModel
BACKEND: Any = "inductor"
ROWS = 32
"""adaLN's tables end at a multiple of this, so that other numbers of steps do not ask for other programs."""
MODES = {"cuda": "max-autotune-no-cudagraphs"}
"""torch.compile's, by device; its default elsewhere. CUDA graphs are made of a net's whole calls (`graphs`)."""
KINDS_KEPT = 48
"""Programs that are kept: about eight sizes of picture with a ControlNet."""


@dataclass(frozen=True, eq=False, slots=True)
class NetPass:
    """How a net is called in a job."""

    net: Net
    prepared: Prepared

    @property
    def tokens(self) -> int:
        """Text and image together."""
        return self.prepared.rotary[0].shape[0]

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Of a block, as the job gives them, but empty: image, text, modulation, rotary."""
        text = self.prepared.text
        image = text.new_zeros(1, self.tokens - text.shape[1], text.shape[2])
        return image, torch.zeros_like(text), self.prepared.modulation[:1].clone(), self.prepared.rotary

    def blocks(self) -> list[nn.Module]:
        return [*self.net.transformer_blocks, *self.net.single_transformer_blocks]


class CompiledBlocks:
    """The programs of one process, by key. trouble: why there is no compiling here; "" where nothing is known."""

    def __init__(self) -> None:
        self.trouble = ""
        self._programs: dict[Hashable, Callable[..., Any]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def used(self, passes: Sequence[NetPass]) -> Iterator[bool]:
        """Runs the nets compiled while it lasts, if all their programs are there; else has those that lack made.

        To be entered when the nets are as the job calls them: adaLN looked up, LoRAs on. Gives whether they are
        compiled.
        """
        found = [] if self.trouble else [(one, _keys(one)) for one in passes if one.blocks()]
        lacking = {key for _, keys in found for key in keys} - self._programs.keys()
        if self.is_busy or self.trouble or lacking or not found:
            if lacking and not self.is_busy and not self.trouble:
                self._begin(found)
            yield False
            return
        blocks = [(block, key) for one, keys in found for block, key in zip(one.blocks(), keys, strict=True)]
        for _, key in blocks:
            self._programs[key] = self._programs.pop(key)  # used last
        try:
            for block, key in blocks:
                block.forward = partial(self._run, self._programs[key], block)
            # Should something differ that the key does not know of, the block runs as it is: a job never compiles.
            with torch.compiler.set_stance("eager_on_recompile"):
                yield True
        finally:
            for block, _ in blocks:
                block.__dict__.pop("forward", None)

    def _run(self, program: Callable[..., Any], block: nn.Module, **inputs: Any) -> Any:
        """A block's forward by its program; as it is from where on a program has failed."""
        if not self.trouble:
            try:
                return _call(program, block, **inputs)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # what a compiler made fails in as many ways as a compiler does
                if inputs["hidden_states"].is_cuda and torch.cuda.is_current_stream_capturing():
                    raise  # what cannot be recorded may well run
                self._give_up(error)
        return type(block).forward(block, **inputs)

    def _give_up(self, error: BaseException) -> None:
        self.trouble = _said(error)
        log.warning("Pictures are painted without torch.compile, slower: %s", self.trouble)

    @property
    def is_busy(self) -> bool:
        """Whether programs are being made."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until nothing is being made; returns whether that came to be in time. Jobs never do."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.is_busy

    def _begin(self, found: list[tuple[NetPass, list[Hashable]]]) -> None:
        """Has what lacks made, from copies of blocks: the job's own may change or leave the device meanwhile."""
        samples: dict[Hashable, tuple[nn.Module, tuple[Any, ...]]] = {}
        try:
            for one, keys in found:
                for block, key in zip(one.blocks(), keys, strict=True):
                    if key not in self._programs and key not in samples:
                        samples[key] = copy.deepcopy(block), one.inputs()
        except torch.OutOfMemoryError:
            return
        # A daemon: the process may end while a compiler runs.
        self._thread = threading.Thread(target=self._make, args=(samples,), name="compile", daemon=True)
        self._thread.start()

    def _make(self, samples: dict[Hashable, tuple[nn.Module, tuple[Any, ...]]]) -> None:
        while samples:
            key = next(iter(samples))
            block, inputs = samples.pop(key)
            try:
                with torch.inference_mode():
                    program = _program(block, inputs[0].device)
                    _call(program, block, *inputs)
            except torch.OutOfMemoryError:
                log.info("no memory to compile in, left for a later picture")
                return
            except Exception as error:  # compilers, drivers and linkers each fail in their own way
                self._give_up(error)
                return
            while len(self._programs) >= KINDS_KEPT:
                self._programs.pop(next(iter(self._programs)))
            self._programs[key] = program
        log.info("compiled: %s programs", len(self._programs))


def round_up_tables(net: nn.Module) -> None:
    """Gives adaLN's tables as many rows as programs are made for; those behind are never looked up."""
    for module in net.modules():
        if isinstance(module, LookUp) and len(module.table) % ROWS:
            module.table = pad(module.table, (0, 0, 0, -len(module.table) % ROWS))


def _keys(one: NetPass) -> list[Hashable]:
    """Of each of the net's blocks: what its program depends on."""
    image, text, modulation, rotary = one.inputs()
    shapes = tuple(_shape(tensor) for tensor in (image, text, modulation, *rotary))
    return [(_structure(block), shapes) for block in one.blocks()]


def _structure(block: nn.Module) -> Hashable:
    """Layers, number formats, shapes and the attention of a block. Not weights: other LoRA strengths change nothing."""
    layers = []
    for name, layer in block.named_modules():
        own = {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}
        tensors = tuple((key, _shape(value)) for key, value in own.items())
        backend = getattr(getattr(layer, "processor", None), "_attention_backend", None)
        layers.append((name, type(layer), getattr(layer, "type_name", ""), str(backend), tensors))
    return tuple(layers)


def _shape(tensor: Tensor) -> Hashable:
    return tuple(tensor.shape), tensor.dtype, tensor.device


def _program(block: nn.Module, device: torch.device) -> Callable[..., Any]:
    """The block's forward as a function of the block, to be compiled when it is first called.

    It has code of its own, by which torch keeps what it compiles: one program each.
    """
    forward: Any = type(block).forward
    code = forward.__code__.replace(co_name=f"{type(block).__name__}_forward")
    function = FunctionType(code, forward.__globals__, code.co_name, forward.__defaults__, forward.__closure__)
    function.__kwdefaults__ = forward.__kwdefaults__
    mode = MODES.get(device.type) if BACKEND == "inductor" else None
    return torch.compile(function, backend=BACKEND, fullgraph=True, dynamic=False, mode=mode)


def _call(
    program: Callable[..., Any],
    block: nn.Module,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    image_rotary_emb: tuple[Tensor, Tensor],
) -> Any:
    """A block's forward, by its program, which knows the inputs in one form: one behind the other in memory."""
    return program(
        block,
        hidden_states=_in_a_row(hidden_states),
        encoder_hidden_states=_in_a_row(encoder_hidden_states),
        temb=_in_a_row(temb),
        image_rotary_emb=image_rotary_emb,
    )


def _said(error: BaseException) -> str:
    """One line of what is at the bottom of an error: torch wraps a compiler's in its own."""
    while inner := getattr(error, "inner_exception", None) or error.__cause__:
        error = inner
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _in_a_row(tensor: Tensor) -> Tensor:
    """The same values; strides of axes of length 1 tell nothing, but programs ask for them."""
    tensor = tensor.contiguous()
    strides = [1]
    for size in reversed(tensor.shape[1:]):
        strides.insert(0, strides[0] * size)
    return tensor.as_strided(tensor.shape, strides)
