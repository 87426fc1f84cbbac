"""What each style adds to a prompt, and the words that tell it. Data.

A style adds phrases, each on one subject (`detect.SUBJECTS`), and only those on subjects of which the prompt says
nothing. The first phrase names the style itself. Guidance is a guess from common practice with FLUX.1-dev, where
photographs are made with less than drawings; 0 where none stands out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..wire.styles import STYLES

Phrase = tuple[str, str]
"""Its subject and its words."""


@dataclass(frozen=True, slots=True)
class StyleWords:
    """One style.

    phrases: what it adds. detect: words that ask for it, lower case. medium: how such a picture is made, one of MEDIA,
    "" for a look that any medium can have. avoid: what a negative prompt should name. guidance: see above.
    """

    phrases: tuple[Phrase, ...]
    detect: tuple[str, ...]
    medium: str
    avoid: tuple[str, ...] = ()
    guidance: float = 0.0


MEDIA = ("photo", "rendered", "drawn", "painted", "made", "")

WORDS = {
    "photoreal": StyleWords(
        (("medium", "photograph"), ("material", "true-to-life materials"), ("lighting", "natural light"),
         ("focus", "sharp focus")),
        ("photo", "photograph", "photographic", "photoreal", "photorealistic", "photorealism", "dslr", "35mm photo"),
        "photo", ("drawing", "painting", "cartoon"), 2.5,
    ),
    "cinematic": StyleWords(
        (("medium", "film still"), ("camera", "anamorphic lens"), ("lighting", "motivated cinematic lighting"),
         ("colour", "subtle colour grading")),
        ("cinematic", "film still", "movie still", "movie scene", "anamorphic"),
        "photo", ("snapshot", "cartoon"), 3.0,
    ),
    "product": StyleWords(
        (("medium", "studio product photograph"), ("lighting", "softbox lighting"), ("background", "seamless backdrop"),
         ("focus", "sharp focus")),
        ("product shot", "product photo", "product photograph", "packshot", "catalogue photo", "studio product"),
        "photo", ("clutter", "dust"), 3.0,
    ),
    "exterior": StyleWords(
        (("medium", "architectural exterior photograph"), ("lighting", "clear daylight"),
         ("camera", "straight verticals"), ("material", "crisp facade materials")),
        ("architectural exterior", "exterior visualization", "exterior visualisation", "archviz exterior",
         "architectural photograph", "archviz"),
        "photo", ("leaning walls", "people"), 2.5,
    ),
    "interior": StyleWords(
        (("medium", "architectural interior photograph"), ("lighting", "soft daylight from the windows"),
         ("camera", "straight verticals"), ("material", "tactile fabrics and woods")),
        ("architectural interior", "interior visualization", "interior visualisation", "archviz interior",
         "interior design photo"),
        "photo", ("clutter", "leaning walls"), 2.5,
    ),
    "noir": StyleWords(
        (("medium", "film noir"), ("colour", "black and white"), ("lighting", "hard light with deep shadows"),
         ("focus", "fine film grain")),
        ("noir", "film noir"),
        "photo", ("bright colours",), 3.0,
    ),
    "miniature": StyleWords(
        (("medium", "photograph of a handmade miniature"), ("focus", "shallow depth of field"),
         ("camera", "macro lens"), ("lighting", "small studio lights")),
        ("miniature", "diorama", "tilt shift", "scale model", "tabletop model"),
        "photo", ("deep focus",), 2.5,
    ),
    "clay": StyleWords(
        (("medium", "clay render"), ("colour", "uniform light grey"), ("material", "matte untextured surfaces"),
         ("lighting", "soft ambient occlusion")),
        ("clay render", "grey render", "gray render", "untextured render", "ambient occlusion render"),
        "rendered", ("textures", "colours"), 3.5,
    ),
    "animated_film": StyleWords(
        (("medium", "animated feature film"), ("material", "soft stylised materials"),
         ("lighting", "warm bounced light"), ("colour", "saturated colours")),
        ("animated film", "animated movie", "3d animation", "animation film", "cartoon render", "stylized 3d",
         "stylised 3d"),
        "rendered", ("photograph",), 3.5,
    ),
    "hand_painted": StyleWords(
        (("medium", "hand-painted game art"), ("material", "brushed textures with painted highlights"),
         ("lighting", "painted shading"), ("colour", "bold colours")),
        ("hand painted", "game art", "game texture", "painted texture", "stylized game", "stylised game"),
        "painted", ("photograph", "noise"), 3.5,
    ),
    "low_poly": StyleWords(
        (("medium", "low poly render"), ("material", "flat facets without textures"), ("colour", "limited palette"),
         ("lighting", "simple soft light")),
        ("low poly", "lowpoly", "low polygon", "faceted render"),
        "rendered", ("smooth surfaces", "textures"), 3.5,
    ),
    "voxel": StyleWords(
        (("medium", "voxel art"), ("material", "built of small cubes"), ("colour", "clear colours"),
         ("lighting", "soft ambient light")),
        ("voxel", "voxel art", "built of cubes"),
        "rendered", ("curves",), 3.5,
    ),
    "pixel_art": StyleWords(
        (("medium", "pixel art"), ("colour", "small palette"), ("quality", "large clean pixels")),
        ("pixel art", "8 bit", "16 bit", "pixelated"),
        "drawn", ("smooth gradients", "photograph"), 3.5,
    ),
    "isometric": StyleWords(
        (("medium", "isometric illustration"), ("camera", "isometric view"), ("background", "plain background"),
         ("lighting", "even light")),
        ("isometric", "isometric view", "isometry"),
        "rendered", ("perspective",), 3.5,
    ),
    "toon": StyleWords(
        (("medium", "cel shaded"), ("lighting", "flat tones with hard shadow edges"), ("quality", "clean outlines"),
         ("colour", "solid colours")),
        ("toon", "toon shading", "cel shaded", "cel shading", "cell shaded", "cartoon"),
        "drawn", ("gradients", "photograph"), 3.5,
    ),
    "anime": StyleWords(
        (("medium", "anime"), ("quality", "clean lines"), ("colour", "vivid colours"),
         ("background", "painted background")),
        ("anime", "manga", "japanese animation"),
        "drawn", ("photograph", "3d render"), 3.5,
    ),
    "comic": StyleWords(
        (("medium", "comic book illustration"), ("quality", "bold inked outlines"), ("colour", "halftone colours")),
        ("comic", "comic book", "graphic novel", "bande dessinee"),
        "drawn", ("photograph",), 3.5,
    ),
    "claymation": StyleWords(
        (("medium", "clay animation"), ("material", "modelling clay with finger marks"),
         ("lighting", "small studio lights"), ("colour", "matte colours")),
        ("claymation", "plasticine", "modelling clay", "modeling clay", "stop motion", "clay animation"),
        "made", ("smooth plastic",), 3.0,
    ),
    "paper_craft": StyleWords(
        (("medium", "paper craft"), ("material", "cut and folded paper with visible edges"),
         ("lighting", "soft light with small shadows"), ("colour", "plain paper colours")),
        ("papercraft", "paper craft", "origami", "paper cut", "cut paper", "paper model"),
        "made", ("glossy surfaces",), 3.0,
    ),
    "felt": StyleWords(
        (("medium", "needle-felted craft"), ("material", "soft wool with loose fibres"),
         ("lighting", "soft window light"), ("focus", "shallow depth of field")),
        ("felted", "needle felt", "made of felt", "felt craft", "knitted", "crochet", "crocheted", "plush",
         "wool figure"),
        "made", ("plastic", "metal"), 3.0,
    ),
    "concept_art": StyleWords(
        (("medium", "concept art"), ("quality", "confident loose brushwork"), ("lighting", "atmospheric light"),
         ("colour", "restrained palette")),
        ("concept art", "digital painting", "concept design", "key art"),
        "painted", ("photograph",), 3.0,
    ),
    "matte_painting": StyleWords(
        (("medium", "matte painting"), ("camera", "wide vista"), ("lighting", "atmospheric perspective"),
         ("quality", "intricate distant detail")),
        ("matte painting", "epic vista"),
        "painted", ("cartoon",), 3.0,
    ),
    "oil_painting": StyleWords(
        (("medium", "oil painting on canvas"), ("quality", "visible thick brush strokes"), ("colour", "rich pigments")),
        ("oil painting", "oil on canvas", "oil paint", "impasto", "impressionist", "impressionism"),
        "painted", ("photograph", "3d render"), 2.5,
    ),
    "watercolour": StyleWords(
        (("medium", "watercolour painting"), ("quality", "transparent washes on rough paper"),
         ("colour", "soft bleeding colours")),
        ("watercolour", "watercolor", "aquarelle", "gouache"),
        "painted", ("photograph", "3d render"), 2.5,
    ),
    "ink": StyleWords(
        (("medium", "ink drawing"), ("colour", "black on white paper"), ("quality", "fine hatching")),
        ("ink drawing", "pen and ink", "ink sketch", "ink wash", "line drawing", "woodcut", "engraving", "etching"),
        "drawn", ("photograph", "colours"), 3.0,
    ),
    "pencil": StyleWords(
        (("medium", "pencil drawing"), ("colour", "graphite on paper"), ("quality", "light construction lines")),
        ("pencil", "pencil drawing", "pencil sketch", "graphite drawing", "charcoal drawing", "sketch", "sketched"),
        "drawn", ("photograph", "colours"), 3.0,
    ),
    "blueprint": StyleWords(
        (("medium", "blueprint"), ("colour", "white lines on blue"), ("quality", "precise thin lines")),
        ("blueprint", "technical drawing", "schematic", "orthographic drawing"),
        "drawn", ("photograph", "shading"), 3.5,
    ),
    "cyberpunk": StyleWords(
        (("medium", "cyberpunk"), ("lighting", "neon light on wet surfaces"), ("colour", "magenta and cyan"),
         ("material", "worn metal and exposed wires")),
        ("cyberpunk", "neon city", "neon noir"),
        "", ("daylight",),
    ),
    "steampunk": StyleWords(
        (("medium", "steampunk"), ("material", "brass with rivets and leather"), ("lighting", "warm gaslight"),
         ("colour", "sepia and copper")),
        ("steampunk", "clockpunk", "dieselpunk"),
        "", ("modern electronics",),
    ),
    "sci_fi": StyleWords(
        (("medium", "science fiction"), ("material", "hard surface panels and fine seams"),
         ("lighting", "cool accent lights"), ("colour", "white and grey with one accent")),
        ("sci fi", "scifi", "science fiction", "futuristic", "hard surface", "spaceship", "starship"),
        "", ("rustic objects",),
    ),
}  # fmt: skip
"""By name, as in `wire.styles.STYLES`."""


def title(name: str) -> str:
    """How the style is called in a sentence."""
    return STYLES[name][0]
