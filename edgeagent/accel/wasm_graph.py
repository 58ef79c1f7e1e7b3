"""What of a module runs when the platform calls it: the call graph from its entries, with loop depths along it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import msgspec

from edgeagent.accel.wasm_body import DEPTH_MAX, BodyFacts, CallSite, read_body
from edgeagent.accel.wasm_module import Signature, Skeleton

__all__ = ["ENTRIES", "STEPS_MAX", "Reached", "ReachedCall", "reach"]

# What the platform calls (CONTRACTS 7); any other export is called by nobody.
ENTRIES = ("_initialize", "_start", "edge_alloc", "edge_alloc_aligned", "edge_handle", "edge_free")
STEPS_MAX = 1_000_000  # instructions read of one module: some seconds at most


class ReachedCall(msgspec.Struct, frozen=True):
    """A call of an imported function that can run; ``caller`` is the function in which it stands."""

    site: CallSite
    caller: int
    imported: int
    depth: int
    is_conditional: bool


class Reached(msgspec.Struct, kw_only=True):
    """``entries``: what the platform calls, in its order; ``depths``: of each function that can run, how deep in loops
    it is called at most.

    ``whole`` = False: the bound on instructions came first. ``guessed``: the module has no known entry, all its exports
    were taken for one.
    """

    entries: list[int] = msgspec.field(default_factory=list)
    facts: dict[int, BodyFacts] = msgspec.field(default_factory=dict)
    depths: dict[int, int] = msgspec.field(default_factory=dict)
    calls: list[ReachedCall] = msgspec.field(default_factory=list)
    whole: bool = True
    guessed: bool = False


def reach(wasm: bytes, module: Skeleton, wanted: Collection[int], steps_max: int = STEPS_MAX) -> Reached:
    """Follow calls from the entries; each function that can run is read once.

    ``wanted``: the imported functions whose calls are told. Raises WasmRefused.
    """
    found = Reached()
    entries = [module.exports[name] for name in ENTRIES if name in module.exports]
    if not entries:
        entries, found.guessed = list(module.exports.values()), True
    if module.start is not None:
        entries.insert(0, module.start)
    found.entries = list(dict.fromkeys(entries))
    tables = _Tables(module)
    _read_all(wasm, module, entries, found, tables, steps_max)
    sure = _sure(entries, found)
    _spread_depths(entries, found)
    for caller, facts in found.facts.items():
        for site in facts.calls:
            called = (
                (one for one in wanted if tables.may_hold(site.callee, one))
                if site.is_indirect
                else (site.callee,)
            )
            for callee in called:
                if callee in wanted:
                    depth = min(found.depths[caller] + site.depth, DEPTH_MAX)
                    conditional = site.is_conditional or site.is_indirect or caller not in sure
                    found.calls.append(ReachedCall(site, caller, callee, depth, conditional))
    return found


class _Tables:
    """Functions that tables may hold, by their signature."""

    def __init__(self, module: Skeleton) -> None:
        self._module = module
        self._all: set[int] = set()
        self._by_signature: dict[Signature | None, set[int]] = {}
        self.add(module.in_tables)

    def signature(self, type_index: int) -> Signature | None:
        return self._module.signature(type_index)

    def add(self, functions: set[int]) -> dict[Signature | None, set[int]]:
        """Returns those that are new, by signature."""
        new: dict[Signature | None, set[int]] = {}
        for one in functions - self._all:
            key = self._module.signature(self._module.type_of(one))
            new.setdefault(key, set()).add(one)
            self._by_signature.setdefault(key, set()).add(one)
        self._all |= functions
        return new

    def behind(self, type_index: int) -> list[set[int]]:
        """What an indirect call of that type may reach; what has an unknown type fits any."""
        wanted = self.signature(type_index)
        if wanted is None:
            return [self._all]
        return [self._by_signature[key] for key in (wanted, None) if key in self._by_signature]

    def may_hold(self, type_index: int, function: int) -> bool:
        return any(function in some for some in self.behind(type_index))


def _read_all(
    wasm: bytes, module: Skeleton, entries: list[int], found: Reached, tables: _Tables, steps_max: int
) -> None:
    left = steps_max
    seen = set(entries)
    waiting = deque(dict.fromkeys(entries))
    indirect: set[Signature | None] = set()
    any_type = False  # whether those that fit any type are called
    while waiting:
        function = waiting.popleft()
        body = module.body_of(function)
        if body is None:  # imported
            continue
        facts = read_body(wasm, body, left)
        if facts is None:
            found.whole = False
            continue
        left -= facts.steps
        found.facts[function] = facts
        called = {site.callee for site in facts.calls if not site.is_indirect}
        # A function whose address is taken may be stored in a table at run time.
        for key, new in tables.add(facts.mentioned).items():
            if key in indirect or None in indirect or (key is None and indirect):
                called |= new
        for site in facts.calls:
            key = module.signature(site.callee)
            if site.is_indirect and key not in indirect:
                indirect.add(key)
                ways = tables.behind(site.callee)
                called.update(*(ways[:1] if any_type and key is not None else ways))
                any_type = True
        fresh = sorted(called - seen)
        seen.update(fresh)
        waiting.extend(fresh)


def _sure(entries: list[int], found: Reached) -> set[int]:
    """Functions that run on every path: entries, and what such ones call without a condition.

    Every call of a bytes function passes each of its entries.
    """
    sure = set() if found.guessed and len(entries) > 1 else {one for one in entries if one in found.facts}
    waiting = list(sure)
    while waiting:
        for site in found.facts[waiting.pop()].calls:
            callee = site.callee
            if not (site.is_indirect or site.is_conditional) and callee in found.facts and callee not in sure:
                sure.add(callee)
                waiting.append(callee)
    return sure


def _spread_depths(entries: list[int], found: Reached) -> None:
    """The deepest way to each function; recursion ends at DEPTH_MAX. Indirect calls add nothing: their target is
    a guess.
    """
    waiting = deque((one, 0) for one in entries)
    while waiting:
        function, depth = waiting.popleft()
        if found.depths.get(function, -1) >= depth:
            continue
        found.depths[function] = depth
        deepest: dict[int, int] = {}
        for site in found.facts[function].calls if function in found.facts else ():
            if not site.is_indirect:
                deepest[site.callee] = max(deepest.get(site.callee, 0), site.depth)
        waiting.extend((callee, min(depth + below, DEPTH_MAX)) for callee, below in deepest.items())
    for function in found.facts:
        found.depths.setdefault(function, 0)
