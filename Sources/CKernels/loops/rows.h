// Operations on whole rows: softmax, layer norm, RMS norm, cross-entropy, each forward and backward.

// Asks for what the next row has at the place of x[i ..< i + LANES]: a row is often a page, and there the machine's own prefetching
// ends. Meanwhile this row is computed. Nothing is read behind the last row.
CK_INLINE void CK_NAME2(ask_for_next, TYPE)(const T *x, size_t columns, size_t i) {
    CK_UNROLL
    for (size_t l = 0; l < LANES; l += 64 / sizeof(T)) __builtin_prefetch(x + columns + i + l);
}

// y = e^(x − top) with top = max x, and the sum of y. NaN makes the sum NaN.
CK_INLINE CK_WIDE T CK_NAME2(exp_row, TYPE)(const T *restrict x, T *restrict y, size_t n, T top) {
    typedef CK_NAME2(vector, TYPE) vector;
    enum { WIDTH = CK_VECTOR / sizeof(T), BESIDE = LANES / WIDTH < CK_EXPONENTIALS ? LANES / WIDTH : CK_EXPONENTIALS };
    vector sums[LANES / WIDTH] __attribute__((aligned(CK_VECTOR))) = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        CK_NAME2(ask_for_next, TYPE)(x, n, i);
        CK_UNROLL
        for (size_t l = 0; l < LANES / WIDTH; l += BESIDE) {
            vector e[BESIDE];
            CK_UNROLL
            for (size_t k = 0; k < BESIDE; k++) e[k] = *(const vector *)(x + i + (l + k) * WIDTH) - top;
            CK_NAME2(exp_below_zero, TYPE)(e, BESIDE);
            CK_UNROLL
            for (size_t k = 0; k < BESIDE; k++) {
                *(vector *)(y + i + (l + k) * WIDTH) = e[k];
                sums[l + k] += e[k];
            }
        }
    }
    for (size_t l = 0; i < n; i += WIDTH, l++) {
        const size_t count = n - i < WIDTH ? n - i : WIDTH;
        T rest[WIDTH];
        for (size_t j = 0; j < WIDTH; j++) rest[j] = j < count ? x[i + j] - top : -(T)INFINITY;
        vector e = *(const vector *)rest;
        CK_NAME2(exp_below_zero, TYPE)(&e, 1);
        CK_NAME2(store_lanes, TYPE)(y + i, e, count);
        sums[l] += e;
    }
    return CK_NAME2(combine, TYPE)((const LANE_SUMS *)sums);
}

static void CK_NAME2(softmax, TYPE)(const void *x_, void *y_, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++) {
        const T *x = (const T *)x_ + r * columns;
        T *y = (T *)y_ + r * columns;
        const T top = CK_NAME2(number_max_of, TYPE)(x, columns);
        if (top == -(T)INFINITY) {  // nothing to attend to: nothing, rather than NaN
            for (size_t c = 0; c < columns; c++) y[c] = x[c] != x[c] ? x[c] : 0;
            continue;
        }
        const T scale = ONE / CK_NAME2(exp_row, TYPE)(x, y, columns, top);
        for (size_t c = 0; c < columns; c++) y[c] *= scale;
    }
}

// dx may be y itself.
static void CK_NAME2(softmax_gradient, TYPE)(const void *y_, const void *g_, void *dx_, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++) {
        const T *y = (const T *)y_ + r * columns;
        const T *g = (const T *)g_ + r * columns;
        T *dx = (T *)dx_ + r * columns;
        const T mean = CK_NAME2(dot_of, TYPE)(y, g, columns);
        size_t c = 0;
        for (; c + LANES <= columns; c += LANES) {
            CK_NAME2(ask_for_next, TYPE)(y, columns, c);
            CK_NAME2(ask_for_next, TYPE)(g, columns, c);
            *(LANE_SUMS *)(dx + c) = *(const LANE_SUMS *)(y + c) * (*(const LANE_SUMS *)(g + c) - mean);
        }
        for (; c < columns; c++) dx[c] = y[c] * (g[c] - mean);
    }
}

static void CK_NAME2(log_softmax, TYPE)(const void *x_, void *y_, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++) {
        const T *x = (const T *)x_ + r * columns;
        T *y = (T *)y_ + r * columns;
        const T top = CK_NAME2(max_of, TYPE)(x, columns);
        const T normalizer = top + LOG(CK_NAME2(exp_row, TYPE)(x, y, columns, top));
        for (size_t c = 0; c < columns; c++) y[c] = x[c] - normalizer;
    }
}

