"""``edgeagent doctor``: what works on this machine, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse

from edgeagent.cli.checks import CHECKS, Finding
from edgeagent.cli.output import print_json

__all__ = ["add_arguments", "run"]

_MARKS = {"ok": "ok  ", "info": "--  ", "warn": "warn", "fail": "FAIL"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # no arguments but --json


def run(args: argparse.Namespace) -> int:
    findings = [check() for check in CHECKS]
    ok = all(f.level != "fail" for f in findings)
    if args.json:
        print_json({"ok": ok, "checks": [_plain(f) for f in findings]})
        return 0 if ok else 1
    for f in findings:
        print(f"{_MARKS[f.level]}  {f.name:<14} {f.detail}")
        if f.fix and f.level != "ok":
            print(f"{'':<20} {f.fix}")
    print("everything needed is here" if ok else "something needed is missing: see FAIL above")
    return 0 if ok else 1


def _plain(f: Finding) -> dict[str, object]:
    return {"name": f.name, "ok": f.level == "ok", "level": f.level, "detail": f.detail, "fix": f.fix}
