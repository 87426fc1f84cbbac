"""What the user wants done to finished pictures, on the scene and in scripts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy

from ..backend.wire import Enhancement
from ..backend.wire.enhancement import DETAIL_MAX, SCALE_MAX, SCALE_MIN
from ..backend.wire.finishes import BY_STYLE, FINISHES
from ..backend.wire.network_files import FOLDER, network_files
from . import preferences, state

AUTO = "AUTO"
NO_FINISH = "none"
"""Blender's enums cannot have an empty name."""
WHERE = f"Put networks, such as RealESRGAN_x4plus and GFPGANv1.4, into a folder {FOLDER} in the models folder."
FINISH_ITEMS = (
    (NO_FINISH, "No Finish", "The picture as it is"),
    (BY_STYLE, "As the Style Asks", "Sharpening, contrast and grain that go with the style; many styles ask for none"),
    *((name, finish.title, finish.description) for name, finish in FINISHES.items()),
)


def network_names() -> list[str]:
    """The networks that are there for the user."""
    return [file.name for file in network_files(preferences.models_folder())]


def _network_items(settings: GrisailleEnhancement, context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    items = [(AUTO, "Automatic", f"The first of its kind in the folder {FOLDER} of the models folder")]
    chosen = {settings.network_name, settings.face_network_name} - {""}
    names = network_names()
    items += [(name, name, f"The file {name} in {FOLDER}") for name in names]
    items += [(name, f"{name} (missing)", f"Not in {FOLDER}") for name in sorted(chosen - set(names))]
    # Blender keeps no reference to a dynamic enum's strings: they would be freed while the menu is open.
    state.get().network_items = items
    return items


def _chooser(name: str) -> tuple[Any, Any]:
    """Getter and setter of an enum whose value is kept by name, so that it survives another folder."""

    def get(settings: GrisailleEnhancement) -> int:
        chosen = getattr(settings, name) or AUTO
        return next((index for index, item in enumerate(_network_items(settings, None)) if item[0] == chosen), 0)

    def set_(settings: GrisailleEnhancement, value: int) -> None:
        chosen = _network_items(settings, None)[value][0]
        setattr(settings, name, "" if chosen == AUTO else chosen)

    return get, set_


def _snap(settings: GrisailleEnhancement, context: bpy.types.Context) -> None:
    """1 is no enlargement, and the least is 1.5: between them the slider goes to the nearer."""
    if 1.0 < settings.scale < SCALE_MIN:
        settings.scale = SCALE_MIN if settings.scale >= (1.0 + SCALE_MIN) / 2 else 1.0


_GET_NETWORK, _SET_NETWORK = _chooser("network_name")
_GET_FACE, _SET_FACE = _chooser("face_network_name")


class GrisailleEnhancement(bpy.types.PropertyGroup):
    """`scene.grisaille_enhancement`."""

    use: bpy.props.BoolProperty(name="Enhance", description="Do this to every picture once it is painted")
    scale: bpy.props.FloatProperty(
        name="Upscale By",
        description="How many times as wide and high the picture becomes; 1 keeps its size",
        default=2.0,
        min=1.0,
        max=SCALE_MAX,
        soft_max=4.0,
        step=50,
        update=_snap,
    )
    network_name: bpy.props.StringProperty(name="Upscaler's Name")
    network: bpy.props.EnumProperty(
        name="Upscaler",
        description="The network that makes pictures larger",
        items=_network_items,
        get=_GET_NETWORK,
        set=_SET_NETWORK,
    )
    upscale_fidelity: bpy.props.FloatProperty(
        name="Keep to Picture",
        description=(
            "1: made small again, the larger picture is the picture, and only finer detail is the upscaler's. 0: what "
            "the upscaler makes of it, which also cleans noise and the blocks of JPEG, and may shift colours"
        ),
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    detail: bpy.props.FloatProperty(
        name="Detail",
        description="How much finer detail FLUX paints into the larger picture, part by part, with the prompt and the "
        "controls as they are. 0.2 to 0.4 adds surface and keeps the picture; more changes it. 0 adds none. "
        "Each part takes a share of the time that the picture took",
        default=0.0,
        min=0.0,
        max=DETAIL_MAX,
        subtype="FACTOR",
    )
    faces: bpy.props.BoolProperty(name="Faces", description="Find faces and restore them")
    face_network_name: bpy.props.StringProperty(name="Face Network's Name")
    face_network: bpy.props.EnumProperty(
        name="Face Network",
        description="The network that restores faces",
        items=_network_items,
        get=_GET_FACE,
        set=_SET_FACE,
    )
    fidelity: bpy.props.FloatProperty(
        name="Face Fidelity",
        description="0 for the face that the network makes, 1 for the face as it was",
        default=0.5,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    finish: bpy.props.EnumProperty(name="Finish", description="What is done last", items=FINISH_ITEMS)
    tileable: bpy.props.BoolProperty(
        name="Tileable", description="The picture's borders fit together, as in a texture, and go on doing so"
    )


def of(scene: bpy.types.ID | None) -> GrisailleEnhancement:
    """The settings of a scene."""
    return scene.grisaille_enhancement  # pyright: ignore[reportAttributeAccessIssue]


def enhancement(settings: GrisailleEnhancement) -> Enhancement:
    """What the settings say, whether or not it is done to every picture. It is not checked."""
    return Enhancement(
        scale=round(settings.scale, 4),
        network=settings.network_name if settings.scale > 1.0 else "",
        upscale_fidelity=round(settings.upscale_fidelity, 4),
        faces=settings.faces,
        face_network=settings.face_network_name if settings.faces else "",
        fidelity=round(settings.fidelity, 4),
        finish="" if settings.finish == NO_FINISH else settings.finish,
        tileable=settings.tileable,
        detail=round(settings.detail, 4),
    )


def used(settings: GrisailleEnhancement) -> Enhancement | None:
    """The Request's field for a picture that is painted."""
    found = enhancement(settings) if settings.use else None
    return None if found is None or found.does_nothing else found


def fill(settings: GrisailleEnhancement, request: Enhancement | None) -> None:
    """Makes the settings what a Request had."""
    settings.use = request is not None
    if request is None:
        return
    settings.scale, settings.network_name = request.scale, request.network
    settings.upscale_fidelity = request.upscale_fidelity
    settings.faces, settings.face_network_name = request.faces, request.face_network
    settings.fidelity, settings.tileable = request.fidelity, request.tileable
    settings.detail = request.detail
    settings.finish = request.finish or NO_FINISH


def over(base: Enhancement | None, values: dict[str, Any]) -> dict[str, Any]:
    """The Request's field where a script says some of an enhancement's fields; those that are None it does not say.

    Raises `FailureError` (bad_request).
    """
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return {}
    found = replace(base or Enhancement(), **given)
    found.check()
    return {"enhancement": None if found.does_nothing else found}


def register() -> None:
    bpy.utils.register_class(GrisailleEnhancement)
    bpy.types.Scene.grisaille_enhancement = bpy.props.PointerProperty(type=GrisailleEnhancement)  # pyright: ignore[reportAttributeAccessIssue]


def unregister() -> None:
    del bpy.types.Scene.grisaille_enhancement  # pyright: ignore
    bpy.utils.unregister_class(GrisailleEnhancement)
