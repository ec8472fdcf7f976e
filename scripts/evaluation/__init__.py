"""A model as it is served, beside the truth in the user's own files."""
