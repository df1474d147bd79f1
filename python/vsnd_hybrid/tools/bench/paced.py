"""Streams in real time, on the clock or on PipeWire: what a second of sound costs, and how evenly messages come back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, product
from typing import Any

from vsnd_hybrid.backends.base import Direction, PcmParams
from vsnd_hybrid.backends.latency import wakeup_frames
from vsnd_hybrid.guest import StreamReport, StreamRun, VirtualGuest, numbered
from vsnd_hybrid.tools.bench import probe
from vsnd_hybrid.tools.bench.contenders import Unsupported
from vsnd_hybrid.tools.bench.context import STALL_S, Context
from vsnd_hybrid.tools.bench.daemon import Daemon, Failed
from vsnd_hybrid.tools.bench.numbers import Pace, Spread, percentile
from vsnd_hybrid.tools.bench.scenario import IN_SESSION, PIPEWIRE, Figures, Scenario, Shape
from vsnd_hybrid.wire import Status

RATE = 48000
#: Looked at only after so long: the engine's first wake-ups are not those that follow.
SETTLE_S = 0.5
_FRAME_BYTES = 4
#: How often streams are looked at meanwhile.
_LOOK_S = 0.25
#: Streams that play for longer than anybody looks.
_LONG_FRAMES = RATE * 3600

Runs = Sequence[StreamRun[Any]]


def start(guest: VirtualGuest, shape: Shape, *, outputs: int, inputs: int) -> list[StreamRun[Any]]:
    """Start so many streams of each direction. Raises `Unsupported` if the device has fewer."""
    runs: list[StreamRun[Any]] = []
    for capture, count in ((False, outputs), (True, inputs)):
        ids = [stream.id for stream in guest.streams if stream.capture == capture]
        if len(ids) < count:
            raise Unsupported(f"it has {len(ids)} of {count} {'inputs' if capture else 'outputs'}")
        about: dict[str, Any] = {"period_frames": shape.period_frames, "periods": shape.periods, "stall": STALL_S}
        for stream in ids[:count]:
            if capture:
                runs.append(guest.start_record(frames=_LONG_FRAMES, stream=stream, **about))
            else:
                sound = numbered(RATE)
                runs.append(guest.start_play(sound, total_frames=_LONG_FRAMES, stream=stream, **about))
    return runs


def watch(runs: Runs, seconds: float) -> None:
    """Return after `seconds` in which every stream went on. Raises `Failed` where one has stood still for `STALL_S`."""
    now = time.monotonic()
    end = now + seconds
    seen = [(run.messages_done, now) for run in runs]
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_S))
        now = time.monotonic()
        for i, run in enumerate(runs):
            count, since = seen[i]
            if run.messages_done > count:
                seen[i] = (run.messages_done, now)
            elif now - since >= STALL_S:
                raise Failed(f"no message came back for {STALL_S:g} s")


def _counters(guest: VirtualGuest) -> tuple[int, int]:
    queues = guest.queue(2), guest.queue(3)
    return sum(queue.kicks for queue in queues), sum(queue.signals for queue in queues)


def measure(context: Context, *, shape: Shape, outputs: int, inputs: int) -> Figures:
    """So many streams of one shape, looked at after they have settled."""
    with context.daemon() as daemon, daemon.guest() as guest:
        runs = start(guest, shape, outputs=outputs, inputs=inputs)
        watch(runs, SETTLE_S)
        if context.counting:
            return _count(daemon, runs, context.seconds)
        before, counters = probe.snapshot(daemon.pids), _counters(guest)
        watch(runs, context.seconds)
        after, counters_after = probe.snapshot(daemon.pids), _counters(guest)
        memory = probe.memory(daemon.pids)
        quantum = _quantum(context, capture=not outputs) if context.scenario.engine in IN_SESSION else {}
        reports = [run.stop() for run in runs]
    spent = after.since(before)
    figures = Figures()
    periods = _completions(figures, reports, (before.time_ns, after.time_ns))
    figures.values |= _costs(spent, periods, RATE / shape.period_frames * len(runs))
    figures.values["kicks_per_period"] = (counters_after[0] - counters[0]) / periods
    figures.values["signals_per_period"] = (counters_after[1] - counters[1]) / periods
    figures.values |= probe.megabytes(memory) | quantum
    due = spent.time_ns / 1e9 * RATE / shape.period_frames * len(runs)
    if not 0.8 < periods / due < 1.25:
        figures.notes.append(f"it does not keep time: {periods} periods where {due:.0f} were due")
    return figures


def _count(daemon: Daemon, runs: Runs, seconds: float) -> Figures:
    before = sum(run.messages_done for run in runs)
    counted = probe.syscalls(daemon.pids, seconds)
    periods = sum(run.messages_done for run in runs) - before
    if counted is None:
        raise Failed("neither perf nor strace can count system calls here")
    calls, tool = counted
    return Figures({"syscalls_per_period": calls / max(1, periods)}, notes=[f"system calls by {tool}"])


def _costs(spent: probe.Snapshot, periods: int, periods_per_s: float) -> dict[str, float]:
    """A second is one of sound, which is not one of the clock if the daemon does not keep time."""
    return {
        "cpu_ms_per_s": spent.cpu_ns / 1e6 / (periods / periods_per_s),
        "cpu_ns_per_buffer": spent.cpu_ns / periods,
        "switches_per_period": (spent.voluntary + spent.involuntary) / periods,
        "voluntary_per_period": spent.voluntary / periods,
        "involuntary_per_period": spent.involuntary / periods,
        "threads": spent.threads,
    }


def _completions(figures: Figures, reports: Sequence[StreamReport], window: tuple[int, int]) -> int:
    """How evenly messages came back within `window`, over all streams; each stream by its own clock. How many there were."""
    paces, latencies, periods = [], [], 0
    for report in reports:
        if report.aborted:
            raise Failed(f"stream {report.stream} was cut off: {report.aborted}")
        seen = [m for m in report.done if window[0] <= m.done_ns < window[1]]
        seen.sort(key=lambda m: m.done_ns)
        periods += len(seen)
        try:
            frames = [m.bytes // report.frame_bytes for m in seen]
            paces.append(Pace.of([m.done_ns for m in seen], frames, report.rate))
        except ValueError as error:
            raise Failed(str(error)) from error
        latencies += [m.latency_bytes * 1000 / report.frame_bytes / report.rate for m in seen]
        failed = sum(m.status != Status.OK for m in seen)
        if failed:
            figures.notes.append(f"{failed} of {len(seen)} messages of stream {report.stream} came back with an error")
    intervals = list(chain.from_iterable(pace.intervals_us for pace in paces))
    jitter = list(chain.from_iterable(pace.jitter_us for pace in paces))
    for name, values in (("interval", intervals), ("jitter", jitter)):
        spread = Spread.of(values)
        for key, value in zip(("p50", "p99", "p999", "max"), spread, strict=True):
            figures.values[f"{name}_{key}_us"] = value
    figures.values |= {
        "pacing_ppm": max((pace.error_ppm for pace in paces), key=abs),
        "latency_told_ms": percentile(latencies, 50),
        "latency_jump_ms": percentile(latencies, 99) - percentile(latencies, 1),
        "xruns": sum(report.xruns for report in reports),
    }
    figures.series |= {"interval_us": intervals, "jitter_us": jitter, "latency_told_ms": latencies}
    return periods


def _quantum(context: Context, *, capture: bool) -> dict[str, float]:
    """Frames of PipeWire's cycle, by which its clients wake up. Costs CPU time, so not while something is measured."""
    session = context.sessions.pipewire()
    frames = session.quantum(session.MICROPHONE if capture else session.SINK)
    return {} if frames is None else {"quantum_frames": frames}


