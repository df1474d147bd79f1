"""The guest's kernel and root file system, built from Debian packages and cached in the checkout.

`build.sh` and the files beside it are the recipe; a changed recipe gives a new image. Run as a module it builds the
image and prints where it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[2]
CACHE = CHECKOUT / ".cache" / "guest"
RECIPE = (
    CHECKOUT / "scripts" / "apt-suite",
    *(HERE / name for name in ("build.sh", "contents.py", "init", "newc.py", "rawpcm.c")),
)


class ImageUnavailable(Exception):
    """This machine cannot build the image. One line: why."""


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU boots."""

    kernel: Path
    initramfs: Path
    manifest: str


def unsupported() -> str:
    """Why an image cannot be built on this kind of machine; empty if it can."""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if "\nID=debian\n" not in f"\n{release}\n":
        return "the Linux guest is built from Debian packages with apt-get: this is not Debian"
    if platform.machine() != "x86_64":
        return f"the Linux guest is built for x86_64 only: this is {platform.machine()}"
    return ""


def ensure_image(cache: Path = CACHE) -> Image:
    """The image of the present recipe; built (10 s, 110 MB from the mirror) unless it is there.

    Any number of processes may call this at once: one builds, the others wait for it. Raises `ImageUnavailable`.
    """
    folder = _folder(cache)
    if not folder.exists():
        if why := unsupported():
            raise ImageUnavailable(why)
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _build(cache, folder)
    kernel = folder / "vmlinux"
    return Image(
        kernel=kernel if kernel.exists() else folder / "vmlinuz",
        initramfs=folder / "base.cpio",
        manifest=(folder / "manifest.txt").read_text(),
    )


def is_built(cache: Path = CACHE) -> bool:
    """Whether `ensure_image` has nothing to do."""
    return _folder(cache).exists()


def _folder(cache: Path) -> Path:
    """Where the image of the present recipe belongs."""
    digest = hashlib.sha256()
    for path in RECIPE:
        digest.update(path.read_bytes())
    return cache / digest.hexdigest()[:16]


def _build(cache: Path, folder: Path) -> None:
    """Build into `folder`, which appears only when it is complete. Images of older recipes are removed."""
    for old in cache.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    partial = cache / "partial"
    partial.mkdir()
    log = cache / "build.log"
    with log.open("wb") as output:
        status = subprocess.call([HERE / "build.sh", partial], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if status:
        last = (log.read_text(errors="replace").strip().splitlines() or ["(nothing was written)"])[-1]
        raise ImageUnavailable(f"the guest image could not be built: {last} (all of it: {log})")
    partial.rename(folder)
