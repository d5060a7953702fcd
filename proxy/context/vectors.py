"""Vectors of texts, in the forms in which they are kept and compared."""

from collections.abc import Sequence

import numpy as np


def packed(vector: Sequence[float]) -> bytes:
    """Little-endian 16-bit floats, of length 1 as a vector; what is no number counts as 0."""
    numbers = np.nan_to_num(np.asarray(vector, dtype="<f4"), nan=0.0, posinf=0.0, neginf=0.0)
    length = float(np.linalg.norm(numbers))
    return bytes((numbers / length if length > 0 else numbers).astype("<f2").tobytes())


def unpacked(vector: bytes) -> bytes:
    """The same as little-endian 32-bit floats."""
    return bytes(np.frombuffer(vector, dtype="<f2").astype("<f4").tobytes())
