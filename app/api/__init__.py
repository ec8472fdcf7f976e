"""The HTTP routes. FastAPI is imported here and in main, and nowhere below."""
