"""Is the latency that the guest is told the real one? In the bench's own PipeWire session; the loop needs numpy."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from vsnd_hybrid.guest import Message, Playback, Recording, numbered
from vsnd_hybrid.tools.bench.context import STALL_S, Context
from vsnd_hybrid.tools.bench.daemon import Failed
from vsnd_hybrid.tools.bench.numbers import percentile
from vsnd_hybrid.tools.bench.paced import RATE, SETTLE_S, SHAPES, watch
from vsnd_hybrid.tools.bench.scenario import Figures, Scenario, Shape
from vsnd_hybrid.tools.session.processes import await_until

if TYPE_CHECKING:
    from vsnd_hybrid.tools.session.pipewire import PipeWireSession

_FRAME_BYTES = 4


def loop(context: Context, *, shape: Shape) -> Figures:
    """What is played comes back through the sink's monitor and the microphone, and both ends say how late they are.

    A frame is heard when its message came back and the latency told with it has passed; it was recorded as long before its
    message came back as that says. What lies between the two is the error of both together, for the way between takes
    no time within a cycle of the graph.
    """
    from vsnd_hybrid.tools.session import noise

    session = context.sessions.pipewire()
    frames = round((context.seconds + 3 * SETTLE_S) * RATE)
    about: dict[str, Any] = {"period_frames": shape.period_frames, "periods": shape.periods, "stall": STALL_S}
    with context.daemon() as daemon, daemon.guest() as guest, _looped(session):
        record = guest.start_record(frames=frames, **about)
        play = guest.start_play(noise.numbered(frames), total_frames=1 << 40, **about)
        watch([record, play], context.seconds + SETTLE_S)
        playback, recording = play.stop(), record.stop()
    told = _told(playback.messages)
    errors = _errors(playback, recording)
    values = {
        "latency_told_ms": percentile(told, 50),
        "latency_jump_ms": percentile(told, 99) - percentile(told, 1),
        "latency_error_ms": percentile(errors, 50),
        "latency_error_spread_ms": percentile(errors, 99) - percentile(errors, 1),
    }
    return Figures(values, {"latency_told_ms": told, "latency_error_ms": errors})


def _told(messages: Sequence[Message]) -> list[float]:
    return [m.latency_bytes * 1000 / _FRAME_BYTES / RATE for m in messages if m.done_ns]


def _errors(playback: Playback, recording: Recording) -> list[float]:
    """For each recorded message whose last frame is one of those played: recorded less heard, in ms."""
    from vsnd_hybrid.tools.session.noise import numbers

    ends, heard_ns, played = [], [], 0
    for message in playback.messages:
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


def step(context: Context, *, shape: Shape) -> Figures:
    """The sink announces 20 ms more in the middle of playing: so should the device.

    The sink is a loop-back of PipeWire's, made the default for this, because null sinks announce nothing.
    """
    session = context.sessions.pipewire()
    about: dict[str, Any] = {"period_frames": shape.period_frames, "periods": shape.periods, "stall": STALL_S}
    with _late_sink(session) as sink, context.daemon() as daemon, daemon.guest() as guest:
        play = guest.start_play(numbered(RATE), total_frames=1 << 40, **about)
        watch([play], max(SETTLE_S, context.seconds / 2))
        before = play.messages_done
        session.run("pw-cli", "set-param", str(sink), "ProcessLatency", "{ quantum: 0.0, rate: 960, ns: 0 }")
        watch([play], max(SETTLE_S, context.seconds / 2))
        playback = play.stop()
    told, later = _told(playback.messages[:before]), _told(playback.messages[before:])
    if not told or not later:
        raise Failed("no messages came back")
    # What comes first is on its way in, and the announcement takes a moment to get through.
    told, later = told[len(told) // 2 :], later[len(later) // 2 :]
    values = {"latency_told_ms": percentile(told, 50), "latency_step_ms": percentile(later, 50) - percentile(told, 50)}
    return Figures(values)


@contextmanager
def _late_sink(session: PipeWireSession) -> Iterator[int]:
    """A sink that can be told how late it is, the default inside the block; its number."""
    name = "bench_late_sink"
    properties = f"{{ media.class=Audio/Sink node.name={name} }}"
    play = f"{{ target.object={session.SINK} }}"
    command = ["pw-loopback", "-m", "[ FL FR ]", "--capture-props", properties, "--playback-props", play]
    with session.client(command):
        await_until(lambda: session.node(name) is not None, 5, "the loop-back sink")
        session.make_default("sink", name)
        try:
            yield session.node(name) or 0
        finally:
            session.make_default("sink", session.SINK)


def scenarios() -> list[Scenario]:
    """The loop at a short and a long period, and the step."""
    loops = [
        Scenario(
            name=f"latency-{shape}",
            group="latency",
            title=f"latency told against a loop through PipeWire at {shape}",
            engine="pipewire",
            figure="latency_error_ms",
            measure=partial(loop, shape=shape),
            patience_s=25,
        )
        for shape in (SHAPES[0], SHAPES[2])
    ]
    return [
        *loops,
        Scenario(
            name="latency-step",
            group="latency",
            title="latency told when the sink announces 20 ms more",
            engine="pipewire",
            figure="latency_step_ms",
            measure=partial(step, shape=SHAPES[0]),
            patience_s=25,
        ),
    ]
