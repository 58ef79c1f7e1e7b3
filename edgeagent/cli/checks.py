"""The single checks of ``edgeagent doctor``; each returns a finding and never raises."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import platform
import resource
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["CHECKS", "Finding"]

Level = Literal["ok", "info", "warn", "fail"]
_BUILD = "apt-get install g++ python3-dev, then: make native"
_FDS_WANTED = 4096
_MIB = 1 << 20


class Finding(msgspec.Struct, frozen=True):
    """``fail`` means that the daemon cannot run; ``warn`` that it runs worse; ``info`` that an extra is absent."""

    name: str
    level: Level
    detail: str
    fix: str = ""


def python() -> Finding:
    version = platform.python_version()
    level: Level = "ok" if sys.version_info >= (3, 11) else "fail"
    return Finding("python", level, f"{version} on {platform.machine()}", "install Python 3.11 or later")


def extension() -> Finding:
    from edgeagent import native

    wanted = os.environ.get("EDGEAGENT_NATIVE", "auto")
    if wanted not in ("auto", "never"):
        return Finding(
            "extension", "warn", f"EDGEAGENT_NATIVE={wanted!r} is neither auto nor never", "unset it"
        )
    if native.accelerated:
        return Finding("extension", "ok", "the C++ engine is loaded")
    fix = "unset EDGEAGENT_NATIVE" if "EDGEAGENT_NATIVE" in native.why_not else _BUILD
    return Finding("extension", "warn", f"pure Python path in use: {native.why_not}", fix)


def engine() -> Finding:
    try:
        import wasmtime

        from edgeagent.runtime.engine_config import wheel_version

        wasmtime.Engine()
    except Exception as error:  # noqa: BLE001 - a check reports, whatever happens
        return Finding("wasmtime", "fail", f"no engine: {error}", "pip install 'wasmtime>=50,<51'")
    version = wheel_version()
    if not version.startswith("50."):
        return Finding("wasmtime", "fail", f"{version} is not supported", "pip install 'wasmtime>=50,<51'")
    return Finding("wasmtime", "ok", version)


def jit() -> Finding:
    """Whether memory may become executable (systemd's MemoryDenyWriteExecute forbids it)."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    try:
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        allowed = libc.mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) == 0
        libc.mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        del page
    if allowed:
        return Finding("jit", "ok", "machine code may be made executable")
    return Finding("jit", "warn", "executable memory is forbidden here", "set runtime.target = 'pulley64'")


def event_loop() -> Finding:
    if importlib.util.find_spec("uvloop") is None:
        return Finding("uvloop", "warn", "absent; asyncio's own loop is slower", "pip install uvloop")
    return Finding("uvloop", "ok", "present")


def http_parser() -> Finding:
    try:
        import aiohttp
        import aiohttp.http_parser as parser
    except ImportError as error:
        return Finding("aiohttp", "fail", str(error), "pip install 'aiohttp>=3.14.4'")
    if parser.HttpRequestParser is parser.HttpRequestParserPy:
        fix = "pip install --force-reinstall aiohttp, and unset AIOHTTP_NO_EXTENSIONS"
        return Finding("aiohttp", "fail", f"{aiohttp.__version__} without its C parser", fix)
    return Finding("aiohttp", "ok", f"{aiohttp.__version__} with its C parser")


def compiler() -> Finding:
    headers = Path(sysconfig.get_paths()["include"], "Python.h").exists()
    found = shutil.which("g++")
    if found and headers:
        return Finding("compiler", "ok", f"{found}, Python headers present")
    missing = [name for name, here in (("g++", found), ("python3-dev", headers)) if not here]
    return Finding("compiler", "info", f"missing: {', '.join(missing)} (only to build the extension)", _BUILD)


def memory() -> Finding:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    level: Level = "ok" if free > 128 * _MIB else "warn"
    return Finding(
        "memory", level, f"{free // _MIB} of {total // _MIB} MiB free", "stop something, or add memory"
    )


def descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    level: Level = "ok" if hard >= _FDS_WANTED or hard == resource.RLIM_INFINITY else "warn"
    return Finding(
        "descriptors", level, f"up to {hard} open files", "raise LimitNOFILE (systemd) or ulimit -Hn"
    )


def kernel() -> Finding:
    try:
        os.close(os.memfd_create("edgeagent-doctor"))
    except OSError as error:
        return Finding(
            "kernel",
            "warn",
            f"{platform.release()} refuses memfds ({error.strerror}): functions get copies of each other's data",
            "use Linux 5.7 or later, and a sandbox that allows memfd_create",
        )
    return Finding("kernel", "ok", f"{platform.release()}: memfd")


def state_directory() -> Finding:
    from edgeagent.node.config import load_config

    try:
        config = load_config(None, os.environ, {})
        path = Path(config.node.state_dir or "~/.local/state/edgeagent").expanduser()
        nearest = next(p for p in (path, *path.parents) if p.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except Exception as error:  # noqa: BLE001 - a check reports, whatever happens
        return Finding(
            "state", "fail", f"cannot write the state directory: {error}", "run with --state-dir DIR"
        )
    free = shutil.disk_usage(nearest).free // _MIB
    return Finding(
        "state", "ok" if free > 256 else "warn", f"{path}, {free} MiB free", "free some disk space"
    )


def gpu() -> Finding:
    from edgeagent.cli.gpu_check import gpu_finding

    level, detail, fix = gpu_finding()
    return Finding("gpu", level, detail, fix)


def nn_extra() -> Finding:
    if importlib.util.find_spec("onnxruntime") is None:
        return Finding("wasi-nn", "info", "absent: onnxruntime", "pip install 'edgeagent[nn]'")
    return Finding("wasi-nn", "ok", "onnxruntime present")


def demo_extra() -> Finding:
    missing = [name for name in ("tifffile", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("demo", "info", f"absent: {', '.join(missing)}", "pip install 'edgeagent[demo]'")
    return Finding("demo", "ok", "tifffile and matplotlib present")


def bench_peers() -> Finding:
    wanted = {"wrk": "wrk", "wasmtime serve": "wasmtime", "workerd": "workerd"}
    missing = [name for name, program in wanted.items() if shutil.which(program) is None]
    if missing:
        return Finding("bench peers", "info", f"not on PATH: {', '.join(missing)}", "see docs/benchmarks.md")
    return Finding("bench peers", "ok", "wrk, wasmtime serve, workerd")


def systemd() -> Finding:
    if Path("/run/systemd/system").is_dir():
        return Finding("systemd", "ok", "running; systemd/edgeagent.service can be installed")
    return Finding("systemd", "info", "not running here; start the daemon with: edgeagent run")


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    extension,
    engine,
    jit,
    event_loop,
    http_parser,
    kernel,
    memory,
    descriptors,
    state_directory,
    compiler,
    gpu,
    nn_extra,
    demo_extra,
    bench_peers,
    systemd,
)
