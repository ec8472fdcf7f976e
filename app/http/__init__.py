"""Connections: HTTP/1.1 and WebSockets, from their bytes to the application and back."""
