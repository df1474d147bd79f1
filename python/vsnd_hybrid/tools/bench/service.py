"""What a daemon does besides sound: start, answer requests, rest, and stand beside others of its kind."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

from vsnd_hybrid import wire
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.tools.bench import paced, probe
from vsnd_hybrid.tools.bench.context import Context
from vsnd_hybrid.tools.bench.daemon import Failed
from vsnd_hybrid.tools.bench.numbers import percentile
from vsnd_hybrid.tools.bench.scenario import Figures, Scenario, Shape
from vsnd_hybrid.wire import RATE_CODES, PcmFormat, Request, Status

_SHAPE = Shape(480, 4)


def _requests(guest: VirtualGuest) -> dict[str, tuple[bytes, int]]:
    """One of each request that a stream's life needs, in an order that the device must accept: data and bytes of the answer."""
    stream = next((s.id for s in guest.streams if not s.capture), 0)
    streams = guest.config.streams
    period = _SHAPE.period_frames * 4
    shape = (period * _SHAPE.periods, period, 0, 2, PcmFormat.S16, RATE_CODES[48000])

    def command(request: Request) -> tuple[bytes, int]:
        return wire.ItemHdr(request, stream).pack(), 4

    size = wire.PcmInfo.SIZE
    return {
        "pcm_info": (wire.QueryInfo(Request.PCM_INFO, 0, streams, size).pack(), 4 + streams * size),
        "set_params": (wire.PcmSetParams(Request.PCM_SET_PARAMS, stream, *shape).pack(), 4),
        "prepare": command(Request.PCM_PREPARE),
        "start": command(Request.PCM_START),
        "stop": command(Request.PCM_STOP),
        "release": command(Request.PCM_RELEASE),
    }


def control(context: Context) -> Figures:
    """Round trips of requests, from the offer to the completion: the guest's own wake-up is in it."""
    took: dict[str, list[float]] = {}
    with context.daemon() as daemon, daemon.guest() as guest:
        requests = _requests(guest)
        end = time.monotonic() + context.seconds
        rounds = 0
        # The first rounds are not warm.
        while time.monotonic() < end or rounds < 20:
            rounds += 1
            for name, (data, room) in requests.items():
                reply, _, ns = guest.driver.request(data, room)
                status = int.from_bytes(reply[:4], "little")
                if status != Status.OK:
                    raise Failed(f"{name} was answered with {status:#x}")
                if rounds > 10:
                    took.setdefault(name, []).append(ns / 1000)
    # START and STOP wait for the engine; the other ones are answered by the device alone.
    plain = [us for name in ("pcm_info", "set_params") for us in took[name]]
    values = {"control_p50_us": percentile(plain, 50), "control_p99_us": percentile(plain, 99)}
    for name, all_us in took.items():
        values[f"{name}_p50_us"] = percentile(all_us, 50)
        values[f"{name}_p99_us"] = percentile(all_us, 99)
    return Figures(values, {"control_us": plain})


def startup(context: Context) -> Figures:
    """From the command to the socket that accepts, and on to the first answer to a sound request."""
    with context.daemon() as daemon:
        begun = daemon.started_ns
        with daemon.connect() as sock:
            accepted = time.monotonic_ns()
            guest = VirtualGuest(sock.fileno(), kick_at_start=False)
        with guest:
            if not guest.streams:
                raise Failed("the device has no streams")
            answered = time.monotonic_ns()
            memory = probe.memory(daemon.pids)
            spent = probe.snapshot(daemon.pids)
    values = {
        "start_ms": (accepted - begun) / 1e6,
        "first_answer_ms": (answered - begun) / 1e6,
        "start_cpu_ms": spent.cpu_ns / 1e6,
        "threads": spent.threads,
    }
    return Figures(values | probe.megabytes(memory))


def idle(context: Context) -> Figures:
    """A guest that is connected and has no stream."""
    with context.daemon() as daemon, daemon.guest() as guest:
        if not guest.streams:
            raise Failed("the device has no streams")
        time.sleep(paced.SETTLE_S)
        before = probe.snapshot(daemon.pids)
        time.sleep(context.seconds)
        spent = probe.snapshot(daemon.pids).since(before)
    seconds = spent.time_ns / 1e9
    return Figures(
        {
            "wakeups_per_s": spent.voluntary / seconds,
            "cpu_ms_per_s": spent.cpu_ns / 1e6 / seconds,
            "threads": spent.threads,
        }
    )


def crowd(context: Context, *, daemons: int) -> Figures:
    """So many daemons at once, each with a guest that plays."""
    with ExitStack() as stack:
        begun = time.monotonic_ns()
        crowd = [stack.enter_context(context.daemon()) for _ in range(daemons)]
        # All are starting by now: the slowest of them is waited for.
        guests = [stack.enter_context(daemon.guest()) for daemon in crowd]
        started = time.monotonic_ns()
        runs = [run for guest in guests for run in paced.start(guest, _SHAPE, outputs=1, inputs=0)]
        paced.watch(runs, paced.SETTLE_S)
        pids = [pid for daemon in crowd for pid in daemon.pids]
        before = probe.snapshot(pids)
        paced.watch(runs, context.seconds)
        spent = probe.snapshot(pids).since(before)
        memory = probe.memory(pids)
        reports = [run.stop() for run in runs]
    seconds = spent.time_ns / 1e9
    values = {
        "start_ms": (started - begun) / 1e6,
        "cpu_ms_per_s": spent.cpu_ns / 1e6 / seconds,
        "cpu_ms_per_s_each": spent.cpu_ns / 1e6 / seconds / daemons,
        "threads": spent.threads / daemons,
        "xruns": sum(report.xruns for report in reports),
    }
    return Figures(values | {key: value / daemons for key, value in probe.megabytes(memory).items()})


def scenarios() -> list[Scenario]:
    found = [
        Scenario(
            name="control", group="service", title="round trip of a request, warm", engine="null",
            figure="control_p50_us", measure=control, quick=True,
        ),
        Scenario(
            name="startup", group="service", title="from the command to the first answer", engine="null",
            figure="start_ms", measure=startup, quick=True,
        ),
        Scenario(
            name="startup-pipewire", group="service", title="from the command to the first answer, PipeWire",
            engine="pipewire", figure="start_ms", measure=startup,
        ),
        Scenario(
            name="idle", group="service", title="a guest without a stream", engine="null", figure="wakeups_per_s",
            measure=idle, quick=True,
        ),
    ]  # fmt: skip
    found += [
        Scenario(
            name=f"daemons-{count}",
            group="daemons",
            title=f"{count} daemon{'s' if count > 1 else ''} at once, each plays at {_SHAPE}",
            engine="null",
            figure="pss_mb",
            measure=partial(crowd, daemons=count),
            patience_s=15 + 2 * count,
            parameters={"daemons": count},
        )
        for count in (1, 4, 16)
    ]
    return found
