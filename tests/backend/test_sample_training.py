"""The training of the sample model, from nothing to a model that paints, at a size that says nothing of quality."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.production import Production
from backend.sample.looks import line_squares
from backend.sample.style import as_woodcut
from backend.sample.text import ATTRIBUTES, labels_of, make_encoders, random_texts
from backend.sample.train import PRESETS, Training
from backend.sample.trained import load_trained
from backend.sample.training import Stage, progress_of, run_stage
from backend.sample.vae import make_vae
from backend.wire import Control, GenerationRequest, LoRA
from tests.backend.samples import made, run

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a training of a few steps writes its model to."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.sample.painting.SHEET_ROWS", 1)
        Training(folder / "work", PRESETS["try"], 0).run(None, folder / "out")
    return folder


def test_the_training_ends_in_a_model_that_the_product_paints_with(trained: Path) -> None:
    production = Production(trained / "out", "cpu")
    controls = tuple(Control(kind) for kind in ("depth", "normal", "line"))
    request = GenerationRequest("a red ball", 96, 64, steps=2, model="sample", controls=controls)
    assert made(run(production, request)).png
    woodcut = made(run(production, replace(request, loras=(LoRA("woodcut"),))))
    assert list(woodcut.plan["loras"]) == ["woodcut"]
    assert (trained / "out" / "sample" / "loras" / "woodcut.safetensors").stat().st_size < 600_000


def test_the_training_leaves_sheets_to_look_at(trained: Path) -> None:
    names = {path.name.split("-")[0].removesuffix(".png") for path in (trained / "work" / "sheets").glob("*.png")}
    assert names == {"vae", "flow", "polish", "detail", "material", "looks", "guidance", "follow", "style"}


def test_a_finished_training_writes_the_same_model_again(trained: Path, tmp_path: Path) -> None:
    Training(trained / "work", PRESETS["try"], 0).run(None, tmp_path)
    first, again = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (trained / "out", tmp_path)
    )
    assert first == again


def test_a_finished_model_is_trained_on(trained: Path, tmp_path: Path) -> None:
    model = trained / "out" / "sample"
    for name in ("data", "latents"):
        shutil.copytree(trained / "work" / name, tmp_path / "work" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.sample.painting.SHEET_ROWS", 1)
        Training(tmp_path / "work", PRESETS["try"], 0).go_on(model, tmp_path / "out")
    folders = (model, tmp_path / "out" / "sample")
    before, after = (load_trained(folder, torch.device("cpu")).painter.transformer for folder in folders)
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    moved = [(new - old).abs().max().item() for old, new in pairs]
    assert 0.0 < max(moved) < 0.05


def test_what_is_loaded_is_what_was_written(trained: Path) -> None:
    folders = (trained / "work" / "float" / "sample", trained / "out" / "sample")
    exact, packed = (load_trained(folder, torch.device("cpu")).painter.transformer for folder in folders)
    for (name, one), other in zip(exact.named_parameters(), packed.parameters(), strict=True):
        # Q8_0 rounds to a 127th of the greatest of 32 values, with a scale in float16: small ones are rounded, too.
        assert (one - other).abs().max() <= one.abs().max() / 127, name


def test_lines_are_looked_for_in_squares() -> None:
    line = np.zeros((16, 24), np.uint8)
    line[5, 9:14] = 255
    line[0, 0] = 100
    expected = np.zeros((4, 6), bool)
    expected[1, 2:4] = True
    assert (line_squares(line) == expected).all()


def train_toy(folder: Path, stop_at: int | None = None) -> torch.Tensor:
    """Trains a small net for six steps, and returns its weights; ends by Ctrl-C at a step where one is given."""
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)

    def step_loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn((8, 4), generator=torch.Generator().manual_seed(step))
        return (net(x) ** 2).mean(), {}

    run_stage(Stage("toy", 6, 0.1, 2), folder, {"net": net}, [optimizer], step_loss)
    return net.weight.detach().clone()


def test_a_training_that_was_interrupted_is_the_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.sample.training.CHECKPOINT_SECONDS", -1.0)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyboardInterrupt):
        train_toy(tmp_path / "cut", stop_at=3)
    assert progress_of(tmp_path / "cut", "toy")[0] == 3
    assert torch.equal(train_toy(tmp_path / "whole"), train_toy(tmp_path / "cut"))


def test_the_learning_rate_rises_and_falls() -> None:
    stage = Stage("x", 1000, 1.0, 100)
    rates = [stage.rate_at(step) for step in range(1000)]
    assert rates[0] < 0.02 and rates[100] > 0.95 and rates[-1] < 0.06
    assert max(rates) <= 1.0 and (np.diff(rates[100:]) < 0).all()


def test_an_untrained_vae_passes_a_soft_picture() -> None:
    vae = make_vae(torch.device("cpu")).eval()
    y, x = np.mgrid[0:96, 0:96] / 96
    image = torch.from_numpy(np.stack((np.sin(5 * x), np.cos(4 * y), x - y))[None]).float() * 0.8
    with torch.inference_mode():
        latents: Any = vae.encode(image, return_dict=False)[0].mean
        out = vae.decode(latents, return_dict=False)[0]
    inner = np.s_[..., 16:-16, 16:-16]
    assert (out[inner] - image[inner]).abs().mean() < 0.12


def test_words_are_tokens_and_what_is_no_word_falls_into_letters(tmp_path: Path) -> None:
    encoders = make_encoders(tmp_path)
    assert encoders.t5_tokenizer.tokenize("a red Ball") == ["▁a", "▁red", "▁Ball"]
    assert encoders.clip_tokenizer.tokenize("a red Ball") == ["a</w>", "red</w>", "ball</w>"]
    assert len(encoders.t5_tokenizer.tokenize("dragon")) > 3
    text, pooled = encoders.encode("a red ball")
    assert text.shape == (1, 40, 128) and pooled.shape == (1, 128)


def test_a_caption_comes_with_what_it_says() -> None:
    captions, labels = random_texts((1,), 40)
    assert len(captions) == 40 and labels.shape == (40, len(ATTRIBUTES))
    again, same = random_texts((1,), 40)
    assert again == captions and torch.equal(same, labels)
    from backend.sample.world.looks import Appearance, Look

    look = Appearance(Look("red", "wood"), Look("white", "matte"), "sky", "blue", "night", "right")
    names = [values[index] for values, index in zip(ATTRIBUTES.values(), labels_of(look), strict=True)]
    assert names == ["red", "wood", "white", "matte", "", "", "sky", "blue", "night", "right"]


def test_a_woodcut_has_paper_ink_and_lines() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2).repeat(32, 0)
    line = np.zeros((32, 256), np.uint8)
    line[:, 250] = 255
    cut = as_woodcut(ramp, line).astype(int).sum(2)
    assert cut[0, 5] < 90 and cut[0, 240] > 650 and cut[0, 250] < 90
