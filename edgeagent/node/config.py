"""Reading a configuration: TOML file < environment < flags, every value checked, every unknown key refused.

A refusal (BadConfig) names the key, the value, what is allowed, and where the value came from: ``FILE:LINE``,
the environment variable, or the flag.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import textwrap
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from edgeagent.model.errors import BadConfig
from edgeagent.model.signature import public_keys
from edgeagent.node.config_schema import Config, HttpSection, PlacementSection
from edgeagent.node.peers import checked_peers, split_peers

__all__ = [
    "Config",
    "ConfigKey",
    "ListenAddress",
    "default_toml",
    "describe",
    "hose_address",
    "host_and_port",
    "listen_address",
    "load_config",
]

ENV_PREFIX = "EDGEAGENT_"
# Variables with this prefix that are not configuration: of the build, the tests, the CLI and the benchmarks.
RESERVED_ENV = frozenset(
    ENV_PREFIX + name
    for name in (
        "COMPILE",
        "CONFIG",
        "COVERAGE",
        "JOBS",
        "KEYS",
        "NATIVE",
        "NODE",
        "SANITIZE",
        "SANITIZED",
        "WERROR",
    )
)
RESERVED_ENV_PREFIXES = (ENV_PREFIX + "BENCH_", ENV_PREFIX + "TEST_")
_UNITS = {"_ms": "milliseconds", "bytes": "bytes", "_s": "seconds"}


_HEADER = """\
# A node on one machine, serving on loopback: every key with its default, so that an empty file means the
# same. Each key can also be set by an environment variable (EDGEAGENT_HTTP_LISTEN for http.listen), which
# wins over this file, and by a flag (edgeagent run --set http.listen=127.0.0.1:9000), which wins over both.
# edgeagent check-config FILE says what a file comes to."""


class ConfigKey(NamedTuple):
    """One key for people: its dotted name, its type with the allowed range, its default and its meaning."""

    key: str
    type: str
    default: Any
    doc: str


