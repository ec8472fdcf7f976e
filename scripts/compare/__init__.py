"""The paper's claims, tested: gated cells beside each other on tasks whose answers are known."""
