// Sums and maxima. Each sum runs over a fixed number of lanes that are combined in pairs: more accurate than one
// running total, and the same whatever the vector width.

#define LANES 16

static inline T CK_NAME2(combine, TYPE)(T *lanes) {
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

static inline T CK_NAME2(sum_of, TYPE)(const T *x, size_t n) {
    T lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) lanes[l] += x[i + l];
    for (size_t l = 0; i < n; i++, l++) lanes[l] += x[i];
    return CK_NAME2(combine, TYPE)(lanes);
}

static inline T CK_NAME2(dot_of, TYPE)(const T *x, const T *y, size_t n) {
    T lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) lanes[l] += x[i + l] * y[i + l];
    for (size_t l = 0; i < n; i++, l++) lanes[l] += x[i] * y[i];
    return CK_NAME2(combine, TYPE)(lanes);
}

// The largest element; NaN where there is one; -∞ of nothing.
static inline T CK_NAME2(max_of, TYPE)(const T *x, size_t n) {
    T lanes[LANES];
    for (size_t l = 0; l < LANES; l++) lanes[l] = -(T)INFINITY;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (size_t l = 0; i < n; i++, l++) lanes[l] = x[i] > lanes[l] ? x[i] : lanes[l];
    for (size_t l = 1; l < LANES; l++) lanes[0] = lanes[l] > lanes[0] ? lanes[l] : lanes[0];
    int has_nan = 0;
    for (size_t j = 0; j < n; j++) has_nan |= x[j] != x[j];
    return has_nan ? (T)NAN : lanes[0];
}

static void CK_NAME2(row_sum, TYPE)(const void *x_, void *out_, size_t rows, size_t columns) {
    const T *x = x_;
    T *out = out_;
    for (size_t r = 0; r < rows; r++) out[r] = CK_NAME2(sum_of, TYPE)(x + r * columns, columns);
}

static void CK_NAME2(row_max, TYPE)(const void *x_, void *out_, size_t rows, size_t columns) {
    const T *x = x_;
    T *out = out_;
    for (size_t r = 0; r < rows; r++) out[r] = CK_NAME2(max_of, TYPE)(x + r * columns, columns);
}

static void CK_NAME2(row_argmax, TYPE)(const void *x_, int64_t *index, size_t rows, size_t columns) {
    const T *x = x_;
    for (size_t r = 0; r < rows; r++) {
        const T *row = x + r * columns;
        const T best = CK_NAME2(max_of, TYPE)(row, columns);
        size_t c = 0;
        while (c + 1 < columns && !(row[c] == best || (best != best && row[c] != row[c]))) c++;
        index[r] = (int64_t)c;
    }
}

static void CK_NAME2(column_sum, TYPE)(const void *x_, size_t stride, void *out_, size_t rows, size_t columns) {
    const T *x = x_;
    T *restrict out = out_;
    for (size_t c = 0; c < columns; c++) out[c] = 0;
    for (size_t r = 0; r < rows; r++) {
        const T *restrict row = x + r * stride;
        for (size_t c = 0; c < columns; c++) out[c] += row[c];
    }
}

static double CK_NAME2(sum_of_squares, TYPE)(const void *x_, size_t n) {
    const T *x = x_;
    double lanes[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t l = 0; l < 8; l++) lanes[l] += (double)x[i + l] * (double)x[i + l];
    for (size_t l = 0; i < n; i++, l++) lanes[l] += (double)x[i] * (double)x[i];
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}
