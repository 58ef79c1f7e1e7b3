"""What running costs, by the kind of the node: a flat table of list prices and of estimates that say so.

Each line has its source and date. Money is in US dollars, without taxes, free tiers and discounts. A node's own prices,
where its operator gives any, go before this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

__all__ = [
    "GPU_PRICES",
    "LINKS",
    "PRICES",
    "GpuPrice",
    "Link",
    "Price",
    "gpu_usd_s",
    "link_of",
    "price_of",
    "price_usd",
]

_GIB = float(2**30)


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars for a second of one core and for a second of one GiB; ``link`` is what its results leave over."""

    usd_per_cpu_s: float
    usd_per_gib_s: float
    link: str
    source: str
    date: str


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars for a GiB that is sent over it."""

    usd_per_gib: float
    source: str
    date: str


class GpuPrice(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars for a second of a whole GPU, beside what its host costs."""

    usd_per_gpu_s: float
    source: str
    date: str


_SEEN = "2026-11-29"  # when a source that bears no date was looked at
_S_PER_5_YEARS = 5 * 365.25 * 86_400.0


def _owned(usd: float, cores: int) -> float:
    """What a core costs a second, of a machine that is written off over five years. Energy is weighed elsewhere."""
    return usd / (_S_PER_5_YEARS * cores)


LINKS: Mapping[str, Link] = MappingProxyType(
    {
        "internet": Link(
            usd_per_gib=0.12,
            source="egress of Cloud Run, as summarized by cloudwebschool.com/tools/cloud-run-cost-calculator",
            date=_SEEN,
        ),
        "terrestrial": Link(usd_per_gib=0.0, source="estimate: a line at a flat rate", date=_SEEN),
        "space": Link(
            usd_per_gib=0.0,
            source="estimate: own lasers and antennas; contact time is not priced here",
            date=_SEEN,
        ),
    }
)

PRICES: Mapping[str, Price] = MappingProxyType(
    {
        "cloud": Price(
            usd_per_cpu_s=2.4e-5,
            usd_per_gib_s=2.5e-6,
            link="internet",
            source="cloud.google.com/run/pricing: requests, tier 1 regions, beyond the free tier",
            date=_SEEN,
        ),
        "ground": Price(
            usd_per_cpu_s=_owned(5_000.0, 32),
            usd_per_gib_s=0.0,
            link="terrestrial",
            source="estimate: an own server of 5,000 USD and 32 cores over five years, memory included",
            date=_SEEN,
        ),
        "edge": Price(
            usd_per_cpu_s=_owned(500.0, 4),
            usd_per_gib_s=0.0,
            link="terrestrial",
            source="estimate: an own device of 500 USD and 4 cores over five years, memory included",
            date=_SEEN,
        ),
        "satellite": Price(
            usd_per_cpu_s=_owned(10_000.0 + 6_600.0, 4),
            usd_per_gib_s=0.0,
            link="space",
            source="estimate: an own computer of 10,000 USD, 4 cores and 1 kg over five years; "
            "launch at 6,600 USD/kg (TakeMe2Space's founder in the New Indian Express)",
            date="2025-04-07",
        ),
        "satellite-rented": Price(
            usd_per_cpu_s=2.0 / 60.0,
            usd_per_gib_s=0.0,
            link="space",
            source="2 USD per minute of compute in orbit (TakeMe2Space's founder in the New Indian Express)",
            date="2025-04-07",
        ),
    }
)

GPU_PRICES: Mapping[str, GpuPrice] = MappingProxyType(
    {
        "cloud": GpuPrice(
            usd_per_gpu_s=9.5e-5,
            source="the cost model of Gaia's published runs (polaris-slo-cloud/gaia)",
            date=_SEEN,
        ),
        "ground": GpuPrice(
            usd_per_gpu_s=_owned(5_000.0, 1),
            source="estimate: an own card of 5,000 USD over five years",
            date=_SEEN,
        ),
        "edge": GpuPrice(
            usd_per_gpu_s=_owned(500.0, 1),
            source="estimate: the whole of an own device of 500 USD, which is bought for its GPU",
            date=_SEEN,
        ),
        "satellite": GpuPrice(
            usd_per_gpu_s=_owned(10_000.0 + 6_600.0, 1),
            source="estimate: the whole of the computer above, which is flown for its GPU",
            date="2025-04-07",
        ),
        "satellite-rented": GpuPrice(
            usd_per_gpu_s=2.0 / 60.0,
            source="2 USD per minute of compute in orbit (TakeMe2Space's founder in the New Indian Express)",
            date="2025-04-07",
        ),
    }
)


def gpu_usd_s(kind: str) -> float:
    """Dollars for a second of the GPU of a kind of node; as "edge" for one that is not known."""
    return GPU_PRICES.get(kind, GPU_PRICES["edge"]).usd_per_gpu_s


def price_of(kind: str) -> Price:
    """The prices of a kind of node; those of "edge" for one that is not known."""
    return PRICES.get(kind, PRICES["edge"])


def link_of(kind: str) -> Link:
    """What the results of a kind of node leave over."""
    return LINKS[price_of(kind).link]


def price_usd(kind: str, cpu_ms: float, memory_mib: float, bytes_out: float) -> float:
    """Dollars for one run: the core for ``cpu_ms``, the memory for as long, and what it sends."""
    price, seconds = price_of(kind), max(cpu_ms, 0.0) / 1000.0
    memory = price.usd_per_gib_s * max(memory_mib, 0.0) / 1024.0
    return (price.usd_per_cpu_s + memory) * seconds + link_of(kind).usd_per_gib * max(bytes_out, 0.0) / _GIB
