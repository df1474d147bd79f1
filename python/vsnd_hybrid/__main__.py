"""``python -m vsnd_hybrid``: the same as the command ``vsnd-hybrid``."""

from vsnd_hybrid.cli import main

main()
