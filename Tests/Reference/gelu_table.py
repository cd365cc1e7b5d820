"""Prints the numbers of Sources/CKernels/loops/gelu.h, for float32.

First Φ(−t)·e^(t²/2) as P(t) / Q(t) up to t = 13.28, and e^(−w/2) around 0, with the errors before rounding.

Then the table: q(t) = t·Φ(−t) as polynomials, one for each of 16 intervals. The intervals are those between floats
u = 31/4 − t with the same exponent and the same three upper bits of the mantissa: half a
unit wide up to t = 3.75, a quarter up to 5.75. The first has its centre at t = 0, where q is 0 and so is its polynomial. The
coefficients are least squares on Chebyshev nodes in 50 digits, of the function relative to itself and, for a twentieth, of its
slope relative to the larger of the two terms it consists of. So is what the table says of their errors: before rounding, in units
of 2⁻²⁴.
"""

import re

import mpmath
import numpy

mpmath.mp.dps = 50
TOP = mpmath.mpf("13.28")
DEGREE = 7
START = mpmath.mpf(31) / 4
SLOPE_WEIGHT = mpmath.mpf(1) / 20


def tail(t):
    return mpmath.erfc(t / mpmath.sqrt(2)) / 2


def density(t):
    return mpmath.exp(-t * t / 2) / mpmath.sqrt(2 * mpmath.pi)


def q(t):
    return t * tail(t)


def slope(t):
    return tail(t) - t * density(t)


def slope_size(t):
    return max(tail(t), t * density(t))


def interval(index):
    """The centre and half the width of an interval; `index` is the lowest bit of u's exponent and three of its mantissa."""
    low, step = (4, mpmath.mpf(1) / 2) if index >= 8 else (2, mpmath.mpf(1) / 4)
    return START - (low + (index % 8) * step + step / 2), step / 2


def fitted(index):
    """Coefficients of s = t − centre from the highest power down, and the worst errors of the polynomial and of its slope."""
    centre, half = interval(index)
    lowest = 0 if centre == 0 else -1
    powers = range(1 if centre == 0 else 0, DEGREE + 1)
    rows, targets = [], []
    for j in range(4 * DEGREE):
        u = (lowest + 1 + (1 - lowest) * mpmath.cos(mpmath.pi * (2 * j + 1) / (8 * DEGREE))) / 2
        t = centre + half * u
        rows.append([u**k / q(t) for k in powers])
        targets.append(1)
        scale = slope_size(t) * half / SLOPE_WEIGHT
        rows.append([k * u ** (k - 1) / scale if k > 0 else 0 for k in powers])
        targets.append(slope(t) * half / scale)
    scaled = mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix(targets))
    coefficients = [mpmath.mpf(0)] * powers[0] + [scaled[i] / half**k for i, k in enumerate(powers)]
    errors = []
    for j in range(100 * lowest, 101):
        s = half * j / 100
        if centre + s == 0:
            continue
        value = sum(c * s**k for k, c in enumerate(coefficients))
        derivative = sum(k * c * s ** (k - 1) for k, c in enumerate(coefficients) if k > 0)
        t = centre + s
        errors.append((abs(value / q(t) - 1), abs(derivative - slope(t)) / slope_size(t)))
    return coefficients[::-1], [max(error) * 2**24 for error in zip(*errors)]


def mills(t):
    return tail(t) * mpmath.exp(t * t / 2)


def fitted_mills(numerator=4, denominator=5, rounds=25, count=400):
    """P and Q from the highest power down, and the worst error of P / Q: linear least squares for P − m·Q, again and again, with
    the last round's Q as the scale and its errors as weights, which evens them out. Q(0) = 1."""
    nodes = [TOP * ((1 - mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * count))) / 2) ** 1.5 for k in range(count)]
    values = [mills(t) for t in nodes]
    scales, weights = [mpmath.mpf(1)] * count, [mpmath.mpf(1)] * count
    best = None
    for _ in range(rounds):
        rows, targets = [], []
        for t, value, scale, weight in zip(nodes, values, scales, weights):
            unit = weight / (value * scale)
            rows.append([t**k * unit for k in range(numerator + 1)] + [-value * t**k * unit for k in range(1, denominator + 1)])
            targets.append(value * unit)
        solution = list(mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix(targets)))
        p, q = solution[numerator::-1], solution[:numerator:-1] + [mpmath.mpf(1)]
        scales = [mpmath.polyval(q, t) for t in nodes]
        errors = [abs(mpmath.polyval(p, t) / scale / value - 1) for t, scale, value in zip(nodes, scales, values)]
        if best is None or max(errors) < best[2]:
            best = (p, q, max(errors))
        mean = sum(errors) / count
        weights = [weight * mpmath.sqrt(error / mean + mpmath.mpf("1e-3")) for weight, error in zip(weights, errors)]
        mean = sum(weights) / count
        weights = [weight / mean for weight in weights]
    return best


def fitted_exponential(degree=5):
    """(e^(−w/2) − 1) / w for |w| ≤ ln 2 from the highest power down, and the worst error relative to itself."""
    half = mpmath.log(2) * mpmath.mpf("1.001")
    nodes = [half * mpmath.cos(mpmath.pi * (2 * j + 1) / (16 * degree)) for j in range(8 * degree)]
    values = [mpmath.expm1(-w / 2) / w for w in nodes]
    rows = mpmath.matrix([[w**k / value for k in range(degree + 1)] for w, value in zip(nodes, values)])
    coefficients = list(mpmath.lu_solve(rows, mpmath.matrix([1] * len(nodes))))[::-1]
    return coefficients, max(abs(mpmath.polyval(coefficients, w) / value - 1) for w, value in zip(nodes, values))


def print_density():
    p, q, error = fitted_mills()
    print(f"// P / Q, {float(error * 2**24):.2f}·2⁻²⁴ off at most, from the highest power down:")
    print(f"// P {' '.join(literal(c) for c in p)}\n// Q {' '.join(literal(c) for c in q)}")
    exponential, error = fitted_exponential()
    print(f"// e^(−w/2) = 1 + w·(…), the brackets {float(error * 2**24):.2f}·2⁻²⁴ off at most:")
    print(f"// {' '.join(literal(c) for c in exponential)}")


def literal(number):
    return re.sub(r"\.?0+p", "p", float(numpy.float32(float(number))).hex()) + "f"


def main():
    print_density()
    fits = [fitted(index) for index in range(16)]
    value, slopes = (float(max(errors[part] for _, errors in fits)) for part in (0, 1))
    print(f"// q(t): the coefficients of each power, from the 7th down; {value:.2f}·2⁻²⁴ off at most, its slope {slopes:.1f}·2⁻²⁴.")
    print("// Printed by Tests/Reference/gelu_table.py, which tells what the intervals are.")
    print(f"static const float gelu_tail[{DEGREE + 1}][16] = {{")
    for power in range(DEGREE + 1):
        numbers = [literal(coefficients[power]) for coefficients, _ in fits]
        rows = ",\n     ".join(", ".join(numbers[i : i + 6]) for i in range(0, 16, 6))
        print(f"    {{{rows}}},")
    print("};")


if __name__ == "__main__":
    main()
