"""The HTTP routes. FastAPI is known here and in main, and nowhere below."""
