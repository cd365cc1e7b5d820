// Sums and maxima. Each sum runs over a fixed number of lanes that are combined in pairs: more accurate than one
// running total, and the same whatever the vector width.

#define LANES 32

// Sums that stay in registers: of arrays the compiler would make memory, and what lies across two of its lines is slow.
typedef T CK_NAME2(lanes, TYPE) __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)), may_alias));
#define LANE_SUMS CK_NAME2(lanes, TYPE)

// By address, since a vector wider than a register is no argument.
CK_INLINE CK_WIDE T CK_NAME2(combine, TYPE)(const LANE_SUMS *sums) {
    const LANE_SUMS all = *sums;
    const __auto_type sixteen = __builtin_shufflevector(all, all, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) +
        __builtin_shufflevector(all, all, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    const __auto_type eight = __builtin_shufflevector(sixteen, sixteen, 0, 1, 2, 3, 4, 5, 6, 7) +
        __builtin_shufflevector(sixteen, sixteen, 8, 9, 10, 11, 12, 13, 14, 15);
    const __auto_type four =
        __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
    const __auto_type two = __builtin_shufflevector(four, four, 0, 1) + __builtin_shufflevector(four, four, 2, 3);
    return two[0] + two[1];
}

// The first n < LANES elements, and zeros.
CK_INLINE CK_WIDE void CK_NAME2(last_of, TYPE)(const T *x, size_t n, LANE_SUMS *last) {
    T rest[LANES] = {0};
    for (size_t l = 0; l < n; l++) rest[l] = x[l];
    *last = *(const LANE_SUMS *)rest;
}

CK_WIDE static inline T CK_NAME2(sum_of, TYPE)(const T *x, size_t n) {
    LANE_SUMS sums = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) sums += *(const LANE_SUMS *)(x + i);
    if (i < n) {
        LANE_SUMS last;
        CK_NAME2(last_of, TYPE)(x + i, n - i, &last);
        sums += last;
    }
    return CK_NAME2(combine, TYPE)(&sums);
}

CK_WIDE static inline T CK_NAME2(dot_of, TYPE)(const T *x, const T *y, size_t n) {
    LANE_SUMS sums = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) sums += *(const LANE_SUMS *)(x + i) * *(const LANE_SUMS *)(y + i);
    if (i < n) {
        LANE_SUMS last_x, last_y;
        CK_NAME2(last_of, TYPE)(x + i, n - i, &last_x);
        CK_NAME2(last_of, TYPE)(y + i, n - i, &last_y);
        sums += last_x * last_y;
    }
    return CK_NAME2(combine, TYPE)(&sums);
}

// Σ (x − center)²
CK_WIDE static inline T CK_NAME2(square_distance, TYPE)(const T *x, T center, size_t n) {
    LANE_SUMS sums = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const LANE_SUMS distance = *(const LANE_SUMS *)(x + i) - center;
        sums += distance * distance;
    }
    if (i < n) {
        T rest[LANES] = {0};
        for (size_t l = 0; i + l < n; l++) rest[l] = x[i + l] - center;
        const LANE_SUMS distance = *(const LANE_SUMS *)rest;
        sums += distance * distance;
    }
    return CK_NAME2(combine, TYPE)(&sums);
}

// The largest element that is a number; -∞ of nothing.
static inline T CK_NAME2(number_max_of, TYPE)(const T *x, size_t n) {
    T lanes[LANES] __attribute__((aligned(CK_VECTOR)));
    for (size_t l = 0; l < LANES; l++) lanes[l] = -(T)INFINITY;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (size_t l = 0; i < n; i++, l++) lanes[l] = x[i] > lanes[l] ? x[i] : lanes[l];
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t l = 0; l < width; l++) lanes[l] = lanes[l + width] > lanes[l] ? lanes[l + width] : lanes[l];
    return lanes[0];
}

// The largest element; NaN where there is one; -∞ of nothing.
static inline T CK_NAME2(max_of, TYPE)(const T *x, size_t n) {
    int has_nan = 0;
    for (size_t j = 0; j < n; j++) has_nan |= x[j] != x[j];
    return has_nan ? (T)NAN : CK_NAME2(number_max_of, TYPE)(x, n);
}

