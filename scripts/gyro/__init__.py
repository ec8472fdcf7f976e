"""Cleaning the signal of a simulated MEMS gyroscope: the model that is committed, and what it is compared with."""