class _Key(msgspec.Struct, frozen=True):
    """One key as the checks need it."""

    name: str
    kind: type
    default: Any
    doc: str
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()

    def allowed(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "text"
        if self.kind is dict:
            return "a table"
        unit = next((f" ({text})" for end, text in _UNITS.items() if _bare(self.name).endswith(end)), "")
        return f"a whole number{unit} from {self.low} to {self.high}"

    def range(self) -> str:
        """The same in short, "" where the default shows it."""
        if self.choices:
            return f" ({' | '.join(self.choices)})"
        return f" ({self.low}..{self.high})" if self.kind is int else ""


def _bare(name: str) -> str:
    return name.removesuffix("_max").removesuffix("_per_s")


def _keys() -> Iterator[_Key]:
    for section, struct in typing.get_type_hints(Config).items():
        defaults = struct()
        for field, hint in typing.get_type_hints(struct, include_extras=True).items():
            base, meta = typing.get_args(hint)
            choices = typing.get_args(base) if typing.get_origin(base) is Literal else ()
            yield _Key(
                f"{section}.{field}",
                str if choices else typing.get_origin(base) or base,
                getattr(defaults, field),
                str(meta.description),
                meta.ge,
                meta.le,
                choices,
            )


KEYS: Mapping[str, _Key] = {key.name: key for key in _keys()}


def describe() -> list[ConfigKey]:
    """Every key in the order of the schema."""
    return [ConfigKey(key.name, key.allowed(), key.default, key.doc) for key in KEYS.values()]


def default_toml() -> str:
    """A configuration file that says every key's default and meaning (``configs/local.toml``)."""
    lines = [_HEADER]
    for section, struct in typing.get_type_hints(Config).items():
        lines += ["", *_comment((struct.__doc__ or "").splitlines()[0]), f"[{section}]"]
        keys = [key for key in KEYS.values() if key.name.startswith(section + ".")]
        for key in sorted(keys, key=lambda key: key.kind is dict):  # a table ends the section's own keys
            lines += _comment(key.doc + key.range())
            name = key.name.partition(".")[2]
            lines.append(f"[{key.name}]" if key.kind is dict else f"{name} = {json.dumps(key.default)}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 108, initial_indent="# ", subsequent_indent="# ")


def load_config(path: str | Path | None, environ: Mapping[str, str], overrides: Mapping[str, str]) -> Config:
    """The configuration of ``path`` (None: no file), ``environ`` and ``overrides`` ({"http.listen": "..."}).

    Directories that nobody named are resolved from the environment. Raises BadConfig.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values.update(_from_file(Path(path)))
    values.update(_from_environment(environ))
    values.update(_from_flags(overrides))
    values["node.state_dir"] = _directory(values.get("node.state_dir"), environ, "STATE", ".local/state")
    values["node.cache_dir"] = _directory(values.get("node.cache_dir"), environ, "CACHE", ".cache")
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, field = name.partition(".")
        sections.setdefault(section, {})[field] = value
    config = msgspec.convert(sections, Config)
    _check_body(config.placement)
    if not config.mesh.keys:
        _without_keys(config.http)
    return config


def _without_keys(http: HttpSection) -> None:
    """Raises BadConfig where HTTP would need keys."""
    hint = "make keys with edgeagent keys, and name the node's folder in mesh.keys"
    address = listen_address(http.listen)
    if not address.is_loopback:
        raise BadConfig(
            f"http.listen = {http.listen!r} is beyond loopback, and there are no keys",
            hint=f"{hint}; or listen on 127.0.0.1:{address.port}",
        )
    if http.listen_tls:
        raise BadConfig(f"http.listen_tls = {http.listen_tls!r} takes keys, and there are none", hint=hint)


def _check_body(told: PlacementSection) -> None:
    """Raises BadConfig for draws of which neither heat nor energy could be told."""
    if told.busy_w < told.idle_w:
        raise BadConfig(
            f"placement.busy_w = {told.busy_w} is below placement.idle_w = {told.idle_w}",
            hint="a machine at work draws no less than one without work",
        )


class ListenAddress(NamedTuple):
    """Where HTTP listens."""

    host: str
    port: int
    is_loopback: bool


def listen_address(listen: str, key: str = "http.listen", *, source: str = "") -> ListenAddress:
    """Of ``host:port`` or ``[ipv6]:port``; raises BadConfig for others."""
    source = source or key
    host, port = host_and_port(listen, key, source)
    if host == "localhost":
        return ListenAddress(host, port, True)
    try:
        return ListenAddress(host, port, ipaddress.ip_address(host).is_loopback)
    except ValueError:
        raise BadConfig(
            f"{source}: {key} = {listen!r} names a host that is not an IP address",
            hint="use 127.0.0.1, [::1] or localhost",
        ) from None


def hose_address(listen: str, *, source: str = "hose.listen") -> tuple[str, int] | None:
    """Host and port of the hose listener, None for "": no listener. Raises BadConfig."""
    return host_and_port(listen, "hose.listen", source) if listen else None


def host_and_port(listen: str, key: str, source: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise BadConfig(
            f"{source}: {key} = {listen[:200]!r} is not host:port",
            hint="for instance 127.0.0.1:8480 or [::1]:8480",
        )
    return host, int(port)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: cannot be read: {error}") from None
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{path}: not TOML: {error}") from None
    values = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise _unknown(section, f"{path}:{_line(text, section)}", "a top-level key")
        if section not in Config.__struct_fields__:
            raise _unknown_section(section, f"{path}:{_line(text, section)}")
        for field, value in _flat(section, content):
            name = f"{section}.{field}"
            source = f"{path}:{_line(text, name)}"
            if name not in KEYS:
                raise _unknown(name, source, name)
            values[name] = _checked(KEYS[name], value, source)
    return values


def _flat(section: str, content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values; ``[state.ground] url`` is ``ground_url`` of ``[state]``."""
    for field, value in content.items():
        if isinstance(value, dict) and f"{section}.{field}" not in KEYS:
            inner = {f"{field}_{name}": one for name, one in value.items()}
            if inner and any(f"{section}.{name}" in KEYS for name in inner):
                yield from inner.items()
                continue
        yield field, value


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    by_variable = {_variable(name): key for name, key in KEYS.items()}
    values = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX) or variable in RESERVED_ENV:
            continue
        if variable.startswith(RESERVED_ENV_PREFIXES):
            continue
        key = by_variable.get(variable)
        if key is None:
            bare = {name.removeprefix(ENV_PREFIX): name for name in (*by_variable, *RESERVED_ENV)}
            near = difflib.get_close_matches(variable.removeprefix(ENV_PREFIX), bare, 1, 0.6)
            raise BadConfig(
                f"environment: {variable} is not a key of the configuration",
                hint=f"did you mean {bare[near[0]]}?" if near else "edgeagent check-config lists the keys",
            )
        values[key.name] = _checked(key, _parsed(key, text), f"environment {variable}")
    return values


def _from_flags(overrides: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for name, text in overrides.items():
        if name not in KEYS:
            raise _unknown(name, f"flag {name}", name)
        values[name] = _checked(KEYS[name], _parsed(KEYS[name], text), f"flag {name}")
    return values


def _variable(name: str) -> str:
    return ENV_PREFIX + name.replace(".", "_").upper()


def _parsed(key: _Key, text: str) -> Any:
    """The value that ``text`` of a flag or variable means, or the text itself when it means none."""
    if key.kind is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            text.strip().lower(), text
        )
    if key.kind is int:
        try:
            return int(text.strip(), 10)
        except ValueError:
            return text
    return split_peers(text) if key.kind is dict else text


def _checked(key: _Key, value: Any, source: str) -> Any:
    right = type(value) is key.kind
    if right and key.choices:
        right = value in key.choices
    if right and key.low is not None and key.high is not None:
        right = key.low <= value <= key.high
    if right and key.kind is str:
        right = "\0" not in value and len(value) <= 4096
    if not right:
        raise BadConfig(
            f"{source}: {key.name} = {_short(value)} is not allowed", hint=f"it is {key.allowed()}"
        )
    if key.name == "http.listen" or (key.name == "http.listen_tls" and value):
        listen_address(value, key.name, source=source)
    if key.name == "placement.signers":
        public_keys(value, f"{source}: {key.name}")
    if key.name == "hose.listen":
        hose_address(value, source=source)
    return checked_peers(value, source=source) if key.kind is dict else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _unknown(name: str, source: str, shown: str) -> BadConfig:
    field = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, KEYS, 1, 0.6) or [key for key in KEYS if key.endswith("." + field)]
    return BadConfig(
        f"{source}: {shown if shown == name else f'{name} as {shown}'} is not a key of the configuration",
        hint=f"did you mean {near[0]}?" if near else "edgeagent check-config lists the keys",
    )


