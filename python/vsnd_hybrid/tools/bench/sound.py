"""Is the sound true: does every frame come through a real engine, and is the latency that the guest is told the real one?

Both need the bench's own PipeWire session, and numpy to look through what was recorded.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from vsnd_hybrid.guest import GuestError, Message, Playback, Recording, VirtualGuest
from vsnd_hybrid.tools.bench.context import STALL_S, Context
from vsnd_hybrid.tools.bench.daemon import Failed
from vsnd_hybrid.tools.bench.numbers import percentile
from vsnd_hybrid.tools.bench.paced import RATE, SETTLE_S, SHAPES, watch
from vsnd_hybrid.tools.bench.scenario import Figures, Scenario, Shape

if TYPE_CHECKING:
    from vsnd_hybrid.tools.session.noise import Heard
    from vsnd_hybrid.tools.session.pipewire import PipeWireSession

_FRAME_BYTES = 4
#: Latency that the sink is made to announce, in frames: 20 ms.
_ANNOUNCED_FRAMES = 960
#: How often a recording is made again that failed by the recorder's own fault.
_TRIES = 3


def lost_out(context: Context, *, shape: Shape) -> Figures:
    """Numbered frames, looked for in a recording of the sink."""
    from vsnd_hybrid.tools.session.noise import locate, numbered

    session = context.sessions.pipewire()
    frames = round(max(1.0, context.seconds) * RATE)
    with context.daemon() as daemon, daemon.guest() as guest:
        for _ in range(_TRIES):
            recording = session.record()
            try:
                note = _play(guest, numbered(frames), shape)
                heard = locate(recording.heard(), frames)
                excused = not heard.holds(frames) and recording.missed_cycles
            finally:
                recording.close()
            if not excused:
                return Figures(_lost(heard, frames), notes=[note] if note else [])
    raise Failed(f"the recorder itself was too late for the engine, {_TRIES} times: this machine is busy")


def _play(guest: VirtualGuest, sound: bytes, shape: Shape) -> str:
    """Play to the end; what went wrong at the end is a note, for what was heard until then counts."""
    run = guest.start_play(sound, period_frames=shape.period_frames, periods=shape.periods, stall=STALL_S)
    try:
        report = run.wait()
    except GuestError as error:
        with suppress(GuestError):
            run.stop()
        return str(error)
    return (
        "" if report.ok else f"not every message came back with OK: {report.aborted or report.unreturned or 'IO_ERR'}"
    )


def _lost(heard: Heard, frames: int) -> dict[str, float]:
    return {
        "frames_lost": frames - heard.found,
        "frames_repeated": heard.repeated + heard.disordered,
        "gaps": len(heard.silences),
        "gap_frames": sum(length for _, length in heard.silences),
    }


def lost_in(context: Context, *, shape: Shape) -> Figures:
    """Numbered frames spoken into the microphone, looked for in what the guest recorded."""
    from vsnd_hybrid.tools.session.noise import locate, numbered, silence
    from vsnd_hybrid.tools.session.pipewire import TAIL_FRAMES

    session = context.sessions.pipewire()
    frames = round(max(1.0, context.seconds) * RATE)
    spoken = silence(RATE // 2) + numbered(frames) + silence(TAIL_FRAMES)
    with context.daemon() as daemon, daemon.guest() as guest:
        run = guest.start_record(period_frames=shape.period_frames, periods=shape.periods, stall=STALL_S)
        watch([run], SETTLE_S)
        session.speak(spoken).wait(len(spoken) / _FRAME_BYTES / RATE + 10)
        watch([run], 0.1)
        report = run.stop()
    return Figures(_lost(locate(report.data + report.tail, frames), frames) | {"xruns": report.xruns})


# ---------------------------------------------------------------- latency


def latency(context: Context, *, shape: Shape) -> Figures:
    """What is played comes back through the sink's monitor and the microphone, and both ends say how late they are.

    A frame is heard when its message came back and the latency told with it has passed; it was recorded as long before its
    message came back as that says. What lies between the two is the error of both together, for the way between takes
    no time within a cycle of the graph. Then the sink announces 20 ms more, and so should the device.
    """
    from vsnd_hybrid.tools.session.noise import numbered

    session = context.sessions.pipewire()
    frames = round((context.seconds + 3 * SETTLE_S) * RATE)
    about: dict[str, Any] = {"period_frames": shape.period_frames, "periods": shape.periods, "stall": STALL_S}
    with context.daemon() as daemon, daemon.guest() as guest, _looped(session):
        record = guest.start_record(frames=frames, **about)
        play = guest.start_play(numbered(frames), total_frames=1 << 40, **about)
        watch([record, play], context.seconds + SETTLE_S)
        before = play.messages_done
        with _announced(session, _ANNOUNCED_FRAMES):
            watch([play], 2 * SETTLE_S)
            after = play.messages_done
            playback = play.stop()
        recording = record.stop()
    told = _told(playback.messages[: max(1, before)])
    later = _told(playback.messages[before : max(before + 1, after)])
    errors = _errors(playback, recording, playback.messages[:before])
    values = {
        "latency_told_ms": percentile(told, 50),
        "latency_jump_ms": percentile(told, 99) - percentile(told, 1),
        # The announcement takes a moment to get through.
        "latency_step_ms": percentile(later[len(later) // 2 :], 50) - percentile(told, 50),
        "latency_error_ms": percentile(errors, 50),
        "latency_error_spread_ms": percentile(errors, 99) - percentile(errors, 1),
    }
    return Figures(values, {"latency_told_ms": told, "latency_error_ms": errors})


def _told(messages: Sequence[Message]) -> list[float]:
    return [m.latency_bytes * 1000 / _FRAME_BYTES / RATE for m in messages if m.done_ns]


def _errors(playback: Playback, recording: Recording, messages: Sequence[Message]) -> list[float]:
    """For each recorded message whose last frame is one of those played: recorded less heard, in ms."""
    from vsnd_hybrid.tools.session.noise import numbers

    ends, heard_ns, played = [], [], 0
    for message in messages:
        played += message.bytes // _FRAME_BYTES
        if message.done_ns:
            ends.append(played)
            heard_ns.append(message.done_ns + message.latency_bytes * 1e9 / _FRAME_BYTES / RATE)
    found = numbers(recording.data + recording.tail)
    errors, at = [], 0
    for message in sorted(recording.done, key=lambda m: m.done_ns):
        at += max(0, message.used_len - 8) // _FRAME_BYTES
        number = int(found[at - 1]) if 0 < at <= len(found) else -1
        place = bisect_left(ends, number + 1)
        # The first ones were on their way while the stream started.
        if number < RATE * SETTLE_S or place >= len(ends):
            continue
        heard = heard_ns[place] - (ends[place] - number - 1) * 1e9 / RATE
        recorded = message.done_ns - message.latency_bytes * 1e9 / _FRAME_BYTES / RATE
        errors.append((recorded - heard) / 1e6)
    if not errors:
        raise Failed("nothing that was played was found in what was recorded")
    return errors


@contextmanager
def _looped(session: PipeWireSession) -> Iterator[None]:
    """The sink's monitor feeds the microphone inside the block."""
    links = [(f"{session.SINK}:monitor_{c}", f"{session.MICROPHONE}:input_{c}") for c in ("FL", "FR")]
    try:
        for link in links:
            session.run("pw-link", *link)
        yield
    finally:
        for link in links:
            session.run("pw-link", "-d", *link)


