"""Wire formats: bytes to instances, and predictions to bytes. No routes, no loaded models, no `await`."""
