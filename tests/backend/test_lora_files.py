"""LoRA files as several programs write them, against diffusers' converters; and files that are for something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders import lora_conversion_utils as converters
from safetensors.torch import save_file
from torch import Tensor

from backend.flux.lora_file import LoraFile, read_lora
from backend.flux.lora_names import Layers
from backend.wire import Failure, FailureError, FailureKind
from tests.backend.lora_samples import full_size_layers, random_ranks, stack_of, write_lora

WIDTH, RANK = 3072, 3
KOHYA_LAYERS = {
    "double_blocks_0_img_attn_qkv": (WIDTH, 3 * WIDTH),
    "double_blocks_0_txt_attn_qkv": (WIDTH, 3 * WIDTH),
    "double_blocks_0_img_attn_proj": (WIDTH, WIDTH),
    "double_blocks_0_txt_mlp_0": (WIDTH, 4 * WIDTH),
    "double_blocks_0_img_mlp_2": (4 * WIDTH, WIDTH),
    "double_blocks_0_txt_mod_lin": (WIDTH, 6 * WIDTH),
    "single_blocks_0_linear1": (WIDTH, 7 * WIDTH),
    "single_blocks_0_linear2": (5 * WIDTH, WIDTH),
    "single_blocks_0_modulation_lin": (WIDTH, 3 * WIDTH),
}
KOHYA_OTHERS = {
    "img_in": (64, WIDTH),
    "txt_in": (4096, WIDTH),
    "time_in_in_layer": (256, WIDTH),
    "vector_in_out_layer": (WIDTH, WIDTH),
    "guidance_in_in_layer": (256, WIDTH),
    "final_layer_linear": (WIDTH, 64),
    "final_layer_adaLN_modulation_1": (WIDTH, 2 * WIDTH),
}
XLABS_LAYERS = {
    "double_blocks.0.processor.qkv_lora1": (WIDTH, 3 * WIDTH),
    "double_blocks.0.processor.qkv_lora2": (WIDTH, 3 * WIDTH),
    "double_blocks.0.processor.proj_lora1": (WIDTH, WIDTH),
    "double_blocks.0.processor.proj_lora2": (WIDTH, WIDTH),
    "single_blocks.0.processor.qkv_lora": (WIDTH, 3 * WIDTH),
    "single_blocks.0.processor.proj_lora": (5 * WIDTH, WIDTH),
}
MIXTURE_LAYERS = {
    "transformer_blocks_0_attn_to_q": (WIDTH, WIDTH),
    "transformer_blocks_0_attn_add_k_proj": (WIDTH, WIDTH),
    "transformer_blocks_0_attn_to_out_0": (WIDTH, WIDTH),
    "single_transformer_blocks_0_attn_to_v": (WIDTH, WIDTH),
    "context_embedder": (4096, WIDTH),
    "norm_out_linear": (WIDTH, 2 * WIDTH),
    "time_text_embed_guidance_embedder_linear_1": (256, WIDTH),
}


@pytest.fixture(scope="module")
def layers() -> Layers:
    return full_size_layers()


def tensors(
    sizes: dict[str, tuple[int, int]], prefix: str, down: str, up: str, alpha: float | None
) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(3)
    found: dict[str, Tensor] = {}
    for name, (width, out) in sizes.items():
        found[f"{prefix}{name}.{down}.weight"] = torch.randn(RANK, width, generator=chance)
        found[f"{prefix}{name}.{up}.weight"] = torch.randn(out, RANK, generator=chance)
        if alpha is not None:
            found[f"{prefix}{name}.alpha"] = torch.tensor(alpha)
    return found


def written(folder: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: value.clone() for name, value in state.items()}, folder / "some.safetensors", metadata=metadata)
    return folder / "some.safetensors"


def answers(ranks: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What each layer adds to one random input."""
    chance = torch.Generator().manual_seed(9)
    return {
        name: up @ (down @ torch.randn(down.shape[1], generator=chance)) for name, (down, up) in sorted(ranks.items())
    }


def ours(file: LoraFile) -> dict[str, Tensor]:
    return answers({name: (part.down.float(), part.up.float() * part.scale) for (_, name), part in file.ranks.items()})


