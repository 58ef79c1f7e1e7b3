"""Benchmarks: one file a group of cases, one harness (docs/benchmarks.md tells how to run and read them)."""