// dx may be y itself.
static void CK_NAME2(log_softmax_gradient, TYPE)(const void *y_, const void *g_, void *dx_, size_t rows,
                                                 size_t columns) {
    for (size_t r = 0; r < rows; r++) {
        const T *y = (const T *)y_ + r * columns;
        const T *g = (const T *)g_ + r * columns;
        T *dx = (T *)dx_ + r * columns;
        const T total = CK_NAME2(sum_of, TYPE)(g, columns);
        IN_PLACE
        for (size_t c = 0; c < columns; c++) dx[c] = g[c] - EXP(y[c]) * total;
    }
}

// y = (x − mean)·rstd·weight + bias; the flags are constants where this is inlined.
CK_INLINE CK_WIDE void CK_NAME2(layer_norm_row, TYPE)(const T *restrict x, const T *restrict weight, const T *restrict bias, T mean,
                                                      T rstd, T *restrict y, size_t columns, int weighted, int biased) {
    typedef LANE_SUMS numbers;
// As many numbers as the type has, in one expression that multiplies and adds at once.
#define NORMED(type) do { \
    const type normal = (*(const type *)(x + c) - mean) * rstd; \
    *(type *)(y + c) = weighted ? biased ? normal * *(const type *)(weight + c) + *(const type *)(bias + c) \
                                         : normal * *(const type *)(weight + c) \
                                : biased ? normal + *(const type *)(bias + c) : normal; \
} while (0)
    size_t c = 0;
    for (; c + LANES <= columns; c += LANES) {
        CK_NAME2(ask_for_next, TYPE)(x, columns, c);
        NORMED(numbers);
    }
    for (; c < columns; c++) NORMED(T);
#undef NORMED
}

static void CK_NAME2(layer_norm, TYPE)(const void *x_, const void *weight_, const void *bias_, double epsilon, void *y_,
                                       void *mean_, void *rstd_, size_t rows, size_t columns) {
    const T *weight = weight_, *bias = bias_;
    for (size_t r = 0; r < rows; r++) {
        const T *x = (const T *)x_ + r * columns;
        T *y = (T *)y_ + r * columns;
        const T mean = CK_NAME2(sum_of, TYPE)(x, columns) / (T)columns;
        const T variance = CK_NAME2(square_distance, TYPE)(x, mean, columns) / (T)columns;
        const T rstd = ONE / SQRT(variance + (T)epsilon);
#define ROW(weighted, biased) CK_NAME2(layer_norm_row, TYPE)(x, weight, bias, mean, rstd, y, columns, weighted, biased)
        if (weight && bias) ROW(1, 1);
        else if (weight) ROW(1, 0);
        else if (bias) ROW(0, 1);
        else ROW(0, 0);
#undef ROW
        ((T *)mean_)[r] = mean;
        ((T *)rstd_)[r] = rstd;
    }
}

// With x̂ = (x − mean)·rstd and h = g·weight: dx = rstd·(h − mean(h) − x̂·mean(h·x̂)). One row; the flags are constants
// where this is inlined.
static inline __attribute__((always_inline)) void CK_NAME2(layer_norm_row_gradient, TYPE)(
    const T *restrict x, const T *restrict weight, T mean, T rstd, const T *restrict g, T *restrict dx,
    T *restrict dweight, T *restrict dbias, size_t columns, int weighted, int wants_weight, int wants_bias) {
    LANE_SUMS sums = {0}, products = {0};
    size_t c = 0;
    for (; c + LANES <= columns; c += LANES) {
        const LANE_SUMS gs = *(const LANE_SUMS *)(g + c), normal = (*(const LANE_SUMS *)(x + c) - mean) * rstd;
        const LANE_SUMS h = weighted ? gs * *(const LANE_SUMS *)(weight + c) : gs;
        if (wants_weight) *(LANE_SUMS *)(dweight + c) += gs * normal;
        if (wants_bias) *(LANE_SUMS *)(dbias + c) += gs;
        sums += h;
        products += h * normal;
    }
    if (c < columns) {
        T rest[LANES] = {0}, normals[LANES] = {0};
        for (size_t l = 0; c + l < columns; l++) {
            const T gi = g[c + l], normal = (x[c + l] - mean) * rstd;
            if (wants_weight) dweight[c + l] += gi * normal;
            if (wants_bias) dbias[c + l] += gi;
            rest[l] = weighted ? gi * weight[c + l] : gi;
            normals[l] = normal;
        }
        sums += *(const LANE_SUMS *)rest;
        products += *(const LANE_SUMS *)rest * *(const LANE_SUMS *)normals;
    }
    const T h_mean = CK_NAME2(combine, TYPE)(&sums) / (T)columns;
    const T hx_mean = CK_NAME2(combine, TYPE)(&products) / (T)columns;
    for (size_t i = 0; i < columns; i++) {
        const T h = weighted ? g[i] * weight[i] : g[i];
        dx[i] = rstd * (h - h_mean - (x[i] - mean) * rstd * hx_mean);
    }
}

