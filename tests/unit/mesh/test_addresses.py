"""Addresses of the mesh, and whom a node leaves alone."""

from __future__ import annotations

import pytest

from edgeagent.mesh.addresses import AddressRefused, Allowed, endpoint_of, is_loopback, text_of


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.7:8481", ("192.0.2.7", 8481)),
        ("[::1]:5", ("::1", 5)),
        ("[2001:db8:0::1]:65535", ("2001:db8::1", 65535)),
    ],
)
def test_literal_addresses(text: str, endpoint: tuple[str, int]) -> None:
    assert endpoint_of(text) == endpoint
    assert endpoint_of(text_of(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:-1", "localhost:80", "::1:80", "[::1]",
     "1.2.3.4:８０", "1.2.3.4:999999", "[1.2.3.4:80", "1.2.3:80", "http://1.2.3.4:80", "[fe80::1%lo]:x"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(AddressRefused):
        endpoint_of(text)


def test_only_allowed_networks() -> None:
    allowed = Allowed(["10.0.0.0/8", "2001:db8::/32"])
    assert "10.1.2.3" in allowed
    assert "2001:db8::5" in allowed
    assert "11.0.0.1" not in allowed
    assert "::1" not in allowed
    with pytest.raises(AddressRefused, match="no network"):
        Allowed(["10.0.0.0/99"])


def test_loopback() -> None:
    assert is_loopback("127.8.9.1")
    assert is_loopback("::1")
    assert not is_loopback("10.0.0.1")
    assert not is_loopback("localhost")