def asked_frames(shape: Shape, latency: str) -> int:
    """What our daemon asks PipeWire for (`node.latency`) at a choice of `backends.latency`."""
    params = PcmParams(
        direction=Direction.OUTPUT,
        format="S16",
        rate=RATE,
        channels=2,
        frame_bytes=_FRAME_BYTES,
        period_bytes=shape.period_frames * _FRAME_BYTES,
        buffer_bytes=shape.period_frames * shape.periods * _FRAME_BYTES,
    )
    return wakeup_frames(latency, params)


def floor(context: Context, *, shape: Shape, outputs: int, inputs: int, latency: str) -> Figures:
    """The same streams by pw-cat, one each, that ask for what our daemon asks for: what the engine itself costs clients."""
    session = context.sessions.pipewire()
    with ExitStack() as stack:
        nothing = stack.enter_context(open("/dev/zero", "rb"))
        away = stack.enter_context(open("/dev/null", "wb"))
        cats = []
        for capture in (False,) * outputs + (True,) * inputs:
            target = session.MICROPHONE if capture else session.SINK
            command = _pw_cat(target, capture=capture, latency=asked_frames(shape, latency))
            cat = subprocess.Popen(
                command, stdin=nothing, stdout=away, stderr=subprocess.DEVNULL, env=session.environment
            )
            stack.callback(cat.wait)
            stack.callback(cat.kill)
            cats.append(cat)
        pids = [cat.pid for cat in cats]
        time.sleep(2 * SETTLE_S)
        before = probe.snapshot(pids)
        time.sleep(context.seconds)
        after = probe.snapshot(pids)
        memory = probe.memory(pids)
        quantum = _quantum(context, capture=not outputs)
        for cat in cats:
            if cat.poll() is not None:
                raise Failed(f"pw-cat ended with status {cat.returncode}")
    spent = after.since(before)
    if not spent.voluntary:
        raise Failed("pw-cat did not play")
    periods_per_s = RATE / shape.period_frames * len(pids)
    periods = round(spent.time_ns / 1e9 * periods_per_s)
    return Figures(_costs(spent, periods, periods_per_s) | probe.megabytes(memory) | quantum)


