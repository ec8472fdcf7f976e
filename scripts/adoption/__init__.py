"""Makes a model version of an ONNX file that others made: inspect -> propose -> try -> publish."""
