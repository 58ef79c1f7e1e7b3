"""The command line as a user types it: results, --json, exit codes, helpful errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.nn_calls import nn_guest
from tests.guests import wasm
from tests.integration.daemon import Daemon, cli

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_deploy_invoke_list_undeploy(daemon: Daemon, tmp_path: Path) -> None:
    module = tmp_path / "My_Echo.wasm"
    module.write_bytes(wasm("echo"))
    done = cli("deploy", str(module), "--json", node=daemon.url)
    assert done.returncode == 0
    assert json.loads(done.stdout)["function"]["name"] == "my-echo"
    assert b"already deployed" in cli("deploy", str(module), node=daemon.url).stdout
    assert b"my-echo" in cli("functions", node=daemon.url).stdout
    assert cli("invoke", "my-echo", "--data", "text", node=daemon.url).stdout == b"text"
    assert cli("invoke", "my-echo", "--data", "-", node=daemon.url, stdin=b"piped").stdout == b"piped"
    assert cli("invoke", "my-echo", "--data", f"@{module}", node=daemon.url).stdout == wasm("echo")
    assert b"undeployed" in cli("undeploy", "my-echo", node=daemon.url).stdout
    gone = cli("invoke", "my-echo", "--json", node=daemon.url)
    assert gone.returncode == 1
    assert json.loads(gone.stdout)["problem"]["status"] == 404


def test_chains_text_modules_and_arguments(daemon: Daemon) -> None:
    upper = EXAMPLES / "hello-wat" / "hello.wat"
    assert cli("deploy", str(upper), "--name", "upper", node=daemon.url).returncode == 0
    assert cli("deploy", str(EXAMPLES / "hello-c" / "hello.wasm"), node=daemon.url).returncode == 0
    chained = cli("invoke", "hello", "--data", "world", "--then", "upper", "--json", node=daemon.url)
    answer = json.loads(chained.stdout)
    assert answer["output_text"] == "HELLO, WORLD!\n"
    assert [step["function"] for step in answer["steps"]] == ["hello", "upper"]
    assert cli("deploy", str(EXAMPLES / "command-c" / "count.wasm"), node=daemon.url).returncode == 0
    text = "one fish\ntwo fish\nred\n"
    counted = cli("invoke", "count", "--data", text, "--", "fish", node=daemon.url)
    assert counted.stdout == b"3 lines, 22 bytes, 2 with fish\n"
    empty = cli("invoke", "count", node=daemon.url)
    assert empty.returncode == 1
    assert b"exit_code: 3" in empty.stderr
    assert b"nothing on standard input" in empty.stderr


def test_async_from_the_command_line(daemon: Daemon) -> None:
    cli("deploy", str(EXAMPLES / "hello-c" / "hello.wasm"), node=daemon.url)
    started = json.loads(cli("invoke", "hello", "--async", "--json", node=daemon.url).stdout)
    assert started["location"] == f"/invocations/{started['id']}"
    waited = cli("invoke", "hello", "--data", "you", "--async", "--wait", node=daemon.url)
    assert waited.stdout == b"hello, you!\n"


def test_a_manifest_beside_the_module_is_used(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "f.wasm").write_bytes(wasm("loop"))
    (tmp_path / "f.toml").write_text('[function]\nname = "spinner"\n[limits]\nwall_ms = 30\n')
    assert cli("deploy", str(tmp_path / "f.wasm"), node=daemon.url).returncode == 0
    ended = cli("invoke", "spinner", node=daemon.url)
    assert ended.returncode == 1
    assert b"wall limit of 30 ms" in ended.stderr
    (tmp_path / "f.toml").write_text("[function\n")
    assert b"not TOML" in cli("deploy", str(tmp_path / "f.wasm"), node=daemon.url).stderr


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"#!/bin/sh", b"not WebAssembly"),
        (wasm("add1")[:40], b"truncated"),
        (wasm("unknown_imports"), b"env.launch"),
    ],
)
def test_bad_modules(daemon: Daemon, tmp_path: Path, content: bytes, text: bytes) -> None:
    (tmp_path / "bad.wasm").write_bytes(content)
    done = cli("deploy", str(tmp_path / "bad.wasm"), node=daemon.url)
    assert done.returncode == 1
    assert text in done.stderr
    assert b"Traceback" not in done.stderr


def test_inspect(tmp_path: Path) -> None:
    done = cli("inspect", str(EXAMPLES / "command-c" / "count.wasm"), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["abi"] == "command"
    assert {"module": "wasi_snapshot_preview1", "name": "fd_read"} in found["imports"]
    assert found["unknown_imports"] == []
    assert found["mode"] == "cpu"
    assert found["confidence"] > 0.9
    assert {"evidence", "where"} == set(found["rationale"][0])
    assert len(found["sha256"]) == 64
    (tmp_path / "strange.wasm").write_bytes(wasm("unknown_imports"))
    strange = cli("inspect", str(tmp_path / "strange.wasm"), "--json")
    assert strange.returncode == 1
    assert json.loads(strange.stdout)["unknown_imports"][0]["module"] == "env"
    (tmp_path / "text.wasm").write_text("no module")
    assert b"not WebAssembly" in cli("inspect", str(tmp_path / "text.wasm")).stderr


def test_inspect_of_a_guest_of_wasi_nn(tmp_path: Path) -> None:
    (tmp_path / "model.wasm").write_bytes(nn_guest())
    found = json.loads(cli("inspect", str(tmp_path / "model.wasm"), "--json").stdout)
    assert found["ok"]
    assert found["wasi_nn"]
    assert b"  wasi-nn  " in cli("inspect", str(tmp_path / "model.wasm")).stdout


def test_inspect_sources(tmp_path: Path) -> None:
    source = tmp_path / "f.py"
    source.write_text("import torch\nx = torch.rand(8192, 8192, device='cuda') @ torch.rand(8192, 8192)\n")
    found = json.loads(cli("inspect", str(source), "--json").stdout)
    assert found["mode"] == "gpu"
    assert found["rationale"][0]["where"] == "line 2"
    source.write_text("def f(:\n")
    refused = cli("inspect", str(source), "--json")
    assert refused.returncode == 1
    assert b"line 1" in refused.stdout + refused.stderr
    (tmp_path / "m.onnx").write_bytes(b"\x08")
    assert b"truncated" in cli("inspect", str(tmp_path / "m.onnx")).stderr


def test_inspect_with_a_manifest(tmp_path: Path) -> None:
    """The source refines what a module leaves open; a mode in the manifest comes first."""
    call = "i32.const 0 i32.const 6 local.get 0 i32.const 448 call 0 drop"
    (tmp_path / "f.wat").write_text(
        '(module (import "edge_accel" "call" (func (param i32 i32 i32 i32) (result i32)))'
        f' (memory (export "memory") 1) (func (export "_start") (local i32) {call}))'
    )
    assert json.loads(cli("inspect", str(tmp_path / "f.wat"), "--json").stdout)["mode"] == "cpu_preferred"
    (tmp_path / "f.toml").write_text('[function]\nname = "f"\n[accel]\npython = "src.py"\n')
    (tmp_path / "src.py").write_text("import numpy as np\na = np.ones((5000, 5000))\nb = a @ a\n")
    refined = json.loads(cli("inspect", str(tmp_path / "f.wat"), "--json").stdout)
    assert refined["mode"] == "gpu_preferred"
    assert refined["rationale"][0]["where"].startswith("accel.python: line")
    (tmp_path / "f.toml").write_text('[function]\nname = "f"\n[accel]\nmode = "gpu"\n')
    named = json.loads(cli("inspect", str(tmp_path / "f.wat"), "--json").stdout)
    assert (named["mode"], named["rationale"][0]["where"]) == ("gpu", "manifest accel.mode")


def test_usage_errors() -> None:
    assert cli().returncode == 2
    assert cli("fly").returncode == 2
    done = cli("deploy", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["ok"] is False
    assert cli("--version").stdout.startswith(b"edgeagent ")


def test_no_daemon() -> None:
    done = cli("functions", "--json", "--node", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problem"]["hint"] == "start one with: edgeagent run"
    assert cli("functions", "--node", "ftp://x").returncode == 1


def test_check_config(tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text('[http]\nlisten = "127.0.0.1:9999"\n')
    done = cli("check-config", str(good), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["config"]["http"]["listen"] == "127.0.0.1:9999"
    assert b"127.0.0.1:9999" in cli("check-config", str(good)).stdout
    bad = tmp_path / "bad.toml"
    bad.write_text("[http]\nlissten = 1\n")
    done = cli("check-config", str(bad))
    assert done.returncode == 2
    assert b"listen" in done.stderr
    assert cli("check-config", "--set", "runtime.workers=many").returncode == 2
    for setting, says in (
        ("mesh.listen=0.0.0.0:1", "beyond loopback without keys"),
        (f"mesh.keys={tmp_path}", "cluster.json"),
        ("mesh.position=nonsense", "is no place"),
    ):
        done = cli("check-config", "--set", "mesh.listen=127.0.0.1:0", "--set", setting)
        assert done.returncode == 2
        assert says in done.stderr.decode()
    assert cli("check-config", "--set", "nonsense").returncode == 2
    assert cli("check-config", str(tmp_path / "gone.toml")).returncode == 2


def test_doctor() -> None:
    done = cli("doctor", "--json")
    found = json.loads(done.stdout)
    assert {check["name"] for check in found["checks"]} >= {
        "python",
        "extension",
        "wasmtime",
        "aiohttp",
        "state",
    }
    assert done.returncode == (0 if found["ok"] else 1)
    assert b"wasmtime" in cli("doctor").stdout


def test_deploy_shows_the_mode_and_sends_the_sources(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "moded.wasm").write_bytes(wasm("add1"))
    plain = cli("deploy", str(tmp_path / "moded.wasm"), node=daemon.url)
    assert b"mode cpu: nothing that a GPU could run is reachable" in plain.stdout
    (tmp_path / "moded.toml").write_text('[function]\nname = "moded"\n[accel]\npython = "src.py"\n')
    assert b"src.py" in cli("deploy", str(tmp_path / "moded.wasm"), node=daemon.url).stderr
    (tmp_path / "src.py").write_text("import cupy\ncupy.cuda.Device(0).use()\n")
    sent = json.loads(cli("deploy", str(tmp_path / "moded.wasm"), "--json", node=daemon.url).stdout)
    assert sent["function"]["sources"]["python"]["mode"] == "gpu"
    # The module itself reaches no GPU, whatever its source could do elsewhere.
    assert sent["function"]["execution"]["mode"] == "cpu"
    assert any(one["where"] == "accel.python: line 2" for one in sent["function"]["execution"]["rationale"])
    again = json.loads(cli("deploy", str(tmp_path / "moded.wasm"), "--json", node=daemon.url).stdout)
    assert not again["new"]
    (tmp_path / "src.py").write_text("import (\n")
    refused = cli("deploy", str(tmp_path / "moded.wasm"), node=daemon.url)
    assert refused.returncode == 1
    assert b"not Python" in refused.stderr
    listed = json.loads(cli("functions", "--json", node=daemon.url).stdout)["functions"]
    assert next(one for one in listed if one["name"] == "moded")["execution"]["mode"] == "cpu"
