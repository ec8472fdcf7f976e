"""Learning from recordings in files: denoising, regression and classification step by step, and forecasting."""
