"""Structures and numbers of virtio-sound, against those of the specification (virtio 1.3, 5.14), written down again here."""

from __future__ import annotations

import struct

import pytest
from vsnd_hybrid import wire
from vsnd_hybrid.layout import Layout

SIZES = {
    wire.Config: 16,
    wire.Hdr: 4,
    wire.QueryInfo: 16,
    wire.EventMsg: 8,
    wire.ItemHdr: 8,
    wire.JackInfo: 24,
    wire.JackRemap: 16,
    wire.PcmInfo: 32,
    wire.PcmSetParams: 24,
    wire.PcmXfer: 4,
    wire.PcmStatus: 8,
    wire.ChmapInfo: 24,
    # 68 bytes, 4 of alignment, a union of 24: as Linux and crosvm have it.
    wire.CtlInfo: 96,
    wire.CtlInteger: 12,
    wire.CtlInteger64: 24,
    wire.CtlEnumerated: 4,
    wire.CtlIec958: 176,
    wire.CtlTlv: 8,
    wire.CtlEvent: 8,
}


def test_every_structure_is_known_to_this_test() -> None:
    assert set(Layout.__subclasses__()) == set(SIZES)


@pytest.mark.parametrize(("structure", "size"), SIZES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_structure_has_the_size_of_the_specification(structure: type[Layout], size: int) -> None:
    assert structure.SIZE == size


@pytest.mark.parametrize(
    ("structure", "offsets"),
    [
        (wire.Config, {"jacks": 0, "streams": 4, "chmaps": 8, "controls": 12}),
        (wire.QueryInfo, {"code": 0, "start_id": 4, "count": 8, "size": 12}),
        (wire.EventMsg, {"code": 0, "data": 4}),
        (wire.ItemHdr, {"code": 0, "id": 4}),
        (
            wire.JackInfo,
            {"hda_fn_nid": 0, "features": 4, "hda_reg_defconf": 8, "hda_reg_caps": 12, "connected": 16},
        ),
        (wire.JackRemap, {"code": 0, "jack_id": 4, "association": 8, "sequence": 12}),
        (
            wire.PcmInfo,
            {
                "hda_fn_nid": 0,
                "features": 4,
                "formats": 8,
                "rates": 16,
                "direction": 24,
                "channels_min": 25,
                "channels_max": 26,
            },
        ),
        (
            wire.PcmSetParams,
            {
                "code": 0,
                "stream_id": 4,
                "buffer_bytes": 8,
                "period_bytes": 12,
                "features": 16,
                "channels": 20,
                "format": 21,
                "rate": 22,
            },
        ),
        (wire.PcmStatus, {"status": 0, "latency_bytes": 4}),
        (wire.CtlEvent, {"code": 0, "control_id": 4, "mask": 6}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_field_stands_at_its_offset_with_its_lowest_byte_first(
    structure: type[Layout], offsets: dict[str, int]
) -> None:
    assert structure.FIELDS == tuple(offsets)
    for name, offset in offsets.items():
        data = structure(**{field: int(field == name) for field in offsets}).pack()
        assert data == bytes(offset) + b"\x01" + bytes(structure.SIZE - offset - 1), name


def test_channel_positions_stand_behind_direction_and_channels_and_are_padded_with_zeros() -> None:
    data = wire.ChmapInfo(hda_fn_nid=0x01020304, direction=1, channels=2, positions=b"\x03\x04").pack()
    assert data == bytes([4, 3, 2, 1, 1, 2, 3, 4]) + bytes(16)


def test_a_control_element_has_its_name_at_24_and_its_range_at_72() -> None:
    value = wire.CtlInteger(min=0, max=100, step=1).pack()
    data = wire.CtlInfo(0, 1, 1, 3, 2, 0, b"PCM Playback Volume", value).pack()
    assert data[24:43] == b"PCM Playback Volume"
    assert data[43:72] == bytes(29)
    assert struct.unpack_from("<iii", data, 72) == (0, 100, 1)


def test_unpack_is_the_inverse_of_pack_and_ignores_padding() -> None:
    params = wire.PcmSetParams(0x101, 1, 4096, 1024, 20, 2, 5, 7)
    assert wire.PcmSetParams.unpack(params.pack()[:23] + b"\xff") == params


def test_unpack_of_too_few_bytes_is_an_error() -> None:
    with pytest.raises(struct.error):
        wire.PcmSetParams.unpack(bytes(23))


def test_a_structure_is_read_only_and_tells_its_fields() -> None:
    event = wire.EventMsg(code=0x1101, data=3)
    with pytest.raises(AttributeError):
        event.data = 4  # type: ignore[misc]
    assert repr(event) == "EventMsg(code=4353, data=3)"
    assert event == wire.EventMsg(0x1101, 3)
    assert event != wire.EventMsg(0x1101, 4)
    with pytest.raises(TypeError, match="code, data"):
        wire.EventMsg(code=1, date=2)  # type: ignore[call-arg]


def test_requests_events_and_status_have_the_numbers_of_the_specification() -> None:
    assert {request.name: request.value for request in wire.Request} == {
        "JACK_INFO": 1,
        "JACK_REMAP": 2,
        "PCM_INFO": 0x100,
        "PCM_SET_PARAMS": 0x101,
        "PCM_PREPARE": 0x102,
        "PCM_RELEASE": 0x103,
        "PCM_START": 0x104,
        "PCM_STOP": 0x105,
        "CHMAP_INFO": 0x200,
        "CTL_INFO": 0x300,
        "CTL_ENUM_ITEMS": 0x301,
        "CTL_READ": 0x302,
        "CTL_WRITE": 0x303,
        "CTL_TLV_READ": 0x304,
        "CTL_TLV_WRITE": 0x305,
        "CTL_TLV_COMMAND": 0x306,
    }
    assert {event.name: event.value for event in wire.EventCode} == {
        "JACK_CONNECTED": 0x1000,
        "JACK_DISCONNECTED": 0x1001,
        "PCM_PERIOD_ELAPSED": 0x1100,
        "PCM_XRUN": 0x1101,
        "CTL_NOTIFY": 0x1200,
    }
    assert {status.name: status.value for status in wire.Status} == {
        "OK": 0x8000,
        "BAD_MSG": 0x8001,
        "NOT_SUPP": 0x8002,
        "IO_ERR": 0x8003,
    }


def test_the_device_its_queues_and_feature_bits() -> None:
    assert wire.DEVICE_ID == 25
    assert [queue.name for queue in sorted(wire.Queue)] == ["CONTROL", "EVENT", "TX", "RX"]
    assert wire.Feature.CTLS.value == 0
    assert [feature.name for feature in sorted(wire.PcmFeature)] == [
        "SHMEM_HOST",
        "SHMEM_GUEST",
        "MSG_POLLING",
        "EVT_SHMEM_PERIODS",
        "EVT_XRUNS",
    ]


FORMATS = [  # number, name, bytes, bits
    (0, "IMA_ADPCM", 0, 4),
    (1, "MU_LAW", 1, 8),
    (2, "A_LAW", 1, 8),
    (3, "S8", 1, 8),
    (4, "U8", 1, 8),
    (5, "S16", 2, 16),
    (6, "U16", 2, 16),
    (7, "S18_3", 3, 18),
    (8, "U18_3", 3, 18),
    (9, "S20_3", 3, 20),
    (10, "U20_3", 3, 20),
    (11, "S24_3", 3, 24),
    (12, "U24_3", 3, 24),
    (13, "S20", 4, 20),
    (14, "U20", 4, 20),
    (15, "S24", 4, 24),
    (16, "U24", 4, 24),
    (17, "S32", 4, 32),
    (18, "U32", 4, 32),
    (19, "FLOAT", 4, 32),
    (20, "FLOAT64", 8, 64),
    (21, "DSD_U8", 1, 8),
    (22, "DSD_U16", 2, 16),
    (23, "DSD_U32", 4, 32),
    (24, "IEC958_SUBFRAME", 4, 32),
]


def test_formats_have_the_numbers_and_widths_of_the_specification() -> None:
    assert [(f.value, f.name, wire.SAMPLES[f].width_bytes, wire.SAMPLES[f].bits) for f in wire.PcmFormat] == FORMATS


@pytest.mark.parametrize(
    ("name", "silence"),
    [
        ("U8", b"\x80"),
        ("S16", b"\0\0"),
        ("U16", b"\0\x80"),
        ("U20_3", b"\0\0\x08"),
        ("U24", b"\0\0\x80\0"),
        ("U32", b"\0\0\0\x80"),
        ("FLOAT64", bytes(8)),
    ],
)
def test_silence_is_the_middle_of_the_range(name: str, silence: bytes) -> None:
    assert wire.SAMPLES[wire.PcmFormat[name]].silence == silence


def test_a_format_whose_silence_is_not_one_byte_has_no_silence_byte() -> None:
    assert wire.SAMPLES[wire.PcmFormat.U8].silence_byte == 0x80
    assert wire.SAMPLES[wire.PcmFormat.S16].silence_byte == 0
    assert wire.SAMPLES[wire.PcmFormat.U16].silence_byte is None


def test_rates_have_the_numbers_of_the_specification() -> None:
    assert wire.RATES == (
        *(5512, 8000, 11025, 16000, 22050, 32000, 44100),
        *(48000, 64000, 88200, 96000, 176400, 192000, 384000),
    )
    assert wire.RATE_CODES[44100] == 6
    assert wire.RATE_CODES[48000] == 7


def test_channel_positions_have_the_numbers_of_the_specification() -> None:
    assert {
        0: "NONE",
        1: "NA",
        2: "MONO",
        3: "FL",
        4: "FR",
        5: "RL",
        6: "RR",
        7: "FC",
        8: "LFE",
        9: "SL",
        10: "SR",
    }.items() <= {position.value: position.name for position in wire.Position}.items()
    assert (wire.Position.RC, wire.Position.FRH, wire.Position.TSR, wire.Position.BRC) == (11, 20, 31, 36)
    assert len(wire.Position) == 37


def test_bits_are_a_mask_of_codes() -> None:
    assert wire.bits((wire.PcmFormat.S16, wire.PcmFormat.S32)) == 1 << 5 | 1 << 17
