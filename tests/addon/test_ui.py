"""The panels, drawn on a layout that checks every call against Blender's own and notes what is shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon.fakes import FakeLink, forget_all, module, ops, scene
from tests.addon.scene_digest import differences, session_digest
from tests.addon.test_operators import begin

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Layout:
    """Notes the texts, properties and operators; refuses what Blender's UILayout or RNA does not have."""

    def __init__(self, shown: list[str]) -> None:
        object.__setattr__(self, "shown", shown)

    def __setattr__(self, name: str, value: object) -> None:
        assert name in bpy.types.UILayout.bl_rna.properties, name

    def __getattr__(self, name: str) -> Any:
        function = bpy.types.UILayout.bl_rna.functions[name]
        known = [parameter for parameter in function.parameters if not parameter.is_output]

        def call(*values: Any, **named: Any) -> Any:
            given = {**dict(zip((p.identifier for p in known), values, strict=False)), **named}
            unknown = set(given) - {p.identifier for p in known}
            assert not unknown, f"layout.{name} has no {unknown}"
            return self._note(name, given)

        return call

    def _note(self, name: str, given: dict[str, Any]) -> Any:
        if text := given.get("text"):
            self.shown.append(text)
        match name:
            case "prop":
                assert given["property"] in given["data"].bl_rna.properties, given["property"]
                self.shown.append(f"prop:{given['property']}")
            case "operator":
                category, _, verb = given["operator"].partition(".")
                operator = getattr(getattr(bpy.ops, category), verb)
                operator.get_rna_type()
                self.shown.append(f"op:{given['operator']}")
                if given.get("depress"):
                    self.shown.append(f"pressed:{given['text']}")
                return SimpleNamespace()
            case "panel":
                return self, self
            case "progress":
                self.shown.append(f"progress:{given['factor']:.2f}")
            case "template_icon":
                assert given["icon_value"] > 0
                self.shown.append("picture")
        return self


def drawn(*names: str) -> list[str]:
    """What the panels show."""
    shown: list[str] = []
    before = session_digest()
    for name in names or ("generate", "controls", "results"):
        panel: Any = getattr(bpy.types, f"GRISAILLE_PT_{name}")
        panel.draw(SimpleNamespace(layout=Layout(shown)), bpy.context)
    assert differences(before, session_digest()) == [], "drawing changes nothing"
    return shown


def test_controls_that_cost_a_render_and_stand_ins_are_told(fake_link: FakeLink) -> None:
    chosen, state = scene().grisaille, module("addon.state").get()
    assert "rendered" not in " ".join(drawn("controls")) and "op:grisaille.show_controls" in drawn("controls")
    chosen.use_grey, state.control_note = True, "The line control is drawn as soft edge."
    words = " ".join(drawn("controls"))
    assert "rendered" in words and "drawn as soft edge" in words
    chosen.source = "VIEWPORT"
    assert "rendered" not in " ".join(drawn("controls")), "a 3D view draws them"
    state.control_note = ""


def test_the_tab_has_what_an_artist_needs(fake_link: FakeLink) -> None:
    shown = drawn()
    settings = ("prompt", "size_mode", "seed", "seed_locked", "steps", "sampler", "schedule", "destination")
    for wanted in (*settings, "use_depth", "use_normal", "use_line", "use_pose", "strength"):
        assert f"prop:{wanted}" in shown
    for wanted in ("generate", "show_controls"):
        assert f"op:grisaille.{wanted}" in shown
    assert "1920 x 1088 px (8 more high)" in shown
    assert "op:grisaille.cancel" not in shown, "there is nothing to cancel"
    assert bpy.types.GRISAILLE_PT_generate.bl_category == "Grisaille"  # pyright: ignore


def test_what_a_negative_prompt_costs_is_said(fake_link: FakeLink) -> None:
    shown = drawn("generate")
    assert "prop:negative_prompt" in shown and "prop:true_cfg" not in shown
    scene().grisaille.negative_prompt = "fog"
    shown = drawn("generate")
    assert "prop:true_cfg" in shown and "The negative prompt doubles the time" in shown


