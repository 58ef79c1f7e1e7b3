// Included first by every file of this room: products and sums are never fused, so that lengths and comparisons have the
// same bits as numpy's on every machine (aarch64 would fuse by default), and with them ties and edges.
#pragma once

#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
