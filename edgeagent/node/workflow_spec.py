"""Reading workflows (TOML or JSON): unknown keys are refused with the nearest valid name, values against ranges. Pure.

What is accepted has 1 to 64 steps without a cycle, each ``after`` steps that are there.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest, TooLarge, UnsupportedType, WorkflowRefused
from edgeagent.model.workflow import Trigger, Workflow, WorkflowSection, WorkflowStep
from edgeagent.node.workflow_when import Condition, parse_when

__all__ = [
    "RETRIES_MAX",
    "STEPS_MAX",
    "TEXT_BYTES_MAX",
    "TRIGGERS_MAX",
    "Condition",
    "check_workflow_name",
    "ordered",
    "parse_when",
    "parse_workflow",
]

TEXT_BYTES_MAX = 256 << 10
STEPS_MAX = 64
TRIGGERS_MAX = 8
RETRIES_MAX = 16
_DAY_MS = 86_400_000.0
_HUGE = 1e12
_NAME = re.compile(r"[a-z0-9-]{1,63}")
_LABEL = re.compile(r"[\x21-\x7e]{0,64}")  # node ids, data sources, needs
_LABELS_MAX = 32
_ARGS_MAX = 256
# Half the circumference of the Earth: a larger circle would be all of it.
_RADIUS_KM_MAX = 20_040.0
_EVERY_S = (1.0, 366 * 86_400.0)
_UNTYPED = ("", "application/octet-stream", "text/plain")
# lowest and highest of the numbers of a step
_STEP_RANGES = {
    "latency_ms_max": (0.0, _DAY_MS),
    "bandwidth_mbit_s_min": (0.0, _HUGE),
    "data_latency_ms_max": (0.0, _DAY_MS),
    "data_mbit_s_min": (0.0, _HUGE),
    "timeout_ms": (0.0, _DAY_MS),
    "retries": (0, RETRIES_MAX),
}
_TABLES: dict[str, type[msgspec.Struct]] = {
    "workflow": WorkflowSection,
    "step": WorkflowStep,
    "trigger": Trigger,
}


def check_workflow_name(name: str, what: str = "workflow name") -> str:
    """Return ``name`` if it may be one (``[a-z0-9-]{1,63}``); raise WorkflowRefused if not."""
    if not _NAME.fullmatch(name):
        raise WorkflowRefused(f"{what} {name[:80]!r} is not allowed", hint="use 1 to 63 of a-z, 0-9 and -")
    return name


def parse_workflow(data: bytes, content_type: str | None, *, source: str = "workflow") -> Workflow:
    """Read and check a workflow; without a content type, what begins with ``{`` is JSON.

    Raises BadRequest for text that is neither, WorkflowRefused naming the key, the value and what would be right,
    UnsupportedType and TooLarge.
    """
    if len(data) > TEXT_BYTES_MAX:
        raise TooLarge(f"{source} is larger than {TEXT_BYTES_MAX} bytes")
    raw = _decoded(data, (content_type or "").split(";")[0].strip().lower(), source)
    _refuse_unknown(raw, source)
    try:
        workflow = msgspec.convert(raw, Workflow)
    except msgspec.ValidationError as error:
        raise WorkflowRefused(f"{source}: {error}") from None
    try:
        _check(workflow)
    except WorkflowRefused as error:
        raise WorkflowRefused(f"{source}: {error.message}", hint=error.hint, **error.details) from None
    return workflow


def ordered(workflow: Workflow) -> tuple[int, ...]:
    """The steps' indices, each behind those it is ``after``, else as they are written.

    Raises WorkflowRefused for a cycle, which it names.
    """
    at = {step.name: i for i, step in enumerate(workflow.step)}
    before = [{at[name] for name in step.after} for step in workflow.step]
    order: list[int] = []
    left = list(range(len(before)))
    while left:
        done = set(order)
        free = next((i for i in left if before[i] <= done), None)
        if free is None:
            names = [workflow.step[i].name for i in _cycle(before, left)]
            raise WorkflowRefused(
                f"the steps wait for each other: {' -> '.join(names)}",
                hint="take one 'after' out",
                cycle=names,
            )
        order.append(free)
        left.remove(free)
    return tuple(order)


def _cycle(before: Sequence[set[int]], left: Sequence[int]) -> list[int]:
    """A cycle among ``left``, each of which waits for another of them; its first is also its last."""
    path = [left[0]]
    while path[-1] not in path[:-1]:
        path.append(min(before[path[-1]] & set(left)))
    return path[path.index(path[-1]) :][::-1]  # in the direction of the data


def _decoded(data: bytes, kind: str, source: str) -> dict[str, Any]:
    if kind in _UNTYPED:
        kind = "json" if data.lstrip()[:1] == b"{" else "toml"
    if "json" in kind:
        try:
            raw = msgspec.json.decode(data)
        except UNDECODABLE as error:
            raise BadRequest(f"{source} is not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise BadRequest(f"{source} is not a JSON object")
        return raw
    if "toml" not in kind:
        raise UnsupportedType(
            f"{source} is application/toml or application/json, not {kind[:80]}",
            hint="send Content-Type: application/toml",
        )
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
        raise BadRequest(f"{source} is not TOML: {error}") from None


def _refuse_unknown(raw: dict[str, Any], source: str) -> None:
    for table, value in raw.items():
        if table not in _TABLES:
            raise _unknown(f"[{table}]", table, list(_TABLES), source)
        keys = [field.encode_name for field in msgspec.structs.fields(_TABLES[table])]
        for one in value if isinstance(value, list) else [value]:
            for key in one if isinstance(one, dict) else ():
                if key not in keys:
                    raise _unknown(f"{table}.{key}", key, keys, source)


def _unknown(what: str, key: str, valid: list[str], source: str) -> WorkflowRefused:
    return WorkflowRefused(f"{source}: unknown key {what[:200]}", hint=_nearest(key, valid))


def _nearest(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"valid names: {', '.join(valid)}"


# -- values ------------------------------------------------------------------------------------------------------------


def _check(workflow: Workflow) -> None:
    section = workflow.workflow
    check_workflow_name(section.name)
    check_workflow_name(section.slo_class, "workflow.slo_class")
    _in_range("workflow.deadline_ms", section.deadline_ms, 1, _DAY_MS)
    _in_range("workflow.budget_usd", section.budget_usd, 0, _HUGE)
    if not 1 <= len(workflow.step) <= STEPS_MAX:
        raise WorkflowRefused(f"a workflow has 1 to {STEPS_MAX} steps, not {len(workflow.step)}")
    for step in workflow.step:
        check_workflow_name(step.name, "step name")
    names = [step.name for step in workflow.step]
    for name in _repeated(names):
        raise WorkflowRefused(f"two steps are named {name!r}")
    for step in workflow.step:
        _check_step(step, names)
    ordered(workflow)
    if len(workflow.trigger) > TRIGGERS_MAX:
        raise WorkflowRefused(f"a workflow has at most {TRIGGERS_MAX} triggers, not {len(workflow.trigger)}")
    for i, trigger in enumerate(workflow.trigger):
        _check_trigger(trigger, f"trigger {i + 1}")


def _check_step(step: WorkflowStep, names: Sequence[str]) -> None:
    where = f"step {step.name!r}"
    check_workflow_name(step.function, f"{where}: function name")
    for name in step.after:
        if name not in names:
            raise WorkflowRefused(
                f"{where} is after {name[:80]!r}, which is no step", hint=_nearest(name, names)
            )
    for name in _repeated(step.after):
        raise WorkflowRefused(f"{where} is after {name!r} twice")
    for key, (low, high) in _STEP_RANGES.items():
        _in_range(f"{where}: {key}", getattr(step, key), low, high)
    if len(step.needs) > _LABELS_MAX or "" in step.needs:
        raise WorkflowRefused(f"{where}: needs has at most {_LABELS_MAX} labels, none empty")
    for label in (step.data_source, step.near, *step.needs):
        _check_label(label, where)
    args = step.args or ()
    if len(args) > _ARGS_MAX or any("\0" in arg for arg in args):
        raise WorkflowRefused(f"{where}: at most {_ARGS_MAX} args, none with NUL")
    try:
        parse_when(step.when)
    except WorkflowRefused as error:
        raise WorkflowRefused(f"{where}: {error.message}", hint=error.hint) from None


def _check_trigger(trigger: Trigger, where: str) -> None:
    kinds = [kind for kind in ("every_s", "contact_with", "over") if getattr(trigger, kind)]
    if len(kinds) != 1:
        raise WorkflowRefused(
            f"{where} has {' and '.join(kinds) or 'nothing that would start it'}",
            hint="give one of every_s, contact_with and over",
        )
    if trigger.every_s:
        _in_range(f"{where}: every_s", trigger.every_s, *_EVERY_S)
    _check_label(trigger.contact_with, where)
    if trigger.over:
        if len(trigger.over) != 3:
            raise WorkflowRefused(
                f"{where}: over is [latitude in degrees, longitude in degrees, radius in km]"
            )
        latitude_deg, longitude_deg, radius_km = trigger.over
        _in_range(f"{where}: over, latitude", latitude_deg, -90, 90)
        _in_range(f"{where}: over, longitude", longitude_deg, -180, 180)
        _in_range(f"{where}: over, radius in km", radius_km, 0.001, _RADIUS_KM_MAX)


def _check_label(label: str, where: str) -> None:
    if not _LABEL.fullmatch(label):
        raise WorkflowRefused(f"{where}: {label[:80]!r} is not 1 to 64 visible ASCII characters")


def _in_range(what: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):  # "nan" is TOML too
        raise WorkflowRefused(f"{what} = {value:g} is outside {low:g}..{high:g}")


def _repeated(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
