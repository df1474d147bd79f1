"""Every input that the fuzzer of the request parser kept is read as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.request_parser import check

CORPUS = sorted((Path(__file__).parent / "corpus" / "requests").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name[:12])
def test_an_input_of_the_corpus_is_read_as_the_specification_says(path: Path) -> None:
    check(path.read_bytes())


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) >= 10
