"""What docs/gossip.md takes from the code: the table of states as a Mermaid diagram, and the tables of knobs.

``python -c "import pathlib, edgeagent.gossip.diagram as d; p = pathlib.Path('docs/gossip.md');
p.write_text(d.filled(p.read_text()))"`` writes them again.
"""

from __future__ import annotations

import re

from edgeagent.gossip.knobs import KNOB_NOTES
from edgeagent.gossip.presets import PRESETS
from edgeagent.gossip.states import TRANSITIONS

__all__ = ["filled", "knob_notes", "knob_values", "mermaid", "transitions"]


def mermaid() -> str:
    """The diagram's source, without the fence around it."""
    arrows = [f"    {one.before.value} --> {one.after.value}: {one.event.value}" for one in TRANSITIONS]
    head = ["stateDiagram-v2", "    [*] --> alive: verified identity record"]
    return "\n".join(
        [*head, *arrows, "    dead --> [*]: tombstone's age", "    left --> [*]: tombstone's age"]
    )


def transitions() -> str:
    """The same as a table, with the reasons."""
    rows = [
        f"| {one.before.value} | {one.event.value} | {one.after.value} | {one.why} |" for one in TRANSITIONS
    ]
    return "\n".join(["| before | event | after | because |", "|---|---|---|---|", *rows])


def knob_notes() -> str:
    """Each knob with its formula and its trade."""
    rows = [f"| `{name}` | {note.formula} | {note.trade} |" for name, note in KNOB_NOTES.items()]
    return "\n".join(["| knob | enters as | trade |", "|---|---|---|", *rows])


def knob_values() -> str:
    """Each knob's value in each preset."""
    head = ["| knob | " + " | ".join(PRESETS) + " |", "|---" * (1 + len(PRESETS)) + "|"]
    rows = []
    for name in KNOB_NOTES:
        values = [_text(getattr(knobs, name)) for knobs in PRESETS.values()]
        rows.append(f"| `{name}` | " + " | ".join(values) + " |")
    return "\n".join([*head, *rows])


def _text(value: float) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else f"{value:,.6g}"


def filled(document: str) -> str:
    """The document with what is generated between ``<!-- generated: NAME -->`` and ``<!-- end -->``. Raises KeyError
    for names that do not exist.
    """
    parts = {
        "states": f"```mermaid\n{mermaid()}\n```",
        "transitions": transitions(),
        "knobs": knob_notes(),
        "presets": knob_values(),
    }
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{parts[found[2]]}\n{found[3]}",
        document,
        flags=re.DOTALL,
    )
