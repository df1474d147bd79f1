"""A guest whose sound device uses the backend that a test made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from vsnd_hybrid.backends.base import Backend, Direction
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.vhost import running

from tests.sessions.pipewire import PipeWireSession

GuestFactory = Callable[..., VirtualGuest]

OUTPUT, INPUT = Direction.OUTPUT, Direction.INPUT


@pytest.fixture
def session(pipewire: PipeWireSession, monkeypatch: pytest.MonkeyPatch) -> PipeWireSession:
    """The session, for the engine in this process."""
    for name in ("XDG_RUNTIME_DIR", "PIPEWIRE_RUNTIME_DIR"):
        monkeypatch.setenv(name, pipewire.environment[name])
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    return pipewire


@pytest.fixture
def guest_on(run_dir: Path) -> Iterator[GuestFactory]:
    """``guest_on(backend)``: a guest with one output and one input on it; ``directions=``, ``target=``, ``latency=``."""
    with ExitStack() as stack:

        def start(
            backend: Backend,
            directions: tuple[Direction, ...] = (OUTPUT, INPUT),
            target: str = "",
            latency: str = "",
        ) -> VirtualGuest:
            streams = tuple(
                StreamConfig(
                    direction=d,
                    backend=backend,
                    target=target,
                    latency=latency,
                    name=f"vsnd-{d.name.lower()}",
                    # All that the engine has, not only what is usual.
                    rates=tuple(sorted(backend.capabilities(d).rates)),
                    channels=(backend.capabilities(d).channels_min, backend.capabilities(d).channels_max),
                )
                for d in directions
            )
            device = SoundDevice(DeviceConfig(streams=streams))
            stack.enter_context(running(device, run_dir / "snd.sock"))
            return stack.enter_context(VirtualGuest(run_dir / "snd.sock"))

        yield start
