"""A vhost-user sound device for every virtual machine monitor: mechanism in Rust, policy and backends in Python.

Where to begin: `vsnd_hybrid.device` is the sound device, `vsnd_hybrid.backends.base` the interface of audio engines,
`vsnd_hybrid.vhost` serves any other vhost-user device written in Python, `vsnd_hybrid.guest` plays the guest's part.
Importing this package loads none of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    """`__version__` comes from the extension, whose manifest is the one place where it stands."""
    if name == "__version__":
        from vsnd_hybrid import _core

        return _core.__version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
