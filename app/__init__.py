"""Recurve's service: batched predictions from recurrent models over HTTP. Never imports torch."""

__version__ = "0.1.0"
