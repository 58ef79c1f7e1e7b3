"""Whatever a peer of the hose socket sends, the node answers with credits or one refusal, and loses no descriptor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.hose.messages import Bye, Credit, Hello, Message, Publish, Refused, Role, Welcome, encode
from tests.integration.hose_raw_peer import RawPeer, memfd
from tests.integration.hose_server import HoseServer, Serve, servers

FDS: list[Callable[[], int]] = [memfd, lambda: memfd(seals=0), lambda: os.open("/dev/null", os.O_RDWR)]

small = st.integers(0, 3)
# The generation is a difference from the right one: 0 is right.
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, st.sampled_from(Role), st.just("camera"), small),
    st.builds(Welcome, small, small),
    st.builds(Publish, small, st.sampled_from([0, 0, 0, 1]), small, small),
    st.builds(Credit, small, st.sampled_from([0, 0, 0, 1])),
    st.builds(Refused, small, st.just("no")),
    st.builds(Bye),
)
steps = st.lists(
    st.tuples(
        st.one_of(messages, messages, st.binary(max_size=140)), st.lists(st.sampled_from(FDS), max_size=2)
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HoseServer]:
    with servers(tmp_path_factory.mktemp("hose")) as serve:
        yield _serve(serve)


def _serve(serve: Serve) -> HoseServer:
    return serve(credits_max=2, frame_bytes_max=1 << 20)


def _say(peer: RawPeer, step: Message | bytes, makers: list[Callable[[], int]]) -> bool:
    fds = [make() for make in makers]
    if isinstance(step, Publish | Credit):
        changed = step.generation ^ peer.generation
        step = type(step)(
            **{**{name: getattr(step, name) for name in step.__struct_fields__}, "generation": changed}
        )
    try:
        peer.send(encode(step) if not isinstance(step, bytes) else step, fds)
    except (BrokenPipeError, ConnectionResetError):
        return False
    finally:
        for fd in fds:
            os.close(fd)
    return True


@settings(max_examples=200)
@given(st.sampled_from([None, *Role]), steps)
def test_any_conversation_ends_well(
    server: HoseServer, role: Role | None, steps: list[tuple[Message | bytes, list[Callable[[], int]]]]
) -> None:
    with RawPeer(server.path) if role is None else RawPeer.attached(server.path, role) as peer:
        for step, makers in steps:
            if not _say(peer, step, makers):
                break
    # It ends by itself, with the frames it has sent released.
    while server.socket.stats.peers:
        if server.frames.empty():
            server.wait_for_change()
        else:
            server.release(server.frame())


def test_and_the_node_still_serves(server: HoseServer) -> None:
    with RawPeer.attached(server.path) as peer:
        peer.publish(memfd())
        frame = server.frame()
        assert os.pread(frame.fd, 5, 0) == b"frame"
        server.release(frame)
        assert isinstance(peer.receive()[0], Credit)
