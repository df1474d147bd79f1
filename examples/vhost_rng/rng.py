"""A whole virtio-rng device (virtio 1.3, 5.4) in Python: random numbers for a guest, over vhost-user."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from vsnd_hybrid._core import DescriptorChain
from vsnd_hybrid.vhost import Device, serve


class Rng(Device):
    """Fills whatever buffers the driver hands over.

    Parameters
    ----------
    source
        Gives so many random bytes; the operating system's by default.
    """

    device_id = 4

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self.source = source
        self.served_bytes = 0

    def chain(self, queue: int, chain: DescriptorChain) -> None:
        # A guest may ask for gigabytes; it has to ask again for what is beyond the first 64 KiB.
        written = chain.write(self.source(min(chain.writable, 1 << 16)))
        self.served_bytes += written
        chain.complete(written)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket-path", required=True, help="where the front end connects")
    serve(Rng(), parser.parse_args().socket_path)


if __name__ == "__main__":
    main()
