"""The worker processes of one service, and what they share: ports, files in memory, orders, metrics."""
