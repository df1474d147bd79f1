"""Linux on an engine whose quantum its buffer does not bear, and what it thinks of when it is heard."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from itertools import pairwise

import pytest

from tests.guests.audio import numbered, wav
from tests.guests.engines import Engine, PipeWireEngine
from tests.guests.linux import LinuxGuest
from tests.sessions.pipewire import PipeWireSession

FRAMES = 72_000
SIGNAL = numbered(FRAMES)
QUANTUM = 1024


@pytest.fixture(scope="module")
def engine(pipewire: PipeWireSession) -> Iterator[Engine]:
    """PipeWire with a quantum that nobody can make smaller."""
    with pipewire.fixed_quantum(QUANTUM):
        yield PipeWireEngine(pipewire)


@pytest.fixture(scope="module")
def guest_files() -> Mapping[str, bytes]:
    return {"signal.raw": SIGNAL, "signal.wav": wav(SIGNAL)}


@pytest.mark.parametrize(("period", "periods"), [(480, 2), (480, 3), (480, 4), (256, 3)])
def test_aplay_is_heard_whole_and_gets_no_error(guest: LinuxGuest, engine: Engine, period: int, periods: int) -> None:
    told: list[str] = []

    def play() -> None:
        told.append(
            guest.run(f"aplay -D hw:0,0 --period-size={period} --buffer-size={period * periods} signal.wav").err
        )

    heard = engine.hear(play, FRAMES)
    assert heard.holds(FRAMES), heard
    # Without reading ahead each quantum would end in a gap; a busy machine makes some, which Linux is told of.
    assert len(heard.silences) <= told[-1].count("underrun") + FRAMES // QUANTUM // 4, (heard, told)


@pytest.mark.parametrize(("period", "periods", "quantum"), [(480, 2, QUANTUM), (480, 2, 0), (480, 4, 0), (960, 4, 0)])
def test_the_delay_that_an_application_sees_does_not_jump(
    guest: LinuxGuest, pipewire: PipeWireSession, period: int, periods: int, quantum: int
) -> None:
    """`snd_pcm_delay` after each write: what is queued and the latency that the device told."""
    with pipewire.fixed_quantum(quantum):
        done = guest.run(f"rawpcm p signal.raw -p {period} -n {periods} -L")
    delays = [int(line.split()[2]) for line in done.text.splitlines()[periods * 4 :]]
    assert len(delays) > 20
    steps = [abs(after - before) for before, after in pairwise(delays)]
    # On a busy machine some writes are late, but not half of them.
    assert statistics.median(steps) <= period
