"""Who calls over TLS, and what that lets them do.

Who reaches the plain door is on this machine and is trusted with everything (SECURITY.md). Beyond it a certificate of
the cluster's authority says who calls: nodes call functions and move data, under their own id only; operators also
deploy.
"""

from __future__ import annotations

from aiohttp import web

from edgeagent.http.router import Route
from edgeagent.mesh.tls import holder_of
from edgeagent.model.errors import NotAllowed

__all__ = ["refuse_unentitled"]


def refuse_unentitled(request: web.BaseRequest, route: Route) -> None:
    """Raises NotAllowed."""
    if (
        not request.secure
    ):  # known since the request came: a connection that closes meanwhile is not a plain one
        return
    holder = holder_of(request.get_extra_info("peercert"))
    if holder is None:
        raise NotAllowed(
            "the certificate names neither a node nor an operator", hint="edgeagent keys issue makes such"
        )
    if route.deploys and holder.kind != "operator":
        raise NotAllowed(
            f"the {holder.kind} {holder.name} may not deploy here",
            hint="an operator may (edgeagent keys issue CLUSTER --operator NAME), or who is on this machine",
        )
    said = request.headers.get("Edgeagent-Peer")
    if said is not None and (holder.kind, holder.name) != ("node", said):
        raise NotAllowed(
            f"Edgeagent-Peer is {said!r:.80}, and the certificate is of {holder.kind} {holder.name}"
        )
