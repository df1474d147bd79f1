"""``vsnd-hybrid serve``: the daemons of many guests, forked from one process that has everything loaded.

The supervisor makes a socket for each guest and waits at it. When the first front end connects it forks: the child is that
guest's daemon (`daemon.serve`), with walls, user, engines and threads of its own. The socket stays the supervisor's too, so that
a guest whose process died is served again. The supervisor has one thread, talks to no guest and opens no engine.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib import import_module
from typing import Final, NoReturn

from vsnd_hybrid import _core
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.loop import Loop, Timer
from vsnd_hybrid.service import daemon
from vsnd_hybrid.service.address import activated, bind
from vsnd_hybrid.service.config import Settings
from vsnd_hybrid.service.control import ControlSocket
from vsnd_hybrid.service.errors import ConfigError, ServiceError
from vsnd_hybrid.service.named import CONTROL, check_directory, check_name, settings_for
from vsnd_hybrid.service.notify import ServiceManager
from vsnd_hybrid.service.sandbox import needs_of
from vsnd_hybrid.service.stale import sweep
from vsnd_hybrid.service.users import find_user
from vsnd_hybrid.vhost import ending_on_signals

log = logging.getLogger("vsnd_hybrid.serve")

#: A guest whose process died is served again after this, then after twice as long, and so on: who can make it die shall not
#: keep the host busy, nor try many times.
RETRY_S: Final = 0.1
RETRY_MAX_S: Final = 30.0
#: A process that lived so long died for another reason than the one before it.
LIVED_S: Final = 60.0
#: So long a process that was told to end may take.
END_S: Final = 3.0

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


class Guest:
    """One guest: its socket, and its process while it has one."""

    def __init__(self, name: str, path: str, listener: _core.Listener) -> None:
        self.name = name
        self.path = path
        self.listener = listener
        self.pid: int | None = None
        self.pidfd = -1
        self.since = 0.0
        self.failures = 0
        self.timer: Timer | None = None
        #: What to call when its process has ended, if it was removed.
        self.removed: Callable[[], None] | None = None


class Supervisor:
    """The guests. For the loop's thread, which has to be the only one of the process.

    Parameters
    ----------
    settings
        Of every guest; ``{name}`` in them becomes the guest's name.
    directory
        Where the sockets are: ``NAME.sock``.
    """

    def __init__(self, settings: Settings, directory: str, loop: Loop) -> None:
        self._settings = settings
        self._directory = directory
        self._loop = loop
        self._pid = os.getpid()
        self.guests: dict[str, Guest] = {}
        self._leaving: set[Guest] = set()

    def add(self, name: str) -> str:
        """Serve one more guest; returns its socket's path, which accepts connections. Raises `ServiceError`."""
        if check_name(name) in self.guests:
            raise ServiceError(f"guest {name!r} is served already")
        path = os.path.join(self._directory, f"{name}.sock")
        guest = self.guests[name] = Guest(name, path, bind(path, self._settings))
        self._wait(guest)
        return path

    def remove(self, name: str, done: Callable[[], None]) -> None:
        """Take the socket away and end the process; then call `done`. Raises `ServiceError` if there is no such guest."""
        guest = self.guests.pop(name, None)
        if guest is None:
            raise ServiceError(f"there is no guest {name[:80]!r}; it has: {', '.join(self.guests) or 'none'}")
        self._leave(guest, done)

    def end(self) -> None:
        """Remove every guest. Returns when no process is left; one that hangs is killed."""
        for guest in list(self.guests.values()):
            self._leave(guest, lambda: None)
        self.guests.clear()
        until = self._loop.clock() + END_S
        while self._leaving:
            self._loop.run_once(max(0.0, until - self._loop.clock()))

    # ------------------------------------------------------------ inside

    def _wait(self, guest: Guest) -> None:
        """Fork as soon as a front end connects."""
        guest.timer = None
        self._loop.watch(guest.listener.fileno(), lambda: self._fork(guest))

    def _fork(self, guest: Guest) -> None:
        self._loop.unwatch(guest.listener.fileno())
        # A signal must not find the child with the handlers of the parent, which write to the parent's descriptors.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        pid = None
        try:
            pid = os.fork()
            if pid == 0:
                self._be(guest)
            guest.pidfd = os.pidfd_open(pid)
        except OSError as error:
            log.error("guest %s: no process for it: %s", guest.name, error.strerror)
            if pid is not None:  # it could not be watched
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            self._later(guest)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        guest.pid = pid
        guest.since = self._loop.clock()
        self._loop.watch(guest.pidfd, lambda: self._ended(guest))
        log.info("guest %s: process %d", guest.name, pid)

    def _be(self, guest: Guest) -> NoReturn:
        """The child: serve this guest, and know nothing of the others."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _ENDING:
                signal.signal(number, signal.SIG_DFL)
            listener = guest.listener.fileno()
            _close_others({0, 1, 2, listener})
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            _core.name_process(f"vsnd {guest.name}")
            daemon.serve(settings_for(guest.name, self._settings, listener), guest=guest.name, parent=self._pid)
            status = 0
        except ServiceError as error:
            log.error("%s", error)
        except BaseException as error:
            log.error("internal error: %s: %s", type(error).__name__, error)
            log.debug("its traceback", exc_info=True)
        finally:
            # Not sys.exit: what is to be cleaned up at exit is the parent's.
            os._exit(status)

    def _ended(self, guest: Guest) -> None:
        """Its process is gone."""
        assert guest.pid is not None
        self._loop.unwatch(guest.pidfd)
        os.close(guest.pidfd)
        status = os.waitstatus_to_exitcode(os.waitpid(guest.pid, 0)[1])
        guest.pid, guest.pidfd = None, -1
        if guest.removed is not None:
            self._left(guest)
            return
        if status == 0:
            guest.failures = 0
            log.info("guest %s: its process ended", guest.name)
            self._wait(guest)
            return
        if self._loop.clock() - guest.since >= LIVED_S:
            guest.failures = 0
        how = f"ended with status {status}" if status > 0 else f"was killed by {signal.Signals(-status).name}"
        log.warning("guest %s: its process %s; its socket is served again in %g s", guest.name, how, self._later(guest))

    def _later(self, guest: Guest) -> float:
        """Serve its socket again after a while; returns how many seconds."""
        delay_s = min(RETRY_S * (1 << min(guest.failures, 16)), RETRY_MAX_S)
        guest.failures += 1
        guest.timer = self._loop.call_later(delay_s, lambda: self._wait(guest))
        return delay_s

    def _leave(self, guest: Guest, done: Callable[[], None]) -> None:
        guest.removed = done
        self._leaving.add(guest)
        if guest.timer is not None:
            guest.timer.cancel()
        self._loop.unwatch(guest.listener.fileno())
        guest.listener.close()
        if guest.pid is None:
            self._left(guest)
            return
        signal.pidfd_send_signal(guest.pidfd, signal.SIGTERM)
        guest.timer = self._loop.call_later(END_S, lambda: self._kill(guest))

    def _kill(self, guest: Guest) -> None:
        if guest.pid is not None:
            log.warning("guest %s: its process does not end; it is killed", guest.name)
            signal.pidfd_send_signal(guest.pidfd, signal.SIGKILL)

    def _left(self, guest: Guest) -> None:
        if guest.timer is not None:
            guest.timer.cancel()
        self._leaving.discard(guest)
        if guest.removed is not None:
            guest.removed()


def serve(settings: Settings, directory: str, names: Iterable[str]) -> None:
    """Serve guests of these names, and those that are added, until SIGTERM or SIGINT. On the main thread, which is the only one.

    Raises
    ------
    ServiceError
        It cannot start; the message is one line.
    """
    daemon.log_to_stderr(settings.log_level or "warning")
    check_directory(directory)
    if settings.socket_path is not None or settings.fd is not None:
        raise ConfigError(
            "socket-path and fd are for one guest; serve makes the socket NAME.sock in --socket-dir for each"
        )
    if activated():
        raise ConfigError(
            "the service manager passed a socket; serve makes its own in --socket-dir: no .socket unit is needed"
        )
    _load(settings)
    loop = Loop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        manager = stack.enter_context(ServiceManager())
        # The children's manager is this process.
        os.environ.pop("NOTIFY_SOCKET", None)
        stack.enter_context(ending_on_signals(loop))
        supervisor = Supervisor(settings, directory, loop)
        stack.callback(supervisor.end)
        path = os.path.join(directory, f"{CONTROL}.sock")
        stack.enter_context(ControlSocket(bind(path, Settings()), supervisor, loop))
        # Ours alone from here on: there is one control socket in a directory.
        if sweep(directory, supervisor.guests):
            # Processes of a `serve` that was killed a moment ago are still ending.
            loop.call_later(END_S, lambda: sweep(directory, supervisor.guests))
        for name in names:
            supervisor.add(name)
        # What is there now is shared by all guests, as long as nobody writes to it: not even the collector.
        gc.collect()
        gc.freeze()
        manager.ready(f"Serving {len(supervisor.guests)} guests in {directory}")
        loop.run()
        manager.stopping()


def _load(settings: Settings) -> None:
    """Load what every guest needs, and find out what is wrong for all of them. Raises `ServiceError`."""
    try:
        for spec in settings.backends():
            for backend in registry.check(spec):
                backend.preload()
    except BackendError as error:
        raise ServiceError(str(error)) from error
    for module in needs_of(settings.backends()).modules:
        try:
            import_module(module)
        except (ImportError, OSError):
            log.debug("%s cannot be loaded: the guest's backend says what that means", module)
    if settings.user is not None and "{name}" not in settings.user:
        find_user(settings.user)


def _close_others(keep: set[int]) -> None:
    """Close every descriptor but these: the sockets of other guests are none of this one's business."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in keep:
            try:
                os.close(number)
            except OSError:  # the one that the directory was read by
                pass
