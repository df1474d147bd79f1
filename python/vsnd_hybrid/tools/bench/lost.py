"""Does every frame come through a real engine, once and in order? In the bench's own PipeWire session; needs numpy."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from vsnd_hybrid.guest import GuestError, Playback, VirtualGuest
from vsnd_hybrid.tools.bench.context import STALL_S, Context
from vsnd_hybrid.tools.bench.daemon import Failed
from vsnd_hybrid.tools.bench.paced import RATE, SETTLE_S, SHAPES, watch
from vsnd_hybrid.tools.bench.scenario import Figures, Scenario, Shape

if TYPE_CHECKING:
    from vsnd_hybrid.tools.session.noise import Heard

#: Frames of a quantum that needs reading ahead.
_FIXED = 1024
#: How often it is tried again where what listens or speaks failed itself.
_TRIES = 3


def lost_out_fixed(context: Context, *, shape: Shape, quantum: int) -> Figures:
    """The same in a session whose quantum nobody can make smaller, which the guest's buffer does not bear."""
    with context.sessions.pipewire().fixed_quantum(quantum):
        figures = lost_out(context, shape=shape)
    figures.notes.append(f"the session's quantum is fixed at {quantum} frames")
    return figures


def lost_out(context: Context, *, shape: Shape) -> Figures:
    """Numbered frames, looked for in a recording of the sink."""
    from vsnd_hybrid.tools.session.noise import locate, numbered

    session = context.sessions.pipewire()
    frames = round(max(1.0, context.seconds) * RATE)
    with context.daemon() as daemon, daemon.guest() as guest:
        for _ in range(_TRIES):
            recording = session.record()
            try:
                report, note = _play(guest, numbered(frames), shape)
                heard = locate(recording.heard(), frames)
                excused = not heard.holds(frames) and recording.missed_cycles
            finally:
                recording.close()
            if not excused:
                figures = Figures(_lost(heard, frames), notes=[note] if note else [])
                if report:
                    figures.values["xruns"] = report.xruns
                return figures
    raise Failed(f"the recorder itself was too late for the engine, {_TRIES} times: this machine is busy")


def _play(guest: VirtualGuest, sound: bytes, shape: Shape) -> tuple[Playback | None, str]:
    """Play to the end; what went wrong at the end is a note, for what was heard until then counts."""
    run = guest.start_play(sound, period_frames=shape.period_frames, periods=shape.periods, stall=STALL_S)
    try:
        report = run.wait()
    except GuestError as error:
        with suppress(GuestError):
            run.stop()
        return None, str(error)
    if report.ok:
        return report, ""
    return report, f"not every message came back with OK: {report.aborted or report.unreturned or 'IO_ERR'}"


def _lost(heard: Heard, frames: int) -> dict[str, float]:
    return {
        "frames_lost": frames - heard.found,
        "frames_lost_first": max(0, heard.first),
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
        for _ in range(_TRIES):
            run = guest.start_record(period_frames=shape.period_frames, periods=shape.periods, stall=STALL_S)
            watch([run], SETTLE_S)
            speech = session.speak(spoken)
            speech.wait()
            watch([run], 0.1)
            report = run.stop()
            heard = locate(report.data + report.tail, frames)
            if heard.holds(frames) or speech.whole:
                return Figures(_lost(heard, frames) | {"xruns": report.xruns})
    raise Failed(f"the microphone itself did not say everything, {_TRIES} times: this machine is busy")


def scenarios() -> list[Scenario]:
    found = [
        Scenario(
            name=f"lost-{shape}-out",
            group="lost",
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
    found += [
        Scenario(
            name=f"lost-{shape}-fixed-out",
            group="lost",
            title=f"numbered frames played at {shape} to PipeWire at a quantum fixed at {_FIXED}",
            engine="pipewire",
            figure="gap_frames",
            measure=partial(lost_out_fixed, shape=shape, quantum=_FIXED),
            patience_s=40,
            parameters={"period_frames": shape.period_frames, "periods": shape.periods, "quantum": _FIXED},
        )
        for shape in (Shape(480, 2), Shape(480, 3))
    ]
    found.append(
        Scenario(
            name=f"lost-{SHAPES[0]}-in",
            group="lost",
            title=f"numbered frames spoken into PipeWire's microphone, looked for in what was recorded at {SHAPES[0]}",
            engine="pipewire",
            figure="frames_lost",
            measure=partial(lost_in, shape=SHAPES[0]),
            patience_s=30,
        )
    )
    return found
