"""How many bytes a placement takes on the device at the most, stage by stage: arithmetic over shapes and files.

What weights take is known from the files. What a pass takes beside them was counted: the bytes of all tensors that live
at once in diffusers' blocks and VAE, in multiples of one layer's (`tests/backend/test_plan_bytes.py` counts again).
"""

from __future__ import annotations

from ..flux.placement import Placement
from ..models.shapes import NetShape
from ..models.sizes import ModelSizes
from .machine import Machine
from .work import Work

STAGES = ("loading", "text", "control", "denoising", "decoding")
BLOCK_LAYERS = 17.5
"""Of (tokens, width): what lives at once in a single block, which is the hungrier of the two kinds."""
DECODER_LAYERS = 3.1
"""Of (pixels, channels of the second level): what lives at once at the decoder's end."""
ENCODER_LAYERS = 5.2
"""Of (pixels, channels of the first level)."""
TEXT_SCORES = 6.5
"""Of (heads, tokens, tokens): T5's attention, part of it in float32."""
TEXT_LAYERS = 4.0
"""Of (tokens, inner width)."""
UNPACKING = 13
"""Bytes a weight while a layer is unpacked, one layer at a time."""
STREAMED_BLOCKS = 2
"""One computes while the next one comes."""
UNEVEN = 1.15
"""The formats with _M in their name pack some layers in more bits than others: the largest block to the mean one."""
ROWS_MAX, TABLES_KEPT = 256, 2
"""Beyond so many calls adaLN is not made beforehand; of how many passes its tables are kept (`flux.modulation`)."""
REDUX_PEAK = 100_000_000


def peaks(machine: Machine, sizes: ModelSizes, work: Work, placement: Placement) -> dict[str, int]:
    """Bytes on the device at the most, by stage: those of STAGES, and "enhancing" where a network does that.

    machine: for its kind and number format alone, but for that network, for which other parts leave.
    Where the encoders leave, the transformer makes room for them, and stays where it is after the picture.
    """
    encoders, vae = encoder_bytes(sizes, placement, machine.itemsize), sizes.vae.bytes_of(machine.itemsize)
    nets = net_bytes(sizes, work, placement, machine)
    reference = sizes.redux.bytes_of(machine.itemsize) if work.has_reference else 0
    always = vae + reference
    transformer = transformer_bytes(sizes, work, placement, machine)
    waiting = 0 if placement.encoders_leave else encoders
    if work.eight_bit and placement.eight_bit and placement.transformer != "streamed":
        painting = eight_bit_bytes(sizes, transformer, machine)
        making = transformer + (sizes.shape.largest_layer * UNPACKING if sizes.shape is not None else 0)
        transformer = max(transformer, painting)
    else:
        painting = making = transformer
    beside_text = 0 if placement.encoders_leave else transformer
    nets_waiting = 0 if placement.nets_leave else nets
    beside = beside_weights(machine, sizes, work, placement)
    kept = always + waiting + transformer + nets_waiting
    enhancing = {"enhancing": enhancing_peak(machine, kept, work)} if work.network.weights else {}
    return {
        "loading": always + max(waiting + transformer + beside["loading"], encoders),
        "text": always + encoders + beside_text + nets_waiting + beside["text"],
        "control": always + waiting + transformer + nets + beside["control"],
        "denoising": always + waiting + nets + max(making, painting + beside["denoising"]),
        "decoding": kept + beside["decoding"],
        **enhancing,
    }


def beside_weights(machine: Machine, sizes: ModelSizes, work: Work, placement: Placement) -> dict[str, int]:
    """Bytes on the device beside all weights at the most, by stage."""
    size = machine.itemsize
    scratch = unpacking_bytes(sizes, size)
    return {
        "loading": scratch,
        "text": text_peak(sizes, work, size),
        "control": encode_peak(sizes, work, placement, size),
        "denoising": scratch + pass_peak(sizes, work, size, placement.graphs),
        "decoding": decode_peak(sizes, work, placement, size),
    }


