"""Carries out a Placement: which part of a model lies where, in which form, and when it comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .eight_bit import EightBits, in_eight_bits, made_tensors, product_bytes
from .memory import room_of
from .modulation import AdalnWeights, own_tensors
from .moves import Mover, Part, tensors_of
from .place_weights import Check, no_check
from .placement import Placement
from .residency import Residency
from .streamed import Stream, blocks_of, streaming
from .unpacked import UnpackedLayers

TRANSFORMER, VAE, REDUX = "transformer", "vae", "redux"
ENCODERS = CLIP, T5 = "text_encoder", "text_encoder_2"
EIGHT_BITS = (TRANSFORMER, "8 bits")


@dataclass(eq=False, slots=True)
class Net:
    """A net of blocks. around: all but those, and but adaLN's weights, which rest. stream: where it streams."""

    net: nn.Module
    around: Part
    blocks: Part
    stream: Stream | None = None

    @classmethod
    def of(cls, net: nn.Module, mover: Mover, *, keep: bool = False) -> Net:
        """keep: whether what it was loaded from is kept anyway, as the file's own pages."""
        own: Callable[[nn.Module], list[Tensor]] = own_tensors if mover.apart else tensors_of

        def in_blocks() -> list[Tensor]:
            left_out = {id(one) for one in made_tensors(net)}
            return [one for block in blocks_of(net) for one in own(block) if id(one) not in left_out]

        def around() -> list[Tensor]:
            left_out = {id(one) for one in (*in_blocks(), *made_tensors(net))}
            return [one for one in own(net) if id(one) not in left_out]

        return cls(net, Part(mover, around, keep=keep), Part(mover, in_blocks, keep=keep))


