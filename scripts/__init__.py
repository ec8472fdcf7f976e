"""Recurve's trainer: turns time series into a served model. Needs torch; never imports FastAPI."""

import os

import app  # noqa: F401  # it sees to Ctrl-C while modules are loaded

# How long a thread of torch's looks for work before it sleeps; read when torch is loaded, so before anything else. GNU OpenMP lets
# it look for milliseconds: where another process has the core of the thread that it waits for, each of the thousand products of
# an update takes as long as the system's turns do. On two cores with two more busy processes an update of a GRU of 256 units took
# 11 to 20 s so, and 0.6 to 0.8 s with this; with the cores to itself 0.23 s either way.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
