"""Prints the table of Sources/CKernels/loops/gelu.h: Φ(−t) as polynomials, one for each of 16 intervals.

The intervals are those between floats u = 511/64 − t with the same exponent and the same three upper bits of the mantissa: half
a unit wide up to t = 3.98, a quarter up to 5.98. The coefficients are least squares on Chebyshev nodes in 40 digits, relative to
the function, and so is what the table says of their errors: before rounding, in units of 2⁻²⁴.
"""

import re

import mpmath
import numpy

mpmath.mp.dps = 40
DEGREE = 7
REACH = mpmath.mpf(511) / 64


def tail(t):
    return mpmath.erfc(t / mpmath.sqrt(2)) / 2


def density(t):
    return mpmath.exp(-t * t / 2) / mpmath.sqrt(2 * mpmath.pi)


def interval(index):
    """The centre and half the width of an interval; `index` is the lowest bit of u's exponent and three of its mantissa."""
    low, step = (4, mpmath.mpf(1) / 2) if index >= 8 else (2, mpmath.mpf(1) / 4)
    return REACH - (low + (index % 8) * step + step / 2), step / 2


def fitted(index):
    """Coefficients of s = t − centre from the highest power down, and the worst errors of the polynomial and of its slope."""
    centre, half = interval(index)
    nodes = [mpmath.cos(mpmath.pi * (2 * j + 1) / (8 * DEGREE)) for j in range(4 * DEGREE)]
    sizes = [tail(centre + half * u) for u in nodes]
    scaled = mpmath.lu_solve(
        mpmath.matrix([[u**k / size for k in range(DEGREE + 1)] for u, size in zip(nodes, sizes)]),
        mpmath.matrix([1] * len(nodes)),
    )
    powers = [scaled[k] / half**k for k in range(DEGREE + 1)]
    errors = []
    for j in range(-100, 101):
        s = half * j / 100
        value = sum(c * s**k for k, c in enumerate(powers))
        slope = sum(k * c * s ** (k - 1) for k, c in enumerate(powers) if k > 0)
        errors.append((abs(value / tail(centre + s) - 1), abs(slope / density(centre + s) + 1)))
    return powers[::-1], [max(error) * 2**24 for error in zip(*errors)]


def literal(number):
    return re.sub("0+p", "p", float(numpy.float32(float(number))).hex()) + "f"


def main():
    fits = [fitted(index) for index in range(16)]
    value, slope = (float(max(errors[part] for _, errors in fits)) for part in (0, 1))
    print(f"// Φ(−t): the coefficients of each power, from the 7th down; {value:.2f}·2⁻²⁴ off at most, its slope {slope:.1f}·2⁻²⁴.")
    print("// Printed by Tests/Reference/gelu_table.py, which tells what the intervals are.")
    print(f"static const float normal_tail[{DEGREE + 1}][16] = {{")
    for power in range(DEGREE + 1):
        numbers = [literal(coefficients[power]) for coefficients, _ in fits]
        rows = ",\n     ".join(", ".join(numbers[i : i + 6]) for i in range(0, 16, 6))
        print(f"    {{{rows}}},")
    print("};")


if __name__ == "__main__":
    main()
