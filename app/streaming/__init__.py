"""Streams: sequences that arrive in chunks. The service or the client keeps the state between the chunks."""
