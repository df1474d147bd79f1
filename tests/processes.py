"""Child processes of tests; the benchmark uses the same."""

from vsnd_hybrid.tools.session.processes import POLL_S, Process, await_until, threads

__all__ = ["POLL_S", "Process", "await_until", "threads"]
