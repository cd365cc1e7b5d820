// GELU x·Φ(x), and its slope Φ(x) + x·φ(x).
//
// With t = |x| and p(t) = Φ(−t), whose derivative is −φ(t), the value is max(x, 0) − t·p; the slope is p + t·p′ below 0, and 1
// less that above. In float32 p is a polynomial of degree 7 in each of 16 intervals, whose coefficients are looked up in
// registers where the instruction set can: half of the multiply-adds that an exponential takes with what goes with it. The
// intervals end at t = 5.98. Above it the value is x and the slope 1 to the last digit; what is below takes another way.

// Φ(−t): the coefficients of each power, from the 7th down; 0.13·2⁻²⁴ off at most, its slope 12.4·2⁻²⁴.
// Printed by Tests/Reference/gelu_table.py, which tells what the intervals are.
static const float normal_tail[8][16] = {
    {-0x1.1cdbd8p-24f, -0x1.b37c0ep-23f, -0x1.31b70cp-21f, -0x1.887cb6p-20f, -0x1.c9fa84p-19f, -0x1.e17216p-18f,
     -0x1.c1b256p-17f, -0x1.6c4c3ep-16f, -0x1.f48c76p-16f, 0x1.04a2e2p-16f, 0x1.7cd58ap-13f, 0x1.0e03cap-12f,
     -0x1.a05548p-13f, -0x1.a8b9b2p-11f, -0x1.45c62ap-12f, 0x1.f1b62p-11f},
    {0x1.a4d82ap-24f, 0x1.5666f6p-22f, 0x1.019696p-20f, 0x1.6573c6p-19f, 0x1.c7fc7p-18f, 0x1.0a2e46p-16f,
     0x1.1aa94cp-15f, 0x1.0e879ep-14f, 0x1.1c9732p-13f, 0x1.87c8cap-13f, -0x1.307772p-13f, -0x1.0a3808p-10f,
     -0x1.4bd6e8p-10f, 0x1.608248p-11f, 0x1.8e3d62p-9f, 0x1.d774cp-10f},
    {-0x1.e8a9e4p-24f, -0x1.a6464cp-22f, -0x1.530a72p-20f, -0x1.f91456p-19f, -0x1.5c6082p-17f, -0x1.bbf8e8p-16f,
     -0x1.048bcep-14f, -0x1.187afp-13f, -0x1.73c43ap-12f, -0x1.cf0ffcp-11f, -0x1.2304d6p-10f, 0x1.2386a6p-11f,
     0x1.226ea2p-8f, 0x1.848344p-8f, -0x1.22d53ep-13f, -0x1.1b4df6p-7f},
    {0x1.cb837cp-24f, 0x1.a304ep-22f, 0x1.64537ap-20f, 0x1.1a556ep-18f, 0x1.a0717p-17f, 0x1.1d8146p-15f,
     0x1.6b56ap-14f, 0x1.ac4db6p-13f, 0x1.4dccf4p-11f, 0x1.19542cp-9f, 0x1.3d4a4ap-8f, 0x1.8f96b6p-8f,
     0x1.a9da7ap-15f, -0x1.cf5cb6p-7f, -0x1.77cd0ep-6f, -0x1.6dc036p-7f},
    {-0x1.4dc04ep-24f, -0x1.3fd16p-22f, -0x1.1ea404p-20f, -0x1.e05966p-19f, -0x1.781108p-17f, -0x1.12ec54p-15f,
     -0x1.770d84p-14f, -0x1.dcf3p-13f, -0x1.a6df8ep-11f, -0x1.b92996p-9f, -0x1.4fbd4ep-7f, -0x1.665cf8p-6f,
     -0x1.e6244cp-6f, -0x1.0a4e8ep-6f, 0x1.7f3fc2p-6f, 0x1.f4d276p-5f},
    {0x1.600428p-25f, 0x1.6151ccp-23f, 0x1.4c7aeap-21f, 0x1.254646p-19f, 0x1.e4dfa6p-18f, 0x1.778abap-16f,
     0x1.106fc2p-14f, 0x1.721bap-13f, 0x1.6df4b6p-11f, 0x1.c4714cp-9f, 0x1.a939ecp-7f, 0x1.2cd6a4p-5f,
     0x1.3ae9f8p-4f, 0x1.d6c95p-4f, 0x1.ca3186p-4f, 0x1.749bdp-5f},
    {-0x1.e09e8p-27f, -0x1.f7e5f8p-25f, -0x1.f04bf4p-23f, -0x1.cb31b8p-21f, -0x1.8f1fccp-19f, -0x1.45e4dap-17f,
     -0x1.f3f48cp-16f, -0x1.6841d2p-14f, -0x1.87fc7ap-12f, -0x1.17c578p-9f, -0x1.3705cep-7f, -0x1.0d482ep-5f,
     -0x1.6b24dap-4f, -0x1.7d6584p-3f, -0x1.37f628p-2f, -0x1.8d7308p-2f},
    {0x1.3f477cp-29f, 0x1.5cda1ep-27f, 0x1.66ac9ap-25f, 0x1.5b0fc2p-23f, 0x1.3c19eep-21f, 0x1.0f0a46p-19f,
     0x1.b5aa54p-18f, 0x1.4ccd6ap-16f, 0x1.8aa568p-14f, 0x1.3f93eep-11f, 0x1.9997ap-9f, 0x1.a11c4ep-7f,
     0x1.535c2ap-5f, 0x1.bc8ba2p-4f, 0x1.d9d354p-3f, 0x1.a11f8ep-2f},
};

