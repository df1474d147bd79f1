"""Users and groups of the host by their names or numbers, and becoming one of them."""

from __future__ import annotations

import os
import pwd
from typing import NamedTuple

from vsnd_hybrid import _core
from vsnd_hybrid.service.errors import ConfigError, ServiceError


class User(NamedTuple):
    """Who the daemon shall be."""

    uid: int
    gid: int
    name: str
    home: str


def find_user(text: str) -> User:
    """The user that ``NAME|UID[:GROUP]`` means; without GROUP in its own group. Raises `ConfigError`."""
    name, colon, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if _is_number(name) else pwd.getpwnam(name)
        user = User(entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir)
    except (KeyError, OverflowError):
        if not (_is_number(name) and group):
            known = "name one that exists" + (", or give UID:GROUP" if name.isdigit() else "")
            raise ConfigError(f"--user {text}: there is no user {name!r}; {known}") from None
        user = User(int(name), 0, name, "/")
    if colon:
        user = user._replace(gid=find_group(group, "--user"))
    if user.uid == 0 or user.gid == 0:
        raise ConfigError(f"--user {text}: this is root; name the user whose audio session it shall be")
    return user


def find_group(text: str, option: str = "--socket-group") -> int:
    """The number of the group ``NAME|GID``. Raises `ConfigError`."""
    import grp

    if _is_number(text):
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ConfigError(f"{option}: there is no group {text!r}; name one that exists, or its number") from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32 - 1


def become(user: User) -> None:
    """Be this user for good, in its environment. Nothing happens if we are. Raises `ServiceError`."""
    if (os.geteuid(), os.getegid()) == (user.uid, user.gid):
        return
    if os.geteuid() != 0:
        raise ServiceError(f"--user {user.name}: only root can become somebody else; start as root, or leave it out")
    try:
        _core.become_user(user.uid, user.gid)
    except OSError as error:
        raise ServiceError(
            f"--user {user.name}: {error.strerror or error}; start as root with its capabilities"
        ) from None
    os.environ.update(HOME=user.home, USER=user.name, LOGNAME=user.name)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = f"/run/user/{user.uid}"
    if not (runtime and os.access(runtime, os.X_OK)) and os.path.isdir(own):
        os.environ["XDG_RUNTIME_DIR"] = own
