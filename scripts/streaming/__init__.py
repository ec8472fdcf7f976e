"""Following a stream step by step: denoising, regression and classification from recordings."""
