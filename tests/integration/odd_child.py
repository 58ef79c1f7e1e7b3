"""A daemon whose clock is off, and which some members cannot reach: ``python -m tests.integration.odd_child FILE run``.

FILE is JSON and is looked at again before each packet and request: ``{"skew_s": 5, "cut": ["id of a member", ...]}``.
The skew is that of the start. With ``"planned"`` those who are cut off are out of contact by the plan, for so many
seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeagent.model.errors import PeerFailed


class Cut:
    """What emulated links are to the mesh: None is no way."""

    def __init__(self, core: Any, is_cut: Callable[[str], bool]) -> None:
        self._core = core
        self._is_cut = is_cut

    def loses(self) -> bool:
        return False

    def delay_s(self, address: str) -> float | None:
        members = (self._core.member(name) for name in self._core.states())
        return None if any(m and m.address == address and self._is_cut(m.name) for m in members) else 0.0


def main() -> int:
    file = Path(sys.argv[1])
    skew_s, real = json.loads(file.read_text())["skew_s"], time.time
    time.time = lambda: real() + skew_s

    from edgeagent.cli.main import main as cli
    from edgeagent.mesh.carrier import Carrier
    from edgeagent.mesh.service import MeshService
    from edgeagent.node.membership import Membership
    from edgeagent.node.peer_http import PeerHttp

    services: list[MeshService] = []

    def is_cut(name: str) -> bool:
        return name in json.loads(file.read_text())["cut"]

    def is_planned(name: str) -> bool:
        return bool(json.loads(file.read_text()).get("planned")) and is_cut(name)

    async def cross(http: PeerHttp, to: str) -> None:
        for service in services:
            name = to if service.core.member(to) is not None else service._who_has(to)
            if is_cut(name):
                raise PeerFailed(f"no route leads to {to}", peer=name)

    def opened(carrier: Carrier, core: Any, *args: Any, **more: Any) -> None:
        init(carrier, core, *args, **more)
        carrier.links = Cut(core, is_cut)

    def begun(service: MeshService, *args: Any, **more: Any) -> None:
        start(service, *args, **more)
        services.append(service)

    def state(membership: Membership, name: str) -> str:
        return "occluded" if is_planned(name) else state_of(membership, name)

    def returns(membership: Membership, name: str) -> float | None:
        planned_s = float(json.loads(file.read_text()).get("planned", 0))
        return planned_s if is_planned(name) else returns_in_s(membership, name)

    state_of, returns_in_s = Membership.state_of, Membership.returns_in_s
    Membership.state_of = state  # type: ignore[assignment,method-assign]
    Membership.returns_in_s = returns  # type: ignore[assignment,method-assign]
    init, start = Carrier.__init__, MeshService.__init__
    Carrier.__init__ = opened  # type: ignore[assignment]
    MeshService.__init__ = begun  # type: ignore[assignment]
    PeerHttp.cross = cross  # type: ignore[assignment,method-assign]
    return cli(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