static void CK_NAME2(layer_norm_gradient, TYPE)(const void *x_, const void *weight, const void *mean_,
                                                const void *rstd_, const void *g_, void *dx_, void *dweight_,
                                                void *dbias_, size_t rows, size_t columns) {
    T *dweight = dweight_, *dbias = dbias_;
    for (size_t r = 0; r < rows; r++) {
        const T *x = (const T *)x_ + r * columns;
        const T *g = (const T *)g_ + r * columns;
        T *dx = (T *)dx_ + r * columns;
        const T mean = ((const T *)mean_)[r], rstd = ((const T *)rstd_)[r];
#define ROW(weighted, wants_weight, wants_bias) \
    CK_NAME2(layer_norm_row_gradient, TYPE)(x, weight, mean, rstd, g, dx, dweight, dbias, columns, weighted, \
                                            wants_weight, wants_bias)
        if (weight && dweight && dbias) ROW(1, 1, 1);
        else if (weight) ROW(1, dweight != 0, dbias != 0);
        else ROW(0, dweight != 0, dbias != 0);
#undef ROW
    }
}

static void CK_NAME2(affine, TYPE)(const void *x, const void *weight, const void *bias, void *y, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++) {
        const size_t at = r * columns;
#define ROW(weighted, biased) \
    CK_NAME2(layer_norm_row, TYPE)((const T *)x + at, weight, bias, 0, 1, (T *)y + at, columns, weighted, biased)
        if (weight && bias) ROW(1, 1);
        else if (weight) ROW(1, 0);
        else ROW(0, 1);
#undef ROW
    }
}

// Sums stay in registers while they go down the rows.
static void CK_NAME2(affine_gradient, TYPE)(const void *x_, const void *g_, void *dweight_, void *dbias_, size_t rows,
                                            size_t columns) {
    const T *x = x_, *g = g_;
    T *dweight = dweight_, *dbias = dbias_;
    size_t c = 0;
    for (; c + LANES <= columns; c += LANES) {
        LANE_SUMS products = {0}, sums = {0};
        for (size_t r = 0; r < rows; r++) {
            const LANE_SUMS gs = *(const LANE_SUMS *)(g + r * columns + c);
            products += gs * *(const LANE_SUMS *)(x + r * columns + c);
            sums += gs;
        }
        if (dweight) *(LANE_SUMS *)(dweight + c) += products;
        if (dbias) *(LANE_SUMS *)(dbias + c) += sums;
    }
    for (; c < columns; c++) {
        T product = 0, sum = 0;
        for (size_t r = 0; r < rows; r++) {
            product += g[r * columns + c] * x[r * columns + c];
            sum += g[r * columns + c];
        }
        if (dweight) dweight[c] += product;
        if (dbias) dbias[c] += sum;
    }
}

static void CK_NAME2(rms_norm, TYPE)(const void *x_, const void *weight_, double epsilon, void *y_, void *rstd_,
                                     size_t rows, size_t columns) {
    const T *weight = weight_;
    for (size_t r = 0; r < rows; r++) {
        const T *x = (const T *)x_ + r * columns;
        T *y = (T *)y_ + r * columns;
        const T rstd = ONE / SQRT(CK_NAME2(dot_of, TYPE)(x, x, columns) / (T)columns + (T)epsilon);
        if (weight) {
            for (size_t c = 0; c < columns; c++) y[c] = x[c] * rstd * weight[c];
        } else {
            for (size_t c = 0; c < columns; c++) y[c] = x[c] * rstd;
        }
        ((T *)rstd_)[r] = rstd;
    }
}

