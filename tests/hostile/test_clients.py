"""Clients that are no front ends keep out nobody who is one.

The latencies that are printed (`pytest -rP`) are those that `docs/fuzzing.md` tells of; none is asserted.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from vsnd_hybrid.guest import VirtualGuest

from tests.conftest import DaemonFactory
from tests.daemon import Daemon
from tests.hostile.test_any_guest import Usage
from tests.processes import await_until

GET_FEATURES = struct.pack("<III", 1, 1, 0)
#: What one says who is no front end; the seed is fixed.
NONSENSE = random.Random(5).randbytes(4096)
WORDS: dict[str, bytes] = {
    "nothing": b"",
    "a byte": GET_FEATURES[:1],
    "half a header": GET_FEATURES[:7],
    "half a body": struct.pack("<III", 2, 1, 8) + b"\1\2\3",
    "an impossible size": struct.pack("<III", 1, 1, 2**32 - 1),
    "random bytes": NONSENSE,
}


@pytest.fixture
def device(daemon: DaemonFactory) -> Daemon:
    return daemon("--backend", "null")


@pytest.fixture
def connect(device: Daemon) -> Iterator[Callable[[bytes], socket.socket]]:
    """Connect a client that says these words, and leave it connected."""
    with ExitStack() as stack:

        def client(words: bytes) -> socket.socket:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            # With a time limit it would not wait for a place in the queue.
            sock.connect(str(device.socket))
            sock.settimeout(60)
            # It may be dropped already.
            with suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(words)
            return sock

        yield client


def serve_a_front_end(device: Daemon, after: str) -> None:
    begin = time.perf_counter()
    with VirtualGuest(device.socket, connect_timeout=60, request_timeout=60) as guest:
        assert guest.streams
        print(f"after {after}: served within {1000 * (time.perf_counter() - begin):.1f} ms")


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_clients_that_stay_keep_nobody_out(
    device: Daemon, connect: Callable[[bytes], socket.socket], words: bytes, request: pytest.FixtureRequest
) -> None:
    for _ in range(200):
        connect(words)
    serve_a_front_end(device, f"200 that say {request.node.callspec.id} and stay")


def test_a_client_that_floods_and_never_reads_is_dropped(
    device: Daemon, connect: Callable[[bytes], socket.socket]
) -> None:
    flood = connect(b"")
    with suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(1000):
            flood.sendall(GET_FEATURES * 1000)
    serve_a_front_end(device, "a flood of a million requests")


def test_ten_thousand_connections_in_turn_leave_nothing_behind(device: Daemon) -> None:
    serve_a_front_end(device, "nobody")
    before = Usage(device.pid)
    words = [*WORDS.values(), GET_FEATURES]
    for turn in range(10_000):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(device.socket))
            with suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(words[turn % len(words)])
    serve_a_front_end(device, "10 000 connections in turn")

    def let_go() -> bool:
        after = Usage(device.pid)
        return after.descriptors <= before.descriptors + 2 and after.threads <= before.threads

    # The daemon lets go of the last front end after that has closed its end.
    await_until(let_go, 5, "descriptors and threads as before")
    after = Usage(device.pid)
    assert after.rss_kib <= before.rss_kib + (16 << 10)
    assert device.process.log_path.stat().st_size < 64 << 10