def _pw_cat(target: str, *, capture: bool, latency: int) -> list[str]:
    from vsnd_hybrid.tools.session.pipewire import real_time

    # A daemon's callback runs on a real-time thread, pw-cat's on its only one.
    command = [*real_time(), "pw-cat", "--record" if capture else "--playback", "--raw", "--target", target]
    command += ["--latency", str(latency), "--format", "s16", "--rate", str(RATE), "--channels", "2", "-"]
    return command


def _scenario(engine: str, shape: Shape, way: str, count: int = 1, *, quick: bool = False) -> Scenario:
    """So many streams each way."""
    outputs, inputs = count * (way != "in"), count * (way != "out")
    latency = PIPEWIRE.get(engine)
    server, _, choice = engine.partition("-")
    streams = f"{count} stream{'s' if count > 1 else ''}{' each' if way == 'both' else ''}"
    return Scenario(
        name="-".join(filter(None, [server, str(shape), choice, way, str(count) if count > 1 else ""])),
        group=f"paced-{server}",
        title=f"{_WAYS[way]} at {shape}, {streams}, {server}" + (f", ours at latency={choice}" if choice else ""),
        engine=engine,
        figure="cpu_ms_per_s",
        measure=partial(measure, shape=shape, outputs=outputs, inputs=inputs),
        outputs=max(1, outputs),
        inputs=max(1, inputs),
        quick=quick,
        on_request=count > 1 and shape != SHAPES[0],
        floor=partial(floor, shape=shape, outputs=outputs, inputs=inputs, latency=latency) if latency else None,
        parameters={
            "period_frames": shape.period_frames,
            "periods": shape.periods,
            "outputs": outputs,
            "inputs": inputs,
        },
    )


SHAPES = (Shape(480, 4), Shape(480, 2), Shape(1024, 2), Shape(128, 4))
_WAYS = {"out": "playback", "in": "capture", "both": "playback and capture"}
#: Of each direction at once.
_STREAMS = (1, 4, 8)


def scenarios() -> list[Scenario]:
    """Every shape, way and number of streams; PipeWire at `low`; a daemon whose Python is busy."""
    found = []
    for engine in ("null", "pipewire"):
        once = (SHAPES[0],) if engine == "null" else (SHAPES[0], SHAPES[2])
        for count, shape, way in product(_STREAMS, SHAPES, _WAYS):
            quick = count == 1 and way == "out" and shape in once
            found.append(_scenario(engine, shape, way, count, quick=quick))
    # The quantum of the budgets: 480 is rounded down to 256 frames, of which `balanced` makes 512.
    found += [_scenario("pipewire-low", SHAPES[0], way) for way in ("out", "in")]
    found += [
        Scenario(
            name=f"isolation-128x4-{engine}",
            group="isolation",
            title=f"playback at 128x4, pipewire, {what} inside the daemon",
            engine=engine,
            figure="xruns",
            measure=partial(measure, shape=Shape(128, 4), outputs=1, inputs=0),
        )
        for engine, what in (("busy", "a busy Python thread"), ("collecting", "a heap that Python collects"))
    ]
    return found
