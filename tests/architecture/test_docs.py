"""The documents point at files that exist, and name commands that make knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "sdk/**/*.md", "examples/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#)([^)#\s]+)[^)]*\)")
MAKE = re.compile(r"`make ([a-z][a-z-]*)")


def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    place = (ROOT / document).parent
    broken = [link for link in LINK.findall(_text(document)) if not (place / link).exists()]
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_make_targets_exist(document: str) -> None:
    makefiles = [ROOT / "Makefile", *Path(ROOT).glob("examples/*.mk")]
    rules = "\n".join(path.read_text(encoding="utf-8") for path in makefiles)
    targets = set(re.findall(r"^([a-z][a-z-]*):", rules, re.MULTILINE))
    assert set(MAKE.findall(_text(document))) - targets == set()
