"""Turns an ONNX file from elsewhere into a model version: inspect -> propose -> try -> publish."""
