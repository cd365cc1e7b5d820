// Rows of 2·half channels whose pairs are turned by angles, or back where `sign` is −1. Pair i is channels i and i + half,
// or 2i and 2i + 1 where they are interleaved. Rows of x are `x_row` elements apart, those of the angles `angle_row`, 0
// where all share one; those of y lie side by side.
static void CK_NAME2(rotate, TYPE)(const void *x_, ptrdiff_t x_row, const void *cosine_, const void *sine_,
                                   ptrdiff_t angle_row, double sign_, int interleaved, void *y_, size_t half, size_t rows) {
    const T sign = (T)sign_;
    for (size_t row = 0; row < rows; row++) {
        const T *restrict x = (const T *)x_ + (ptrdiff_t)row * x_row;
        const T *restrict cosine = (const T *)cosine_ + (ptrdiff_t)row * angle_row;
        const T *restrict sine = (const T *)sine_ + (ptrdiff_t)row * angle_row;
        T *restrict y = (T *)y_ + row * 2 * half;
        if (interleaved) {
            for (size_t i = 0; i < half; i++) {
                const T a = x[2 * i], b = x[2 * i + 1], c = cosine[i], s = sign * sine[i];
                y[2 * i] = a * c - b * s;
                y[2 * i + 1] = b * c + a * s;
            }
        } else {
            for (size_t i = 0; i < half; i++) {
                const T a = x[i], b = x[i + half], c = cosine[i], s = sign * sine[i];
                y[i] = a * c - b * s;
                y[i + half] = b * c + a * s;
            }
        }
    }
}
