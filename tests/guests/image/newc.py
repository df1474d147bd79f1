"""Write cpio archives of the "newc" kind, which Linux unpacks as its first root file system.

Only writing, and only what an initramfs needs: directories, regular files, symbolic links and device nodes.
Run as a script it packs a directory: ``newc.py ROOT ARCHIVE``.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: Archives may be joined; the kernel wants each to begin at such a boundary.
ALIGNMENT = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive. `mode` is a whole st_mode; a link's `data` is its target."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


#: What init needs before devtmpfs is mounted.
DEVICES = (
    Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
    Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)),
    Entry("dev/kmsg", stat.S_IFCHR | 0o600, device=(1, 11)),
)


def file(path: str, data: bytes, *, executable: bool = False) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), data)


def archive(entries: Iterable[Entry]) -> bytes:
    """An archive of `entries`, padded to `ALIGNMENT`. Missing parent directories are put in."""
    out = bytearray()
    directories: set[str] = set()
    inode = 0
    for entry in entries:
        for name in (*_parents(entry.path), entry.path):
            is_parent = name != entry.path
            if is_parent or stat.S_ISDIR(entry.mode):
                if name in directories:
                    continue
                directories.add(name)
            inode += 1
            out += _record(Entry(name, stat.S_IFDIR | 0o755) if is_parent else entry, inode)
    out += _record(Entry("TRAILER!!!", 0), 0)
    out += bytes(-len(out) % ALIGNMENT)
    return bytes(out)


def tree(root: Path) -> Iterator[Entry]:
    """Everything under a directory, in a reproducible order."""
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            data = os.fsencode(os.readlink(path))
        else:
            data = path.read_bytes() if stat.S_ISREG(mode) else b""
        yield Entry(str(path.relative_to(root)), mode, data)


def _parents(path: str) -> Iterator[str]:
    for end, character in enumerate(path):
        if character == "/":
            yield path[:end]


def _record(entry: Entry, inode: int) -> bytes:
    name = entry.path.encode() + b"\0"
    fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + entry.data + bytes(-len(entry.data) % 4)


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(archive([*tree(Path(sys.argv[1])), *DEVICES]))
