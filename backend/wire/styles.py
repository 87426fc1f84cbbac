"""The styles by name: what both sides show and check. Their words are in `backend/prompts/styles.py`."""

from __future__ import annotations

STYLES = {
    "photoreal": ("Photograph", "As a camera would see it, with real materials"),
    "cinematic": ("Film Still", "A frame of a feature film: wide lens, graded colours"),
    "product": ("Studio Product", "A thing in a studio, lit by soft boxes, as in a catalogue"),
    "exterior": ("Architecture, Outside", "A building as architects show it"),
    "interior": ("Architecture, Inside", "A room as architects show it"),
    "noir": ("Film Noir", "Black and white, with hard light and deep shadows"),
    "miniature": ("Miniature", "A model on a table, seen from near by with little depth of field"),
    "clay": ("Clay Render", "Everything of one grey clay: form without colour"),
    "animated_film": ("Animated Film", "As in animated feature films: round forms, soft light"),
    "hand_painted": ("Hand-Painted Game Art", "Textures painted by hand, with form in the colour"),
    "low_poly": ("Low Poly", "Few large flat facets"),
    "voxel": ("Voxels", "Built of small cubes"),
    "pixel_art": ("Pixel Art", "Large square pixels in a small palette"),
    "isometric": ("Isometric", "A small scene without perspective, from above"),
    "toon": ("Cel Shaded", "Flat tones with hard edges, and outlines"),
    "anime": ("Anime", "As in Japanese animation: clean lines, painted backgrounds"),
    "comic": ("Comic", "Inked outlines and printed colours"),
    "claymation": ("Clay Animation", "Figures of coloured modelling clay, with finger marks"),
    "paper_craft": ("Paper Craft", "Cut and folded of paper and card"),
    "felt": ("Felt and Wool", "Sewn and felted of wool"),
    "concept_art": ("Concept Art", "A loose digital painting that shows an idea"),
    "matte_painting": ("Matte Painting", "A wide, detailed painted view for a film"),
    "oil_painting": ("Oil Painting", "Visible strokes of thick paint on canvas"),
    "watercolour": ("Watercolour", "Thin washes of colour on rough paper"),
    "ink": ("Ink Drawing", "Black ink on white paper, hatched"),
    "pencil": ("Pencil Sketch", "Drawn in graphite, with construction lines"),
    "blueprint": ("Blueprint", "A technical drawing, white lines on blue"),
    "cyberpunk": ("Cyberpunk", "Neon, rain and wires in a city of the near future"),
    "steampunk": ("Steampunk", "Brass, rivets, leather and steam"),
    "sci_fi": ("Science Fiction", "Hard surfaces, panels and clean machines"),
}
"""By name, the title and what it makes of a picture. "" is no style."""
