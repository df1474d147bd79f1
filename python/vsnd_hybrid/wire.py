"""Every structure and number of virtio-sound, spelt once (virtio 1.3, 5.14).

No policy and no I/O lives here; importing it is cheap.
All fields are little-endian. Where the specification says "padding", `Layout.pack` writes zeros and `Layout.unpack` ignores.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import NamedTuple

from vsnd_hybrid.layout import Layout

DEVICE_ID = 25  # 5.14.1

D_OUTPUT = 0  # data flow directions, 5.14.6
D_INPUT = 1

CHMAP_MAX_SIZE = 18  # 5.14.6.9.1: most positions of a channel map


class Queue(IntEnum):
    """The virtqueues (5.14.2)."""

    CONTROL = 0
    EVENT = 1
    TX = 2
    RX = 3


class Feature(IntEnum):
    """Device feature bits (5.14.3)."""

    CTLS = 0


class Request(IntEnum):
    """Codes of control requests (5.14.6)."""

    JACK_INFO = 0x0001
    JACK_REMAP = 0x0002
    PCM_INFO = 0x0100
    PCM_SET_PARAMS = 0x0101
    PCM_PREPARE = 0x0102
    PCM_RELEASE = 0x0103
    PCM_START = 0x0104
    PCM_STOP = 0x0105
    CHMAP_INFO = 0x0200
    CTL_INFO = 0x0300
    CTL_ENUM_ITEMS = 0x0301
    CTL_READ = 0x0302
    CTL_WRITE = 0x0303
    CTL_TLV_READ = 0x0304
    CTL_TLV_WRITE = 0x0305
    CTL_TLV_COMMAND = 0x0306


class EventCode(IntEnum):
    """Codes of notifications on the event queue (5.14.6)."""

    JACK_CONNECTED = 0x1000
    JACK_DISCONNECTED = 0x1001
    PCM_PERIOD_ELAPSED = 0x1100
    PCM_XRUN = 0x1101
    CTL_NOTIFY = 0x1200


class Status(IntEnum):
    """Answers to requests and I/O messages (5.14.6)."""

    OK = 0x8000
    BAD_MSG = 0x8001
    NOT_SUPP = 0x8002
    IO_ERR = 0x8003


class JackFeature(IntEnum):
    """Bits of `JackInfo.features` (5.14.6.4.1)."""

    REMAP = 0


class PcmFeature(IntEnum):
    """Bits of `PcmInfo.features` and `PcmSetParams.features` (5.14.6.6.2)."""

    SHMEM_HOST = 0
    SHMEM_GUEST = 1
    MSG_POLLING = 2
    EVT_SHMEM_PERIODS = 3
    EVT_XRUNS = 4


#: Sample formats: the value in SET_PARAMS and the bit in PCM_INFO (5.14.6.6.2).
PcmFormat = IntEnum(
    "PcmFormat",
    "IMA_ADPCM MU_LAW A_LAW S8 U8 S16 U16 S18_3 U18_3 S20_3 U20_3 S24_3 U24_3 S20 U20 S24 U24 S32 U32 "
    "FLOAT FLOAT64 DSD_U8 DSD_U16 DSD_U32 IEC958_SUBFRAME",
    start=0,
)


class Sample(NamedTuple):
    """How one sample of a format lies in memory."""

    #: Bytes a sample takes; 0 where samples are not whole bytes.
    width_bytes: int
    #: Bits that carry sound.
    bits: int
    #: One sample of silence.
    silence: bytes

    @property
    def silence_byte(self) -> int | None:
        """The byte that silence consists of; None if it is not one and the same byte."""
        return self.silence[0] if len(set(self.silence)) == 1 else None


def _signed(width_bytes: int, bits: int) -> Sample:
    return Sample(width_bytes, bits, bytes(width_bytes))


def _unsigned(width_bytes: int, bits: int) -> Sample:
    return Sample(width_bytes, bits, (1 << (bits - 1)).to_bytes(width_bytes, "little"))


SAMPLES: dict[PcmFormat, Sample] = {
    PcmFormat.IMA_ADPCM: Sample(0, 4, b""),
    PcmFormat.MU_LAW: Sample(1, 8, b"\xff"),
    PcmFormat.A_LAW: Sample(1, 8, b"\xd5"),
    PcmFormat.S8: _signed(1, 8),
    PcmFormat.U8: _unsigned(1, 8),
    PcmFormat.S16: _signed(2, 16),
    PcmFormat.U16: _unsigned(2, 16),
    PcmFormat.S18_3: _signed(3, 18),
    PcmFormat.U18_3: _unsigned(3, 18),
    PcmFormat.S20_3: _signed(3, 20),
    PcmFormat.U20_3: _unsigned(3, 20),
    PcmFormat.S24_3: _signed(3, 24),
    PcmFormat.U24_3: _unsigned(3, 24),
    PcmFormat.S20: _signed(4, 20),
    PcmFormat.U20: _unsigned(4, 20),
    PcmFormat.S24: _signed(4, 24),
    PcmFormat.U24: _unsigned(4, 24),
    PcmFormat.S32: _signed(4, 32),
    PcmFormat.U32: _unsigned(4, 32),
    PcmFormat.FLOAT: _signed(4, 32),
    PcmFormat.FLOAT64: _signed(8, 64),
    PcmFormat.DSD_U8: Sample(1, 8, b"\x69"),
    PcmFormat.DSD_U16: Sample(2, 16, b"\x69" * 2),
    PcmFormat.DSD_U32: Sample(4, 32, b"\x69" * 4),
    PcmFormat.IEC958_SUBFRAME: Sample(4, 32, bytes(4)),
}

#: Frame rates in Hz; the index is the value in SET_PARAMS and the bit in PCM_INFO (5.14.6.6.2).
RATES: tuple[int, ...] = (
    5512, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 64000, 88200, 96000, 176400, 192000, 384000,
)  # fmt: skip
#: The same, the other way round.
RATE_CODES: dict[int, int] = {hz: code for code, hz in enumerate(RATES)}


#: Channel positions (5.14.6.9.1).
Position = IntEnum(
    "Position",
    "NONE NA MONO FL FR RL RR FC LFE SL SR RC FLC FRC RLC RRC FLW FRW FLH FCH FRH TC TFL TFR TFC TRL TRR TRC TFLC "
    "TFRC TSL TSR LLFE RLFE BC BLC BRC",
    start=0,
)


class CtlRole(IntEnum):
    """What a control element is for (5.14.6.10.1)."""

    UNDEFINED = 0
    VOLUME = 1
    MUTE = 2
    GAIN = 3


class CtlType(IntEnum):
    """What a control element's value is (5.14.6.10.1)."""

    BOOLEAN = 0
    INTEGER = 1
    INTEGER64 = 2
    ENUMERATED = 3
    BYTES = 4
    IEC958 = 5


