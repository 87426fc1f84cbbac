"""The sample model's parts: their sizes, and the description that ships with them."""

from __future__ import annotations

from typing import Any

from .model_files import vae_config

TITLE = "Sample model: knows only simple things"
LATENT_CHANNELS = 16
TEXT_TOKENS = 40
TEXT_WIDTH = 128
TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": LATENT_CHANNELS * 4,
    "out_channels": None,
    "num_layers": 2,
    "num_single_layers": 5,
    "attention_head_dim": 64,
    "num_attention_heads": 4,
    "joint_attention_dim": TEXT_WIDTH,
    "pooled_projection_dim": TEXT_WIDTH,
    "guidance_embeds": True,
    "axes_dims_rope": [8, 28, 28],
}
CONTROLNET: dict[str, Any] = {
    **{name: value for name, value in TRANSFORMER.items() if name != "out_channels"},
    "num_layers": 1,
    "num_single_layers": 1,
    "num_mode": 3,
}
VAE = vae_config((16, 32, 64, 128), scaling_factor=1.0, shift_factor=0.0)
SHIFT = 3.0
SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": SHIFT,
    "use_dynamic_shifting": False,
}
CONTROL_RECIPES = {"depth": "depth_near_white", "normal": "normal_y_up", "line": "line_white_on_black"}
CONTROL_MODES = {"depth": 0, "normal": 1, "line": 2}
