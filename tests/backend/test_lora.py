"""LoRAs on packed and on plain weights: as if merged into the dequantised ones, and gone without a trace."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from backend.flux.load_transformer import load_transformer
from backend.flux.lora import LoraStack, merges_fit
from backend.flux.model import FluxModel
from backend.flux.moves import Mover
from backend.flux.quantised_linear import LowRankLinear, QuantisedLinear
from backend.flux.write_gguf import bfl_tensors, write_gguf
from backend.models import find_model
from tests.backend.diffusers_reference import load_engine
from tests.backend.lora_samples import (
    Ranks,
    merged,
    module_ids,
    of_weights,
    random_ranks,
    stack_of,
    use,
    velocity,
    write_lora,
)
from tests.backend.random_lora import LORA_MODEL
from tests.backend.samples import CONFIG

CPU = torch.device("cpu")


def loaded(plain: FluxTransformer2DModel, kind: str, config_path: Path, folder: Path) -> FluxTransformer2DModel:
    """The small transformer through our loader. kind: a number format, or "plain" for float32 that is not packed."""
    state = plain.state_dict()
    path = folder / ("net.safetensors" if kind == "plain" else "net.gguf")
    if kind == "plain":
        save_file(state, path)
    else:
        write_gguf(path, bfl_tensors(state, CONFIG), matrices=GGMLQuantizationType[kind])
    return load_transformer(path, config_path, CPU, torch.float32).model


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """What the net's weights are, by gguf-py where they are packed."""
    found: dict[str, Tensor] = dict(net.named_parameters())
    for name, layer in net.named_modules():
        if isinstance(layer, QuantisedLinear):
            values = dequantize(layer.packed.numpy(), GGMLQuantizationType[layer.type_name])
            found[f"{name}.weight"] = torch.from_numpy(np.array(values, np.float32))
            if layer.bias is not None:
                found[f"{name}.bias"] = layer.bias
    return {name: value.detach().float() for name, value in found.items()}


def error(value: Tensor, wanted: Tensor) -> float:
    return float((value - wanted).norm() / wanted.norm())


@pytest.fixture
def two(plain: FluxTransformer2DModel, tmp_path: Path) -> tuple[tuple[Path, Ranks], tuple[Path, Ranks]]:
    """One LoRA for all layers; one of another rank for some of them, with an alpha of half its rank."""
    state = plain.state_dict()
    some = ["transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.proj_out", "norm_out.linear"]
    wide, narrow = random_ranks(state, 1), random_ranks(state, 2, rank=6, layers=some)
    halved = {name: (down, up * 0.5) for name, (down, up) in narrow.items()}
    paths = (
        write_lora(tmp_path / "wide.safetensors", wide),
        write_lora(tmp_path / "narrow.safetensors", narrow, alpha=3.0),
    )
    return (paths[0], wide), (paths[1], halved)


@pytest.mark.parametrize(("kind", "merges"), [("Q8_0", False), ("Q4_0", False), ("plain", False), ("plain", True)])
def test_as_if_merged(
    plain: FluxTransformer2DModel, two: tuple, kind: str, merges: bool, config_path: Path, tmp_path: Path
) -> None:
    net = loaded(plain, kind, config_path, tmp_path)
    own, before, modules = weights_of(net), velocity(net), module_ids(net)
    (wide_path, wide), (narrow_path, narrow) = two
    stack = stack_of(net, merges)
    use(stack, (wide_path, 0.8), (narrow_path, -1.5))
    wanted = velocity(of_weights(CONFIG, merged(own, (wide, 0.8), (narrow, -1.5))))
    assert error(velocity(net), wanted) <= 1e-5, "1e-3 is what is asked for"
    assert error(before, wanted) > 0.1, "they do change the picture"
    is_beside = {isinstance(layer, LowRankLinear) for layer in stack.replaced.values()}
    assert is_beside == {not (kind == "plain" and merges)}
    use(stack)
    assert torch.equal(velocity(net), before) and module_ids(net) == modules


@pytest.mark.parametrize("merges", [False, True])
def test_other_strengths_change_no_layer_and_read_no_file(
    plain: FluxTransformer2DModel, two: tuple, merges: bool, config_path: Path, tmp_path: Path
) -> None:
    net = loaded(plain, "plain", config_path, tmp_path)
    (wide, _), (narrow, _) = two
    stack, fresh = stack_of(net, merges), stack_of(loaded(plain, "plain", config_path, tmp_path), merges)
    use(stack, (wide, 1.0), (narrow, 1.0))
    modules, files = module_ids(net), [id(file) for file in stack.files.values()]
    use(stack, (wide, 0.3), (narrow, -0.7))
    assert module_ids(net) == modules and [id(file) for file in stack.files.values()] == files
    use(fresh, (wide, 0.3), (narrow, -0.7))
    net_of_fresh = fresh.layers.nets["transformer"]
    assert isinstance(net_of_fresh, FluxTransformer2DModel)
    assert torch.equal(velocity(net), velocity(net_of_fresh))


