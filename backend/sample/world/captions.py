"""What a scene is called: a small grammar, its synonyms, and noise that means nothing."""

from __future__ import annotations

from numpy.random import Generator

from .looks import Appearance, Look

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "crimson", "scarlet", "ruby"),
    "orange": ("orange", "orange", "tangerine", "amber"),
    "yellow": ("yellow", "yellow", "golden", "lemon"),
    "green": ("green", "green", "emerald", "grassy"),
    "turquoise": ("turquoise", "turquoise", "teal", "cyan"),
    "blue": ("blue", "blue", "navy", "azure", "cobalt"),
    "purple": ("purple", "purple", "violet", "lilac"),
    "pink": ("pink", "pink", "rose", "magenta"),
    "white": ("white", "white", "ivory", "pale"),
    "grey": ("grey", "gray", "grey", "silver"),
    "black": ("black", "black", "ebony", "dark"),
    "brown": ("brown", "brown", "chocolate", "tan"),
}
MATERIAL_WORDS: dict[str, tuple[str, ...]] = {
    "matte": ("matte", "clay", "plaster", "painted", ""),
    "glossy": ("glossy", "shiny", "plastic", "ceramic", "porcelain"),
    "metal": ("metal", "metallic", "steel", "chrome"),
    "wood": ("wooden", "wood", "timber", "oak"),
    "brick": ("brick", "bricks", "masonry"),
    "checker": ("checkered", "checker", "chequered", "checkerboard"),
    "stripes": ("striped", "stripes", "stripy"),
    "marble": ("marble", "veined", "stone"),
}
LIGHT_WORDS: dict[str, tuple[str, ...]] = {
    "studio": ("studio light", "soft light", "studio lighting", "a softbox"),
    "sunny": ("bright sun", "sunny", "sunlight", "hard sunlight", "a summer day"),
    "sunset": ("sunset", "golden hour", "evening light", "warm light", "sunrise"),
    "overcast": ("overcast", "cloudy", "a cloudy day", "flat light", "fog"),
    "night": ("night", "moonlight", "at night", "midnight"),
}
GENERIC = ("object", "thing", "sculpture", "statue", "model", "figure", "shape", "toy")
GROUNDS = ("floor", "ground", "table", "surface", "plinth")
NOUNS: dict[str, tuple[str, ...]] = {
    "sphere": ("ball", "sphere"), "egg": ("egg",), "cube": ("cube", "box"), "brick": ("block", "slab"),
    "column": ("cylinder", "column"), "cone": ("cone",), "pyramid": ("pyramid",), "prism": ("prism",),
    "torus": ("torus", "ring", "donut"), "capsule": ("capsule", "pill"), "diamond": ("diamond", "gem"),
    "rock": ("rock", "boulder", "pebble"), "blob": ("blob",), "cloud": ("bubbles", "heap"), "vase": ("vase", "urn"),
    "bowl": ("bowl",), "bottle": ("bottle",), "cup": ("cup", "mug"), "table": ("bench", "desk"),
    "stairs": ("stairs", "steps"), "house": ("house", "hut"), "tree": ("tree",), "pillar": ("pillar",),
    "spring": ("spring", "coil"), "animal": ("animal", "monkey", "head"), "figure": ("pawn", "snowman", "bust"),
    "twisted": ("tower",), "stack": ("stack", "pile"), "arch": ("arch", "gate"),
}  # fmt: skip
OPENINGS = ("", "", "", "a photo of", "a picture of", "a render of", "a painting of", "a close view of")
FILLERS = ("", "", "", "", "highly detailed", "beautiful", "realistic", "4k", "masterpiece", "artistic", "sharp focus")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def random_caption(rng: Generator, look: Appearance, shapes: tuple[str, str | None]) -> str:
    """A caption of an appearance. shapes: the names of the subject and of the other things."""
    subject = _phrase(rng, look.subject, shapes[0], 0.03)
    if look.second is not None and shapes[1] is not None and rng.random() < 0.92:
        subject += f" and {_phrase(rng, look.second, shapes[1], 0.05)}"
    parts = [f"{_pick(rng, OPENINGS)} {subject}"]
    if rng.random() < 0.93:
        parts[0] += f" {_pick(rng, ('on', 'on', 'standing on', 'over'))} {_ground(rng, look.ground)}"
    extras = []
    if rng.random() < 0.75:
        extras.append(_background(rng, look))
    if rng.random() < 0.8:
        extras.append(_light(rng, look))
    if rng.random() < 0.25:
        extras.append(_pick(rng, FILLERS))
    rng.shuffle(extras)
    parts += [extra for extra in extras if extra]
    caption = _pick(rng, (", ", ", ", " ")).join(parts)
    return " ".join(_with_noise(rng, caption).split())