def theirs(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names: of kohya's embedders some without, all others with the net's name in front."""
    named = {name.removeprefix("transformer."): value for name, value in state.items()}
    found = {}
    for name, down in named.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            found[layer] = down, named[f"{layer}.lora_B.weight"]
    return answers(found)


def kohya(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return converters._convert_kohya_flux_lora_to_diffusers(dict(state))


@pytest.mark.parametrize(
    ("state", "convert"),
    [
        (tensors(KOHYA_LAYERS, "lora_unet_", "lora_down", "lora_up", 1.5), kohya),
        (tensors(KOHYA_LAYERS, "lora_unet_", "lora_down", "lora_up", None), kohya),
        # diffusers passes over the alphas of the last layers, so these have none.
        (tensors({**KOHYA_LAYERS, **KOHYA_OTHERS}, "lora_unet_", "lora_down", "lora_up", None), kohya),
        (tensors(MIXTURE_LAYERS, "lora_transformer_", "lora_down", "lora_up", 1.5), kohya),
        (tensors(XLABS_LAYERS, "", "down", "up", None),
         lambda state: converters._convert_xlabs_flux_lora_to_diffusers(dict(state))),
    ],
    ids=["kohya", "kohya without alpha", "kohya, all layers", "a mixture", "xlabs"],
)  # fmt: skip
def test_as_diffusers_reads_it(
    layers: Layers, tmp_path: Path, state: dict[str, Tensor], convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    found, wanted = ours(read_lora(written(tmp_path, state), layers)), theirs(convert(state))
    assert set(found) == set(wanted)
    for name, value in found.items():
        assert (value - wanted[name]).norm() <= 1e-5 * wanted[name].norm(), name


@pytest.mark.parametrize(
    "prefix", ["", "diffusion_model.", "model.diffusion_model.", "base_model.model.", "transformer."]
)
@pytest.mark.parametrize(
    ("down", "up"), [("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora_A.default", "lora_B.default")]
)
def test_the_makers_names_with_dots(layers: Layers, tmp_path: Path, prefix: str, down: str, up: str) -> None:
    sizes = {
        "double_blocks.0.img_attn.qkv": (WIDTH, 3 * WIDTH), "single_blocks.0.linear1": (WIDTH, 7 * WIDTH),
        "final_layer.adaLN_modulation.1": (WIDTH, 2 * WIDTH),
    }  # fmt: skip
    as_kohya = {name.replace(".", "_"): size for name, size in sizes.items()}
    wanted = theirs(kohya(tensors(as_kohya, "lora_unet_", "lora_down", "lora_up", None)))
    assert_same(ours(read_lora(written(tmp_path, tensors(sizes, prefix, down, up, None)), layers)), wanted)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    assert all((value - wanted[name]).norm() <= 1e-5 * wanted[name].norm() for name, value in found.items())


def test_parts_written_as_blocks_of_a_fused_layer_keep_their_own_rank(layers: Layers, tmp_path: Path) -> None:
    """Trained divided, written fused: zeros but for a block a part."""
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    down, up = torch.randn(3 * RANK, WIDTH), torch.zeros(3 * WIDTH, 3 * RANK)
    for part in range(3):
        up[part * WIDTH : (part + 1) * WIDTH, part * RANK : (part + 1) * RANK] = torch.randn(WIDTH, RANK)
    state = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(4.5)}
    file = read_lora(written(tmp_path, state), layers)
    assert [len(part.down) for part in file.ranks.values()] == [RANK] * 3
    assert_same(ours(file), theirs(kohya(state)))


@pytest.mark.parametrize(
    ("told", "scale"),
    [
        ({"transformer.lora_alpha": 8, "transformer.r": 4}, 2.0),
        ({"transformer.lora_alpha": 8, "transformer.use_rslora": True}, 4.0),
        ({"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"attn.to_q": 2}}, 0.5),
        ({"text_encoder.lora_alpha": 8}, 1.0),
        ({"transformer.lora_alpha": "eight"}, 1.0),
    ],
)
def test_an_alpha_for_all_layers_in_the_metadata(
    plain: FluxTransformer2DModel, tmp_path: Path, told: dict[str, Any], scale: float
) -> None:
    ranks = random_ranks(plain.state_dict(), 1, layers=["transformer_blocks.0.attn.to_q"])
    path = write_lora(tmp_path / "told.safetensors", ranks, told=told)
    (part,) = read_lora(path, stack_of(plain).layers).ranks.values()
    assert part.scale == scale


def pair(layer: str, width: int = WIDTH, out: int = WIDTH, **more: Tensor) -> dict[str, Tensor]:
    return {f"{layer}.lora_down.weight": torch.ones(2, width), f"{layer}.lora_up.weight": torch.ones(out, 2), **more}


OWN = "lora_unet_double_blocks_0_img_attn_proj"


def with_parts(**parts: Tensor) -> dict[str, Tensor]:
    """A LoRA that fits, with more parts for its layer."""
    return {**pair(OWN), **{f"{OWN}.{name}": value for name, value in parts.items()}}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (with_parts(dora_scale=torch.ones(WIDTH)), "holds DoRA"),
        ({f"{OWN}.hada_w1_a": torch.ones(2, 2)}, "holds LoHa"),
        ({f"{OWN}.lokr_w1": torch.ones(2, 2)}, "holds LoKr"),
        ({f"{OWN}.oft_blocks": torch.ones(2, 2)}, "holds OFT"),
        (with_parts(diff=torch.ones(4)), "holds whole differences of weights"),
        (pair("lora_unet_down_blocks_0_attentions_0_proj_in", 320, 320), "is for Stable Diffusion or SDXL"),
        ({**pair("lora_unet_input_blocks_4_1_proj_in"), **pair("lora_te2_text_model_encoder_layers_0_mlp_fc1")},
         "is for SDXL"),
        (pair("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536, 4608), "is for Stable Diffusion 3"),
        (pair("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"), "is for FLUX.2"),
        (pair("diffusion_model.double_stream_modulation_img.lin"), "is for FLUX.2"),
        (pair("transformer.transformer_blocks.0.img_mlp.net.0.proj"), "is for Qwen-Image"),
        (pair("diffusion_model.blocks.0.self_attn.q", 5120, 5120), "is for Wan"),
        (pair("transformer.context_refiner.0.attn.to_q"), "is for Lumina or Z-Image"),
        (pair("transformer.transformer_blocks.0.attn.to_q", 1536, 1536),
         "goes from 1536 to 1536, this model's from 3072 to 3072"),
        (pair(OWN, 6144, 6144), "goes from 6144 to 6144, this model's from 3072 to 3072"),
        (pair("lora_unet_single_blocks_0_linear1", WIDTH, 9 * WIDTH), "is for another model"),
        (pair("lora_unet_single_blocks_38_linear2", 5 * WIDTH),
         "'lora_unet_single_blocks_38_linear2' that this model does not have"),
        (pair("transformer.img_in", 128), "widens the model's first layer from 64 to 128"),
        (pair("lora_te1_text_model_encoder_layers_0_mlp_fc1", 768, 3072), "that this model does not have"),
        ({f"{OWN}.lora_down.weight": torch.ones(2, WIDTH)}, "without its other half"),
        ({f"{OWN}.alpha": torch.tensor(1.0)}, "without its other half"),
        ({f"{OWN}.lora_down.weight": torch.ones(3, WIDTH), f"{OWN}.lora_up.weight": torch.ones(WIDTH, 2)},
         "does not fit"),
        ({f"{OWN}.lora_down.weight": torch.ones(2), f"{OWN}.lora_up.weight": torch.ones(2)}, "does not fit"),
        ({f"{OWN}.lora_down.weight": torch.ones(0, WIDTH), f"{OWN}.lora_up.weight": torch.ones(WIDTH, 0)},
         "without a number"),
        (pair(OWN, WIDTH, WIDTH) | {f"{OWN}.lora_down.weight": torch.ones(2, WIDTH, 3, 3)}, "does not fit"),
        ({**pair(OWN), "double_blocks.0.img_attn.norm.key_norm.scale": torch.ones(128)}, "is a control LoRA"),
        (with_parts(alpha=torch.ones(2)), "not one number"),
        ({**pair(OWN), **pair("transformer.transformer_blocks.0.attn.to_out.0")}, "twice"),
        ({**pair(OWN), "notes": torch.ones(1)}, "'notes', which is no part of a LoRA"),
        ({"double_blocks.0.img_attn.proj.weight": torch.ones(4, 4)}, "holds no LoRA"),
    ],
)  # fmt: skip
def test_refused_by_name(layers: Layers, tmp_path: Path, state: dict[str, Tensor], said: str) -> None:
    failure = refused(written(tmp_path, state), layers)
    assert failure.kind == FailureKind.MODEL_UNSUPPORTED
    assert failure.message.startswith("The LoRA some ") and said in failure.message and failure.hint.endswith(".")


@pytest.mark.parametrize(
    ("data", "kind"), [(b"not a LoRA at all", FailureKind.MODEL_BROKEN), (None, FailureKind.MODEL_MISSING)]
)
def test_a_file_that_is_damaged_or_not_there(layers: Layers, tmp_path: Path, data: bytes | None, kind: str) -> None:
    if data is not None:
        (tmp_path / "some.safetensors").write_bytes(data)
    failure = refused(tmp_path / "some.safetensors", layers)
    assert failure.kind == kind and "some" in failure.message and failure.hint


def test_one_by_one_convolutions_are_products(layers: Layers, tmp_path: Path) -> None:
    flat = tensors({"double_blocks_0_img_mlp_2": (4 * WIDTH, WIDTH)}, "lora_unet_", "lora_down", "lora_up", 1.0)
    state = {name: value[..., None, None] if value.ndim == 2 else value for name, value in flat.items()}
    assert_same(ours(read_lora(written(tmp_path, state), layers)), theirs(kohya(flat)))


def refused(path: Path, layers: Layers) -> Failure:
    with pytest.raises(FailureError) as caught:
        read_lora(path, layers)
    return caught.value.failure
