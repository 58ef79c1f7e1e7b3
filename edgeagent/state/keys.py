"""Keys of state: names free of any location, in segments that ``/`` separates.

``runs/RUN/NAME`` is the state of one run of a workflow; a guest of that run says ``run/NAME``, so that runs which
happen at once cannot mix their keys. Everything else is named as it is, ``sensors/eo-1/last``.
"""

from __future__ import annotations

import hashlib
import re

from edgeagent.state.errors import BadKey

__all__ = [
    "CHUNK_BYTES",
    "GROUP_ITEMS_MAX",
    "INLINE_BYTES_MAX",
    "KEY_BYTES_MAX",
    "RUNS",
    "check_key",
    "check_prefix",
    "digest_of",
    "group_of",
    "is_below",
    "resolve",
    "resolve_prefix",
]

KEY_BYTES_MAX = 512
GROUP_ITEMS_MAX = 1024
INLINE_BYTES_MAX = 64 << 10  # larger values are kept in chunks
CHUNK_BYTES = 256 << 10
RUNS = "runs/"
_OWN_RUN = "run/"
# What nearly all keys are made of: to see that such a one is sound takes one look.
_PLAIN = re.compile(r"[0-9A-Za-z_:-][0-9A-Za-z_.:-]*(?:/[0-9A-Za-z_:-][0-9A-Za-z_.:-]*)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_key(key: str) -> str:
    """The key; raises BadKey for what is none."""
    if len(key) <= KEY_BYTES_MAX and _PLAIN.fullmatch(key):
        return key
    if not key:
        raise BadKey("the key is empty")
    _check_text(key, "key")
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            raise BadKey(
                f"the key {key[:80]!r} has the segment {segment!r}",
                hint="segments between slashes are not empty, . or ..",
            )
    return key


def check_prefix(prefix: str) -> str:
    """The prefix, "" for all keys; raises BadKey for what begins no key."""
    _check_text(prefix, "prefix")
    if prefix.startswith("/") or any(one in ("", ".", "..") for one in prefix.split("/")[:-1]):
        raise BadKey(f"no key begins with {prefix[:80]!r}")
    return prefix


def _check_text(text: str, what: str) -> None:
    if _CONTROL.search(text):
        raise BadKey(f"the {what} {text[:80]!r} has a control character")
    if (size := len(text.encode())) > KEY_BYTES_MAX:
        raise BadKey(f"the {what} has {size} bytes", hint=f"at most {KEY_BYTES_MAX}")


def group_of(key: str) -> str:
    """What moves together: the run of a run's key, else all that shares the first segment."""
    head, _, rest = key.partition("/")
    return RUNS + rest.partition("/")[0] if head == "runs" and rest else head


def digest_of(group: str) -> bytes:
    """8 bytes that stand for a group in gossip."""
    return hashlib.sha256(group.encode()).digest()[:8]


def is_below(key: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a key begins with one of the prefixes."""
    return key.startswith(prefixes) if prefixes else False


def resolve(key: str, run: str) -> str:
    """The full key of what a guest says: ``run/NAME`` is its run's. Raises BadKey, also outside a run."""
    if not key.startswith(_OWN_RUN):
        return check_key(key)
    if not run:
        raise BadKey(f"the key {key[:80]!r} is of a run, and this call is of none")
    return check_key(f"{RUNS}{run}/{key.removeprefix(_OWN_RUN)}")


def resolve_prefix(prefix: str, run: str) -> str:
    """The same of the beginning of keys."""
    if not prefix.startswith(_OWN_RUN):
        return check_prefix(prefix)
    if not run:
        raise BadKey(f"the prefix {prefix[:80]!r} is of a run, and this call is of none")
    return check_prefix(f"{RUNS}{run}/{prefix.removeprefix(_OWN_RUN)}")