// With x̂ = x·rstd and h = g·weight: dx = rstd·(h − x̂·mean(h·x̂)). One row; the flags are constants where this is inlined.
static inline __attribute__((always_inline)) void CK_NAME2(rms_norm_row_gradient, TYPE)(
    const T *restrict x, const T *restrict weight, T rstd, const T *restrict g, T *restrict dx, T *restrict dweight,
    size_t columns, int weighted, int wants_weight) {
    LANE_SUMS products = {0};
    size_t c = 0;
    for (; c + LANES <= columns; c += LANES) {
        const LANE_SUMS gs = *(const LANE_SUMS *)(g + c), normal = *(const LANE_SUMS *)(x + c) * rstd;
        if (wants_weight) *(LANE_SUMS *)(dweight + c) += gs * normal;
        products += (weighted ? gs * *(const LANE_SUMS *)(weight + c) : gs) * normal;
    }
    if (c < columns) {
        T rest[LANES] = {0}, normals[LANES] = {0};
        for (size_t l = 0; c + l < columns; l++) {
            const T gi = g[c + l], normal = x[c + l] * rstd;
            if (wants_weight) dweight[c + l] += gi * normal;
            rest[l] = weighted ? gi * weight[c + l] : gi;
            normals[l] = normal;
        }
        products += *(const LANE_SUMS *)rest * *(const LANE_SUMS *)normals;
    }
    const T mean = CK_NAME2(combine, TYPE)(&products) / (T)columns;
    for (size_t i = 0; i < columns; i++) {
        const T h = weighted ? g[i] * weight[i] : g[i];
        dx[i] = rstd * (h - x[i] * rstd * mean);
    }
}

static void CK_NAME2(rms_norm_gradient, TYPE)(const void *x_, const void *weight_, const void *rstd_, const void *g_,
                                              void *dx_, void *dweight_, size_t rows, size_t columns) {
    const T *weight = weight_;
    T *dweight = dweight_;
    for (size_t r = 0; r < rows; r++) {
        const T *x = (const T *)x_ + r * columns;
        const T *g = (const T *)g_ + r * columns;
        T *dx = (T *)dx_ + r * columns;
        const T rstd = ((const T *)rstd_)[r];
#define ROW(weighted, wants_weight) \
    CK_NAME2(rms_norm_row_gradient, TYPE)(x, weight, rstd, g, dx, dweight, columns, weighted, wants_weight)
        if (weight && dweight) ROW(1, 1);
        else ROW(weight != 0, dweight != 0);
#undef ROW
    }
}

static void CK_NAME2(cross_entropy, TYPE)(const void *x_, const int64_t *labels, int64_t ignored, double smoothing,
                                          void *loss_, void *p_, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++) {
        const T *x = (const T *)x_ + r * columns;
        T *p = (T *)p_ + r * columns;
        if (labels[r] == ignored) {
            ((T *)loss_)[r] = 0;
            for (size_t c = 0; c < columns; c++) p[c] = 0;
            continue;
        }
        const T top = CK_NAME2(max_of, TYPE)(x, columns);
        const T total = CK_NAME2(exp_row, TYPE)(x, p, columns, top);
        const T normalizer = top + LOG(total);
        const T of_label = normalizer - x[labels[r]];
        T loss = of_label;
        if (smoothing > 0) {
            const T of_mean = normalizer - CK_NAME2(sum_of, TYPE)(x, columns) / (T)columns;
            loss = (T)(1 - smoothing) * of_label + (T)smoothing * of_mean;
        }
        ((T *)loss_)[r] = loss;
        const T scale = ONE / total;
        for (size_t c = 0; c < columns; c++) p[c] *= scale;
    }
}

static void CK_NAME2(cross_entropy_gradient, TYPE)(const void *p_, const int64_t *labels, int64_t ignored,
                                                   double smoothing, const void *g_, void *dx_, size_t rows,
                                                   size_t columns) {
    const T everywhere = (T)(smoothing / (double)columns);
    for (size_t r = 0; r < rows; r++) {
        const T *p = (const T *)p_ + r * columns;
        T *dx = (T *)dx_ + r * columns;
        if (labels[r] == ignored) {
            for (size_t c = 0; c < columns; c++) dx[c] = 0;
            continue;
        }
        const T g = ((const T *)g_)[r];
        for (size_t c = 0; c < columns; c++) dx[c] = g * (p[c] - everywhere);
        dx[labels[r]] -= g * (T)(1 - smoothing);
    }
}
