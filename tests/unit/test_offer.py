"""What a guest is offered: streams, channel maps and jacks, from the configuration and from what the engine can do."""

from __future__ import annotations

from typing import Any

import pytest
from vsnd_hybrid.backends.base import Direction, PcmCapabilities
from vsnd_hybrid.device.chmaps import chmap_infos, positions
from vsnd_hybrid.device.config import DeviceConfig, DeviceConfigError, Offer, StreamConfig, offer, offers
from vsnd_hybrid.device.jacks import Jacks
from vsnd_hybrid.device.pcm import pcm_infos
from vsnd_hybrid.wire import PcmFormat, Status

from tests.unit.fakes import FakeBackend

OUT, IN = Direction.OUTPUT, Direction.INPUT
BACKEND = FakeBackend([])
ABLE = PcmCapabilities(frozenset({"S16", "S32", "FLOAT"}), frozenset({44100, 48000, 96000}), 1, 8)


def made(able: PcmCapabilities = ABLE, **config: Any) -> Offer:
    return offer(StreamConfig(direction=OUT, backend=BACKEND, **config), 0, able)


def test_a_stream_that_says_nothing_offers_what_the_engine_can_do() -> None:
    assert made() == Offer(
        OUT,
        0,
        frozenset({PcmFormat.S16, PcmFormat.S32, PcmFormat.FLOAT}),
        frozenset({44100, 48000, 96000}),
        1,
        8,
    )


def test_a_stream_offers_what_is_configured_as_far_as_the_engine_can() -> None:
    found = made(formats=("S16", "U8"), rates=(48000, 192000), channels=(2, 12))
    assert found == Offer(OUT, 0, frozenset({PcmFormat.S16}), frozenset({48000}), 2, 8)


def test_what_few_ask_for_is_offered_only_if_the_configuration_does() -> None:
    able = PcmCapabilities(frozenset({"S16"}), frozenset({48000, 192000}), 1, 64)
    usual = made(able)
    assert (usual.channels_max, usual.rates) == (8, frozenset({48000}))
    asked = made(able, channels=(1, 18), rates=(48000, 192000))
    assert (asked.channels_max, asked.rates) == (18, frozenset({48000, 192000}))
    assert made(PcmCapabilities(frozenset({"S16"}), frozenset({192000}), 12, 64)).channels_max == 12


def test_rates_and_formats_that_a_guest_cannot_name_are_not_offered() -> None:
    found = made(PcmCapabilities(frozenset({"S16", "S17", "IMA_ADPCM"}), frozenset({48000, 48001})))
    assert (found.formats, found.rates) == (frozenset({PcmFormat.S16}), frozenset({48000}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"formats": ("U8",)}, "output 0 (fake): no common formats: asked for U8; the engine has FLOAT, S16, S32"),
        ({"rates": (8000,)}, "output 0 (fake): no common rates: asked for 8000; the engine has 44100, 48000, 96000"),
        ({"channels": (9, 12)}, "output 0 (fake): 9 to 12 channels; the engine has 1 to 8"),
    ],
)
def test_nothing_in_common_is_an_error_that_says_what_the_engine_has(config: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceConfigError) as caught:
        made(**config)
    assert str(caught.value) == message


def device(*directions: Direction) -> list[Offer]:
    streams = tuple(StreamConfig(direction=direction, backend=BACKEND, channels=(1, 2)) for direction in directions)
    return offers(DeviceConfig(streams=streams), {(BACKEND, OUT): ABLE, (BACKEND, IN): ABLE})


def test_a_device_without_streams_or_with_too_many_is_an_error() -> None:
    with pytest.raises(DeviceConfigError, match="0 streams"):
        device()
    with pytest.raises(DeviceConfigError, match="256 streams"):
        device(*[OUT] * 256)


def test_the_first_output_and_the_first_input_are_one_pcm_device() -> None:
    infos = pcm_infos(device(OUT, OUT, IN, OUT, IN))
    assert [(info.direction, info.hda_fn_nid) for info in infos] == [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1)]


def test_pcm_info_offers_polling_and_xrun_events_and_no_shared_memory() -> None:
    (info,) = pcm_infos([made(formats=("S16",), rates=(48000,), channels=(1, 2))])
    assert info.features == 1 << 2 | 1 << 4
    assert (info.formats, info.rates) == (1 << 5, 1 << 7)
    assert (info.channels_min, info.channels_max) == (1, 2)


def test_each_stream_has_a_channel_map_for_each_number_of_channels() -> None:
    infos = chmap_infos(device(OUT, IN))
    assert [(info.hda_fn_nid, info.direction, info.channels, info.positions) for info in infos] == [
        (0, 0, 1, b"\x02"),
        (0, 0, 2, b"\x03\x04"),
        (0, 1, 1, b"\x02"),
        (0, 1, 2, b"\x03\x04"),
    ]


def test_surround_maps_name_the_usual_speakers() -> None:
    assert positions(6) == ("FL", "FR", "RL", "RR", "FC", "LFE")
    assert positions(8) == ("FL", "FR", "RL", "RR", "FC", "LFE", "SL", "SR")
    assert positions(17) == ()
    infos = chmap_infos([made()])
    assert [info.channels for info in infos] == list(range(1, 9))
    assert all(len(set(info.positions)) == info.channels for info in infos)


def test_each_stream_has_a_jack_that_is_plugged_in() -> None:
    jacks = Jacks(device(OUT, IN))
    line_out, microphone = jacks.infos()
    assert line_out.hda_reg_defconf >> 20 & 0xF == 0x0
    assert microphone.hda_reg_defconf >> 20 & 0xF == 0xA
    assert line_out.hda_reg_caps >> 4 & 3 == 1, "an output pin"
    assert microphone.hda_reg_caps >> 4 & 3 == 2, "an input pin"
    assert (line_out.connected, microphone.connected) == (1, 1)
    assert line_out.hda_reg_defconf >> 30 == 0, "a jack, not a built-in device"


def test_no_two_jacks_have_the_same_association_and_sequence() -> None:
    pins = [info.hda_reg_defconf & 0xFF for info in Jacks(device(*[OUT, IN] * 32)).infos()]
    assert len(set(pins)) == 64
    assert all(pin >> 4 for pin in pins), "association 0 is reserved"


def test_remap_changes_association_and_sequence_until_a_new_driver_comes() -> None:
    jacks = Jacks(device(OUT, IN))
    before = jacks.infos()
    assert before[1].features == 1
    assert jacks.remap(1, 5, 7) is Status.OK
    assert jacks.infos()[1].hda_reg_defconf == (before[1].hda_reg_defconf & ~0xFF) | 0x57
    assert jacks.infos()[0] == before[0]
    jacks.reset()
    assert jacks.infos() == before


@pytest.mark.parametrize(("association", "sequence"), [(0, 0), (16, 0), (1, 16), (0xFFFFFFFF, 0)])
def test_remap_to_what_has_no_place_in_the_register_is_bad(association: int, sequence: int) -> None:
    jacks = Jacks(device(OUT))
    before = jacks.infos()
    assert jacks.remap(0, association, sequence) is Status.BAD_MSG
    assert jacks.infos() == before


def test_what_is_plugged_in_is_news_once_and_stays_so_for_a_new_driver() -> None:
    jacks = Jacks(device(OUT, IN))
    assert jacks.plug(1, False)
    assert not jacks.plug(1, False)
    jacks.reset()
    assert [info.connected for info in jacks.infos()] == [1, 0]
