"""Configuration: file < environment < flags, and refusals that say what, where and what instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent.model.errors import BadConfig
from edgeagent.node.config import (
    KEYS,
    Config,
    default_toml,
    describe,
    listen_address,
    load_config,
)

ROOT = Path(__file__).parents[3]
HOME = {"HOME": "/home/u"}


def refused(
    text: str | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, str] | None = None,
    *,
    path: Path | None = None,
) -> tuple[str, str]:
    if text is not None:
        assert path is not None
        path.write_text(text, encoding="utf-8")
    with pytest.raises(BadConfig) as caught:
        load_config(path, {**HOME, **(environ or {})}, flags or {})
    return caught.value.message, caught.value.hint


def test_defaults() -> None:
    config = load_config(None, HOME, {})
    assert config.http.listen == "127.0.0.1:8480"
    assert config.node.state_dir == "/home/u/.local/state/edgeagent"
    assert config.node.cache_dir == "/home/u/.cache/edgeagent"
    assert config.runtime == Config().runtime


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("[runtime]\nworkers = 1\ninline = false\n[queue]\ndepth_max = 7\n")
    environ = {**HOME, "EDGEAGENT_RUNTIME_WORKERS": "2", "EDGEAGENT_QUEUE_DEPTH_MAX": " 8 "}
    config = load_config(path, environ, {"runtime.workers": "3"})
    assert (config.runtime.workers, config.runtime.inline, config.queue.depth_max) == (3, False, 8)


def test_peers_are_a_table_or_in_flags_a_list(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[hose]\nlisten = ""\n[hose.peers]\nground = "http://10.0.0.2:8480/"\n')
    config = load_config(path, HOME, {})
    assert config.hose.peers == {"ground": "http://10.0.0.2:8480"}
    assert config.hose.listen == ""
    environ = {**HOME, "EDGEAGENT_HOSE_PEERS": "relay=http://h:1, sat=https://[::1]"}
    assert load_config(path, environ, {}).hose.peers == {"relay": "http://h:1", "sat": "https://[::1]"}
    assert load_config(path, environ, {"hose.peers": ""}).hose.peers == {}


def test_the_local_configuration_says_every_default(tmp_path: Path) -> None:
    text = (ROOT / "configs" / "local.toml").read_text(encoding="utf-8")
    assert text == default_toml(), "configs/local.toml is not what default_toml() says"
    assert load_config(ROOT / "configs" / "local.toml", HOME, {}) == load_config(None, HOME, {})


def test_every_key_is_described() -> None:
    described = {item.key: item for item in describe()}
    assert set(described) == set(KEYS)
    for item in described.values():
        assert item.doc
        assert item.type
        section, _, field = item.key.partition(".")
        assert getattr(getattr(Config(), section), field) == item.default
    assert described["drain.timeout_ms"].type == "a whole number (milliseconds) from 0 to 3600000"
    assert described["http.fast_lane"].type == "true or false"
    assert described["log.format"].type == "one of auto, json, console"
    assert described["runtime.workers"].type == "a whole number from 0 to 1024"
    assert "(bytes)" in described["journal.bytes_max"].type


@pytest.mark.parametrize(
    ("environ", "state", "cache"),
    [
        (
            {"STATE_DIRECTORY": "/var/lib/e:/x", "CACHE_DIRECTORY": "/var/cache/e"},
            "/var/lib/e",
            "/var/cache/e",
        ),
        ({"XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"}, "/s/edgeagent", "/c/edgeagent"),
        ({"XDG_STATE_HOME": "relative"}, "/home/u/.local/state/edgeagent", "/home/u/.cache/edgeagent"),
        ({"EDGEAGENT_NODE_STATE_DIR": "/a", "STATE_DIRECTORY": "/b"}, "/a", "/home/u/.cache/edgeagent"),
    ],
)
def test_where_things_are_kept(environ: dict[str, str], state: str, cache: str) -> None:
    config = load_config(None, {**HOME, **environ}, {})
    assert (config.node.state_dir, config.node.cache_dir) == (state, cache)


def test_without_a_home_the_users_entry_is_used() -> None:
    assert load_config(None, {}, {}).node.state_dir.endswith("/.local/state/edgeagent")


def test_variables_of_others_are_no_keys() -> None:
    reserved = ("COMPILE", "NATIVE", "NODE", "CONFIG", "SANITIZE", "COVERAGE", "BENCH_WRK", "WERROR")
    environ = {f"EDGEAGENT_{name}": "x" for name in reserved}
    assert load_config(None, {**HOME, **environ, "OTHER": "x"}, {}) == load_config(None, HOME, {})


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("[http]\nlisten = 5\n", "node.toml:2: http.listen = 5 is not allowed", "text"),
        ("\n[drain]\n\ntimeout_ms = '5s'\n", "node.toml:4: drain.timeout_ms = '5s'", "(milliseconds) from 0"),
        ("[drain]\ntimeout_ms = -1\n", "drain.timeout_ms = -1", "from 0 to 3600000"),
        ("[runtime]\ninline = 1\n", "runtime.inline = 1", "true or false"),
        ("[runtime]\nengine = 'fast'\n", "runtime.engine = 'fast'", "one of auto, native, pure"),
        ("[runtime]\nworkers = true\n", "runtime.workers = True", "a whole number"),
        ("[htp]\nlisten = 'x'\n", "node.toml:1: [htp] is not a section", "did you mean [http]?"),
        ("[zzzz]\n", "[zzzz] is not a section", "the sections are node, http"),
        ("[http]\nlissten = 'x'\n", "node.toml:2: http.lissten is not a key", "did you mean http.listen?"),
        ("[http]\nstate_dir = 'x'\n", "http.state_dir is not a key", "did you mean node.state_dir?"),
        ("[http]\nqqqqqqqq = 'x'\n", "http.qqqqqqqq is not a key", "check-config lists"),
        ("workers = 1\n", "node.toml:1: workers as a top-level key", "did you mean runtime.workers?"),
        ("http.lissten = 'x'\n", "node.toml:1: http.lissten", "did you mean http.listen?"),
        ("[http]\nlisten\n", "node.toml: not TOML", ""),
        ("[hose.peers]\nGround = 'http://h'\n", "node.toml:1: hose.peers: 'Ground'", "a-z"),
        ("[hose]\n[hose.peers]\ng = 'ftp://h'\n", "node.toml:2: hose.peers: 'g' = 'ftp://h'", "URL"),
        (
            "[hose]\npeers = 'g=http://h'\n",
            "node.toml:2: hose.peers = 'g=http://h' is not allowed",
            "a table",
        ),
        (
            "[hose]\nlisten = '10.0.0.1'\n",
            "node.toml:2: hose.listen = '10.0.0.1' is not host:port",
            "for instance",
        ),
        (f"[node]\nstate_dir = '{'x' * 5000}'\n", "xxx... is not allowed", ""),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, text: str, said: str, hint: str) -> None:
    message, hinted = refused(text, path=tmp_path / "node.toml")
    assert said in message
    assert hint in hinted


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in refused(path=tmp_path / "absent.toml")[0]
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused(path=tmp_path / "binary.toml")[0]


@pytest.mark.parametrize(
    ("environ", "said", "hint"),
    [
        ({"EDGEAGENT_HTTP_LISSTEN": "x"}, "EDGEAGENT_HTTP_LISSTEN", "did you mean EDGEAGENT_HTTP_LISTEN?"),
        ({"EDGEAGENT_QQQQ": "x"}, "EDGEAGENT_QQQQ", "check-config"),
        (
            {"EDGEAGENT_RUNTIME_WORKERS": "two"},
            "environment EDGEAGENT_RUNTIME_WORKERS: runtime.workers = 'two'",
            "",
        ),
        ({"EDGEAGENT_RUNTIME_INLINE": "maybe"}, "runtime.inline = 'maybe'", "true or false"),
        (
            {"EDGEAGENT_PLACEMENT_IDLE_W": "20", "EDGEAGENT_PLACEMENT_BUSY_W": "19"},
            "placement.busy_w = 19 is below placement.idle_w = 20",
            "no less than",
        ),
        ({"EDGEAGENT_ENERGY_USD_PER_MWH": "-2"}, "energy.usd_per_mwh = -2", "from -1 to"),
        ({"EDGEAGENT_ENERGY_GPU_W": "lots"}, "energy.gpu_w = 'lots'", "a whole number from 0"),
        ({"EDGEAGENT_HTTP_LISTEN": "0.0.0.0:80"}, "beyond loopback", "127.0.0.1:80"),
    ],
)
def test_an_environment_that_is_refused(environ: dict[str, str], said: str, hint: str) -> None:
    message, hinted = refused(environ=environ)
    assert said in message
    assert hint in hinted


def test_flags_that_are_refused() -> None:
    assert "flag http.lissten" in refused(flags={"http.lissten": "x"})[0]
    assert "flag queue.depth_max: queue.depth_max = 'x'" in refused(flags={"queue.depth_max": "x"})[0]


@pytest.mark.parametrize("text", ["true", "YES", "1"])
def test_truth_in_the_environment(text: str) -> None:
    config = load_config(None, {**HOME, "EDGEAGENT_RUNTIME_INLINE": text}, {"http.fast_lane": "no"})
    assert (config.runtime.inline, config.http.fast_lane) == (True, False)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8480", ("127.0.0.1", 8480)),
        ("127.9.9.9:0", ("127.9.9.9", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_addresses(listen: str, address: tuple[str, int]) -> None:
    assert listen_address(listen)[:2] == address


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("8480", "not host:port"),
        ("127.0.0.1:", "not host:port"),
        ("127.0.0.1:65536", "not host:port"),
        ("127.0.0.1:80a", "not host:port"),
        (":80", "not host:port"),
        ("example.org:80", "not an IP address"),
    ],
)
def test_addresses_that_are_refused(listen: str, said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        listen_address(listen)


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80", "192.168.0.1:80"])
def test_beyond_loopback_takes_keys(listen: str) -> None:
    message, hint = refused(flags={"http.listen": listen})
    assert "beyond loopback" in message
    assert "edgeagent keys" in hint
    message, hint = refused(flags={"http.listen_tls": listen})
    assert "takes keys" in message
    assert "edgeagent keys" in hint
    config = load_config(None, HOME, {"http.listen": listen, "mesh.keys": "/keys"})
    assert not listen_address(config.http.listen).is_loopback


@pytest.mark.parametrize("listen", ["8480", "example.org:80", "[::1"])
def test_the_address_for_other_hosts_is_checked_too(listen: str) -> None:
    assert "http.listen_tls" in refused(flags={"http.listen_tls": listen, "mesh.keys": "/keys"})[0]


def test_signers_are_public_keys(tmp_path: Path) -> None:
    key = "ab" * 32
    assert load_config(None, HOME, {"placement.signers": f"{key}, {key}"}).placement.signers
    message, hint = refused('[placement]\nsigners = "abc"\n', path=tmp_path / "c.toml")
    assert "c.toml:2: placement.signers" in message
    assert "64 hexadecimal" in hint
