"""Resets, pauses and ends in mid-play behind every monitor: nothing lost, nothing stale, nothing left."""

from __future__ import annotations

import pytest

from tests.guests.audio import locate, numbered
from tests.processes import await_until
from tests.vmms.conftest import Host, HostFactory, spoken
from tests.vmms.dialects import DIALECTS, PAUSING
from tests.vmms.vmm import TX, Vmm

FRAMES = 9600
#: The next driver's signal begins here, so that no frame of it can be one of the first driver's.
SECOND = 1_000_000
ENDLESS = 10 * 48000


def each(dialects: tuple[type[Vmm], ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dialect", dialects, ids=lambda dialect: dialect.name)


def ring_bytes(size: int) -> tuple[int, int, int]:
    """Of the descriptor table, the available and the used ring."""
    return 16 * size, 6 + 2 * size, 6 + 8 * size


def second_driver_is_heard_from_its_first_frame(computer: Host) -> None:
    first, second = computer.takes()
    before, after = locate(first, ENDLESS), locate(second, FRAMES, SECOND)
    assert before.in_order and before.first == 0
    assert after.holds(FRAMES, SECOND)


# ---------------------------------------------------------------- resets


@each(DIALECTS)
@pytest.mark.parametrize("style", ["machine", "kernel"])
def test_after_a_reset_in_mid_play_the_next_driver_is_heard_whole(
    host: HostFactory, dialect: type[Vmm], style: str
) -> None:
    computer = host()
    with dialect(computer.socket) as vmm:
        playing, recording = vmm.start_play(numbered(ENDLESS)), vmm.start_record()
        assert playing.wait_messages(5, 10) and recording.wait_messages(3, 10)
        vmm.reset(style)
        assert playing.stop().aborted == recording.stop().aborted == "the guest was reset"
        # Nothing of the first driver's messages is completed into the new rings.
        assert [vmm.queue(i).used_index for i in range(4)] == [0, 0, 0, 0]
        assert vmm.play(numbered(FRAMES, SECOND)).ok
        assert spoken(vmm.record(frames=FRAMES).data).in_order
    second_driver_is_heard_from_its_first_frame(computer)


@each(DIALECTS)
@pytest.mark.parametrize("scribble", [b"\0", b"\xff", b"\x7f\x03\x91"], ids=["zeros", "ones", "anything"])
def test_a_kernel_that_takes_over_in_mid_play_writes_over_the_rings_and_finds_a_new_device(
    host: HostFactory, dialect: type[Vmm], scribble: bytes
) -> None:
    """A crash kernel (kexec): nobody told the device before its rings became somebody else's memory."""
    computer = host()
    with dialect(computer.socket) as vmm:
        playing, recording = vmm.start_play(numbered(ENDLESS)), vmm.start_record()
        assert playing.wait_messages(5, 10) and recording.wait_messages(3, 10)
        vmm.driver.hold(True)
        for i in range(4):
            for start, size in zip(vmm.driver.queue(i).parts, ring_bytes(vmm.driver.queue(i).size), strict=True):
                vmm.driver.write(start, (scribble * size)[:size])
            vmm.driver.queue(i).kick()
        vmm.settle()
        vmm.driver.hold(False)
        vmm.reset("kernel")
        assert playing.stop().aborted and recording.stop().aborted
        assert vmm.play(numbered(FRAMES, SECOND)).ok
        assert spoken(vmm.record(frames=FRAMES).data).in_order
    assert locate(computer.takes()[-1], FRAMES, SECOND).holds(FRAMES, SECOND)
    assert "Traceback" not in computer.daemon.log()


@each(DIALECTS)
def test_a_guest_that_is_reset_over_and_over_always_finds_its_device(host: HostFactory, dialect: type[Vmm]) -> None:
    computer = host()
    with dialect(computer.socket) as vmm:
        vmm.settle()
        maps, descriptors = computer.guest_maps(), computer.descriptors()
        for life in range(1, 6):
            playing = vmm.start_play(numbered(ENDLESS, life * SECOND))
            assert playing.wait_messages(3, 10)
            vmm.reset("kernel" if life % 2 else "machine")
        assert computer.guest_maps() == maps
        await_until(lambda: computer.descriptors() <= descriptors, 10, "the descriptors of earlier lives")
    for life, take in enumerate(computer.takes(), 1):
        heard = locate(take, ENDLESS, life * SECOND)
        assert heard.in_order and heard.first == life * SECOND


# ---------------------------------------------------------------- pauses


@each(PAUSING)
@pytest.mark.parametrize("polling", [True, False], ids=["polled", "kicked"])
@pytest.mark.parametrize("messages", [0, 1, 4], ids=lambda n: f"after-{n}")
def test_a_pause_in_mid_play_costs_no_frame(
    host: HostFactory, dialect: type[Vmm], messages: int, polling: bool
) -> None:
    computer = host()
    with dialect(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES), polling=polling)
        for pause in range(3):
            assert run.wait_messages(messages + 3 * pause, 10)
            vmm.pause()
            used = vmm.queue(TX).used_index
            assert run.messages_done <= used
            vmm.settle()
            assert vmm.queue(TX).used_index == used, "nothing is given back while the machine is paused"
            vmm.resume()
        assert run.wait().ok
    assert locate(computer.take(), FRAMES).holds(FRAMES)


@each(PAUSING)
def test_a_pause_in_the_middle_of_a_message_resumes_there(host: HostFactory, dialect: type[Vmm]) -> None:
    # Messages of four periods, of which the clock takes a quarter at a time: the first pause comes before any is consumed whole.
    computer = host()
    with dialect(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES), period_frames=480, periods=8, message_bytes=4 * 1920)
        for periods in (1, 2, 3, 5, 9):
            computer.await_heard(480 * periods)
            vmm.pause()
            vmm.resume()
        assert run.wait().ok
    assert locate(computer.take(), FRAMES).holds(FRAMES)