def test_a_strength_of_0_is_as_good_as_none(
    plain: FluxTransformer2DModel, two: tuple, config_path: Path, tmp_path: Path
) -> None:
    net = loaded(plain, "Q8_0", config_path, tmp_path)
    before = velocity(net)
    stack = stack_of(net)
    use(stack, (two[0][0], 0.0))
    assert torch.equal(velocity(net), before) and stack.plan() == {}


def test_a_stack_is_one_product(plain: FluxTransformer2DModel, two: tuple, config_path: Path, tmp_path: Path) -> None:
    net = loaded(plain, "Q8_0", config_path, tmp_path)
    stack = stack_of(net)
    use(stack, (two[0][0], 1.0), (two[1][0], 1.0))
    both = net.get_submodule("transformer_blocks.0.attn.to_q")
    assert isinstance(both, LowRankLinear) and isinstance(both.base, QuantisedLinear)
    assert both.down.shape[0] == both.up.shape[1] == 4 + 6
    assert stack.plan()["narrow"] == "layers: 3, rank 6, beside"


def test_a_file_that_changed_is_read_again(
    plain: FluxTransformer2DModel, two: tuple, config_path: Path, tmp_path: Path
) -> None:
    net = loaded(plain, "Q8_0", config_path, tmp_path)
    (wide, _), (narrow, _) = two
    stack = stack_of(net)
    use(stack, (wide, 1.0))
    before = velocity(net)
    shutil.copyfile(narrow, tmp_path / "new")
    (tmp_path / "new").replace(wide)
    use(stack, (wide, 1.0))
    assert len(stack.replaced) == 3 and error(velocity(net), before) > 0.1


def test_beside_a_control_lora(families_folder: Path, tmp_path: Path) -> None:
    """A style LoRA of a dev model on a Depth model: its first layer has twice the inputs, and something beside it."""
    model = load_engine(find_model(families_folder, LORA_MODEL))
    net = model.transformer.model
    before, modules = velocity(net), module_ids(net)
    own = weights_of(net)
    assert own["x_embedder.weight"].shape[1] == 128
    dev_state = {**own, "x_embedder.weight": own["x_embedder.weight"][:, :64]}
    names = ["x_embedder", "transformer_blocks.1.attn.to_k", "single_transformer_blocks.0.proj_mlp"]
    ranks = random_ranks(with_bases(net, dev_state), 3, layers=names)
    path = write_lora(tmp_path / "style.safetensors", ranks)
    use(model.loras, (path, 0.9))
    layer = net.get_submodule(names[1])
    assert isinstance(layer, LowRankLinear) and isinstance(layer.base, QuantisedLinear), "one product for both"
    after = velocity(net)
    use(model.loras)
    assert torch.equal(velocity(net), before) and module_ids(net) == modules
    for name, (down, up) in ranks.items():
        add_by_hook(net.get_submodule(name), down, 0.9 * up)
    assert error(after, velocity(net)) <= 1e-5 and error(after, before) > 0.05


