"""The virtual guest's pure parts: sound as bytes and arrays, decoded infos, reports."""

from __future__ import annotations

import array

import numpy as np
import pytest
from vsnd_hybrid import wire
from vsnd_hybrid.guest import ChmapInfo, GuestEvent, Message, Playback, Recording, StreamInfo, numbered
from vsnd_hybrid.guest.samples import as_array, as_bytes, frame_bytes

# ---------------------------------------------------------------- samples


def test_bytes_are_taken_as_s16_stereo_unless_said_otherwise() -> None:
    assert as_bytes(b"1234", None, None, ()) == (b"1234", "S16", 2)
    assert as_bytes(bytearray(b"1234"), "U8", 1, ()) == (b"1234", "U8", 1)


def test_an_array_tells_its_format_and_its_channels() -> None:
    mono = array.array("h", [1, -2])
    assert as_bytes(mono, None, None, ()) == (mono.tobytes(), "S16", 1)
    stereo = np.arange(6, dtype="i4").reshape(3, 2)
    assert as_bytes(stereo, None, None, ()) == (stereo.tobytes(), "S32", 2)
    assert as_bytes(np.zeros((2, 6), "u1"), None, None, ())[1:] == ("U8", 6)


def test_a_row_of_interleaved_samples_has_the_channels_that_are_said() -> None:
    assert as_bytes(np.zeros(6, "i2"), None, 2, ())[1:] == ("S16", 2)


def test_an_array_that_is_not_contiguous_is_taken_in_order() -> None:
    both = np.arange(8, dtype="<i2").reshape(4, 2)
    assert as_bytes(both[:, 0], None, None, ())[0] == np.array([0, 2, 4, 6], "<i2").tobytes()


def test_floating_point_stays_where_it_is_offered_and_becomes_s16_elsewhere() -> None:
    samples = np.array([0.0, 0.5, 1.0, -1.0, -2.0], "f4")
    assert as_bytes(samples, None, None, ("S16", "FLOAT")) == (samples.tobytes(), "FLOAT", 1)
    data, format, _ = as_bytes(samples, None, None, ("S16",))
    assert format == "S16"
    assert np.frombuffer(data, "<i2").tolist() == [0, 16384, 32767, -32768, -32768]
    assert as_bytes(samples.astype("f8"), None, None, ("FLOAT",))[0] == samples.tobytes()


@pytest.mark.parametrize("bad", [np.zeros((2, 2, 2), "i2"), np.zeros(2, "c16"), np.zeros(2, "i8")])
def test_other_arrays_are_refused(bad: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        as_bytes(bad, None, None, ())


def test_floating_point_is_not_converted_to_companded_formats() -> None:
    with pytest.raises(ValueError, match="A_LAW"):
        as_bytes(np.zeros(2), "A_LAW", None, ())


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ValueError, match="no format 'S17'"):
        frame_bytes("S17", 2)
    with pytest.raises(ValueError, match="IMA_ADPCM"):
        frame_bytes("IMA_ADPCM", 1)


def test_recorded_bytes_become_an_array_of_whole_frames() -> None:
    assert as_array(b"\1\0\2\0\3\0\4\0\5\0", "S16", 2).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="S18_3"):
        as_array(b"", "S18_3", 1)


def test_numbered_frames_count_from_one() -> None:
    assert numbered(2, 4) == b"\1\0\0\0\2\0\0\0"
    assert numbered(1, 2, first=258) == b"\2\1"


# ---------------------------------------------------------------- infos


def test_a_stream_is_told_by_names() -> None:
    info = wire.PcmInfo(3, 1 << 2 | 1 << 9, 1 << 5 | 1 << 19, 1 << 6 | 1 << 7, 1, 1, 2)
    assert StreamInfo.decode(4, info) == StreamInfo(
        id=4,
        capture=True,
        formats=("S16", "FLOAT"),
        rates=(44100, 48000),
        channels_min=1,
        channels_max=2,
        features=frozenset({"MSG_POLLING", "0x9"}),
        hda_fn_nid=3,
    )


def test_a_channel_map_has_a_name_a_channel() -> None:
    info = wire.ChmapInfo(0, 0, 3, bytes([3, 4, 200]))
    assert ChmapInfo.decode(0, info).positions == ("FL", "FR", "0xc8")


def test_an_event_is_told_by_name() -> None:
    assert GuestEvent.decode(0x1101, 1, 5) == GuestEvent("PCM_XRUN", 0x1101, 1, 5)
    assert GuestEvent.decode(0x1234, 0, 5).name == "0x1234"


# ---------------------------------------------------------------- reports

OK = Message(bytes=192, queued_ns=1, done_ns=2, status=0x8000, latency_bytes=384, used_len=8)


def playback(*messages: Message, unreturned: int = 0) -> Playback:
    return Playback(
        stream=0, format="S16", channels=2, rate=48000, period_bytes=192, buffer_bytes=768, messages=messages,
        kicks=0, signals=0, kicks_running=0, signals_running=0, xruns=0, started_ns=0, stopping_ns=10**9, ended_ns=10**9,
        unreturned=unreturned, aborted=None,
    )  # fmt: skip


def test_a_report_counts_what_came_back() -> None:
    lost = OK._replace(done_ns=0)
    report = playback(OK, lost)
    assert (report.periods, report.frames, report.completions_ns) == (1, 48, [2])
    assert report.latency_ms == [2.0]
    assert not report.ok
    assert report.seconds == 1.0


def test_a_report_is_ok_if_every_message_is() -> None:
    assert playback(OK, OK).ok
    assert not playback(OK, OK._replace(status=0x8003)).ok
    assert not playback(OK, unreturned=1).ok


def test_a_recording_s_frames_are_those_asked_for() -> None:
    values = {name: getattr(playback(OK), name) for name in Playback.__dataclass_fields__}
    recording = Recording(**values, data=bytes(range(8)), tail=b"more")
    assert recording.frames == 2
    assert recording.array().shape == (2, 2)