#define GELU_END 0x1.7fp+2f
#define GELU_LANES (CK_VECTOR / sizeof(float))
#define GELU_VECTORS (CK_VECTOR == 32 ? 1 : 2)  // 16 registers do not hold what two need
#define GELU_BLOCK (GELU_VECTORS * GELU_LANES)

// GELU_VECTORS of them at a time, so that one does not wait for the other's sums; `slope` may be NULL.
CK_INLINE CK_WIDE void gelu_vectors(const vector_f32 *x, vector_f32 *y, vector_f32 *slope) {
    const vector_f32 zero = {0}, end = zero + GELU_END;
    vector_f32 t[GELU_VECTORS], s[GELU_VECTORS], p[GELU_VECTORS], derivative[GELU_VECTORS];
    integers_f32 interval[GELU_VECTORS];
    CK_UNROLL
    for (int i = 0; i < GELU_VECTORS; i++) {
        t[i] = (vector_f32)((integers_f32)x[i] & 0x7FFFFFFF);
        t[i] = CK_SELECT(f32, t[i] > end, end, t[i]);  // NaN stays
        const integers_f32 u = (integers_f32)(0x1.ffp+2f - t[i]);
        interval[i] = u >> 20;
        s[i] = t[i] - (0x1.ffp+2f - (vector_f32)((u & ~0xFFFFF) | 0x80000));  // from the middle of the interval
        p[i] = look_up_f32(normal_tail[0], interval[i]);
        derivative[i] = zero;
    }
    CK_UNROLL
    for (int k = 1; k < 8; k++) {
        CK_UNROLL
        for (int i = 0; i < GELU_VECTORS; i++) {
            if (slope) derivative[i] = k == 1 ? p[i] : derivative[i] * s[i] + p[i];
            p[i] = p[i] * s[i] + look_up_f32(normal_tail[k], interval[i]);
        }
    }
    CK_UNROLL
    for (int i = 0; i < GELU_VECTORS; i++) {
        y[i] = CK_SELECT(f32, x[i] < zero, zero, x[i]) - t[i] * p[i];
        if (!slope) continue;
        const vector_f32 below = p[i] + t[i] * derivative[i];
        slope[i] = CK_SELECT(f32, x[i] > zero, 1.0f - below, below);
    }
}

