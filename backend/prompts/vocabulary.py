"""The words that say something on a subject of a picture. Data for `detect`: lower case, singular, hyphens as spaces.

Rather too many than too few: where one of them stands, enhancement keeps silent on that subject.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


LIGHTING = """
light lit lighting lighted backlit sunlit moonlit unlit daylight sunlight moonlight starlight candlelight firelight
lamplight gaslight spotlight highlight lamp lantern candle torch bulb chandelier neon glow glowing bright brightness
dark darkness dim gloomy gloom shadow shadowy shade shadowless shady sun sunny sunset sunrise dawn dusk twilight night
nighttime midnight noon midday morning evening afternoon moon star starry overcast cloud cloudy fog foggy mist misty
haze hazy storm stormy rain rainy snowfall thunder lightning fire flame burning bonfire fireplace volumetric god ray
rim contrast low key high key chiaroscuro silhouette exposure overexposed underexposed hdri softbox studio flash
strobe ambient occlusion glare bloom lens flare sparkle shimmering luminous bioluminescent fluorescent incandescent
golden hour blue hour moody dramatic eerie spooky horror sinister gothic apocalyptic ominous blackout pitch black cave
underwater deep sea outer space nebula aurora eclipse weather winter summer autumn season disco stage laser hologram
holographic emissive nacht nuit noche notte noite natt noc gece
"""
QUALITY = """
detail detailed undetailed detailing intricate ornate quality masterpiece best professional polished crisp clean clear
rough sketchy crude simple simplified simplistic minimal minimalist minimalism minimalistic plain basic abstract loose
messy dirty noisy noise grain grainy lofi lo fi glitch compressed jpeg artefact artifact low resolution high
resolution lowres highres hd uhd 4k 8k hi res lo res smooth coarse fine finely precise imprecise childlike naive
amateur unfinished draft wip placeholder blockout block out graybox greybox raw polygon outline outlined line lineart
linework stroke brushwork hatching hatched flat
"""
FOCUS = """
focus focused unfocused blur blurry blurred bokeh sharp sharpness unsharp soft softness dreamy hazy depth of field
tilt shift motion long exposure double exposure aperture macro defocused
"""
MATERIAL = """
material texture textured untextured surface matte matt glossy gloss shiny shine polished rusty rust rusted metal
metallic chrome steel iron brass copper bronze gold golden silver aluminium aluminum wood wooden oak pine walnut stone
marble granite concrete brick clay ceramic porcelain glass glassy transparent translucent plastic rubber leather
fabric cloth wool cotton silk velvet linen denim fur furry paper cardboard wax skin leafy mossy moss sand sandy mud
muddy dust dusty snow snowy ice icy frozen water wet dry liquid slime jelly crystal diamond gem carbon fibre fiber
painted unpainted enamel lacquer pearl bone feather felt knitted woven straw bamboo pbr physically subsurface
iridescent reflective reflection
"""
CAMERA = """
camera lens mm wide angle fisheye telephoto closeup close up portrait shot view viewpoint perspective isometric
orthographic aerial drone overhead top down bird eye worm eye low angle high angle first person third person panorama
panoramic framing framed composition crop cropped zoom full body half body profile side front back vertical
"""
COLOUR = """
colour color coloured colored colourful colorful colourless colorless monochrome monochromatic black white grey gray
red orange yellow green blue purple violet pink magenta cyan teal turquoise brown beige ivory cream tan khaki olive
maroon crimson scarlet vermilion coral peach salmon mint lime indigo navy lavender lilac sepia pastel vivid saturated
desaturated saturation muted palette grading tint tinted hue tone toned duotone rainbow neon greyscale grayscale gold
golden silver copper bronze
"""
BACKGROUND = """
background backdrop behind scenery landscape setting environment surrounding horizon sky city street forest room
interior exterior outdoor outdoors outside indoor indoors inside wall floor table studio void isolated seamless
"""
MEDIUM = """
photo photograph photography photographic photoreal photorealistic realistic realism realistically surreal surrealism
surrealist hyperreal hyperrealistic stylized stylised cartoon cartoonish illustration illustrated drawing drawn
painting painterly paint painted sketch sketched render rendered rendering cgi 3d 2d animation animated film movie
cinematic still artwork art style styled collage mosaic stained glass sculpture statue print poster sticker icon logo
emoji tapestry embroidery fresco mural graffiti vector polaroid daguerreotype vhs screenshot unreal octane cycle eevee
blender vray arnold gameplay game pixel voxel anime manga comic diagram infographic map model maquette lego puppet
cubist cubism impressionist expressionist baroque renaissance ukiyo bauhaus deco nouveau pop vaporwave synthwave
"""

SUBJECT_WORDS = {
    "medium": MEDIUM,
    "lighting": LIGHTING,
    "quality": QUALITY,
    "focus": FOCUS,
    "material": MATERIAL,
    "camera": CAMERA,
    "colour": COLOUR,
    "background": BACKGROUND,
}
"""By subject. The words of a phrase ("depth of field") stand singly: each of them alone is reason to keep silent."""

FILLERS = _set("of the a an and in on with up to down eye key hour out")
"""Words of such phrases that say nothing alone."""

NEGATIONS = _set("no not without never none non isn't aren't doesn't don't nothing avoid free minus lacking")
NEGATED_PREFIXES = ("non", "un", "anti")
"""Before a word, as in "unlit" and "non-reflective"."""
CLAUSE_ENDS = frozenset(",.;:!?")
NEGATION_REACH = 6
"""Words after a negation that it can be about, where the clause does not end before."""

FOREIGN = {
    "German": "der die das und ein eine einem einen mit ohne auf vor im ist kein keine sehr aus für",
    "French": "le la les des un une et avec sans dans sur est pas du au aux très sous",
    "Spanish": "el la los las un una y con sin en sobre es no del al muy bajo para",
    "Italian": "il lo la gli un una e con senza nel nella su è non del della molto sotto",
    "Portuguese": "o os as um uma e com sem em sobre é não do da no na muito",
    "Dutch": "de het een en met zonder op is geen niet van voor onder zeer",
    "Swedish": "en ett och med utan på är inte av för under mycket den det",
    "Polish": "z bez w na jest nie i pod przed bardzo dla oraz",
    "Turkish": "bir ve ile çok değil üzerinde için olan",
}  # fmt: skip
"""Small words of other languages that are written in Latin letters."""
ENGLISH = _set("a an the of and with without in on at by for from to is are it its over under into near behind no not")
SMALL_WORDS = ENGLISH | _set(
    "any that this these those some too very much many more most all one has have onto only but just than then there "
    "here his her their our your be been was were other will can"
)
"""Words that name no thing."""
