"""The sample model's world: its things, its maps, its words."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from backend.sample.dataset import GROUPS, make_dataset, make_sample, make_scene, read_look, read_shard, shard_path
from backend.sample.judge import edge_recall, edges, oklab
from backend.sample.world.captions import random_caption, words
from backend.sample.world.looks import HUES, Appearance, Look, random_appearance
from backend.sample.world.meshes import Mesh, joined, patch, rotation
from backend.sample.world.render import render
from backend.sample.world.scenes import GROUND, SUBJECT, Camera, Scene, assemble, look_at
from backend.sample.world.shapes import HELD_OUT, TRAINING, ball, box

PLAIN = Appearance(Look("red", "matte"), Look("white", "matte"), "plain", "grey", "studio", "left")


def ball_on_ground(colour: str = "red", side: str = "left") -> tuple[Scene, Appearance]:
    """A ball of radius 1 on a large square, seen from 6 units in front."""
    thing = ball(rows=40, columns=64).shifted(0, 0, 1)
    line = np.linspace(-20, 20, 60, dtype=np.float32)
    y, x = np.meshgrid(line, line, indexing="ij")
    ground = patch(np.stack((x, y, 0 * x), -1))
    camera = Camera(look_at(np.array([0.0, -6.0, 1.0]), np.array([0.0, 0.0, 1.0])), 0.4)
    pieces = [(thing, thing.vertices, SUBJECT), (ground, ground.vertices, GROUND)]
    look = Appearance(Look(colour, "matte"), Look("white", "matte"), "plain", "grey", "studio", side)
    return assemble(pieces, camera, ("sphere", None), "plain"), look


@pytest.mark.parametrize("name", [*TRAINING, *HELD_OUT])
def test_every_shape_is_a_mesh_of_sane_triangles(name: str) -> None:
    for seed in range(4):
        mesh = (TRAINING | HELD_OUT)[name](np.random.default_rng(seed)).on_ground(1.5)
        assert np.isfinite(mesh.vertices).all() and len(mesh.faces) > 4
        corners = mesh.vertices[mesh.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        # At a pole triangles have no width, and are never met.
        seen = mesh.faces[np.linalg.norm(across, axis=1) > 1e-7]
        assert np.allclose(np.linalg.norm(mesh.normals[seen], axis=2), 1.0, atol=1e-3)
        assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)
        low, high = mesh.vertices.min(0), mesh.vertices.max(0)
        assert low[2] == pytest.approx(0.0, abs=1e-5) and (high - low).max() == pytest.approx(1.5, rel=1e-4)


def test_what_the_figures_are_taken_on_is_not_trained_on() -> None:
    assert not set(TRAINING) & set(HELD_OUT)
    for seed in range(30):
        scene, *_ = make_scene((1, seed), 64, 64)
        assert scene.shapes[0] in TRAINING


def test_a_turn_is_anticlockwise() -> None:
    along_x = np.array([[1, 0, 0]], np.float32)
    mesh = Mesh(along_x, along_x, np.zeros((0, 3), np.int32)).turned("z", 90)
    assert mesh.vertices[0] == pytest.approx((0, 1, 0), abs=1e-6)
    assert rotation("x", 90) @ (0, 1, 0) == pytest.approx((0, 0, 1), abs=1e-6)


def test_joined_meshes_keep_their_faces() -> None:
    both = joined(box(), ball())
    assert len(both.faces) == len(box().faces) + len(ball().faces)
    assert both.faces.max() == len(both.vertices) - 1


def test_the_maps_are_those_of_the_geometry() -> None:
    scene, look = ball_on_ground()
    maps = render(scene, [look], 128, 96, np.random.default_rng(0)).maps
    maps.check(128, 96)
    assert maps.depth is not None and maps.normal is not None and maps.line is not None
    # The ball's nearest point is 5 units away and faces the camera.
    assert maps.depth[48, 64] == pytest.approx(5.0, abs=0.01)
    assert maps.normal[48, 64] == pytest.approx((0, 0, 1), abs=0.06)
    # Planar: the ground's depth is the same along a row.
    assert np.ptp(maps.depth[90]) < 1e-3
    assert maps.normal[90, 10] == pytest.approx((0, 1, 0), abs=1e-3)
    assert np.isinf(maps.depth[2]).all() and (maps.normal[2] == 0).all()
    outline = np.hypot(*np.mgrid[-47.5:48.5, -63.5:64.5]) / 128 * 0.8 * np.sqrt(35)
    assert maps.line[np.abs(outline - 1) < 0.02].max() == 1.0 and maps.line[outline < 0.6].max() == 0.0


def test_light_comes_from_the_side_that_is_named() -> None:
    for side, brighter in (("left", np.s_[:, 44:64]), ("right", np.s_[:, 64:84])):
        scene, look = ball_on_ground(side=side)
        rendered = render(scene, [look], 128, 96, np.random.default_rng(0))
        red = np.where(rendered.parts == SUBJECT, rendered.pictures[0][..., 0].astype(float), np.nan)
        whole = np.nanmean(red[:, 44:84])
        assert np.nanmean(red[brighter]) > 1.05 * whole


@pytest.mark.parametrize("hue", HUES)
def test_a_things_colour_is_the_one_that_is_named(hue: str) -> None:
    scene, look = ball_on_ground(hue)
    rendered = render(scene, [look], 96, 96, np.random.default_rng(0))
    seen = np.median(oklab(rendered.pictures[0][rendered.parts == SUBJECT]), axis=0)[1:]
    bare = np.array(HUES[hue]) ** (1 / 2.2) * 255
    wanted = oklab(bare.astype(np.uint8).reshape(1, 3))[0, 1:]
    assert seen @ wanted / np.linalg.norm(seen) / np.linalg.norm(wanted) > 0.95


def test_the_same_seed_makes_the_same_scene() -> None:
    first, again, other = (make_sample((2, seed), 64, 48) for seed in (1, 1, 2))
    assert (first.pictures == again.pictures).all() and first.captions == again.captions
    assert first.looks == again.looks and not np.array_equal(first.pictures, other.pictures)


def test_half_the_size_keeps_colours_and_lines() -> None:
    sample = make_sample((3, 1), 128, 128)
    half = sample.halved()
    assert half.pictures.shape == (2, 64, 64, 3) and half.parts.shape == (64, 64)
    assert half.pictures.mean() == pytest.approx(sample.pictures.mean(), abs=1.0)
    assert (half.controls["line"] > 127).mean() >= (sample.controls["line"] > 127).mean()


def test_shards_keep_what_they_were_given(tmp_path: Path) -> None:
    make_dataset(tmp_path, 0, share=2 / GROUPS[0].scenes, shard_scenes=2)
    path = shard_path(tmp_path, GROUPS[0], 0)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    for index, kept in enumerate(read_shard(path)):
        made = make_sample((0, 0, 0, index), GROUPS[0].width, GROUPS[0].height)
        assert (kept.pictures == made.pictures).all() and (kept.parts == made.parts).all()
        assert kept.looks == made.looks and kept.captions == made.captions
        assert all((kept.controls[kind] == made.controls[kind]).all() for kind in made.controls)
    before = path.stat().st_mtime_ns
    make_dataset(tmp_path, 0, share=2 / GROUPS[0].scenes, shard_scenes=2)
    assert path.stat().st_mtime_ns == before, "what is there is not made again"


def test_a_look_survives_json() -> None:
    rng = np.random.default_rng(5)
    for has_second in (False, True):
        look = random_appearance(rng, has_second, "sky")
        assert read_look(asdict(look)) == look


def test_captions_are_made_of_known_words_but_for_the_noise() -> None:
    known, rng, strange = set(words()), np.random.default_rng(6), 0
    for _ in range(300):
        look = random_appearance(rng, True, "wall")
        for word in random_caption(rng, look, ("vase", "rock")).lower().replace(",", " ").replace(".", " ").split():
            strange += word not in known
    assert 0 < strange < 400


def test_edges_are_found_where_they_are() -> None:
    picture = np.full((64, 64, 3), 60, np.uint8)
    picture[:, 32:] = (200, 40, 40)
    found = edges(picture)
    assert found[5:60, 31:33].any(axis=1).all() and not found[:, :28].any() and not found[:, 36:].any()
    line = np.zeros((64, 64), bool)
    line[5:60, 33] = True
    assert edge_recall(picture, line) == 1.0
    assert edge_recall(picture, np.roll(line, 8, axis=1)) == 0.0
