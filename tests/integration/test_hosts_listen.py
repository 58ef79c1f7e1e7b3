"""Where hoses between hosts listen, and with which certificates."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guests import wasm
from tests.integration.daemon import WASM, Daemon
from tests.integration.hose_remote_rig import tls_contexts
from tests.integration.hosts_rig import Pair

MIB = 1 << 20


def test_beyond_loopback_only_with_certificates(tmp_path: Path, start_daemon: Callable[..., Daemon]) -> None:
    for settings, says in (
        (("hose.listen=0.0.0.0:0",), "hose.tls_cert"),
        (("hose.tls_cert=/nowhere",), "hose.tls_cert"),
        (("hose.listen=nonsense",), "hose.listen"),
        (("hose.peers=x",), "hose.peers"),
    ):
        daemon = Daemon(tmp_path / "refused", *settings, start=False)
        with pytest.raises(AssertionError) as refused:
            daemon.start()
        assert says in str(refused.value) + daemon.log_text()
        daemon.kill()
    alone = start_daemon("hose.listen=")
    assert alone.request("GET", "/v1/node").json()["hose_port"] == 0
    reply = alone.request("POST", "/v1/hoses/tickets", b'{"peer": "x"}')
    assert (reply.status, reply.slug) == (503, "no-hoses")


def test_a_peer_without_a_hose_port_is_sent_bodies(
    tmp_path: Path, start_daemon: Callable[..., Daemon]
) -> None:
    there = start_daemon("hose.listen=", state="there")
    here = start_daemon(f"hose.peers=ground={there.url}", state="here")
    for node in (here, there):
        node.request("PUT", "/v1/functions/echo", wasm("echo"), WASM)
    data = os.urandom(200_000)
    assert here.invoke("echo@ground", data).body == data


def test_with_certificates_on_both_sides(tmp_path: Path) -> None:
    tls_contexts(tmp_path)
    (pem,) = tmp_path.glob("*.pem")
    pair = Pair(tmp_path, *(f"hose.{key}={pem}" for key in ("tls_cert", "tls_key", "tls_ca")))
    data = os.urandom(2 * MIB)
    assert pair.here.invoke("echo@ground", data).body == data
    assert pair.there.metric("edgeagent_hose_remote_received_total") == 1
    assert pair.here.metric("edgeagent_hose_remote_received_total") == 1
    pair.stop()


def test_a_peer_with_a_certificate_of_nobody_gets_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tls_contexts(tmp_path / name)
    one, two = ("".join(map(str, (tmp_path / name).glob("*.pem"))) for name in ("one", "two"))
    there = Daemon(tmp_path / "there", *(f"hose.{key}={one}" for key in ("tls_cert", "tls_key", "tls_ca")))
    peers = f"hose.peers=ground={there.url}"
    here = Daemon(
        tmp_path / "here", peers, *(f"hose.{key}={two}" for key in ("tls_cert", "tls_key", "tls_ca"))
    )
    here.deploy("echo")
    there.deploy("echo")
    reply = here.invoke("echo@ground", os.urandom(200_000))
    assert (reply.status, reply.slug) == (502, "peer-failed")
    assert here.stop() == there.stop() == 0
