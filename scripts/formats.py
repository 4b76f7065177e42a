"""What ml_dtypes says of floats of at most 8 bits, for ir/tests/formats.rs.

For each type the f32 bits of every code, and for every code without a sign the least f32, by its
bits, that is converted to it or to a greater one: conversion is monotonous, so these say what
every f32 is converted to.
"""

import ml_dtypes
import numpy as np

TYPES = {
    "f4e2m1": (ml_dtypes.float4_e2m1fn, 4),
    "f6e2m3": (ml_dtypes.float6_e2m3fn, 6),
    "f6e3m2": (ml_dtypes.float6_e3m2fn, 6),
    "f8e4m3fn": (ml_dtypes.float8_e4m3fn, 8),
    "f8e4m3fnuz": (ml_dtypes.float8_e4m3fnuz, 8),
    "f8e5m2": (ml_dtypes.float8_e5m2, 8),
    "f8e5m2fnuz": (ml_dtypes.float8_e5m2fnuz, 8),
}


def code(dtype, bits):
    return int(np.array([bits], np.uint32).view(np.float32).astype(dtype).view(np.uint8)[0])


def main():
    for name, (dtype, width) in TYPES.items():
        codes = np.arange(2**width, dtype=np.uint8)
        # ml_dtypes has NaNs of either sign where the format has one: only that it is one counts.
        numbers = codes.view(dtype).astype(np.float32)
        decoded = ["nan" if np.isnan(x) else f"{x.view(np.uint32):x}" for x in numbers]
        print(f"decode {name} {' '.join(decoded)}")
        steps = []
        low, infinity = 0, 0x7F800000
        while (last := code(dtype, low)) != code(dtype, infinity):
            a, b = low, infinity
            while b - a > 1:
                middle = (a + b) // 2
                a, b = (middle, b) if code(dtype, middle) == last else (a, middle)
            steps.append(f"{b:x}:{code(dtype, b):x}")
            low = b
        print(f"encode {name} {' '.join(steps)}")
        special = [0x80000000, 0xFF800000, 0x7FC00000]
        print(f"special {name} {' '.join(f'{bits:x}:{code(dtype, bits):x}' for bits in special)}")
    scales = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    decoded = ["nan" if np.isnan(x) else f"{x.view(np.uint32):x}" for x in scales]
    print(f"decode f8e8m0 {' '.join(decoded)}")


if __name__ == "__main__":
    main()
