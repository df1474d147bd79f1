"""What is measured: the name, unit and meaning of every figure. `docs/benchmarks.md` says how each is taken."""

from __future__ import annotations

from typing import Final, NamedTuple


class Figure(NamedTuple):
    """A figure's name for people, its unit, digits behind the point, and whether a multiple of it means anything."""

    title: str
    unit: str
    digits: int = 2
    ratio: bool = True


FIGURES: Final[dict[str, Figure]] = {
    "buffers_per_s": Figure("buffers", "1/s", 0),
    "cpu_ns_per_buffer": Figure("CPU a buffer", "ns", 0),
    "cpu_ms_per_s": Figure("CPU a second of audio", "ms"),
    "cpu_ms_per_s_each": Figure("the same, each", "ms"),
    "switches_per_period": Figure("context switches a period", "", 2),
    "voluntary_per_period": Figure("voluntary (wake-ups) a period", "", 2),
    "involuntary_per_period": Figure("involuntary a period", "", 3, ratio=False),
    "syscalls_per_period": Figure("system calls a period", "", 2),
    "kicks_per_period": Figure("kicks a period", "", 3, ratio=False),
    "signals_per_period": Figure("signals a period", "", 3, ratio=False),
    "voluntary_per_buffer": Figure("voluntary (wake-ups) a buffer", "", 3),
    "involuntary_per_buffer": Figure("involuntary a buffer", "", 4, ratio=False),
    "kicks_per_buffer": Figure("kicks a buffer", "", 3, ratio=False),
    "signals_per_buffer": Figure("signals a buffer", "", 3, ratio=False),
    "interval_p50_us": Figure("completion interval p50", "µs", 0),
    "interval_p99_us": Figure("completion interval p99", "µs", 0),
    "interval_p999_us": Figure("completion interval p99.9", "µs", 0),
    "interval_max_us": Figure("completion interval max", "µs", 0),
    "jitter_p50_us": Figure("jitter p50", "µs", 0),
    "jitter_p99_us": Figure("jitter p99", "µs", 0),
    "jitter_p999_us": Figure("jitter p99.9", "µs", 0),
    "jitter_max_us": Figure("jitter max", "µs", 0),
    "pacing_ppm": Figure("pacing error", "ppm", 0, ratio=False),
    "latency_told_ms": Figure("latency told p50", "ms", ratio=False),
    "latency_jump_ms": Figure("latency told p99 - p1", "ms", ratio=False),
    "latency_error_ms": Figure("round trip against what is told", "ms", ratio=False),
    "latency_error_spread_ms": Figure("the same, p99 - p1", "ms", ratio=False),
    "latency_step_ms": Figure("told of 20 ms more in the sink", "ms", ratio=False),
    "xruns": Figure("xruns", "", 0, ratio=False),
    "frames_lost": Figure("frames lost", "", 0, ratio=False),
    "frames_lost_first": Figure("of these at the beginning", "", 0, ratio=False),
    "frames_repeated": Figure("frames repeated or out of order", "", 0, ratio=False),
    "gaps": Figure("gaps of silence", "", 0, ratio=False),
    "gap_frames": Figure("frames of silence in gaps", "", 0, ratio=False),
    "control_p50_us": Figure("request p50", "µs", 1),
    "control_p99_us": Figure("request p99", "µs", 1),
    "pcm_info_p50_us": Figure("PCM_INFO p50", "µs", 1),
    "pcm_info_p99_us": Figure("PCM_INFO p99", "µs", 1),
    "set_params_p50_us": Figure("SET_PARAMS p50", "µs", 1),
    "set_params_p99_us": Figure("SET_PARAMS p99", "µs", 1),
    "prepare_p50_us": Figure("PREPARE p50", "µs", 1),
    "prepare_p99_us": Figure("PREPARE p99", "µs", 1),
    "start_p50_us": Figure("START p50", "µs", 1),
    "start_p99_us": Figure("START p99", "µs", 1),
    "stop_p50_us": Figure("STOP p50", "µs", 1),
    "stop_p99_us": Figure("STOP p99", "µs", 1),
    "release_p50_us": Figure("RELEASE p50", "µs", 1),
    "release_p99_us": Figure("RELEASE p99", "µs", 1),
    "start_ms": Figure("command → socket accepts", "ms", 1),
    "first_answer_ms": Figure("command → first answer", "ms", 1),
    "start_cpu_ms": Figure("CPU to start", "ms", 1),
    "wakeups_per_s": Figure("wake-ups", "1/s", 1, ratio=False),
    "rss_mb": Figure("RSS", "MB", 1),
    "pss_mb": Figure("PSS", "MB", 1),
    "private_mb": Figure("private memory", "MB", 1),
    "quantum_frames": Figure("quantum", "frames", 0, ratio=False),
    "threads": Figure("threads", "", 0, ratio=False),
}

#: Series behind the histograms.
SERIES: Final[dict[str, Figure]] = {
    "interval_us": Figure("completion interval", "µs", 0),
    "jitter_us": Figure("jitter", "µs", 0),
    "latency_told_ms": Figure("latency told", "ms"),
    "latency_error_ms": Figure("latency error", "ms"),
    "control_us": Figure("request round trip", "µs", 1),
}


def text(key: str, value: float) -> str:
    """A value as people read it, with its unit."""
    figure = FIGURES[key]
    return f"{value:,.{figure.digits}f} {figure.unit}".rstrip()
