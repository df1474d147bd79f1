"""All scenarios, and how some of them are chosen by name, group or pattern."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from vsnd_hybrid.service.errors import ServiceError
from vsnd_hybrid.tools.bench import budgets, flood, latency, lost, paced, service
from vsnd_hybrid.tools.bench.scenario import Scenario

#: Names that stand for several scenarios, besides groups and patterns.
BUDGETS: Final = "budgets"


def catalogue() -> list[Scenario]:
    """Every scenario, in the order in which they run."""
    return [
        *flood.scenarios(),
        *paced.scenarios(),
        *lost.scenarios(),
        *latency.scenarios(),
        *service.scenarios(),
    ]


def select(wanted: Sequence[str], *, quick: bool) -> list[Scenario]:
    """Those of these names, groups or patterns (``flood-*``); without any, the usual or the quick ones. ServiceError."""
    every = catalogue()
    if not wanted:
        return [scenario for scenario in every if (scenario.quick if quick else not scenario.on_request)]
    chosen: set[str] = set()
    for word in wanted:
        if word == BUDGETS:
            chosen |= budgets.scenarios()
            continue
        found = {s.name for s in every if (word == s.group and not s.on_request) or fnmatchcase(s.name, word)}
        if not found:
            raise ServiceError(f"--scenario {word!r}: no scenario or group has this name (see --list)")
        chosen |= found
    return [scenario for scenario in every if scenario.name in chosen]
