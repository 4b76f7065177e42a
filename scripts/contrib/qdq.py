"""Models of DequantizeLinear, operators and QuantizeLinear."""

NAMES: set[str] = set()
