"""Connections: HTTP/1.1 and WebSockets, between the bytes on the wire and the application."""
