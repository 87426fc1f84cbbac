"""What can be chosen in the panel and in scripts: names, labels and descriptions, as Blender's enums take them."""

from __future__ import annotations

from ..backend.wire.presets import PRESETS
from ..backend.wire.speeds import SPEEDS
from ..backend.wire.stages import ONE_PASS
from ..backend.wire.styles import STYLES

SIZE_MODES = (
    ("MATCH_CAMERA", "Match Camera", "The render size, in steps of 16 pixels"),
    ("MATCH_VIEWPORT", "Match Viewport", "The size of the 3D view, in steps of 16 pixels"),
    ("CUSTOM", "Custom", "A width and height of your choice, in steps of 16 pixels"),
)
SOURCES = (
    ("CAMERA", "Camera", "What the camera would render"),
    ("VIEWPORT", "Viewport", "What the 3D view shows"),
)
LINE_SOURCES = (
    ("EDGES", "Depth and Normal Edges", "Lines where depth or normals jump; takes milliseconds"),
    ("FREESTYLE", "Freestyle", "Freestyle's strokes; takes seconds for each ten thousand faces. From the camera only"),
)
CONTROL_LABELS = {
    "depth": "Depth",
    "normal": "Normal",
    "line": "Line Art",
    "pose": "Pose",
    "canny": "Canny",
    "soft_edge": "Soft Edge",
    "grey": "Grey",
    "tile": "Tile",
    "blur": "Blur",
}
PRESET_ITEMS = tuple((name, preset.title, preset.description) for name, preset in PRESETS.items())
DESTINATIONS = (
    ("IMAGE_EDITOR", "Image Editor", "Show the picture in an open Image Editor", "IMAGE", 0),
    ("CAMERA_BACKGROUND", "Camera Background", "Show the picture behind the camera's view", "CAMERA_DATA", 1),
    ("IMAGE_EMPTY", "Image Empty", "Hang the picture in the scene, filling the view it came from", "EMPTY_DATA", 2),
    ("MATERIAL", "Projected Material", "Project the picture on the selected objects", "MATERIAL", 3),
)
START_ITEMS = (
    ("text_to_image", "Noise", "A new picture"),
    ("image_to_image", "Picture", "A picture that is there already: it is changed as far as Strength says"),
    ("inpaint", "Part of a Picture", "A picture that is there already: it is changed where a mask is white"),
    ("edit", "Picture to Edit", "A picture that is there already: the prompt says what to change. For Kontext models"),
)
SAMPLER_ITEMS = (
    ("euler", "Euler", "The plain step; what FLUX's makers use"),
    ("heun", "Heun", "Looks at both ends of each step: better with few steps, and twice as slow"),
    ("dpmpp_2m", "DPM++ 2M", "Remembers the step before: better with few steps, at no cost"),
    ("unipc", "UniPC", "Corrects each step by the next: the best with 8 to 15 steps, at no cost"),
    ("lcm", "LCM", "For few-step models: new noise after each step"),
    ("euler_ancestral", "Euler Ancestral", "New noise after each step: livelier, and never settles with more steps"),
    ("adaptive", "Adaptive", "Steps as long as their error allows; Steps is the most it may take"),
)
SCHEDULE_ITEMS = (
    ("simple", "Simple", "Even steps, shifted to the picture's size; what FLUX's makers use"),
    ("beta", "Beta", "More steps at the start and the end: form and fine detail"),
    ("karras", "Karras", "More steps at the end: fine detail"),
    ("exponential", "Exponential", "Most steps at the end"),
)
NO_STYLE = "none"
"""Blender's enums cannot have an empty name."""
STYLE_ITEMS = (
    (NO_STYLE, "No Style", "The prompt's own words alone"),
    *((name, title, description) for name, (title, description) in STYLES.items()),
)
SPEED_ITEMS = tuple(
    (name, speed.title, f"{speed.description}. Error, on the sample model: {speed.error}")
    for name, speed in SPEEDS.items()
)
CUSTOM_STAGES = "custom"
STAGE_ITEMS = (
    (ONE_PASS, "One Pass", "The picture at once"),
    ("details", "Structure, Details", "The form at half the size, then details on it at the whole size"),
    ("polish", "Structure, Details, Polish", "The same, and once more over it with little change"),
    (CUSTOM_STAGES, "Custom", "Stages that a script or an earlier picture had"),
)
