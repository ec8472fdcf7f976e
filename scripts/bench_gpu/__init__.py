"""What a GPU changes: where the graphs' nodes run, how exactly, how fast, in the whole service, and when its memory is taken."""
