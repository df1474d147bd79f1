"""`make guest` as its user sees it: on a terminal, a shell in the guest."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guests.image import Image

PROMPT = b"guest:/rig/work# "


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def await_text(self, text: bytes, timeout_s: float = 60) -> bytes:
        """Wait for `text`; returns all before it, and forgets that."""
        end = time.monotonic() + timeout_s
        while text not in self.seen:
            readable, _, _ = select.select([self._master], [], [], max(end - time.monotonic(), 0))
            assert readable, f"{text!r} did not come: {self.seen!r}"
            try:
                data = os.read(self._master, 4096)
            except OSError:  # the last program has closed the terminal
                data = b""
            assert data, f"the program ended before {text!r}: {self.seen!r}"
            self.seen += data
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(linux_image: Image, run_dir: Path) -> Iterator[Terminal]:
    """`python -m tests.guests.shell`, where there is no PipeWire session."""
    environment = os.environ | {"XDG_RUNTIME_DIR": str(run_dir)}
    environment.pop("PIPEWIRE_RUNTIME_DIR", None)
    terminal = Terminal([sys.executable, "-m", "tests.guests.shell", str(run_dir)], environment)
    yield terminal
    terminal.close()


def test_a_user_plays_records_and_leaves(terminal: Terminal, run_dir: Path) -> None:
    assert b"speaker-test" in terminal.await_text(PROMPT)
    terminal.type(b"arecord -q -f dat -d 1 take.wav && aplay -q take.wav && echo status=$?\r")
    terminal.await_text(b"status=0")
    terminal.await_text(PROMPT)
    terminal.type(b"\x04")
    terminal.await_text(b"out-0-take-001.wav")
    assert terminal.process.wait(20) == 0
    takes = list(run_dir.glob("out-0-take-*.wav"))
    assert len(takes) == 1
    assert takes[0].stat().st_size > 48_000 * 4


def test_interrupting_a_command_in_the_guest_ends_only_that(terminal: Terminal) -> None:
    terminal.await_text(PROMPT)
    # The shell echoes the line with its quotes: without them the text comes from the command.
    terminal.type(b"sh -c 'echo star\"\"ted; sleep 1000'\r")
    terminal.await_text(b"started")
    terminal.type(b"\x03")
    terminal.await_text(PROMPT)
    terminal.type(b"exit\r")
    assert terminal.process.wait(20) == 0


def test_without_a_terminal_it_says_so() -> None:
    command = [sys.executable, "-m", "tests.guests.shell"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert done.stderr == "error: this gives a shell, so it needs a terminal\n"
