"""What a plan expects to take, against the bytes of all tensors that really live at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

from backend.flux.dequantise import UNPACKERS, dequantise
from backend.flux.forward import Conditions, Prepared, prepare, transformer_velocity
from backend.flux.latents import image_positions
from backend.flux.placement import Placement
from backend.models import find_model
from backend.models.shapes import NetShape, TextShape, net_shape
from backend.models.sizes import ModelSizes, Stored, model_sizes, weights_in, weights_of
from backend.planning.estimate import UNPACKING, decode_peak, encode_peak, pass_peak, text_peak
from backend.planning.work import Work
from backend.wire.model_names import shipped_models
from tests.backend.live_bytes import LiveBytes
from tests.backend.samples import CONFIG, random_packed

CHANNELS = (32, 64, 128, 128)
"""Of a narrower VAE of FLUX's shape."""
SLACK = 1.25
"""How much more than what was counted a plan may expect."""


def in_dtype(net: Any, dtype: torch.dtype) -> Any:
    return net.to(dtype).eval()


def test_the_weights_of_a_transformer_are_counted_exactly() -> None:
    for changes in ({}, {"in_channels": 384, "out_channels": 64, "guidance_embeds": False}):
        with torch.device("meta"):
            net = FluxTransformer2DModel(**{"guidance_embeds": True, **changes})  # type: ignore[arg-type]
        shape = NetShape(channels=changes.get("in_channels", 64), has_guidance=changes.get("guidance_embeds", True))
        named = dict(net.named_parameters())
        assert shape.weights == sum(one.numel() for one in named.values())
        adaln = [one.numel() for name, one in named.items() if "norm" in name and ".linear." in name]
        assert shape.modulation == sum(adaln)
        assert shape.double_block == sum(one.numel() for one in net.transformer_blocks[0].parameters())
        assert shape.single_block == sum(one.numel() for one in net.single_transformer_blocks[0].parameters())
        assert shape.largest_layer == max(one.numel() for name, one in named.items() if "single" in name)


def test_sizes_are_read_from_headers(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 5, dtype=torch.float16), "b": torch.zeros(7)}, tmp_path / "x.safetensors")
    assert weights_of(weights_in(tmp_path)[0]) == 22
    (tmp_path / "x.safetensors").write_bytes(b"damaged" * 100)
    assert weights_of(tmp_path / "x.safetensors") == 350, "half its bytes: loading says what is wrong"


def test_the_sizes_of_a_model_are_those_of_its_files(models_folder: Path) -> None:
    folder = find_model(models_folder, "random-weights")
    sizes = model_sizes(folder)
    assert sizes.transformer == (folder.path / "transformer.gguf").stat().st_size
    assert sizes.nets.keys() == {net.folder for net in folder.controlnets}
    weights = [path for path in folder.path.rglob("*") if path.suffix in (".safetensors", ".gguf")]
    assert sizes.files == sum(path.stat().st_size for path in weights)
    assert all(net.stored.loose or net.stored.packed for net in sizes.nets.values())
    assert sizes.shape == net_shape(folder.transformer_config) and sizes.shape is not None
    loaded = FluxTransformer2DModel.load_config(folder.transformer_config.parent)
    assert sizes.shape.double == loaded["num_layers"]  # type: ignore[index]
    sample = model_sizes(find_model(models_folder, "sample"))
    assert sample.transformer and sample.encoders.bytes_of(4) and sample.vae.loose and shipped_models().is_dir()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("side", [256, 512])
def test_a_pass_takes_what_was_expected(plain: FluxTransformer2DModel, dtype: torch.dtype, side: int) -> None:
    shape = NetShape(256, 1, 1, 64, text=256, pooled=256)
    work = Work(side, side, calls=0, text_tokens=64)
    net = in_dtype(FluxTransformer2DModel(**CONFIG), dtype) if dtype != torch.float32 else plain
    told = Conditions(
        torch.zeros(1, 64, 256, dtype=dtype), torch.zeros(1, 256, dtype=dtype),
        image_positions(side // 8, side // 8), torch.tensor([1.0]), 3.5,
    )  # fmt: skip
    with torch.inference_mode():
        prepared: Prepared = prepare(net, told)
        with LiveBytes() as memory:
            transformer_velocity(net, torch.zeros(1, work.image_tokens, 64, dtype=dtype), prepared, 0, [])
    expected = pass_peak(ModelSizes(0, shape), work, dtype.itemsize)
    assert memory.peak <= expected <= SLACK * memory.peak


@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 8), (torch.float32, 8), (torch.float32, 16)])
def test_the_vae_takes_what_was_expected(dtype: torch.dtype, bits: int) -> None:
    config: dict[str, Any] = {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": CHANNELS,
        "layers_per_block": 2,
        "latent_channels": 16,
    }
    vae: Any = in_dtype(AutoencoderKL(**config), dtype)
    sizes = ModelSizes(0, vae_channels=CHANNELS)
    work = Work(256, 192, reads_picture=True, bits=bits)
    with torch.inference_mode():
        with LiveBytes() as memory:
            vae.decode(torch.zeros(1, 16, 24, 32, dtype=dtype), return_dict=False)[0].float()
        expected = decode_peak(sizes, work, Placement(), dtype.itemsize)
        assert memory.peak <= expected <= SLACK * memory.peak
        with LiveBytes() as memory:
            vae.encode(torch.zeros(1, 3, 192, 256, dtype=dtype), return_dict=False)
        expected = encode_peak(sizes, work, Placement(), dtype.itemsize)
        assert memory.peak <= expected <= SLACK * memory.peak
    assert decode_peak(sizes, work, Placement(vae_tile=128), 2) < decode_peak(sizes, work, Placement(), 2) / 2


def test_the_text_encoder_takes_what_was_expected() -> None:
    config = T5Config(d_model=64, d_ff=160, num_heads=4, d_kv=16, num_layers=2, feed_forward_proj="gated-gelu")
    t5 = in_dtype(T5EncoderModel(config), torch.bfloat16)
    with torch.inference_mode(), LiveBytes() as memory:
        t5(torch.zeros(1, 512, dtype=torch.long))
    shape = TextShape(4, 160, 16, 64, 2)
    assert shape.weights == sum(one.numel() for one in t5.parameters()) - 32 * 4, "but for its table of distances"
    expected = text_peak(ModelSizes(0, text=shape), Work(64, 64, text_tokens=512), 2)
    assert memory.peak <= expected <= SLACK * memory.peak
    packed = ModelSizes(0, text=shape, encoders=Stored(packed=1))
    assert text_peak(packed, Work(64, 64), 2) > expected, "a layer is unpacked beside it"


@pytest.mark.parametrize("name", sorted(UNPACKERS))
def test_unpacking_takes_what_was_expected(name: str) -> None:
    rows, columns = 64, 1024
    packed = torch.from_numpy(random_packed(name, rows, columns, 0))
    with torch.inference_mode(), LiveBytes() as memory:
        dequantise(packed, name, torch.bfloat16)
    assert memory.peak <= UNPACKING * rows * columns


def test_the_allocator_fails_for_real() -> None:
    with torch.inference_mode(), LiveBytes(limit=10_000) as memory:
        kept = torch.zeros(1000)
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            torch.zeros(2000)
        assert memory.live == 4000 and memory.failures == 1, "what was refused is not there"
        other = kept + 1.0
        del kept, other
        assert memory.live == 0
        assert torch.zeros(2000).shape == (2000,)
