"""Forecasting: from the rows of a context to those of the horizon that follows, in one go."""
