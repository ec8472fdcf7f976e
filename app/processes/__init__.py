"""The worker processes of one service, and what they share: the port, files in memory, orders, metrics."""
