"""The fuzz target of the control request parser: ``python -m tests.hostile.fuzz_requests [libFuzzer options] [corpus]``.

It needs atheris, which `make fuzz` installs.
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Fuzz until told to stop."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports():
        check = importlib.import_module("tests.hostile.request_parser").check
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