@contextmanager
def _announced(session: PipeWireSession, frames: int) -> Iterator[None]:
    """The sink says that it is so much later than it is, inside the block."""
    nodes = json.loads(session.run("pw-dump") or "[]")
    ids = [o["id"] for o in nodes if o.get("info", {}).get("props", {}).get("node.name") == session.SINK]
    if not ids:
        raise Failed("the session's sink is gone")

    def announce(rate: int) -> None:
        session.run("pw-cli", "set-param", str(ids[0]), "ProcessLatency", f"{{ quantum: 0.0, rate: {rate}, ns: 0 }}")

    announce(frames)
    try:
        yield
    finally:
        announce(0)


def scenarios() -> list[Scenario]:
    found = [
        Scenario(
            name=f"lost-{shape}-out",
            group="sound",
            title=f"numbered frames played at {shape}, looked for in a recording of PipeWire's sink",
            engine="pipewire",
            figure="frames_lost",
            measure=partial(lost_out, shape=shape),
            quick=shape == SHAPES[0],
            patience_s=40,
            parameters={"period_frames": shape.period_frames, "periods": shape.periods},
        )
        for shape in (*SHAPES, Shape(480, 3))
    ]
    found.append(
        Scenario(
            name=f"lost-{SHAPES[0]}-in",
            group="sound",
            title=f"numbered frames spoken into PipeWire's microphone, looked for in what was recorded at {SHAPES[0]}",
            engine="pipewire",
            figure="frames_lost",
            measure=partial(lost_in, shape=SHAPES[0]),
            patience_s=30,
        )
    )
    found += [
        Scenario(
            name=f"latency-{shape}",
            group="sound",
            title=f"latency told against a loop through PipeWire at {shape}",
            engine="pipewire",
            figure="latency_error_ms",
            measure=partial(latency, shape=shape),
            patience_s=25,
        )
        for shape in (SHAPES[0], SHAPES[2])
    ]
    return found