def _unknown_section(section: str, source: str) -> BadConfig:
    near = difflib.get_close_matches(section, Config.__struct_fields__, 1, 0.5)
    known = ", ".join(Config.__struct_fields__)
    return BadConfig(
        f"{source}: [{section}] is not a section of the configuration",
        hint=f"did you mean [{near[0]}]?" if near else f"the sections are {known}",
    )


def _line(text: str, name: str) -> int:
    """The line on which the key or section ``name`` is set; 1 when it is written in an unusual way."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.\"'-]+)\s*\]", line):
            section = header[1].strip("\"'")
            if section == name:
                return number
        elif (assigned := re.match(r"\s*([\w.\"'-]+)\s*=", line)) is not None:
            key = assigned[1].strip("\"'")
            if (f"{section}.{key}" if section else key) == name:
                return number
    return 1


def _directory(named: str | None, environ: Mapping[str, str], kind: str, below_home: str) -> str:
    if named:
        return str(Path(named).expanduser().absolute())
    if from_systemd := environ.get(f"{kind}_DIRECTORY", "").partition(":")[0]:
        return from_systemd
    if (xdg := environ.get(f"XDG_{kind}_HOME", "")).startswith("/"):
        return str(Path(xdg) / "edgeagent")
    home = environ.get("HOME", "")
    base = Path(home) if home.startswith("/") else Path("~").expanduser()
    return str(base / below_home / "edgeagent")
