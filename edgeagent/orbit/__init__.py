"""Where every node is, now and later: element sets, SGP4, frames, sight, sun and contact plans (docs/orbits.md).

Pure: no clock, no loop, no files; times are given. ``elements``, ``wire``, ``age`` and the parsers need no numpy, so
a node may carry other nodes' orbits without paying for it; the modules that compute positions do.
"""
