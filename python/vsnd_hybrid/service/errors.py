"""What ends a daemon before it serves: one line for the user, no traceback."""

from __future__ import annotations


class ServiceError(Exception):
    """The daemon cannot start. The message is one line: what was wrong, what was expected, what to do."""


class ConfigError(ServiceError):
    """The configuration makes no sense. For a file: ``FILE:LINE: what is wrong; what is allowed``."""
