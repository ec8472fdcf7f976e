"""The runs on disk as the user sees them: in a table, in full, or in TensorBoard; and whether one is being trained."""