class CtlAccess(IntFlag):
    """`CtlInfo.access` (5.14.6.10.1)."""

    READ = 1 << 0
    WRITE = 1 << 1
    VOLATILE = 1 << 2
    INACTIVE = 1 << 3
    TLV_READ = 1 << 4
    TLV_WRITE = 1 << 5
    TLV_COMMAND = 1 << 6


class CtlMask(IntFlag):
    """`CtlEvent.mask`: what of an element changed (5.14.6.10.8)."""

    VALUE = 1 << 0
    INFO = 1 << 1
    TLV = 1 << 2


CTL_VALUE_BYTES = 512  # virtio_snd_ctl_value is a union of arrays of this size (5.14.6.10.3)
CTL_ENUM_ITEM_BYTES = 64  # virtio_snd_ctl_enum_item (5.14.6.10.2)


def bits(codes: Iterable[int]) -> int:
    """A mask with the bit of each code set."""
    mask = 0
    for code in codes:
        mask |= 1 << code
    return mask


class Config(Layout, layout="IIII"):
    """Configuration space (5.14.4). Without `Feature.CTLS` the last field is not there: `CONFIG_BYTES`."""

    jacks: int
    streams: int
    chmaps: int
    controls: int


CONFIG_BYTES = 12


class Hdr(Layout, layout="I"):
    """virtio_snd_hdr: what every request begins with, and every answer (5.14.6)."""

    code: int


