"""The life of a PCM stream as a table (virtio 1.3, 5.14.6.6.1)."""

from __future__ import annotations

from enum import Enum

from vsnd_hybrid.wire import Request


class State(Enum):
    """Where a stream is in its life."""

    NEW = "new"
    PARAMS_SET = "params set"
    PREPARED = "prepared"
    RUNNING = "running"
    STOPPED = "stopped"
    RELEASED = "released"


#: The state after a command; what is not here is refused. The two commented lines are more than the specification
#: allows: drivers that recover from an error send them.
LIFE: dict[tuple[State, Request], State] = {
    (State.NEW, Request.PCM_SET_PARAMS): State.PARAMS_SET,
    (State.PARAMS_SET, Request.PCM_SET_PARAMS): State.PARAMS_SET,
    (State.PARAMS_SET, Request.PCM_PREPARE): State.PREPARED,
    (State.PARAMS_SET, Request.PCM_RELEASE): State.RELEASED,  # after a PREPARE that failed
    (State.PREPARED, Request.PCM_SET_PARAMS): State.PARAMS_SET,
    (State.PREPARED, Request.PCM_PREPARE): State.PREPARED,
    (State.PREPARED, Request.PCM_START): State.RUNNING,
    (State.PREPARED, Request.PCM_RELEASE): State.RELEASED,
    (State.RUNNING, Request.PCM_STOP): State.STOPPED,
    (State.STOPPED, Request.PCM_START): State.RUNNING,
    (State.STOPPED, Request.PCM_PREPARE): State.PREPARED,  # as if RELEASE had been sent before
    (State.STOPPED, Request.PCM_RELEASE): State.RELEASED,
    (State.RELEASED, Request.PCM_SET_PARAMS): State.PARAMS_SET,
    (State.RELEASED, Request.PCM_PREPARE): State.PREPARED,
}