def with_bases(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights also of layers with something beside them, by the layers' own names."""
    bases = {name: layer for name, layer in net.named_modules() if isinstance(layer, LowRankLinear)}
    return {**state, **{f"{name}.weight": state[f"{name}.base.weight"] for name in bases}}


def add_by_hook(layer: nn.Module, down: Tensor, up: Tensor) -> None:
    def add(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + given[0][..., : down.shape[1]] @ down.T @ up.T

    layer.register_forward_hook(add)


@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize(
    ("names", "moved"),
    [
        (("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
          "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"), (False, True)),
        (("text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight",
          "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight"), (False, True)),
        (("text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.lora_down.weight",
          "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.lora_up.weight"), (False, True)),
        (("text_encoder_2.encoder.block.1.layer.1.DenseReluDense.wo.lora_A.weight",
          "text_encoder_2.encoder.block.1.layer.1.DenseReluDense.wo.lora_B.weight"), (True, False)),
        (("lora_te3_encoder_block_1_layer_1_DenseReluDense_wo.lora_down.weight",
          "lora_te3_encoder_block_1_layer_1_DenseReluDense_wo.lora_up.weight"), (True, False)),
    ],
)  # fmt: skip
def test_text_encoders_are_changed_too(
    model: FluxModel, tmp_path: Path, names: tuple[str, str], moved: tuple[bool, bool], merges: bool
) -> None:
    widths = (64, 128) if moved[1] else (128, 64)
    chance = torch.Generator().manual_seed(1)
    down, up = torch.randn(4, widths[0], generator=chance), torch.randn(widths[1], 4, generator=chance)
    save_file(dict(zip(names, (down, up), strict=True)), tmp_path / "words.safetensors")
    model.loras.merges = merges
    with torch.inference_mode():
        before = [part.clone() for part in model.encode_prompt("a red cube")]
    try:
        use_all(model, tmp_path / "words.safetensors", 1.0)
        after = read(model)
        net = model.text.clip if moved[1] else model.text.t5
        assert [not torch.equal(a, b) for a, b in zip(before, after, strict=True)] == list(moved)
        hand = by_hand(model, net, down, up)
        assert all(error(a, b) < 1e-5 for a, b in zip(after, hand, strict=True))
    finally:
        use_all(model)
    assert all(torch.equal(a, b) for a, b in zip(before, read(model), strict=True))


def use_all(model: FluxModel, path: Path | None = None, strength: float = 1.0) -> None:
    from backend.flux.lora import LoraInput

    with torch.inference_mode():
        model.use_loras([LoraInput(path, strength)] if path is not None else [])


def read(model: FluxModel) -> list[Tensor]:
    with torch.inference_mode():
        return list(model.encode_prompt("a red cube"))


def by_hand(model: FluxModel, net: nn.Module, down: Tensor, up: Tensor) -> list[Tensor]:
    """What the text encoders say with the product added to their layer's output by a hook."""
    use_all(model)
    name = "encoder.layers.0.mlp.fc1" if net is model.text.clip else "encoder.block.1.layer.1.DenseReluDense.wo"
    layer = net.get_submodule(name)

    def add(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + given[0] @ down.T @ up.T

    hook = layer.register_forward_hook(add)
    try:
        with torch.inference_mode():
            return list(model.text.encode("a red cube"))
    finally:
        hook.remove()


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_other_strengths_compile_nothing_again(
    plain: FluxTransformer2DModel, two: tuple, config_path: Path, tmp_path: Path
) -> None:
    net = loaded(plain, "Q8_0", config_path, tmp_path)
    (wide, _), (narrow, _) = two
    stack, x = stack_of(net), torch.randn(3, 256, generator=torch.Generator().manual_seed(1))
    use(stack, (wide, 1.0), (narrow, 1.0))
    layer = net.get_submodule("transformer_blocks.0.attn.to_q")
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        before = compiled(x)
        use(stack, (wide, 0.2), (narrow, -1.0))
        assert torch.equal(compiled(x), layer(x)) and not torch.equal(layer(x), before)


def test_what_fails_half_way_leaves_the_model_as_it_was(
    plain: FluxTransformer2DModel, two: tuple, config_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory ends after some layers: an allocation that really fails cannot be had here, so one is told to."""
    net = loaded(plain, "plain", config_path, tmp_path)
    before, modules = velocity(net), module_ids(net)
    stack, puts = stack_of(net, merges=True), []

    def put(self: LoraStack, place: tuple[str, str], parts: list) -> None:
        if len(puts) == 5:
            raise torch.OutOfMemoryError
        puts.append(place)
        real(self, place, parts)

    real = LoraStack._put
    monkeypatch.setattr(LoraStack, "_put", put)
    with pytest.raises(torch.OutOfMemoryError):
        use(stack, (two[0][0], 1.0))
    assert len(puts) == 5 and stack.used == ()
    assert torch.equal(velocity(net), before) and module_ids(net) == modules


def test_merging_needs_room_in_main_memory(plain: FluxTransformer2DModel, config_path: Path, tmp_path: Path) -> None:
    layers, mover = stack_of(loaded(plain, "plain", config_path, tmp_path)).layers, Mover(torch.device("cpu"))
    matrices = sum(value.nbytes for value in plain.state_dict().values() if value.ndim == 2)
    assert merges_fit(layers, 3 * matrices, mover) and not merges_fit(layers, 2 * matrices, mover)
    packed = stack_of(loaded(plain, "Q8_0", config_path, tmp_path)).layers
    assert merges_fit(packed, 0, mover), "nothing there has to wait"


def test_the_file_on_disk_is_not_changed(
    plain: FluxTransformer2DModel, two: tuple, config_path: Path, tmp_path: Path
) -> None:
    path = two[0][0]
    before = {name: value.clone() for name, value in load_file(path).items()}
    stack = stack_of(loaded(plain, "plain", config_path, tmp_path), merges=True)
    use(stack, (path, 0.5))
    use(stack, (path, 1.5))
    assert all(torch.equal(value, before[name]) for name, value in load_file(path).items())