def enhancing_peak(machine: Machine, kept: int, work: Work) -> int:
    """What there is while a network enhances the picture. kept: bytes of the model, as far as nothing leaves.

    On a card what was used least recently leaves for the network, and its tiles are as small as they have to be.
    """
    whole = kept + work.network.both
    if not machine.has_own_memory or not machine.usable:
        return whole
    return max(work.network.weights, min(whole, machine.usable))


def encoder_bytes(sizes: ModelSizes, placement: Placement, itemsize: int) -> int:
    """What is on the device of the text encoders while a prompt is read."""
    whole, t5, shape = sizes.encoders.bytes_of(itemsize), sizes.t5.bytes_of(itemsize), sizes.text
    if not placement.encoders_streamed:
        return whole
    block = t5 * shape.block / shape.weights
    at_once = STREAMED_BLOCKS * (UNEVEN if sizes.t5.packed else 1.0)
    return int(whole - max(0.0, shape.layers - at_once) * block)


def transformer_bytes(sizes: ModelSizes, work: Work, placement: Placement, machine: Machine) -> int:
    """What is on the device of the transformer while it paints, LoRAs among it."""
    packed = sizes.transformer + sizes.control_lora + work.lora_bytes
    shape = sizes.shape
    if shape is None:
        return packed
    if placement.transformer == "unpacked":
        whole = unpacked_bytes(sizes, machine.itemsize) + sizes.control_lora
        return int(whole * _share_that_stays(shape, work, machine))
    if placement.transformer == "streamed":
        uneven = 1.0 if is_in_format(sizes, machine.itemsize) else UNEVEN
        return int(packed * _share_that_streams(shape, uneven, shape.outside_blocks, shape.weights))
    return int(packed * _share_that_stays(shape, work, machine))


def eight_bit_bytes(sizes: ModelSizes, transformer: int, machine: Machine) -> int:
    """What the transformer takes while its blocks compute in 8 bits. transformer: bytes of all of it otherwise.

    What the 8 bits were made of leaves, where the device has a memory of its own.
    """
    shape = sizes.shape
    if shape is None:
        return transformer
    if not machine.has_own_memory:
        return transformer + shape.products
    share = shape.products / (shape.weights - shape.modulation)
    return int(transformer * (1.0 - share)) + shape.products


def _share_that_stays(shape: NetShape, work: Work, machine: Machine) -> float:
    """Of a transformer's weights: adaLN's rest in main memory where the device has its own, but for too many calls."""
    if not machine.has_own_memory or work.calls > ROWS_MAX:
        return 1.0
    return 1.0 - shape.modulation / shape.weights


def _share_that_streams(shape: NetShape, uneven: float, around: int, weights: int) -> float:
    """Of a net's weights: what is on the device at once where its blocks come one by one, so many around them."""
    # Without adaLN's weights, which come for the tables alone.
    double = shape.double_block - 12 * shape.width * (shape.width + 1)
    blocks = STREAMED_BLOCKS * max(double, shape.single_block)
    return min(1.0, (blocks * uneven + around) / weights)


def unpacked_bytes(sizes: ModelSizes, itemsize: int) -> int:
    """All of the transformer's weights in the number format that is computed in; as packed where that is not known."""
    return sizes.shape.weights * itemsize if sizes.shape is not None else sizes.transformer


def unpacking_bytes(sizes: ModelSizes, itemsize: int) -> int:
    """What unpacking one layer takes, at load or in each pass."""
    if sizes.shape is None or is_in_format(sizes, itemsize):
        return 0
    return sizes.shape.largest_layer * UNPACKING


def is_in_format(sizes: ModelSizes, itemsize: int) -> bool:
    """Whether the file holds its weights in the number format that is computed in, so that nothing is unpacked."""
    return sizes.shape is not None and sizes.transformer >= 0.95 * itemsize * sizes.shape.weights


