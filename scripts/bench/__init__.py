"""Benchmarks the service and what it is compared with, in one run on one machine."""
