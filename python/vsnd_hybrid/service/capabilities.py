"""What ``--print-capabilities`` prints: the object of QEMU's ``docs/interop/vhost-user.json``.

QEMU's list of device types has no "sound" yet; this is the name that it would have.
"""

from __future__ import annotations

import json


def as_json() -> str:
    """The capabilities, for the standard output."""
    return json.dumps({"type": "sound"}, indent=2)
