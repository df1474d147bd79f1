"""The machine goes on at another daemon: restored from a snapshot, or because the daemon was killed. Nothing lost, nothing twice."""

from __future__ import annotations

import signal
from itertools import pairwise
from pathlib import Path

import pytest

from tests.guests.audio import FRAME_BYTES, locate, numbered, wav
from tests.vmms.conftest import SPOKEN_FRAMES, Host, HostFactory
from tests.vmms.dialects import CloudHypervisor, Crosvm
from tests.vmms.vmm import RX, TX, Vmm

FRAMES = 9600
PERIOD = 480
SECOND = 1_000_000
each = pytest.mark.parametrize("dialect", [Crosvm, CloudHypervisor], ids=lambda dialect: dialect.name)


@pytest.fixture(scope="session")
def other_microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is spoken to the second daemon."""
    path = tmp_path_factory.mktemp("microphone") / "other.wav"
    path.write_bytes(wav(numbered(SPOKEN_FRAMES, SECOND)))
    return path


def move(vmm: Vmm, first: Host, second: Host) -> None:
    """The machine is saved in the middle of whatever it does, and restored at another daemon; the first one is ended."""
    vmm.pause()
    state = vmm.snapshot()
    vmm.link.socket.close()
    first.daemon.stop()
    vmm.restore(second.socket, state)
    vmm.resume()


# ---------------------------------------------------------------- snapshots


@each
@pytest.mark.parametrize("messages", [0, 1, 7], ids=lambda n: f"after-{n}")
def test_a_machine_that_is_saved_in_mid_play_goes_on_at_another_daemon_to_the_frame(
    host: HostFactory, dialect: type[Vmm], messages: int
) -> None:
    first, second = host(), host()
    with dialect(first.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES))
        assert run.wait_messages(messages, 10)
        move(vmm, first, second)
        report = run.wait()
    assert report.ok and report.unreturned == 0
    assert vmm.queue(TX).used_index == FRAMES // PERIOD
    before, after = first.take(), second.take()
    # With no message back the first one may not have been heard at all.
    assert after and bool(before) >= bool(messages)
    assert locate(before + after, FRAMES).holds(FRAMES)


@each
def test_a_message_that_was_half_heard_is_resumed_there_by_another_daemon(
    host: HostFactory, dialect: type[Vmm]
) -> None:
    # Messages of four periods, of which the clock takes a quarter at a time.
    first, second = host(), host()
    with dialect(first.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES), period_frames=PERIOD, periods=8, message_bytes=4 * PERIOD * FRAME_BYTES)
        first.await_heard(PERIOD)
        move(vmm, first, second)
        assert run.wait().ok
    before, after = first.take(), second.take()
    assert locate(before, FRAMES).in_order and locate(after, FRAMES).first % (4 * PERIOD)
    assert locate(before + after, FRAMES).holds(FRAMES)


@each
def test_a_machine_that_is_saved_while_it_records_goes_on_where_it_was(
    host: HostFactory, dialect: type[Vmm], other_microphone: Path
) -> None:
    first, second = host(), host(input=other_microphone)
    with dialect(first.socket) as vmm:
        run = vmm.start_record(frames=FRAMES)
        assert run.wait_messages(5, 10)
        move(vmm, first, second)
        recorded = run.wait()
    ours = locate(recorded.data, FRAMES)
    # To the frame: what the first heard, and right behind it what the second did.
    assert 0 < ours.found < FRAMES
    assert recorded.data == numbered(ours.found) + numbered(FRAMES - ours.found, SECOND)


@each
def test_two_streams_of_one_ring_are_saved_and_restored_with_what_overtook_what(
    host: HostFactory, dialect: type[Vmm]
) -> None:
    first, second = host(outputs=2), host(outputs=2)
    with dialect(first.socket) as vmm:
        long = vmm.start_play(numbered(FRAMES), stream=0, period_frames=1920, periods=2)
        short = vmm.start_play(numbered(FRAMES, SECOND), stream=1, period_frames=240, periods=4)
        assert short.wait_messages(12, 10)
        move(vmm, first, second)
        assert long.wait().ok and short.wait().ok
    assert locate(first.take(0) + second.take(0), FRAMES).holds(FRAMES)
    assert locate(first.take(1) + second.take(1), FRAMES, SECOND).holds(FRAMES, SECOND)


@each
def test_parameters_and_a_stream_that_was_stopped_survive(host: HostFactory, dialect: type[Vmm]) -> None:
    first, second = host(), host()
    with dialect(first.socket) as vmm:
        run = vmm.start_play(bytes(range(1, 241)) * 200, format="U8", channels=1, rate=44100)
        assert run.wait_messages(20, 10)
        run.pause()
        move(vmm, first, second)
        # SET_PARAMS and PREPARE were said to the first daemon only.
        run.resume()
        assert run.wait().ok
    heads = [next(iter(host.files())).read_bytes()[:44] for host in (first, second)]
    assert heads[0][20:36] == heads[1][20:36], "format, channels, rate"


@each
def test_a_machine_is_moved_over_and_over_while_it_plays_and_records(host: HostFactory, dialect: type[Vmm]) -> None:
    hosts = [host() for _ in range(4)]
    with dialect(hosts[0].socket) as vmm:
        playing, recording = vmm.start_play(numbered(4 * FRAMES)), vmm.start_record(frames=4 * FRAMES)
        for i, (here, there) in enumerate(pairwise(hosts)):
            assert playing.wait_messages(10 * (i + 1), 10)
            move(vmm, here, there)
        assert playing.wait().ok and recording.wait().frames == 4 * FRAMES
    assert locate(b"".join(host.take() for host in hosts), 4 * FRAMES).holds(4 * FRAMES)


# ---------------------------------------------------------------- a daemon that is killed


def kill(host: Host) -> None:
    """End the daemon in the middle of whatever it does, and start it again."""
    host.daemon.process.kill()
    host.daemon.start()


@pytest.mark.parametrize("messages", [0, 1, 6], ids=lambda n: f"after-{n}")
def test_after_a_daemon_was_killed_the_next_begins_with_the_first_message_that_was_not_given_back(
    host: HostFactory, messages: int
) -> None:
    computer = host()
    with CloudHypervisor(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES))
        assert run.wait_messages(messages, 10)
        computer.daemon.process.kill()
        used = vmm.queue(TX).used_index
        computer.daemon.start()
        vmm.reconnect(computer.socket)
        report = run.wait()
        assert report.ok and report.unreturned == 0
        assert vmm.queue(TX).used_index == FRAMES // PERIOD, "each was given back once"
    after = locate(computer.takes()[-1], FRAMES)
    assert after.in_order and (after.first, after.last) == (used * PERIOD, FRAMES - 1)


@pytest.mark.parametrize("pauses", [1, 3])
def test_what_a_paused_machine_s_killed_daemon_had_heard_is_followed_by_what_it_had_not(
    host: HostFactory, pauses: int
) -> None:
    computer = host()
    message = 4 * PERIOD
    with CloudHypervisor(computer.socket) as vmm:
        run = vmm.start_play(numbered(2 * FRAMES), period_frames=PERIOD, periods=8, message_bytes=message * FRAME_BYTES)
        for n in range(1, pauses + 1):
            # In the middle of a message; a pause that ends well before the one that does not.
            computer.await_heard(message * n + PERIOD)
            vmm.pause()
            if n < pauses:
                vmm.resume()
        used = vmm.queue(TX).used_index
        computer.await_written()
        kill(computer)
        vmm.reconnect(computer.socket)
        vmm.resume()
        assert run.wait().ok
    before, after = (locate(take, 2 * FRAMES) for take in computer.takes())
    assert before.in_order and before.first == 0 and after.in_order and after.last == 2 * FRAMES - 1
    assert after.first == used * message, "the message that was half heard begins anew"
    assert used * message <= before.last + 1 < (used + 1) * message, "and no other is heard twice, or lost"


def test_two_streams_of_one_ring_outlive_their_daemon(host: HostFactory) -> None:
    computer = host(outputs=2)
    with CloudHypervisor(computer.socket) as vmm:
        long = vmm.start_play(numbered(FRAMES), stream=0, period_frames=1920, periods=2)
        short = vmm.start_play(numbered(FRAMES, SECOND), stream=1, period_frames=240, periods=4)
        for messages in (4, 16):
            assert short.wait_messages(messages, 10)
            kill(computer)
            vmm.reconnect(computer.socket)
        for run in (long, short):
            report = run.wait()
            assert report.ok and report.unreturned == 0
    for stream, first in ((0, 0), (1, SECOND)):
        takes = [locate(take, FRAMES, first) for take in computer.takes(stream)]
        heard = [take for take in takes if take.found]
        assert all(take.in_order for take in heard)
        assert heard[-1].last == first + FRAMES - 1


def test_a_recording_outlives_its_daemon(host: HostFactory) -> None:
    computer = host()
    with CloudHypervisor(computer.socket) as vmm:
        run = vmm.start_record(frames=FRAMES)
        assert run.wait_messages(6, 10)
        computer.daemon.process.kill()
        used = vmm.queue(RX).used_index
        computer.daemon.start()
        vmm.reconnect(computer.socket)
        recorded = run.wait()
    assert recorded.ok and recorded.unreturned == 0 and recorded.frames == FRAMES
    # The messages that came back, and then what the next daemon heard, from its beginning.
    heard = used * PERIOD
    assert recorded.data == numbered(heard) + numbered(FRAMES - heard)


def test_a_daemon_that_is_killed_over_and_over_costs_no_message(host: HostFactory) -> None:
    computer = host()
    with CloudHypervisor(computer.socket) as vmm:
        playing, recording = vmm.start_play(numbered(4 * FRAMES)), vmm.start_record(frames=4 * FRAMES)
        for messages in (3, 20, 21, 50):
            assert playing.wait_messages(messages, 10)
            kill(computer)
            vmm.reconnect(computer.socket)
        reports = playing.wait(), recording.wait()
        assert all(report.ok and report.unreturned == 0 for report in reports)
        assert vmm.queue(TX).used_index == 4 * FRAMES // PERIOD


def test_a_guest_that_is_reset_after_its_daemon_was_killed_begins_anew(host: HostFactory) -> None:
    computer = host()
    with CloudHypervisor(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES))
        assert run.wait_messages(5, 10)
        kill(computer)
        vmm.reconnect(computer.socket)
        vmm.reset()
        assert run.stop().aborted
        assert vmm.play(numbered(FRAMES, SECOND)).ok
    assert locate(computer.takes()[-1], FRAMES, SECOND).holds(FRAMES, SECOND)


def test_a_daemon_that_comes_back_after_sigterm_goes_on_too(host: HostFactory) -> None:
    computer = host()
    with CloudHypervisor(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES))
        assert run.wait_messages(5, 10)
        computer.daemon.process.signal(signal.SIGTERM)
        assert computer.daemon.process.wait() == 0
        used = vmm.queue(TX).used_index
        computer.daemon.start()
        vmm.reconnect(computer.socket)
        assert run.wait().ok
    after = locate(computer.takes()[-1], FRAMES)
    assert after.in_order and (after.first, after.last) == (used * PERIOD, FRAMES - 1)