@each(PAUSING)
def test_a_pause_while_recording_repeats_and_invents_nothing(host: HostFactory, dialect: type[Vmm]) -> None:
    with dialect(host().socket) as vmm:
        run = vmm.start_record(frames=FRAMES)
        for messages in (1, 5, 9):
            assert run.wait_messages(messages, 10)
            vmm.pause()
            vmm.resume()
        heard = spoken(run.wait().data)
    assert not (heard.repeated or heard.disordered or heard.foreign)
    # What was spoken while nobody listened is lost; what came before and after is not.
    assert len(heard.missing) <= 3


@each(PAUSING)
def test_a_pause_costs_no_frame_of_two_streams_that_share_a_ring(host: HostFactory, dialect: type[Vmm]) -> None:
    computer = host(outputs=2)
    with dialect(computer.socket) as vmm:
        runs = [vmm.start_play(numbered(FRAMES, i * SECOND), stream=i) for i in range(2)]
        for messages in (2, 5, 8):
            assert all(run.wait_messages(messages, 10) for run in runs)
            vmm.pause()
            vmm.resume()
        assert all(run.wait().ok for run in runs)
    for i in range(2):
        assert locate(computer.take(i), FRAMES, i * SECOND).holds(FRAMES, i * SECOND)


@each(PAUSING)
def test_a_pause_costs_no_frame_of_streams_whose_messages_overtake_each_other(
    host: HostFactory, dialect: type[Vmm]
) -> None:
    computer = host(outputs=2)
    with dialect(computer.socket) as vmm:
        long = vmm.start_play(numbered(FRAMES), stream=0, period_frames=1920, periods=2)
        short = vmm.start_play(numbered(FRAMES, SECOND), stream=1, period_frames=240, periods=4)
        for messages in (3, 12, 25):
            assert short.wait_messages(messages, 10)
            vmm.pause()
            vmm.resume()
        assert long.wait().ok and short.wait().ok
    assert locate(computer.take(0), FRAMES).holds(FRAMES)
    assert locate(computer.take(1), FRAMES, SECOND).holds(FRAMES, SECOND)


# ---------------------------------------------------------------- ends


@each(DIALECTS)
def test_a_monitor_that_is_killed_in_mid_play_is_followed_by_the_next(host: HostFactory, dialect: type[Vmm]) -> None:
    computer = host()
    descriptors = computer.descriptors()
    with dialect(computer.socket) as first:
        playing, recording = first.start_play(numbered(ENDLESS)), first.start_record()
        assert playing.wait_messages(5, 10) and recording.wait_messages(3, 10)
        first.kill()
    computer.await_maps(0)
    with dialect(computer.socket) as second:
        assert second.play(numbered(FRAMES, SECOND)).ok
    computer.await_maps(0)
    await_until(lambda: computer.descriptors() <= descriptors, 10, "the descriptors of both")
    second_driver_is_heard_from_its_first_frame(computer)


@each(DIALECTS)
def test_a_monitor_that_ends_in_good_order_leaves_nothing(host: HostFactory, dialect: type[Vmm]) -> None:
    computer = host()
    descriptors = computer.descriptors()
    for _ in range(3):
        with dialect(computer.socket) as vmm:
            assert vmm.play(numbered(480)).ok
            assert computer.guest_maps() == len(vmm.regions)
        computer.await_maps(0)
    await_until(lambda: computer.descriptors() <= descriptors, 10, "the descriptors of all three")
    assert "warning" not in computer.daemon.log()
