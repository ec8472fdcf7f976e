"""From files to recordings: reading, checking, cleaning and splitting tables of time series."""
