"""Streams: sequences that come in chunks, and the state that is kept between them, here or by the client."""
