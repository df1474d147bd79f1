"""Control threads: an engine's calls, one at a time, and what becomes of those nobody waits for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.device.control import Controls, ControlThread, DirectControl

from tests.unit.fakes import FakeBackend


@pytest.fixture
def control() -> Iterator[ControlThread]:
    made = ControlThread("test")
    yield made
    made.close()
    assert made.join(10)


class Mailbox:
    """Results that wait for somebody to take them."""

    def __init__(self) -> None:
        self._arrived = threading.Semaphore(0)
        self._calls: list[Callable[[], Any]] = []
        self.results: list[tuple[Any, Exception | None]] = []

    def post(self, call: Callable[[], Any]) -> None:
        self._calls.append(call)
        self._arrived.release()

    def done(self, result: Any, error: Exception | None) -> None:
        self.results.append((result, error))

    def take(self) -> None:
        self._arrived.acquire()
        self._calls.pop(0)()


def test_a_call_is_made_on_the_control_thread_and_its_result_handed_over(control: ControlThread) -> None:
    mailbox = Mailbox()
    control.job(threading.get_ident, mailbox.done, mailbox.post).begin()
    mailbox.take()
    ((thread, error),) = mailbox.results
    assert thread != threading.get_ident()
    assert error is None


def test_what_a_call_raises_is_its_result(control: ControlThread) -> None:
    def refuse() -> None:
        raise BackendError("no")

    mailbox = Mailbox()
    control.job(refuse, mailbox.done, mailbox.post).begin()
    mailbox.take()
    assert str(mailbox.results[0][1]) == "no"
    with pytest.raises(BackendError, match="no"):
        control.ask(refuse, 10)


def test_an_abandoned_call_that_runs_is_undone_when_it_ends(control: ControlThread) -> None:
    mailbox, undone = Mailbox(), Mailbox()
    running, go_on = threading.Event(), threading.Event()

    def call() -> str:
        running.set()
        go_on.wait()
        return "opened"

    job = control.job(
        call, mailbox.done, mailbox.post, undo=lambda result: undone.post(lambda: undone.done(result, None))
    )
    job.begin()
    running.wait()
    assert job.abandon()
    go_on.set()
    undone.take()
    assert undone.results == [("opened", None)]
    assert mailbox.results == []


def test_an_abandoned_call_that_waits_is_not_made(control: ControlThread) -> None:
    mailbox, undone = Mailbox(), Mailbox()
    go_on = threading.Event()
    control.tell(go_on.wait)
    made: list[str] = []
    job = control.job(
        lambda: made.append("call"),
        mailbox.done,
        mailbox.post,
        undo=lambda result: undone.post(lambda: undone.done(result, None)),
    )
    job.begin()
    job.abandon()
    go_on.set()
    undone.take()
    assert undone.results == [(None, None)]
    assert made == []


def test_a_call_that_has_ended_cannot_be_abandoned(control: ControlThread) -> None:
    mailbox = Mailbox()
    job = control.job(lambda: "result", mailbox.done, mailbox.post)
    job.begin()
    control.ask(lambda: None, 10)
    assert not job.abandon()
    mailbox.take()
    assert mailbox.results == [("result", None)]


def test_a_call_that_nobody_waits_for_may_fail(control: ControlThread, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise BackendError("gone")

    with caplog.at_level(logging.INFO):
        control.tell(fail)
        assert control.ask(lambda: "still here", 10) == "still here"
    assert [record.getMessage() for record in caplog.records] == ["an engine call failed: BackendError: gone"]


def test_asking_an_engine_that_hangs_is_a_timeout(control: ControlThread) -> None:
    go_on = threading.Event()
    with pytest.raises(TimeoutError):
        control.ask(go_on.wait, 0)
    go_on.set()


def test_a_backend_has_one_thread_and_is_closed_on_it_after_all_else() -> None:
    calls: list[str] = []
    controls = Controls()
    backend = FakeBackend(calls)
    assert controls.of(backend) is controls.of(backend)
    controls.of(backend).tell(lambda: calls.append(threading.current_thread().name))
    controls.close(10)
    assert calls == ["vsnd-fake", "backend.close"]


def test_a_backend_that_never_waits_is_called_at_once_and_has_no_thread() -> None:
    class Quick(FakeBackend):
        blocks = False

    calls: list[str] = []
    controls = Controls()
    control = controls.of(Quick(calls))
    results: list[tuple[Any, Exception | None]] = []
    control.job(threading.get_ident, lambda *result: results.append(result), lambda call: call()).begin()
    assert results == [(threading.get_ident(), None)]
    controls.close(10)
    assert calls == ["backend.close"]


def test_what_a_backend_that_never_waits_raises_is_a_result_or_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise BackendError("no")

    control = DirectControl()
    results: list[tuple[Any, Exception | None]] = []
    control.job(refuse, lambda *result: results.append(result), lambda call: call()).begin()
    assert str(results[0][1]) == "no"
    control.tell(refuse)
    assert [record.getMessage() for record in caplog.records] == ["an engine call failed: BackendError: no"]
    with pytest.raises(BackendError, match="no"):
        control.ask(refuse, 0)


def test_a_backend_that_hangs_does_not_keep_the_daemon_from_ending(caplog: pytest.LogCaptureFixture) -> None:
    controls = Controls()
    go_on = threading.Event()
    controls.of(FakeBackend([])).tell(go_on.wait)
    controls.close(0)
    assert "does not answer" in caplog.text
    go_on.set()
