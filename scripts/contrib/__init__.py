"""Operators of ONNX Runtime's own and quantised models, drawn at random."""
