"""Floods: messages as fast as the daemon gives them back, from the native load generator. What does a message cost?"""

from __future__ import annotations

from itertools import product

from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.tools.bench import probe
from vsnd_hybrid.tools.bench.context import STALL_S, Context
from vsnd_hybrid.tools.bench.daemon import Failed
from vsnd_hybrid.tools.bench.scenario import Figures, Scenario
from vsnd_hybrid.wire import RATE_CODES, PcmFormat

_FRAME_BYTES = 4
_PERIOD_FRAMES = 480
#: A buffer of many periods: what is given back at once is not limited by it.
_PERIODS = 64


def _flood(guest: VirtualGuest, *, depth: int, indirect: bool, seconds: float) -> dict[str, int]:
    stream = next((s for s in guest.streams if not s.capture), None)
    if stream is None:
        raise Failed("the device has no output stream")
    period_bytes = _PERIOD_FRAMES * _FRAME_BYTES
    return guest.driver.flood(
        stream.id,
        1 << 60,
        buffer_bytes=_PERIODS * period_bytes,
        period_bytes=period_bytes,
        features=0,
        channels=2,
        format=PcmFormat.S16,
        rate=RATE_CODES[48000],
        depth=depth,
        batch=max(1, depth // 2),
        indirect=indirect,
        limit=seconds,
        stall=STALL_S,
    )


def measure(context: Context, *, depth: int, indirect: bool, event_idx: bool) -> Figures:
    """A flood with `depth` messages in flight; the guest asks to be woken for half of them."""
    # Without indirect tables each message takes three descriptors: what does not fit 64, as QEMU's, has a larger queue.
    options = {"event_idx": event_idx, "indirect": indirect, "queue_size": 64 if indirect or 3 * depth <= 64 else 256}
    with context.daemon() as daemon, daemon.guest(**options) as guest:
        # What only happens once (allocations, page faults) does not count.
        _flood(guest, depth=depth, indirect=indirect, seconds=min(0.1, context.seconds))
        before = probe.snapshot(daemon.pids)
        report = _flood(guest, depth=depth, indirect=indirect, seconds=context.seconds)
        spent = probe.snapshot(daemon.pids).since(before)
        memory = probe.memory(daemon.pids)
    messages = report["messages"]
    if not messages:
        raise Failed("no message came back")
    figures = Figures(
        {
            "buffers_per_s": messages * 1e9 / report["elapsed_ns"],
            "cpu_ns_per_buffer": spent.cpu_ns / messages,
            "voluntary_per_buffer": spent.voluntary / messages,
            "involuntary_per_buffer": spent.involuntary / messages,
            "kicks_per_buffer": report["kicks"] / messages,
            "signals_per_buffer": report["signals"] / messages,
            "threads": spent.threads,
        }
    )
    figures.values |= probe.megabytes(memory)
    if report["failed"]:
        figures.notes.append(f"{report['failed']} of {messages} messages came back with an error")
    return figures


def _scenario(depth: int, *, indirect: bool, event_idx: bool, engine: str, quick: bool = False) -> Scenario:
    how = "indirect" if indirect else "direct"
    name = f"{'flood' if engine == 'unpaced' else 'flood-copied'}-{depth}-{how}" + ("" if event_idx else "-noidx")
    read = "given back unread" if engine == "unpaced" else "copied out by a native thread"
    index = "EVENT_IDX" if event_idx else "no EVENT_IDX"
    return Scenario(
        name=name,
        group="flood",
        title=f"flood, {depth} in flight, {how}, {index}, {read}",
        engine=engine,
        figure="cpu_ns_per_buffer",
        measure=lambda context: measure(context, depth=depth, indirect=indirect, event_idx=event_idx),
        quick=quick,
        parameters={"depth": depth, "indirect": int(indirect), "event_idx": int(event_idx)},
    )


def scenarios() -> list[Scenario]:
    """Every depth, direct and indirect, with and without EVENT_IDX."""
    found = []
    for event_idx, indirect, depth in product((True, False), (True, False), (1, 2, 16, 64)):
        quick = event_idx and indirect and depth in (1, 16)
        found.append(_scenario(depth, indirect=indirect, event_idx=event_idx, engine="unpaced", quick=quick))
    found += [_scenario(depth, indirect=True, event_idx=True, engine="copied") for depth in (1, 16, 64)]
    return found
