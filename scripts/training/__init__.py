"""One word of a training run per file: config, data, cell, model, fit, checkpoint, graph, verify, publish."""
