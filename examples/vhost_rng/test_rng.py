"""The example, driven by the virtual driver; `tests/guests` has it read by Linux."""

from __future__ import annotations

from pathlib import Path

from vsnd_hybrid._core import SoundDriver
from vsnd_hybrid.vhost import running

from examples.vhost_rng.rng import Rng


class FourQueues(Rng):
    """The virtual driver starts as many queues as sound has."""

    queues = 4


def test_a_buffer_comes_back_full_of_the_sources_numbers(tmp_path: Path) -> None:
    with running(FourQueues(lambda count: bytes(range(count))), tmp_path / "rng") as rng:
        driver = SoundDriver(str(tmp_path / "rng"), events=False)
        queue, buffer = driver.queue(0), driver.alloc(64)
        queue.push([(buffer, 30, True), (buffer + 40, 20, True)])
        queue.publish()
        assert queue.wait()
        assert [length for _, length, _ in queue.reap()] == [50]
        assert driver.read(buffer, 30) + driver.read(buffer + 40, 20) == bytes(range(50))
        assert rng.served_bytes == 50
        driver.close()


def test_no_two_answers_of_the_operating_systems_numbers_are_alike(tmp_path: Path) -> None:
    with running(FourQueues(), tmp_path / "rng"):
        driver = SoundDriver(str(tmp_path / "rng"), events=False)
        queue, buffer = driver.queue(0), driver.alloc(64)
        answers = set()
        for _ in range(10):
            queue.push([(buffer, 64, True)])
            queue.publish()
            assert queue.wait()
            queue.reap()
            answers.add(bytes(driver.read(buffer, 64)))
        assert len(answers) == 10
        driver.close()