class QueryInfo(Layout, layout="IIII"):
    """virtio_snd_query_info: any INFO request (5.14.6.1)."""

    code: int
    start_id: int
    count: int
    size: int


class EventMsg(Layout, layout="II"):
    """virtio_snd_event (5.14.6)."""

    code: int
    data: int


class ItemHdr(Layout, layout="II"):
    """A request that concerns one jack, PCM stream or control: code and id (5.14.6.4, 5.14.6.6, 5.14.6.10)."""

    code: int
    id: int


class JackInfo(Layout, layout="IIIIB7x"):
    """virtio_snd_jack_info (5.14.6.4.1)."""

    hda_fn_nid: int
    features: int
    hda_reg_defconf: int
    hda_reg_caps: int
    connected: int


class JackRemap(Layout, layout="IIII"):
    """virtio_snd_jack_remap (5.14.6.4.2)."""

    code: int
    jack_id: int
    association: int
    sequence: int


class PcmInfo(Layout, layout="IIQQBBB5x"):
    """virtio_snd_pcm_info (5.14.6.6.2)."""

    hda_fn_nid: int
    features: int
    formats: int
    rates: int
    direction: int
    channels_min: int
    channels_max: int


class PcmSetParams(Layout, layout="IIIIIBBBx"):
    """virtio_snd_pcm_set_params (5.14.6.6.3)."""

    code: int
    stream_id: int
    buffer_bytes: int
    period_bytes: int
    features: int
    channels: int
    format: int
    rate: int


class PcmXfer(Layout, layout="I"):
    """virtio_snd_pcm_xfer: what an I/O message begins with (5.14.6.8)."""

    stream_id: int


class PcmStatus(Layout, layout="II"):
    """virtio_snd_pcm_status: what an I/O message ends with (5.14.6.8)."""

    status: int
    latency_bytes: int


class ChmapInfo(Layout, layout=f"IBB{CHMAP_MAX_SIZE}s"):
    """virtio_snd_chmap_info; `positions` may be shorter than the field (5.14.6.9.1)."""

    hda_fn_nid: int
    direction: int
    channels: int
    positions: bytes


class CtlInfo(Layout, layout="IIIIII44s4x24s"):
    """virtio_snd_ctl_info (5.14.6.10.1); `value` is one of `CtlInteger`, `CtlInteger64` and `CtlEnumerated`, packed.

    Linux and crosvm align the union's 64-bit fields, so four bytes of padding stand before it.
    """

    hda_fn_nid: int
    role: int
    type: int
    access: int
    count: int
    index: int
    name: bytes
    value: bytes


class CtlInteger(Layout, layout="iii"):
    """Range of an INTEGER element (5.14.6.10.1)."""

    min: int
    max: int
    step: int


class CtlInteger64(Layout, layout="qqq"):
    """Range of an INTEGER64 element (5.14.6.10.1)."""

    min: int
    max: int
    step: int


class CtlEnumerated(Layout, layout="I"):
    """Number of items of an ENUMERATED element (5.14.6.10.1)."""

    items: int


class CtlIec958(Layout, layout="24s147sx4s"):
    """virtio_snd_ctl_iec958 (5.14.6.10.3)."""

    status: bytes
    subcode: bytes
    dig_subframe: bytes


class CtlTlv(Layout, layout="II"):
    """virtio_snd_ctl_tlv: what stands before `length` bytes of metadata (5.14.6.10.5)."""

    type: int
    length: int


class CtlEvent(Layout, layout="IHH"):
    """virtio_snd_ctl_event: CTL_NOTIFY on the event queue (5.14.6.10.8)."""

    code: int
    control_id: int
    mask: int