def test_a_picture_to_start_from_can_be_chosen(fake_link: FakeLink) -> None:
    chosen = scene().grisaille
    assert "prop:strength" in drawn("controls") and "Picture" not in drawn("generate")
    chosen.start = "image_to_image"
    shown = drawn("generate")
    assert "Picture" in shown and "prop:strength" in shown and "Mask" not in shown
    chosen.start = "inpaint"
    assert "Mask" in drawn("generate")
    chosen.start = "edit"
    shown = drawn("generate")
    assert "Picture" in shown and "prop:strength" not in shown and "Mask" not in shown


def test_a_reference_can_be_chosen(fake_link: FakeLink) -> None:
    shown = drawn("generate")
    assert "Reference" in shown and "prop:reference_strength" not in shown
    scene().grisaille.reference_image = bpy.data.images.new("style", 8, 8)
    assert "prop:reference_strength" in drawn("generate")


def test_the_model_that_ships_says_what_it_knows(
    fake_link: FakeLink, shipped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Knows only simple things" not in drawn("generate"), "the user has a model, and it is chosen"
    scene().grisaille.model_name = "sample"
    assert "Knows only simple things" in drawn("generate")


def test_a_job_shows_its_step_its_preview_and_cancel(fake_link: FakeLink) -> None:
    wire, arrivals = module("backend.wire"), module("addon.results.arrivals")
    job_id = begin()
    assert "Waiting" in drawn("generate")
    plan = "FLUX.1-dev Q4_K_S, packed: 5.1 of 7.2 GB free at the most, while it paints.\nAbout 40 s."
    fake_link.progress(job_id, wire.Progress("denoising", 3, 20, 0.15, plan, 41.0))
    fake_link.preview(job_id, np.full((40, 64, 3), 128, np.uint8))
    arrivals.pump()
    shown = drawn("generate")
    assert "Painting, step 3 of 20, 40 s left" in shown and "progress:0.15" in shown
    assert "About 40 s." in shown, "each line of the memory plan begins anew"
    assert "op:grisaille.cancel" in shown
    assert "picture" in shown or bpy.app.background, "icons have no number without a window in some versions"
    fake_link.finish(job_id)
    arrivals.pump()
    assert "op:grisaille.cancel" not in drawn("generate") and "picture" not in drawn("generate")


def test_a_failure_shows_its_sentence_its_hint_and_what_to_press(fake_link: FakeLink) -> None:
    wire = module("backend.wire")
    state = module("addon.state").get()
    state.failure = wire.Failure(wire.FailureKind.BACKEND_NOT_FOUND, "It is not there.", "Say where it is.")
    shown = drawn("generate")
    assert {"It is not there.", "Say where it is.", "Open Preferences", "op:grisaille.failure_dismiss"} <= set(shown)
    state.failure = wire.Failure(wire.FailureKind.BACKEND_DIED, "It died.", "Generate again.")
    assert "op:grisaille.log_folder_open" in drawn("generate")


def test_a_long_sentence_is_broken_into_lines(fake_link: FakeLink) -> None:
    text = module("addon.ui.text")
    shown: list[str] = []
    sentence = "The models folder is not there. " * 6
    text.paragraph(Layout(shown), SimpleNamespace(region=None, preferences=bpy.context.preferences), sentence)
    assert len(shown) > 3 and " ".join(shown).split() == sentence.split()


def test_results_are_listed_with_their_verbs(fake_link: FakeLink) -> None:
    assert "Pictures will be listed here" in drawn("results")
    fake_link.finish(begin())
    module("addon.results.arrivals").pump()
    shown = drawn("results")
    for wanted in ("view_restore", "result_settings", "result_remove", "result_apply", "materials_restore"):
        assert f"op:grisaille.{wanted}" in shown
    entry = scene().grisaille_history[0]
    row: list[str] = []
    bpy.types.GRISAILLE_UL_results.draw_item(  # pyright: ignore
        SimpleNamespace(), bpy.context, Layout(row), bpy.context.scene, entry, 0, None, "", 0, 0
    )
    assert row == ["a clay pot", "op:grisaille.view_restore"]


def test_pictures_of_other_files_are_offered(fake_link: FakeLink) -> None:
    job_id = begin()
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    fake_link.finish(job_id)
    module("addon.results.arrivals").pump()
    shown = " ".join(drawn("results"))
    assert "1 picture from other files" in shown
    assert "op:grisaille.results_recover" in shown and "op:grisaille.results_discard" in shown


def test_freestyle_says_its_cost(fake_link: FakeLink) -> None:
    chosen: Any = scene().grisaille
    chosen.use_line, chosen.line_source = True, "FREESTYLE"
    assert "takes seconds" in " ".join(drawn("controls"))


def test_every_operator_says_what_it_does(factory: Any) -> None:
    for name in dir(bpy.ops.grisaille):  # pyright: ignore[reportAttributeAccessIssue]
        kind = getattr(ops(), name).get_rna_type()
        assert kind.name and kind.description and not kind.description.endswith("."), name


def view3d() -> tuple[Any, Any]:
    area = next(a for a in bpy.context.window.screen.areas if a.type == "VIEW_3D")
    return area.spaces.active, next(r for r in area.regions if r.type == "WINDOW")


def test_going_back_to_a_cameras_view(fake_link: FakeLink) -> None:
    scene: Any = bpy.context.scene
    fake_link.finish(begin())
    module("addon.results.arrivals").pump()
    space, _ = view3d()
    space.region_3d.view_perspective = "PERSP"
    ops().view_restore()
    assert space.region_3d.view_perspective == "CAMERA"
    camera = scene.camera
    camera.location.x += 1.0
    bpy.context.view_layer.update()
    before = camera.matrix_world.copy()
    ops().view_restore()
    assert space.region_3d.view_perspective == "PERSP" and camera.matrix_world == before, "the camera is not moved"


@pytest.mark.parametrize("lens", ["PERSP", "ORTHO"])
def test_the_view_gone_back_to_shows_the_pictures_frame(fake_link: FakeLink, lens: str) -> None:
    from mathutils import Matrix, Vector

    scene: Any = bpy.context.scene
    scene.camera.data.type = lens
    bpy.context.view_layer.update()
    fake_link.finish(begin(width=128, height=64))
    module("addon.results.arrivals").pump()
    entry = scene.grisaille_history[0]
    origin, history = module("addon.results.origin"), module("addon.results.history")
    view = origin.view_of(history.origin_of(entry))
    centre, width, height = module("addon.results.placement").frame_at(view, 6.0)
    corners = [
        view.world_to_view_matrix().inverted() @ (centre + Vector((x * width / 2, y * height / 2, 0.0)))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    scene.camera.location.x += 3.0
    bpy.context.view_layer.update()
    space, region = view3d()
    ops().view_restore()
    now = module("addon.capture").view_of_viewport(
        space, region, bpy.context.evaluated_depsgraph_get(), scene, region.width, region.height
    )
    clip: Matrix = now.projection_matrix() @ now.world_to_view_matrix()
    reach = [0.0, 0.0]
    for corner in corners:
        seen = clip @ corner.to_4d()
        reach = [max(reach[0], abs(seen.x / seen.w)), max(reach[1], abs(seen.y / seen.w))]
    assert max(reach) == pytest.approx(1.0, abs=0.02), "the frame just fits"


def test_going_back_to_a_viewports_view(fake_link: FakeLink) -> None:
    from mathutils import Quaternion

    scene: Any = bpy.context.scene
    space, region = view3d()
    state = space.region_3d
    state.view_perspective, state.view_distance, space.lens = "PERSP", 7.0, 35.0
    state.view_location, state.view_rotation = (1.0, 2.0, 3.0), Quaternion((0.7, 0.3, 0.2, 0.6)).normalized()
    depsgraph = bpy.context.evaluated_depsgraph_get()
    view = module("addon.capture").view_of_viewport(space, region, depsgraph, scene, 64, 64)
    rotation = state.view_rotation.copy()
    state.view_perspective, state.view_distance, space.lens = "ORTHO", 3.0, 80.0
    state.view_location, state.view_rotation = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)
    module("addon.operators.view").look_from(space, region, view, scene)
    assert state.view_perspective == "PERSP" and state.view_distance == pytest.approx(7.0)
    assert tuple(state.view_location) == pytest.approx((1.0, 2.0, 3.0)) and space.lens == pytest.approx(35.0)
    assert state.view_rotation.rotation_difference(rotation).angle < 1e-3


def test_the_render_menu_has_the_command(factory: Any) -> None:
    forget_all()
    shown: list[str] = []
    module("addon.operators.render").draw_in_render_menu(SimpleNamespace(layout=Layout(shown)), bpy.context)
    assert shown == ["op:grisaille.render_depth_to_image"]
