"""examples/camera/feed.c, compiled as its README says: frames arrive, and Ctrl-C ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.hose.client import library_path
from tests.integration.hose_server import Serve, servers

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or ""

pytestmark = pytest.mark.skipif(
    not (COMPILER and library_path().is_file()), reason="no C compiler, or libedgehose.so is not built"
)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with servers(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("camera") / "feed"
    source, library = ROOT / "examples/camera/feed.c", library_path().resolve()
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
    command = [COMPILER, *flags, f"-I{ROOT / 'native/include'}", str(source), "-o", str(program)]
    # EDGEHOSE_LIB may name a library with a sanitizer, which the program would have to be linked with as well.
    done = subprocess.run(
        [*command, str(library), f"-Wl,-rpath,{library.parent}"], capture_output=True, check=False
    )
    if done.returncode and b"san" in done.stderr:
        pytest.skip("libedgehose.so is instrumented")
    assert done.returncode == 0, done.stderr.decode()
    return str(program)


def test_frames_of_another_program_arrive(serve: Serve, feed: str) -> None:
    server = serve()
    process = subprocess.Popen(
        [feed, server.path, "camera", "5000", "20", "0"], stdout=subprocess.PIPE, text=True
    )
    for number in range(20):
        frame = server.frame()
        ramp = bytes((number + at) % 256 for at in range(5000))
        assert os.pread(frame.fd, frame.bytes, 0) == ramp
        server.release(frame)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.startswith("20 frames of 5000 bytes in ")


def test_ctrl_c_ends_it_while_it_waits_for_a_credit(serve: Serve, feed: str) -> None:
    server = serve(credits_max=1)
    process = subprocess.Popen(
        [feed, server.path, "camera", "64", "0", "0"], stdout=subprocess.PIPE, text=True
    )
    frame = server.frame()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.startswith("1 frames of 64 bytes in ")
    server.release(frame)


def test_what_the_node_refuses_is_said(serve: Serve, feed: str) -> None:
    server = serve(accepts=lambda _: False)
    done = subprocess.run(
        [feed, server.path, "camera"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == "feed: the node refused: there is no hose camera\n"


@pytest.mark.parametrize("arguments", [[], ["x"], ["x", "camera", "-1"], ["x", "camera", "1k"]])
def test_wrong_arguments_are_refused(feed: str, arguments: list[str]) -> None:
    assert subprocess.run([feed, *arguments], capture_output=True, check=False, timeout=60).returncode == 2
