"""Recurve's trainer: turns time series into a served model. Needs torch; never imports FastAPI."""

import os

import app  # noqa: F401  # it handles Ctrl-C while modules are loaded

# How long an idle thread of torch spins before it sleeps; read when torch is loaded, so it is set before anything else. By default
# GNU OpenMP spins for milliseconds. If another process has the core of the thread that is waited for, each of the thousand matrix
# products of an update then takes a time slice of the scheduler. On two cores with two more busy processes, an update of a GRU of
# 256 units took 11 to 20 s by default, and 0.6 to 0.8 s with this; with the cores to itself 0.23 s either way.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