// The smallest element; NaN where there is one; ∞ of nothing.
static inline T CK_NAME2(min_of, TYPE)(const T *x, size_t n) {
    T lanes[LANES];
    for (size_t l = 0; l < LANES; l++) lanes[l] = (T)INFINITY;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) lanes[l] = x[i + l] < lanes[l] ? x[i + l] : lanes[l];
    for (size_t l = 0; i < n; i++, l++) lanes[l] = x[i] < lanes[l] ? x[i] : lanes[l];
    for (size_t l = 1; l < LANES; l++) lanes[0] = lanes[l] < lanes[0] ? lanes[l] : lanes[0];
    int has_nan = 0;
    for (size_t j = 0; j < n; j++) has_nan |= x[j] != x[j];
    return has_nan ? (T)NAN : lanes[0];
}

// The first place of `best`, or of the first NaN where that is what it is.
static inline int64_t CK_NAME2(place_of, TYPE)(const T *x, size_t n, T best) {
    size_t c = 0;
    while (c + 1 < n && !(x[c] == best || (best != best && x[c] != x[c]))) c++;
    return (int64_t)c;
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

static void CK_NAME2(row_min, TYPE)(const void *x_, void *out_, size_t rows, size_t columns) {
    const T *x = x_;
    T *out = out_;
    for (size_t r = 0; r < rows; r++) out[r] = CK_NAME2(min_of, TYPE)(x + r * columns, columns);
}

static void CK_NAME2(row_argmax, TYPE)(const void *x_, int64_t *index, size_t rows, size_t columns) {
    const T *x = x_;
    for (size_t r = 0; r < rows; r++, x += columns)
        index[r] = CK_NAME2(place_of, TYPE)(x, columns, CK_NAME2(max_of, TYPE)(x, columns));
}

static void CK_NAME2(row_argmin, TYPE)(const void *x_, int64_t *index, size_t rows, size_t columns) {
    const T *x = x_;
    for (size_t r = 0; r < rows; r++, x += columns)
        index[r] = CK_NAME2(place_of, TYPE)(x, columns, CK_NAME2(min_of, TYPE)(x, columns));
}

static void CK_NAME2(row_product, TYPE)(const void *x_, void *out_, size_t rows, size_t columns) {
    const T *x = x_;
    T *out = out_;
    for (size_t r = 0; r < rows; r++, x += columns) {
        T lanes[LANES];
        for (size_t l = 0; l < LANES; l++) lanes[l] = 1;
        size_t i = 0;
        for (; i + LANES <= columns; i += LANES)
            for (size_t l = 0; l < LANES; l++) lanes[l] *= x[i + l];
        for (size_t l = 0; i < columns; i++, l++) lanes[l] *= x[i];
        for (size_t width = LANES / 2; width > 0; width /= 2)
            for (size_t l = 0; l < width; l++) lanes[l] *= lanes[l + width];
        out[r] = lanes[0];
    }
}

// The product of the others: what stands before times what stands behind, so that zeros need no division.
static void CK_NAME2(row_product_gradient, TYPE)(const void *x_, const void *g_, void *dx_, size_t rows,
                                                 size_t columns) {
    const T *x = x_, *g = g_;
    T *dx = dx_;
    for (size_t r = 0; r < rows; r++, x += columns, dx += columns) {
        T before = g[r], behind = 1;
        for (size_t c = 0; c < columns; c++) {
            dx[c] = before;
            before *= x[c];
        }
        for (size_t c = columns; c-- > 0;) {
            dx[c] *= behind;
            behind *= x[c];
        }
    }
}

static void CK_NAME2(row_log_sum_exp, TYPE)(const void *x_, void *out_, size_t rows, size_t columns) {
    const T *x = x_;
    T *out = out_;
    for (size_t r = 0; r < rows; r++, x += columns) {
        const T top = CK_NAME2(max_of, TYPE)(x, columns);
        if (top == (T)INFINITY || top == -(T)INFINITY || top != top) {  // the difference to it would be NaN
            out[r] = top;
            continue;
        }
        T lanes[LANES] = {0};
        size_t i = 0;
        for (; i + LANES <= columns; i += LANES)
            for (size_t l = 0; l < LANES; l++) lanes[l] += EXP(x[i + l] - top);
        for (size_t l = 0; i < columns; i++, l++) lanes[l] += EXP(x[i] - top);
        out[r] = top + LOG(CK_NAME2(combine, TYPE)((const LANE_SUMS *)lanes));
    }
}

// Added up in double: a float's running total would drift along a long row.
static void CK_NAME2(row_cumulative_sum, TYPE)(const void *x_, void *y_, size_t rows, size_t columns, int backward) {
    const T *x = x_;
    T *y = y_;
    for (size_t r = 0; r < rows; r++, x += columns, y += columns) {
        double total = 0;
        for (size_t i = 0; i < columns; i++) {
            const size_t c = backward ? columns - 1 - i : i;
            total += (double)x[c];
            y[c] = (T)total;
        }
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
