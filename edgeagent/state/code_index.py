"""Which machine code was made for which module: digests, kept apart from the files that they vouch for."""

from __future__ import annotations

import json

from edgeagent.state.store import Store

__all__ = ["CodeIndex"]


class CodeIndex:
    """Key (module, compiler, target, configuration) to the SHA-256 of the compiled file."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, key: str) -> str | None:
        row = await self._store.read(
            lambda c: c.execute("SELECT sha256 FROM code_index WHERE key = ?", (key,)).fetchone()
        )
        return None if row is None else str(row[0])

    async def put(self, key: str, sha256: str) -> None:
        await self._store.write(
            lambda c: (
                c.execute(
                    "INSERT OR REPLACE INTO code_index VALUES (?, ?)",
                    (key, sha256),
                ).rowcount
            )
        )

    async def drop(self, key: str) -> None:
        await self._store.write(lambda c: c.execute("DELETE FROM code_index WHERE key = ?", (key,)).rowcount)

    async def keep(self, digests: set[str]) -> int:
        """Drop the keys of modules (a key begins with the module's digest) that are not in ``digests``."""
        kept = json.dumps(sorted(digests))
        return await self._store.write(
            lambda c: (
                c.execute(
                    "DELETE FROM code_index WHERE substr(key, 1, 64) NOT IN (SELECT value FROM json_each(?))",
                    (kept,),
                ).rowcount
            ),
            essential=True,
        )
