"""Cleaning the signal of a simulated MEMS gyroscope: the model in this repository, and what it is compared with."""
