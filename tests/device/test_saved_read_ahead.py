"""A device that is saved while audio is read ahead of its engine: what was read is heard behind the restore, before anything else."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from vsnd_hybrid.device.life import State
from vsnd_hybrid.device.state import AHEAD_MAX, DeviceState
from vsnd_hybrid.vhost import running

from tests.device.stride import TURN, StrideBackend
from tests.guests import audio
from tests.processes import await_until
from tests.vmms.dialects import Crosvm

FRAMES = 48_000


def taps(*engines: StrideBackend) -> audio.Heard:
    """What was heard of the signal, by one engine after the other."""
    await_until(lambda: engines[-1].ahead_frames == 0, 10, "the end of what was read ahead")
    return audio.locate(b"".join(bytes(engine.tape) for engine in engines), FRAMES)


@pytest.mark.parametrize("turn", [TURN, 256], ids=["for-the-next-engine-too", "directly-for-the-next-engine"])
def test_what_was_read_ahead_goes_with_the_machine(run_dir: Path, turn: int) -> None:
    engines = [StrideBackend(), StrideBackend(turn=turn), StrideBackend(turn=turn)]
    with ExitStack() as stack:
        paths = [run_dir / name for name in "abc"]
        for engine, path in zip(engines, paths, strict=True):
            stack.enter_context(running(engine.device, path))
        vmm = stack.enter_context(Crosvm(paths[0]))
        run = vmm.start_play(audio.numbered(FRAMES), period_frames=480, periods=2)
        for i, there in enumerate(paths[1:]):
            state = b""
            # Just behind a turn there may be nothing in it.
            while not state or (i == 0 and not DeviceState.unpack(state).streams[0].ahead):
                if state:
                    vmm.resume()
                assert run.wait_messages(max(run.messages_done + 3, 30 * (i + 1)), 10)
                vmm.pause()
                state = vmm.snapshot()
            vmm.link.socket.close()
            vmm.restore(there, state)
            vmm.resume()
        assert run.wait().ok
        heard = taps(*engines)
    assert heard.holds(FRAMES), heard


def test_the_end_of_a_stream_that_was_stopped_is_heard_behind_the_restore(run_dir: Path) -> None:
    first, second = StrideBackend(), StrideBackend(turn=256)
    with (
        running(first.device, run_dir / "a"),
        running(second.device, run_dir / "b"),
        Crosvm(run_dir / "a") as vmm,
    ):
        run = vmm.start_play(audio.numbered(FRAMES), total_frames=1 << 40, period_frames=480, periods=2)
        while True:
            assert run.wait_messages(run.messages_done + 10, 10)
            run.pause()
            vmm.pause()
            state = vmm.snapshot()
            (saved,) = DeviceState.unpack(state).streams
            assert saved.state is State.STOPPED
            # The engine may have come to the end before the machine was paused.
            if saved.ahead:
                break
            vmm.resume()
            run.resume()
        vmm.link.socket.close()
        vmm.restore(run_dir / "b", state)
        vmm.resume()
        await_until(lambda: second.ahead_frames == 0, 10, "the end")
        await_until(lambda: bytes(saved.ahead) in bytes(second.tape), 10, "it in the tape")
        run.resume()
        assert run.wait_messages(run.messages_done + 10, 10)
        assert run.stop().unreturned == 0


def test_more_than_can_be_saved_is_not_and_no_state_has_more() -> None:
    state = DeviceState([], [], {})
    assert DeviceState.unpack(state.pack()) == state
    part = DeviceState.unpack(b'{"version":2,"streams":[["new",null,[],0,"AAECAw=="]],"jacks":[]}')
    assert part.streams[0].ahead == bytes(range(4))
    whole = part.streams[0]._replace(ahead=bytes(AHEAD_MAX // 2))
    assert DeviceState.unpack(DeviceState([whole, whole], [], {}).pack()).streams[1] == whole
    with pytest.raises(ValueError, match=f"more than {AHEAD_MAX} bytes"):
        DeviceState.unpack(DeviceState([whole, whole, part.streams[0]], [], {}).pack())


def test_a_state_of_the_version_before_has_nothing_read_ahead() -> None:
    (stream,) = DeviceState.unpack(b'{"version":1,"streams":[["new",null,[3],4]],"jacks":[]}').streams
    assert (stream.kept, stream.ahead) == (([3], 4), b"")
