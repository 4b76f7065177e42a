"""Random ONNX graphs: what there is to draw from, and the drawing."""
