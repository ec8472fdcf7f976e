"""Runs on disk as people look at them: what each became, in a table or in TensorBoard."""
