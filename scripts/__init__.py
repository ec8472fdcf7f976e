"""Recurve's trainer: turns time series into a served model. Needs torch; never imports FastAPI."""
