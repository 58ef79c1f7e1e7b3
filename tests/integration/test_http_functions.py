"""Functions through HTTP: deploy, invoke, headers, asynchronous invocations, idempotency."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from tests.guests import wasm
from tests.integration.daemon import WASM, Daemon, patience


def test_deploy_invoke_undeploy(daemon: Daemon) -> None:
    first = daemon.deploy("add1", "life")
    assert first.status == 201
    assert first.headers["location"] == "/v1/functions/life"
    assert first.json()["sha256"] == hashlib.sha256(wasm("add1")).hexdigest()
    assert daemon.deploy("add1", "life").status == 200, "the same digest is not new"
    assert daemon.invoke("life", b"abc").body == b"bcd"
    assert daemon.request("POST", "/function/life", b"abc").body == b"bcd", "the alias"
    assert daemon.deploy("echo", "life").status == 201, "another digest replaces it"
    assert daemon.invoke("life", b"abc").body == b"abc"
    assert [f["name"] for f in daemon.request("GET", "/v1/functions").json()["functions"]].count("life") == 1
    assert daemon.request("GET", "/v1/functions/life").json()["abi"] == "bytes"
    assert daemon.request("DELETE", "/v1/functions/life").status == 204
    assert daemon.invoke("life").status == 404
    assert daemon.request("DELETE", "/v1/functions/life").slug == "not-found"


def test_reply_headers(daemon: Daemon) -> None:
    daemon.deploy("add1")
    for _ in range(60):  # the ordinary way first, the fast lane when history knows the function
        reply = daemon.invoke("add1", b"a")
        assert reply.status == 200
        assert reply.body == b"b"
        assert reply.headers["edgeagent-node"] == daemon.ready["node"]
        assert reply.headers["edgeagent-backend"] == "cpu"
        assert reply.headers["edgeagent-hops"] == "0"
        assert reply.headers["edgeagent-hose"] == "copy"
        assert int(reply.headers["edgeagent-duration-us"]) >= 0
        assert int(reply.headers["edgeagent-energy-uj"]) >= 0
        assert reply.headers["content-type"] == "application/octet-stream"
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", reply.headers["traceparent"])


def test_a_class_of_its_slo_that_nobody_knows_is_said_and_not_refused(daemon: Daemon) -> None:
    reply = daemon.deploy("add1", "classed", '[slo]\nclass = "urgnet"\n')
    assert reply.status == 201
    assert "slo.class = 'urgnet'" in reply.json()["note"]
    assert "default, latency, batch, cost, energy" in reply.json()["note"]
    known = daemon.deploy("add1", "classed", '[slo]\nclass = "energy"\n')
    assert known.status in {200, 201}
    assert "note" not in known.json()


def test_a_call_tells_its_joules_and_they_are_on_its_function_s_bill(daemon: Daemon) -> None:
    daemon.deploy("add1", "drawn")
    told_j = 0.0
    for _ in range(60):  # the ordinary way and the fast lane
        reply = daemon.invoke("drawn", b"a")
        microjoules, duration_us = (
            int(reply.headers[f"edgeagent-{one}"]) for one in ("energy-uj", "duration-us")
        )
        told_j += microjoules / 1e6
        core_w = daemon.request("GET", "/v1/accel").json()["energy"]["core_w"]
        assert microjoules == int(core_w * duration_us)
    view = daemon.request("GET", "/v1/accel").json()
    (drawn,) = [one for one in view["functions"] if one["name"] == "drawn"]
    assert told_j <= drawn["energy_j"] <= told_j + 61e-6  # each call's is cut to whole microjoules
    energy = view["energy"]
    usd = drawn["energy_j"] * (energy["cpu_usd_s"] / core_w + energy["usd_per_kwh"] / 3.6e6)
    assert drawn["cost_usd"] == pytest.approx(usd, rel=1e-6)
    assert energy["core_source"] == "placement.busy_w less placement.idle_w"
    assert daemon.metric("edgeagent_energy_joules_total") >= drawn["energy_j"]


def test_a_trace_is_carried_through(daemon: Daemon) -> None:
    daemon.deploy("add1")
    trace = "0af7651916cd43dd8448eb211c80319c"
    for _ in range(60):
        reply = daemon.invoke("add1", b"a", traceparent=f"00-{trace}-b7ad6b7169203331-01")
        assert reply.headers["traceparent"].split("-")[1] == trace
        assert reply.headers["traceparent"].split("-")[2] != "b7ad6b7169203331", "our own span"
        assert reply.headers["traceparent"].endswith("-01")
    broken = daemon.invoke("add1", b"a", traceparent="00-zz-1-01")
    assert broken.status == 200
    assert trace not in broken.headers["traceparent"]


def test_a_manifest_sets_limits_and_arguments(daemon: Daemon) -> None:
    reply = daemon.deploy("cmd_args", "args", 'args = ["a", "b c"]\n[limits]\nwall_ms = 5000\n')
    assert reply.status == 201
    assert reply.json()["manifest"]["limits"]["wall_ms"] == 5000
    assert daemon.invoke("args").body == b"args\0a\0b c\0"
    other = daemon.invoke("args", b"", Edgeagent_Args=json.dumps(["x", "ü"]))
    assert other.body == "args\0x\0ü\0".encode()


def test_scratch_through_the_manifest(daemon: Daemon) -> None:
    assert daemon.deploy("cmd_scratch", "notes", "scratch = true\n").status == 201
    assert daemon.invoke("notes", b"to keep for a moment").body == b"to keep for a moment"
    assert daemon.invoke("notes", b"again").body == b"again"


def test_async_invocations(daemon: Daemon) -> None:
    daemon.deploy("add1")
    accepted = daemon.invoke("add1", b"abc", Prefer="respond-async")
    assert accepted.status == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    view = _finished(daemon, accepted.headers["location"])
    assert view["state"] == "succeeded"
    assert view["result_base64"] == "YmNk"
    assert daemon.request("GET", view["result"]).body == b"bcd"
    daemon.deploy("trap")
    failed = _finished(daemon, daemon.invoke("trap", Prefer="respond-async").headers["location"])
    assert failed["state"] == "failed"
    assert failed["problem"]["type"].endswith("guest-trap")
    assert daemon.request("GET", "/invocations/nothing").slug == "not-found"


def _finished(daemon: Daemon, location: str) -> Any:
    for _ in patience():
        view = daemon.request("GET", location).json()
        if view["state"] in ("succeeded", "failed"):
            return view
    raise AssertionError(f"{location} does not finish: {view}")


def test_idempotency_keys(daemon: Daemon) -> None:
    daemon.deploy("cmd_wasi", "dice")
    roll = bytes(4) + (0).to_bytes(4, "little") + (32).to_bytes(4, "little")  # random_get
    first = daemon.invoke("dice", roll, Idempotency_Key="one")
    again = daemon.invoke("dice", roll, Idempotency_Key="one")
    assert first.status == again.status == 200
    assert again.body == first.body, "the recorded result, not another roll"
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert daemon.invoke("dice", roll, Idempotency_Key="two").body != first.body
    assert daemon.invoke("dice", roll + b"x", Idempotency_Key="one").slug == "idempotency-key-reused"
    assert daemon.invoke("dice", roll, Idempotency_Key="bad key").slug == "bad-request"
    daemon.deploy("trap")
    failures = [daemon.invoke("trap", Idempotency_Key="three") for _ in range(2)]
    assert [f.slug for f in failures] == ["guest-trap"] * 2
    async_ids = {
        daemon.invoke("dice", roll, Idempotency_Key="four", Prefer="respond-async").headers["location"]
        for _ in range(3)
    }
    assert len(async_ids) == 1


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Edgeagent-Deadline-Ms", "soon"),
        ("Edgeagent-Deadline-Ms", "0"),
        ("Edgeagent-Deadline-Ms", "-5"),
        ("Edgeagent-Deadline-Ms", "nan"),
        ("Edgeagent-Deadline-Ms", "1e99"),
        ("Edgeagent-Args", "not json"),
        ("Edgeagent-Args", '{"a": 1}'),
        ("Edgeagent-Args", "[1, 2]"),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "x" * 256),
    ],
)
def test_malformed_headers(daemon: Daemon, header: str, value: str) -> None:
    daemon.deploy("cmd_args", "args")
    reply = daemon.request("POST", "/functions/args", b"", {header: value})
    assert reply.status == 400
    assert header.lower() in reply.json()["detail"].lower()


def test_deadline_header(daemon: Daemon) -> None:
    daemon.deploy("loop")
    reply = daemon.invoke("loop", b"", Edgeagent_Deadline_Ms="50")
    assert reply.status == 504
    assert reply.slug == "deadline-exceeded"


def test_methods_paths_types(daemon: Daemon) -> None:
    assert daemon.request("GET", "/nowhere").slug == "not-found"
    wrong = daemon.request("PATCH", "/v1/node")
    assert wrong.slug == "method-not-allowed"
    assert wrong.headers["allow"] == "GET, HEAD"
    assert daemon.request("HEAD", "/livez").body == b""
    assert (
        daemon.request("PUT", "/v1/functions/x", b"?", {"Content-Type": "text/plain"}).slug
        == "unsupported-type"
    )
    encoded = daemon.request("POST", "/functions/loop", b"x", {"Content-Encoding": "gzip"})
    assert encoded.slug == "unsupported-type"


def test_views(daemon: Daemon) -> None:
    node = daemon.request("GET", "/v1/node").json()
    assert node["id"] == daemon.ready["node"]
    assert node["wasmtime"].startswith("50.")
    assert daemon.request("GET", "/livez").body == b"ok\n"
    assert daemon.request("GET", "/readyz").json() == {"ready": True, "reasons": []}
    assert b"edgeagent_invocations_total" in daemon.request("GET", "/metrics").body
    document = daemon.request("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path in ("/functions/{name}", "/v1/functions/{name}", "/invocations/{id}", "/v1/node", "/metrics"):
        assert path in document["paths"]
    assert "Deployed" in document["components"]["schemas"]


def test_multipart_refusals(daemon: Daemon) -> None:
    named = daemon.request(
        "PUT",
        "/v1/functions/other",
        b'--b\r\nContent-Disposition: form-data; name="wasm"\r\n\r\n\0asm\r\n'
        b'--b\r\nContent-Disposition: form-data; name="manifest"\r\n\r\n[function]\nname = "this"\n\r\n--b--\r\n',
        {"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert named.status == 422
    assert "this" in named.json()["detail"]
    signed = (
        b'--b\r\nContent-Disposition: form-data; name="wasm"\r\n\r\n\0asm\r\n'
        b'--b\r\nContent-Disposition: form-data; name="signature"\r\n\r\n%b\r\n--b--\r\n'
    )
    for given, said in ((b"x", "the signature cannot be read"), (b"", "the part 'signature' is empty")):
        reply = daemon.request(
            "PUT", "/v1/functions/x", signed % given, {"Content-Type": "multipart/form-data; boundary=b"}
        )
        assert reply.status == 422
        assert said in reply.json()["detail"]
    empty = daemon.request("PUT", "/v1/functions/x", b"", {"Content-Type": "multipart/form-data"})
    assert empty.status == 400


def test_unknown_manifest_keys_are_refused_with_a_suggestion(daemon: Daemon) -> None:
    reply = daemon.deploy("add1", "typo", "[limits]\nwall_mss = 5\n")
    assert reply.slug == "manifest-refused"
    assert "wall_ms" in reply.json()["hint"]
    assert daemon.request("PUT", "/v1/functions/Upper", wasm("add1"), WASM).slug == "manifest-refused"
