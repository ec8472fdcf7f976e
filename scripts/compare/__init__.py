"""Tests the paper's claims: compares gated cells on tasks whose answers are known."""
