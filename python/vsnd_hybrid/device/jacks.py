"""Jacks: the sockets that a guest's user sees, one for the endpoint of each stream (virtio 1.3, 5.14.6.4).

What is plugged in is told by whoever knows (`Jacks.plug`); what goes to the guest then is `notify`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from vsnd_hybrid.backends.base import Direction
from vsnd_hybrid.device.config import Offer
from vsnd_hybrid.wire import JackFeature, JackInfo, Status

# HD Audio's "configuration default" register, from which a driver names and groups its jacks.
_EXTERNAL_REAR = 0x01 << 24
_EXTERNAL_FRONT = 0x02 << 24
_LINE_OUT = 0x0 << 20
_MICROPHONE = 0xA << 20
_MINI_JACK = 0x1 << 16
_GREEN = 0x4 << 12
_PINK = 0x9 << 12
# HD Audio's "pin capabilities".
_PRESENCE_DETECT = 1 << 2
_OUTPUT = 1 << 4
_INPUT = 1 << 5

#: Association and sequence are 4 bits wide each; association 0 is reserved.
_NIBBLE = 0xF


class Jack:
    """One jack, as it is now."""

    __slots__ = ("association", "connected", "direction", "hda_fn_nid", "sequence")

    def __init__(
        self, direction: Direction, hda_fn_nid: int, *, association: int, sequence: int, connected: bool
    ) -> None:
        self.direction = direction
        self.hda_fn_nid = hda_fn_nid
        self.association = association
        self.sequence = sequence
        self.connected = connected

    @property
    def info(self) -> JackInfo:
        """What JACK_INFO tells of it."""
        if self.direction is Direction.OUTPUT:
            register, caps = _EXTERNAL_REAR | _LINE_OUT | _MINI_JACK | _GREEN, _OUTPUT
        else:
            register, caps = _EXTERNAL_FRONT | _MICROPHONE | _MINI_JACK | _PINK, _INPUT
        return JackInfo(
            hda_fn_nid=self.hda_fn_nid,
            features=1 << JackFeature.REMAP,
            hda_reg_defconf=register | self.association << 4 | self.sequence,
            hda_reg_caps=caps | _PRESENCE_DETECT,
            connected=self.connected,
        )


class Jacks:
    """The device's jacks: the jack of a stream has the stream's id."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._offers = offers
        self._connected = [True] * len(offers)
        self._jacks: list[Jack] = []
        self.reset()

    def __len__(self) -> int:
        return len(self._offers)

    def __getitem__(self, jack_id: int) -> Jack:
        return self._jacks[jack_id]

    def reset(self) -> None:
        """Undo what a driver remapped. What is plugged in stays so."""
        self._jacks = [
            Jack(
                offer.direction,
                offer.number,
                # Pins of one association are one device with several plugs: sixteen of them, outputs apart from inputs.
                association=min(1 + offer.direction.value + offer.number // 16 * 2, _NIBBLE),
                sequence=offer.number % 16,
                connected=connected,
            )
            for offer, connected in zip(self._offers, self._connected, strict=True)
        ]

    def infos(self) -> list[JackInfo]:
        """What JACK_INFO tells."""
        return [jack.info for jack in self._jacks]

    def remap(self, jack_id: int, association: int, sequence: int) -> Status:
        """JACK_REMAP (5.14.6.4.2). The caller has checked the id."""
        if not 0 < association <= _NIBBLE or sequence > _NIBBLE:
            return Status.BAD_MSG
        self._jacks[jack_id].association = association
        self._jacks[jack_id].sequence = sequence
        return Status.OK

    def mappings(self) -> list[tuple[int, int]]:
        """Association and sequence of each, to be restored with `remap`."""
        return [(jack.association, jack.sequence) for jack in self._jacks]

    def plug(self, jack_id: int, connected: bool) -> bool:
        """Something was plugged in or pulled out. True if that is news."""
        if self._connected[jack_id] == connected:
            return False
        self._connected[jack_id] = self._jacks[jack_id].connected = connected
        return True
