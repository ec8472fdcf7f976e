"""Wire formats: bytes to instances and predictions to bytes. No routes, no models, no waiting."""