// What lies below the intervals. The slope's second term is 0 at −∞.
static __attribute__((noinline)) void gelu_values_below(const float *restrict x, float *restrict y) {
    for (size_t l = 0; l < GELU_BLOCK; l++) {
        float density;
        const float value = x[l] * ck_normal_tail_f32(-x[l], &density);
        y[l] = x[l] < -GELU_END ? value : y[l];
    }
}
static __attribute__((noinline)) void gelu_slopes_below(const float *restrict x, float *restrict slope) {
    for (size_t l = 0; l < GELU_BLOCK; l++) {
        float density;
        const float tail = ck_normal_tail_f32(-x[l], &density);
        const float both = x[l] < -40.0f ? tail : tail + x[l] * density;
        slope[l] = x[l] < -GELU_END ? both : slope[l];
    }
}

CK_INLINE CK_WIDE void gelu_block(const float *restrict x, float *restrict y, float *restrict slope) {
    vector_f32 xs[GELU_VECTORS], ys[GELU_VECTORS], slopes[GELU_VECTORS];
    integers_f32 is_far = {0};
    CK_UNROLL
    for (int i = 0; i < GELU_VECTORS; i++) {
        xs[i] = *(const vector_f32 *)(x + i * GELU_LANES);
        is_far |= xs[i] < -GELU_END;
    }
    gelu_vectors(xs, ys, slope ? slopes : 0);
    CK_UNROLL
    for (int i = 0; i < GELU_VECTORS; i++) {
        *(vector_f32 *)(y + i * GELU_LANES) = ys[i];
        if (slope) *(vector_f32 *)(slope + i * GELU_LANES) = slopes[i];
    }
    if (__builtin_expect(__builtin_reduce_or(is_far) == 0, 1)) return;
    gelu_values_below(x, y);
    if (slope) gelu_slopes_below(x, slope);
}

CK_INLINE CK_WIDE void gelu_row(const float *restrict x, ptrdiff_t stride, float *restrict y, float *restrict slope,
                                size_t n) {
    size_t i = 0;
    if (stride == 1) {
        for (; i + GELU_BLOCK <= n; i += GELU_BLOCK) gelu_block(x + i, y + i, slope ? slope + i : 0);
    }
    while (i < n) {
        const size_t count = n - i < GELU_BLOCK ? n - i : GELU_BLOCK;
        float xs[GELU_BLOCK] = {0}, ys[GELU_BLOCK], slopes[GELU_BLOCK];
        for (size_t l = 0; l < count; l++) xs[l] = x[(ptrdiff_t)(i + l) * stride];
        gelu_block(xs, ys, slope ? slopes : 0);
        memcpy(y + i, ys, count * sizeof(float));
        if (slope) memcpy(slope + i, slopes, count * sizeof(float));
        i += count;
    }
}

static CK_WIDE void gelu_f32(const void *x, ptrdiff_t stride, void *y, size_t n) { gelu_row(x, stride, y, 0, n); }
static CK_WIDE void gelu_with_slope_f32(const void *x, void *y, void *slope, size_t n) { gelu_row(x, 1, y, slope, n); }

#undef GELU_END
#undef GELU_LANES
#undef GELU_VECTORS
#undef GELU_BLOCK

static inline double normal_f64(double x) { return 0.5 * erfc(-0.70710678118654752440 * x); }

static void gelu_f64(const void *x_, ptrdiff_t stride, void *y_, size_t n) {
    const double *x = x_;
    double *y = y_;
    for (size_t i = 0; i < n; i++) y[i] = x[(ptrdiff_t)i * stride] * normal_f64(x[(ptrdiff_t)i * stride]);
}

static void gelu_with_slope_f64(const void *x_, void *y_, void *slope_, size_t n) {
    const double *x = x_;
    double *y = y_, *slope = slope_;
    for (size_t i = 0; i < n; i++) {
        const double s = normal_f64(x[i]);
        y[i] = x[i] * s;
        // The second term is 0 at either infinity.
        slope[i] = x[i] * x[i] > 2000 ? s : s + x[i] * (0.39894228040143267794 * exp(-0.5 * x[i] * x[i]));
    }
}
