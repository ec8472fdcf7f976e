"""What a GPU changes: where the graphs run on it, how exactly, how fast, through the whole service, and when its memory is gone."""