def plain_caption(look: Appearance, noun: str = "object") -> str:
    """The caption that a user who has read the card would write."""
    subject = f"a {_said(look.subject)} {noun}"
    if look.second is not None:
        subject += f" and a {_said(look.second)} thing"
    ground = f"on a {_said(look.ground)} floor"
    behind = {
        "sky": "outdoors",
        "wall": f"a {look.background_colour} wall",
        "plain": f"{look.background_colour} background",
    }
    light = LIGHT_WORDS[look.light][0]
    side = f" from the {look.side}" if look.light != "overcast" else ""
    return f"{subject} {ground}, {behind[look.background]}, {light}{side}"


def _said(look: Look) -> str:
    return f"{look.colour} {MATERIAL_WORDS[look.material][0]}"


def _phrase(rng: Generator, look: Look, shape: str, omit: float) -> str:
    noun = _pick(rng, GENERIC if rng.random() < 0.5 else NOUNS.get(shape, GENERIC))
    colour = "" if rng.random() < omit else _pick(rng, COLOUR_WORDS[look.colour])
    material = "" if rng.random() < 0.08 else _pick(rng, MATERIAL_WORDS[look.material])
    if rng.random() < 0.12 and material:
        return f"a {colour} {noun} {_pick(rng, ('made of', 'of', 'in', 'with'))} {material}"
    words = (colour, material) if rng.random() < 0.85 else (material, colour)
    return f"{_pick(rng, ('a', 'a', 'the', 'one', 'some'))} {' '.join(words)} {noun}"


def _ground(rng: Generator, look: Look) -> str:
    colour = "" if rng.random() < 0.04 else _pick(rng, COLOUR_WORDS[look.colour])
    material = "" if rng.random() < 0.12 else _pick(rng, MATERIAL_WORDS[look.material])
    return f"{_pick(rng, ('a', 'a', 'the'))} {colour} {material} {_pick(rng, GROUNDS)}"


def _background(rng: Generator, look: Appearance) -> str:
    if look.background == "sky":
        return _pick(rng, ("outdoors", "outside", "under the sky", "in a landscape", "under an open sky"))
    colour = _pick(rng, COLOUR_WORDS[look.background_colour])
    if look.background == "wall":
        return _pick(
            rng, ("{} wall", "in front of a {} wall", "before a {} wall", "in a {} room", "a {} wall behind")
        ).format(colour)
    return _pick(rng, ("{} background", "on a {} background", "a plain {} background", "{} backdrop")).format(colour)


def _light(rng: Generator, look: Appearance) -> str:
    words = _pick(rng, LIGHT_WORDS[look.light])
    if look.light == "overcast" or rng.random() < 0.3:
        return words
    return f"{words} {_pick(rng, ('from the {}', 'from {}', 'on the {} side', 'coming from the {}')).format(look.side)}"


def _with_noise(rng: Generator, caption: str) -> str:
    """Now and then a word that nobody knows, capital letters, a full stop."""
    words = caption.split()
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 4))):
            word = "".join(rng.choice(list(LETTERS), int(rng.integers(3, 9))))
            words.insert(int(rng.integers(0, len(words) + 1)), word)
    if rng.random() < 0.08:
        words = [word.capitalize() for word in words]
    text = " ".join(words)
    if rng.random() < 0.2:
        text = text[:1].upper() + text[1:] + ("." if rng.random() < 0.5 else "")
    return text


def _pick(rng: Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def words() -> list[str]:
    """Every word of the grammar, sorted."""
    tables = [COLOUR_WORDS, MATERIAL_WORDS, LIGHT_WORDS, NOUNS]
    texts = [text for table in tables for row in table.values() for text in row]
    texts += [*GENERIC, *GROUNDS, *OPENINGS, *FILLERS]
    texts += [
        "a the one some and on standing over outdoors outside under sky in landscape an open front of before room"
    ]
    texts += ["wall behind background plain backdrop from left right side coming made with light things objects"]
    return sorted({word for text in texts for word in text.lower().replace("{}", "").split()})
