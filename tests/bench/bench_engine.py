"""The engine on a CPU: loading, and steps of a 50 M-parameter FLUX from Q8_0, against the same by other means.

The machine may be shared, so the two sides take turns, and each figure is the median of the ratios of neighbours.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import GGUFQuantizationConfig
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn

from backend.bench.random_weights import write_random_gguf
from backend.bench.sizes import FLUX
from backend.flux.denoise import Guides, denoise
from backend.flux.dequantise import dequantise
from backend.flux.forward import Conditions, prepare
from backend.flux.joined import Joined
from backend.flux.latents import image_positions
from backend.flux.load_transformer import load_transformer
from backend.flux.modulation import AdalnWeights, looked_up
from backend.flux.moves import Mover
from backend.flux.place_weights import replace_layer
from backend.flux.products import Linear, maker, onednn_is_better
from backend.flux.quantised_linear import QuantisedLinear
from backend.flux.samplers import SAMPLERS
from backend.sample.model_files import write_json
from tests.bench.figure import Figure

CONFIG = {
    **FLUX, "num_layers": 3, "num_single_layers": 5, "attention_head_dim": 64, "num_attention_heads": 8,
    "joint_attention_dim": 512, "pooled_projection_dim": 512, "axes_dims_rope": [8, 28, 28],
}  # fmt: skip
TEXT_TOKENS = 32
STEPS = 4
ROUNDS = 9


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path, config = Path(folder) / "transformer.gguf", Path(folder) / "transformer" / "config.json"
        write_json(config, {"_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.42.1", **CONFIG})
        with torch.device("meta"):
            state: dict[str, Tensor] = FluxTransformer2DModel(**CONFIG).state_dict()
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        write_random_gguf(path, shapes, "Q8_0", "flux", lambda number, count: None)
        weights = sum(math.prod(shape) for shape in shapes.values())
        return [_load(path, config), *_steps(path, config, weights)]


def _load(path: Path, config: Path) -> Figure:
    def load() -> object:
        return load_transformer(path, config, torch.device("cpu"), torch.float32)

    ratio, ours, theirs = compared(load, path.read_bytes)
    size = f"{path.stat().st_size / 1e6:.0f} MB from the system's cache into fresh memory"
    detail = f"{ours:.0f} ms ÷ {theirs:.0f} ms for {size}"
    return Figure("load a Q8_0 transformer ÷ reading its bytes", ratio, 2.0, f"{detail}, medians of {ROUNDS}")


def _steps(path: Path, config: Path, weights: int) -> list[Figure]:
    packed = load_transformer(path, config, torch.device("cpu"), torch.float32).model
    stock: Any = FluxTransformer2DModel.from_single_file(
        str(path),
        config=str(config.parent),
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        torch_dtype=torch.float32,
    )
    resident = unpacked(load_transformer(path, config, torch.device("cpu"), torch.float32).model)
    few, many = _inputs(8), _inputs(32)
    _check_equal(_our_loop(packed, few), _their_loop(stock, few))
    size = f"{weights / 1e6:.0f} M parameters, {TEXT_TOKENS} text tokens, a loop of {STEPS} steps, medians of {ROUNDS}"
    ratio, ours, theirs = compared(lambda: _our_loop(packed, few), lambda: _their_loop(stock, few))
    by = f"ours by {'oneDNN' if onednn_is_better() else 'MKL'} on a processor of {maker() or 'an unknown maker'}"
    detail = f"{ours / STEPS:.0f} ms ÷ {theirs / STEPS:.0f} ms a step, {by}, theirs by torch's own choice; {size}"
    figures = [Figure("a step from Q8_0 at 64 image tokens ÷ stock diffusers GGUF", ratio, 0.7, detail)]
    ratio, ours, theirs = compared(lambda: _our_loop(packed, many), lambda: _our_loop(resident, many))
    detail = f"{ours / STEPS:.0f} ms ÷ {theirs / STEPS:.0f} ms a step, both by our loop; {size}"
    figures.append(Figure("a step from Q8_0 at 1024 image tokens ÷ resident in fp32", ratio, 1.1, detail))
    return figures


def compared(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float, float]:
    """The median of ours ÷ theirs, and the medians of both in ms."""
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS + 1)][1:]
    ratio = statistics.median(first / second for first, second in pairs)
    first, second = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    return ratio, first, second


def unpacked(net: FluxTransformer2DModel) -> FluxTransformer2DModel:
    """The same net, its packed layers as ordinary ones in float32."""
    for name, layer in list(net.named_modules()):
        if isinstance(layer, QuantisedLinear):
            plain = Linear(layer.in_features, layer.out_features, layer.bias is not None)
            plain.weight = nn.Parameter(dequantise(layer.packed, layer.type_name), requires_grad=False)
            if layer.bias is not None:
                plain.bias = nn.Parameter(layer.bias, requires_grad=False)
            replace_layer(net, name, plain)
    return net


class _Inputs:
    """Of a square picture of so many tokens a side: what a loop takes."""

    def __init__(self, side: int) -> None:
        chance = torch.Generator().manual_seed(side)
        self.latents = torch.randn(1, side * side, 64, generator=chance)
        self.text = torch.randn(1, TEXT_TOKENS, CONFIG["joint_attention_dim"], generator=chance)
        self.pooled = torch.randn(1, CONFIG["pooled_projection_dim"], generator=chance)
        self.positions = image_positions(2 * side, 2 * side)
        self.sigmas = torch.linspace(1.0, 0.0, STEPS + 1)


def _inputs(side: int) -> _Inputs:
    return _Inputs(side)


def _our_loop(net: FluxTransformer2DModel, given: _Inputs) -> Tensor:
    """As `PictureJob.denoise` does it, adaLN made before the loop included."""
    sampler = SAMPLERS["euler"]
    levels = sampler.calls(given.sigmas).levels
    prepared = prepare(net, Conditions(given.text, given.pooled, given.positions, levels, 3.5))
    with looked_up(net, [prepared], AdalnWeights(Mover(torch.device("cpu")))) as (prompt,):
        guides = Guides(prompt, None, [], None, Joined())
        return denoise(net, given.latents, given.sigmas, guides, sampler, lambda step, tokens: None, torch.zeros)


def _their_loop(net: FluxTransformer2DModel, given: _Inputs) -> Tensor:
    """As diffusers' pipeline does it."""
    latents = given.latents
    for level, following in zip(given.sigmas[:-1], given.sigmas[1:], strict=True):
        velocity = net(
            hidden_states=latents,
            timestep=level[None],
            guidance=torch.tensor([3.5]),
            pooled_projections=given.pooled,
            encoder_hidden_states=given.text,
            txt_ids=torch.zeros(TEXT_TOKENS, 3),
            img_ids=given.positions,
            return_dict=False,
        )[0]
        latents = latents + (following - level) * velocity
    return latents


def _check_equal(ours: Tensor, theirs: Tensor) -> None:
    error = float((ours - theirs).norm() / theirs.norm())
    if error > 1e-3:  # theirs unpacks in float16
        raise RuntimeError(f"the two sides do not make the same: {error:.1e}")


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.3f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.simplefilter("ignore")
    main()
