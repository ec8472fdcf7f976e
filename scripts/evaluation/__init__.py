"""Evaluates a model as it is served, on the truth in the user's own files."""