def net_bytes(sizes: ModelSizes, work: Work, placement: Placement, machine: Machine) -> int:
    """What the ControlNets of a picture take on the device together while they compute."""
    total = 0
    for net in set(work.nets) & set(sizes.nets):
        stored, shape = sizes.nets[net].stored, sizes.nets[net].shape
        whole = stored.bytes_of(machine.itemsize)
        if shape is not None and placement.nets_leave and placement.transformer == "streamed":
            outputs = (shape.double + shape.single) * shape.width * (shape.width + 1)
            whole *= _share_that_streams(
                shape, UNEVEN if stored.packed else 1.0, shape.outside_blocks + outputs, shape.weights + outputs
            )
        elif shape is not None:
            whole *= _share_that_stays(shape, work, machine)
        total += int(whole)
    return total


def pass_peak(sizes: ModelSizes, work: Work, itemsize: int, has_graphs: bool = False) -> int:
    """One call of the transformer, with what the nets add to it and what adaLN was made beforehand.

    has_graphs: whether calls are recorded, in memory of their own beside that of the calls that ran before.
    """
    if sizes.shape is None:
        return 0
    layers = work.tokens * sizes.shape.width * itemsize * BLOCK_LAYERS
    tables = _tables(sizes.shape, work, itemsize)
    kinds = {net: sizes.nets[net].shape for net in work.nets if net in sizes.nets}
    residuals = 0
    for shape in kinds.values():
        if shape is not None:
            residuals += (shape.double + shape.single) * work.image_tokens * shape.width * itemsize
            tables += _tables(shape, work, itemsize)
    if len(work.nets) > len(kinds) and kinds:
        # Two pictures for one net: what the second adds is there beside the sum for a moment.
        residuals += residuals // len(kinds)
    return int((layers + residuals) * (2 if has_graphs else 1) + tables)


def _tables(shape: NetShape, work: Work, itemsize: int) -> int:
    """Of this picture's pass and of one before, which are kept."""
    return TABLES_KEPT * work.calls * shape.modulation_outputs * itemsize if work.calls <= ROWS_MAX else 0


def text_peak(sizes: ModelSizes, work: Work, itemsize: int) -> int:
    tokens, text = work.text_tokens, sizes.text
    scores, layers = tokens * tokens * text.heads * TEXT_SCORES, tokens * text.inner * TEXT_LAYERS
    scratch = text.width * text.inner * UNPACKING if sizes.encoders.packed else 0
    return int((scores + layers) * itemsize + scratch)


def encode_peak(sizes: ModelSizes, work: Work, placement: Placement, itemsize: int) -> int:
    """The VAE's encoder, where a picture goes through it, and Redux' eye."""
    reading = REDUX_PEAK if work.has_reference else 0
    if not work.reads_picture:
        return reading
    return max(reading, int(_tile_pixels(work, placement) * sizes.vae_channels[0] * itemsize * ENCODER_LAYERS))


def decode_peak(sizes: ModelSizes, work: Work, placement: Placement, itemsize: int) -> int:
    """The VAE's decoder, and the finished picture, of which there are three for a moment."""
    size = 4 if work.bits > 8 else itemsize
    channels = sizes.vae_channels[min(1, len(sizes.vae_channels) - 1)]
    own = sizes.vae.loose * (size - itemsize)
    layers = _tile_pixels(work, placement) * channels * size * DECODER_LAYERS
    return int(layers + own + work.pixels * 3 * 4 * 3)


def _tile_pixels(work: Work, placement: Placement) -> int:
    """Of what goes through the VAE at once."""
    if not placement.vae_tile:
        return work.pixels
    return min(work.width, placement.vae_tile) * min(work.height, placement.vae_tile)


def host_bytes(machine: Machine, sizes: ModelSizes, work: Work, placement: Placement) -> int:
    """What waits in main memory for a device with memory of its own: all that leaves it, as it is in its files."""
    if not machine.has_own_memory:
        return 0
    size = machine.itemsize
    found = sizes.transformer if placement.transformer == "streamed" or placement.encoders_leave else 0
    found += sizes.encoders.bytes_of(size) if placement.encoders_leave else 0
    nets = [sizes.nets[net].stored.bytes_of(size) for net in set(work.nets) & set(sizes.nets)]
    return found + (sum(nets) if placement.nets_leave else 0)