class Places:
    """Where the parts of one model are. Keys of parts: the names above, and the folders of ControlNets.

    rooms: bytes that all parts together may take on the device, by the stage of a picture, as its plan has it.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.mover = Mover(device)
        self.dtype = dtype
        self.placement = Placement()
        self.adaln = AdalnWeights(self.mover)
        self.residency = Residency(room_of(device))
        self.rooms: Mapping[str, int] = {}
        self.eight_bits = EightBits(self.mover)
        self.residency.add(EIGHT_BITS, self.eight_bits)
        self._nets: dict[Hashable, Net] = {}
        self._parts: dict[Hashable, Part] = {}
        self._unpacked: UnpackedLayers | None = None

    def add(self, key: Hashable, *modules: nn.Module, keep: bool = False) -> None:
        """Takes in a part that was loaded into main memory."""
        self._add(key, Part(self.mover, lambda: tensors_of(*modules), keep=keep))

    def add_net(self, key: Hashable, net: nn.Module, *, keep: bool = False) -> None:
        """Takes in a transformer, a ControlNet or T5 that was loaded into main memory."""
        if self.mover.apart:
            self.adaln.rest(net)
        self._nets[key] = made = Net.of(net, self.mover, keep=keep)
        self._add((key, "blocks"), made.blocks)
        self._add(key, made.around)

    def _add(self, key: Hashable, part: Part) -> None:
        self._parts[key] = part
        self.residency.add(key, part)
        self._mark(key)

    def _mark(self, key: Hashable) -> None:
        """Says of a part whether it comes and goes in every picture."""
        leaves = self.placement.encoders_leave if key in {TRANSFORMER, *ENCODERS} else self.placement.nets_leave
        again = leaves and key not in {VAE, REDUX}
        for one in (key, (key, "blocks")):
            if one in self._parts:
                self._parts[one].again = again

    def change(self, placement: Placement, check: Check = no_check) -> None:
        """Makes the parts lie as another placement says. What is to stay comes at once.

        No LoRAs may be on. check: called between tensors; ends the change by raising.
        """
        self.placement = placement
        transformer = self._nets[TRANSFORMER]
        self._reform(transformer)
        for key in (*ENCODERS, *self._nets):
            self._mark(key)
        if placement.transformer == "streamed":
            self._gather(transformer, check)
        if placement.encoders_streamed:
            # After the transformer, which streams in each step and not once a prompt: it gets the pinned memory.
            self._gather(self._nets[T5], check)
        if not placement.encoders_leave:
            for key in (*ENCODERS, TRANSFORMER):
                self.use(key, check)
            for key in (T5, TRANSFORMER):
                self._use_blocks(key, check)

    def _reform(self, transformer: Net) -> None:
        """Unpacks the transformer's layers or packs them again, as the placement says."""
        if (self._unpacked is not None) == (self.placement.transformer == "unpacked"):
            return
        for part in (transformer.around, transformer.blocks):
            part.leave()
            part.is_here = False  # other weights than before have to come
        if self._unpacked is None:
            self._unpacked = UnpackedLayers(transformer.net, self.mover)
            self._unpacked.unpack(self.dtype)
        else:
            self._unpacked.pack()
            self._unpacked = None

    def begin(self, stage: str) -> None:
        """A stage begins: what is there and was used least recently leaves for what is computed in it.

        While a picture is decoded the transformer is the last to leave, where all else is not enough.
        """
        if stage in self.rooms:
            self.residency.room = self.rooms[stage]
            self.residency.make_room(0)

    def use(self, key: Hashable, check: Check = no_check) -> None:
        """Sees to it that a part is on the device; of a net, what is around its blocks.

        Where encoders leave, they and the transformer are never there together.
        """
        if self.placement.encoders_leave:
            of_transformer = (TRANSFORMER, (TRANSFORMER, "blocks"), EIGHT_BITS)
            for other in of_transformer if key in ENCODERS else (*ENCODERS, (T5, "blocks")):
                self.residency.leave(other)
        self.residency.use(key, check)

    def has_net(self, key: Hashable, net: nn.Module) -> bool:
        return key in self._nets and self._nets[key].net is net

    def use_whole_transformer(self) -> None:
        """Has all its layers on the device, as they are in full, where it does not stream."""
        self.residency.leave(EIGHT_BITS)
        self.use(TRANSFORMER)
        self._use_blocks(TRANSFORMER)

    def _use_blocks(self, key: Hashable, check: Check = no_check) -> None:
        if not self.streams(key):
            self.residency.use((key, "blocks"), check)

    def streams(self, key: Hashable) -> bool:
        """Whether a net's blocks come one by one.

        ControlNets do beside a streamed transformer only, as they leave, or as they do not fit beside what is in use:
        elsewhere blocks may be compiled, or unpacked ahead, and would be read before they have come.
        """
        if key == T5:
            return self.placement.encoders_streamed
        if self.placement.transformer != "streamed":
            return False
        if key == TRANSFORMER or self.placement.nets_leave:
            return True
        return not self.residency.fits_beside_held((key, "blocks"))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The text encoders are on the device while this lasts, or what is around T5's blocks where they stream."""
        with ExitStack() as stack:
            for key in ENCODERS:
                self.use(key)
                stack.enter_context(self.residency.holding(key))
            self._use_blocks(T5)
            stack.enter_context(self.streamed(T5))
            yield

    @contextmanager
    def painting(self, products: str = "") -> Iterator[None]:
        """The transformer is on the device while this lasts, or what is around its blocks where they stream.

        products: the form of 8-bit products that its blocks compute in, which do not stream; "" for none.
        """
        self.use(TRANSFORMER)
        with ExitStack() as stack:
            stack.enter_context(self.residency.holding(TRANSFORMER))
            if products:
                stack.enter_context(self._in_eight_bits(products))
            else:
                self.residency.leave(EIGHT_BITS)
            if not self.streams(TRANSFORMER):
                stack.enter_context(self.residency.holding((TRANSFORMER, "blocks")))
            yield

    @contextmanager
    def _in_eight_bits(self, form: str) -> Iterator[None]:
        transformer = self._nets[TRANSFORMER]
        made, own = product_bytes(transformer.net)
        if not self.eight_bits.is_here:
            # As one comes the other leaves, layer by layer.
            self.residency.make_room(made - own if transformer.blocks.is_here else made)
        try:
            with self.residency.holding(EIGHT_BITS), in_eight_bits(transformer.net, form, self.eight_bits):
                transformer.blocks.is_here = False  # other tensors than before have to come
                yield
        finally:
            if self.placement.encoders_leave:
                transformer.blocks.leave()
            transformer.blocks.is_here = not self.mover.apart

    @contextmanager
    def streamed(self, key: Hashable) -> Iterator[None]:
        """While it lasts, going through the net's blocks brings them one by one, if it streams.

        To be entered after adaLN's layers were replaced, whose tables stay on the device.
        """
        if not self.streams(key):
            yield
            return
        net = self._nets[key]
        stream = self._gather(net)
        self.residency.make_room(stream.size())
        with streaming(net.net, stream):
            yield

    def _gather(self, net: Net, check: Check = no_check) -> Stream:
        net.blocks.leave()
        if net.stream is None:
            net.stream = Stream(blocks_of(net.net), self.mover, check)
        return net.stream


@dataclass(eq=False, slots=True)
class NetsInUse:
    """The ControlNets of one picture: each is held from its first call to its last. keys: by the nets' identity."""

    places: Places
    keys: dict[int, Hashable]
    held: dict[int, ExitStack] = field(default_factory=dict)

    def arrive(self, net: nn.Module) -> None:
        """Before a net computes."""
        if id(net) in self.held:
            return
        key, places = self.keys[id(net)], self.places
        stack = self.held[id(net)] = ExitStack()
        stack.enter_context(places.residency.holding(key))
        if places.streams(key):
            stack.enter_context(places.streamed(key))
        else:
            stack.enter_context(places.residency.holding((key, "blocks")))

    def over(self, net: nn.Module) -> None:
        """When a net is not needed again: it leaves if it is placed so."""
        held = self.held.pop(id(net), None)
        if held is None:
            return
        held.close()
        if self.places.placement.nets_leave:
            key = self.keys[id(net)]
            self.places.residency.leave(key)
            self.places.residency.leave((key, "blocks"))

    def close(self) -> None:
        for stack in self.held.values():
            stack.close()
        self.held.clear()
