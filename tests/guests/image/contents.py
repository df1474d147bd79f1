"""Pick what a small guest needs out of unpacked packages: a kernel image, modules, shared libraries.

    contents.py vmlinux VMLINUZ VMLINUX         the ELF kernel inside a bzImage (status 1 if it cannot be had)
    contents.py modules TREE DESTINATION NAME…  modules and what they depend on, with the order to load them in
    contents.py libraries PACKAGES ROOT         every shared library that the programs under ROOT need

Standard library only: it runs before there is a virtual environment.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_ELF = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


def vmlinux(bzimage: Path) -> bytes | None:
    """The uncompressed kernel, which QEMU starts directly (PVH); None if its compression cannot be undone here."""
    image = bzimage.read_bytes()
    # Linux boot protocol: 0x1f1 is the number of setup sectors, 0x248 the place and length of the payload.
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        kernel = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        kernel = gzip.decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd") and shutil.which("zstd"):
        # The last four bytes are the length, appended by the kernel's build.
        kernel = subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    else:
        return None
    return kernel if kernel.startswith(_ELF) else None


def modules(tree: Path, names: Iterable[str]) -> list[tuple[str, bytes]]:
    """Modules with all that they depend on, in the order to load them. What is built in is left out."""
    available = {}
    for path in tree.rglob("*.ko*"):
        available[path.name.split(".")[0].replace("-", "_")] = path
    order: list[tuple[str, bytes]] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        name = name.replace("-", "_")
        if name in seen or name not in available:
            return
        seen.add(name)
        path = available[name]
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        found = re.search(rb"\0depends=([^\0]*)\0", data)
        for dependency in found[1].decode().split(",") if found else ():
            visit(dependency)
        order.append((name, data))

    for name in names:
        visit(name)
    return order


def needed(path: Path) -> list[str]:
    """File names of the shared libraries and the interpreter that a 64-bit little-endian ELF file asks for."""
    data = path.read_bytes()
    if not data.startswith(_ELF):
        return []
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    # p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    headers = [struct.unpack_from("<IIQQQQQQ", data, table + i * size) for i in range(count)]

    def file_offset(address: int) -> int:
        for kind, _, offset, virtual, _, length, _, _ in headers:
            if kind == _PT_LOAD and virtual <= address < virtual + length:
                return int(address - virtual + offset)
        raise ValueError(f"{path}: address {address:#x} lies in no segment")

    names = []
    for kind, _, offset, _, _, length, _, _ in headers:
        if kind == _PT_INTERP:
            names.append(Path(data[offset : offset + length - 1].decode()).name)
        elif kind == _PT_DYNAMIC:
            entries = [struct.unpack_from("<QQ", data, offset + i) for i in range(0, length, 16)]
            strings = file_offset(next(value for tag, value in entries if tag == _DT_STRTAB))
            for tag, value in entries:
                if tag == _DT_NEEDED:
                    start = strings + value
                    names.append(data[start : data.index(b"\0", start)].decode())
    return names


def install_libraries(packages: Path, root: Path) -> None:
    """Copy into `root` every library that its programs need, out of unpacked packages."""
    todo = [path for folder in ("usr/bin", "usr/sbin") for path in (root / folder).iterdir()]
    while todo:
        program = todo.pop()
        if program.is_symlink():
            continue
        for name in needed(program):
            folder = "lib64" if name.startswith("ld-linux") else "lib/x86_64-linux-gnu"
            target = root / folder / name
            if target.exists():
                continue
            source = next(packages.rglob(name), None)
            if source is None:
                raise SystemExit(f"contents.py: {program.name} needs {name}, which is in no package")
            shutil.copy(source, target)
            todo.append(target)


def main(command: str, *arguments: str) -> int:
    paths = [Path(argument) for argument in arguments[:2]]
    if command == "vmlinux":
        kernel = vmlinux(paths[0])
        if kernel is None:
            return 1
        paths[1].write_bytes(kernel)
    elif command == "modules":
        paths[1].mkdir(parents=True)
        order = modules(paths[0], arguments[2:])
        for name, data in order:
            (paths[1] / f"{name}.ko").write_bytes(data)
        (paths[1] / "order").write_text("".join(f"{name}\n" for name, _ in order))
    elif command == "libraries":
        install_libraries(*paths)
    else:
        raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
