// GELU x·Φ(x), and its slope Φ(x) + x·φ(x).

#define GELU_LANES (CK_VECTOR / sizeof(float))
#define GELU_VECTORS 2  // side by side, so that one does not wait for the other's sums
#define GELU_BLOCK (GELU_VECTORS * GELU_LANES)
#define GELU_EACH CK_UNROLL for (int i = 0; i < GELU_VECTORS; i++)

// For every x. With t = |x| and q(t) = t·Φ(−t), the value is max(x, 0) − q; the slope is q′ below 0, and 1 less that above.
// Φ(−t) = e^(−t²/2)·m, m = P(t) / Q(t): polynomials of degrees 4 and 5, 0.08·2⁻²⁴ off at most, relative to itself, up to where
// Φ is below the normal numbers. Above 0, m comes as ½ + (P − Q/2) / Q, so that ½ has no share in what roundings there are of P and
// Q; far below 0 nothing would be left of its digits. One exponential serves value and slope. `slope` may be NULL.
// Tests/Reference/gelu_table.py prints the coefficients.
CK_INLINE CK_WIDE void gelu_anywhere(const vector_f32 *x, vector_f32 *y, vector_f32 *slope) {
    const vector_f32 zero = {0}, one = zero + 1.0f, top = zero + 13.28f;
    vector_f32 far[GELU_VECTORS], t[GELU_VECTORS], square[GELU_VECTORS], rest[GELU_VECTORS];
    vector_f32 shifted[GELU_VECTORS], w[GELU_VECTORS], e[GELU_VECTORS], m[GELU_VECTORS], q[GELU_VECTORS];
    GELU_EACH {
        // −∞ stays infinite in the product with Φ, which makes it NaN.
        far[i] = (vector_f32)((integers_f32)CK_SELECT(f32, x[i] > top, top, x[i]) & 0x7FFFFFFF);
        t[i] = CK_SELECT(f32, far[i] > top, top, far[i]);
    }
#if CK_VECTOR == 16  // no fused multiply-add: a square of 12 bits is exact
    GELU_EACH {
        const vector_f32 upper = (vector_f32)((integers_f32)t[i] & ~0xFFF);
        square[i] = upper * upper;
        rest[i] = (t[i] - upper) * (t[i] + upper);
    }
#else
    GELU_EACH square[i] = t[i] * t[i];
    GELU_EACH rest[i] = t[i] * t[i] - square[i];
#endif
    // e^(−t²/2) = 2^(−n)·e^(−w/2), w = t² − n·2·ln 2
    GELU_EACH shifted[i] = square[i] * 0x1.715476p-1f + 0x1.8p+23f;
#if CK_VECTOR == 16
    const float upper_part = 0x1.62e4p+0f, lower_part = 0x1.7f7d1cp-19f;
#else
    const float upper_part = 0x1.62e43p+0f, lower_part = -0x1.05c61p-28f;
#endif
    GELU_EACH {
        const vector_f32 n = shifted[i] - 0x1.8p+23f;
        w[i] = (square[i] - n * upper_part) - n * lower_part;
    }
    GELU_EACH w[i] += rest[i];
    GELU_EACH e[i] = w[i] * 0x1.6be492p-16f - 0x1.123d4p-12f;
    GELU_EACH e[i] = e[i] * w[i] + 0x1.55568ep-9f;
    GELU_EACH e[i] = e[i] * w[i] - 0x1.55547ep-6f;
    GELU_EACH e[i] = e[i] * w[i] + 0x1.fffffep-4f;
    GELU_EACH e[i] = e[i] * w[i] - 0.5f;
    GELU_EACH shifted[i] = (vector_f32)(0x3F800000 - ((integers_f32)shifted[i] << 23));
    GELU_EACH e[i] = (e[i] * w[i]) * shifted[i] + shifted[i];
    GELU_EACH m[i] = t[i] * 0x1.0766ccp-8f + 0x1.477f5cp-5f;
    GELU_EACH m[i] = m[i] * t[i] + 0x1.734716p-3f;
    GELU_EACH m[i] = m[i] * t[i] + 0x1.be1dfcp-2f;
    GELU_EACH m[i] = m[i] * t[i];
    GELU_EACH q[i] = t[i] * 0x1.4a1ec4p-7f + 0x1.9a7ccep-4f;
    GELU_EACH q[i] = q[i] * t[i] + 0x1.db7972p-2f;
    GELU_EACH q[i] = q[i] * t[i] + 0x1.31c4a2p+0f;
    GELU_EACH q[i] = q[i] * t[i] + 0x1.ab512ep+0f;
    GELU_EACH q[i] = q[i] * t[i];
    GELU_EACH {
        const integers_f32 is_positive = (integers_f32)x[i] >= 0;  // of the sign's bit: no unit for floats is needed
        m[i] += CK_SELECT(f32, is_positive, q[i] * -0.5f, zero + 0.5f);
        m[i] = m[i] / (q[i] + 1.0f) + CK_SELECT(f32, is_positive, zero + 0.5f, zero);
    }
    GELU_EACH {
        const integers_f32 is_positive = (integers_f32)x[i] >= 0;
        y[i] = CK_SELECT(f32, is_positive, x[i], zero) - (far[i] * e[i]) * m[i];
        const vector_f32 derivative = e[i] * (m[i] - t[i] * 0x1.988454p-2f);
        if (slope) slope[i] = CK_SELECT(f32, is_positive, one - derivative, derivative);
    }
}

#if CK_VECTOR == 64

// Where sixteen numbers can be looked up in one instruction, q is a polynomial of degree 7 in each of 16 intervals: half of the
// multiply-adds, and no division. The first interval has 0 as its centre and q(0) = 0, so that the smallest values keep their
// digits. The intervals end at t = 5.75; what is beyond takes the way above.

// q(t): the coefficients of each power, from the 7th down; 0.20·2⁻²⁴ off at most, its slope 5.3·2⁻²⁴.
// Printed by Tests/Reference/gelu_table.py, which tells what the intervals are.
static const float gelu_tail[8][16] = {
    {-0x1.a16f84p-21f, -0x1.0c958cp-19f, -0x1.36fd7ep-18f, -0x1.3f80dep-17f, -0x1.1c37b2p-16f, -0x1.a037f6p-16f,
     -0x1.b232f4p-16f, -0x1.796966p-18f, 0x1.a7b5fap-14f, 0x1.75466p-12f, 0x1.33a85ap-13f, -0x1.1d75a8p-10f,
     -0x1.818b8ep-10f, 0x1.45141p-10f, 0x1.a1197p-9f, 0x1.176318p-10f},
    {0x1.5d295p-20f, 0x1.e7fa26p-19f, 0x1.374e22p-17f, 0x1.681fdep-16f, 0x1.75d42ap-15f, 0x1.565f3p-14f,
     0x1.0c1766p-13f, 0x1.4df50cp-13f, 0x1.829efcp-15f, -0x1.99be4p-11f, -0x1.f854eap-10f, -0x1.a60a3cp-12f,
     0x1.3d3e54p-8f, 0x1.843fd6p-8f, -0x1.8ccb0cp-9f, -0x1.535142p-7f},
    {-0x1.c5d9c4p-20f, -0x1.55bfa2p-18f, -0x1.da229ap-17f, -0x1.2dde7cp-15f, -0x1.5efd7p-14f, -0x1.71eac4p-13f,
     -0x1.5d691cp-12f, -0x1.223458p-11f, -0x1.bc3558p-11f, 0x1.7a07eap-21f, 0x1.17a0bp-8f, 0x1.26c68cp-7f,
     0x1.6604f6p-9f, -0x1.0848e4p-6f, -0x1.6ffb9p-6f, 0x1.1e9ecp-14f},
    {0x1.d6ec42p-20f, 0x1.7a2bb6p-18f, 0x1.1980f6p-16f, 0x1.83a7aep-15f, 0x1.ec6f2p-14f, 0x1.1f74ep-12f,
     0x1.32e27cp-11f, 0x1.29629ap-10f, 0x1.459dbep-9f, 0x1.0a41fap-8f, -0x1.07d6c6p-11f, -0x1.26e576p-6f,
     -0x1.27a162p-5f, -0x1.4a4738p-6f, 0x1.15e3a2p-5f, 0x1.105196p-4f},
    {-0x1.75c2aap-20f, -0x1.3e0106p-18f, -0x1.f7e1dp-17f, -0x1.7345f4p-15f, -0x1.fc13fp-14f, -0x1.423734p-12f,
     -0x1.79da1cp-11f, -0x1.984c7ep-10f, -0x1.133d18p-8f, -0x1.6b0ec6p-7f, -0x1.0d3bdep-6f, 0x1.84bb6cp-24f,
     0x1.d030e4p-5f, 0x1.ef8e52p-4f, 0x1.c2a4b6p-4f, 0x1.2d8a6ep-22f},
    {0x1.ab86cep-21f, 0x1.7f8162p-19f, 0x1.417338p-17f, 0x1.f7306cp-16f, 0x1.6f772cp-14f, 0x1.f4449cp-13f,
     0x1.3d072p-11f, 0x1.757e6ep-10f, 0x1.251c04p-8f, 0x1.fc479cp-7f, 0x1.3121fep-5f, 0x1.ba4b52p-5f,
     0x1.094068p-6f, -0x1.ef8e7p-4f, -0x1.3b7356p-2f, -0x1.988454p-2f},
    {-0x1.3a92bp-22f, -0x1.2858e2p-20f, -0x1.059522p-18f, -0x1.b08e6p-17f, -0x1.4ee032p-15f, -0x1.e54a6p-14f,
     -0x1.48ee38p-12f, -0x1.a0d58p-11f, -0x1.71da9p-9f, -0x1.876f5ap-7f, -0x1.341c2ap-5f, -0x1.5d1c06p-4f,
     -0x1.050e92p-3f, -0x1.55429ap-4f, 0x1.0f5eb8p-3f, 0x1p-1f},
    {0x1.c02c1ap-25f, 0x1.b9fc84p-23f, 0x1.995506p-21f, 0x1.63f91cp-19f, 0x1.22ab1p-17f, 0x1.bda8bep-16f,
     0x1.40b6a4p-14f, 0x1.b13dacp-13f, 0x1.aae05p-11f, 0x1.096698p-8f, 0x1.fcb21ep-7f, 0x1.74bcf8p-5f,
     0x1.9a76a4p-4f, 0x1.44ed0cp-3f, 0x1.3bf144p-3f, 0x0p+0f},
};

#define GELU_END 0x1.7p+2f
#define GELU_START 7.75f

// The first 8 bits of a lane of `far` are not 0 where an x of that lane is beyond the intervals, or NaN, and then what becomes of
// it means nothing.
CK_INLINE CK_WIDE void gelu_near(const vector_f32 *x, vector_f32 *y, vector_f32 *slope, integers_f32 *far) {
    const vector_f32 zero = {0}, one = zero + 1.0f;
    vector_f32 s[GELU_VECTORS], q[GELU_VECTORS], derivative[GELU_VECTORS];
    integers_f32 interval[GELU_VECTORS];
    GELU_EACH {
        const vector_f32 t = (vector_f32)((integers_f32)x[i] & 0x7FFFFFFF);
        const integers_f32 u = (integers_f32)(GELU_START - t);
        *far |= u ^ 0x40000000;
        interval[i] = u >> 20;
        s[i] = t - (GELU_START - (vector_f32)((u & ~0xFFFFF) | 0x80000));  // from the middle of the interval
        q[i] = look_up_f32(gelu_tail[0], interval[i]);
        derivative[i] = zero;
    }
    CK_UNROLL
    for (int k = 1; k < 8; k++) {
        GELU_EACH {
            if (slope) derivative[i] = k == 1 ? q[i] : derivative[i] * s[i] + q[i];
            q[i] = q[i] * s[i] + look_up_f32(gelu_tail[k], interval[i]);
        }
    }
    GELU_EACH {
        const integers_f32 is_positive = (integers_f32)x[i] >= 0;
        y[i] = CK_SELECT(f32, is_positive, x[i], zero) - q[i];
        if (slope) slope[i] = CK_SELECT(f32, is_positive, one - derivative[i], derivative[i]);
    }
}

// The lanes beyond the intervals alone: what becomes of an x must not depend on what lies beside it.
static __attribute__((noinline)) CK_WIDE void gelu_far(const float *x, float *y, float *slope) {
    vector_f32 xs[GELU_VECTORS], ys[GELU_VECTORS], slopes[GELU_VECTORS];
    GELU_EACH xs[i] = *(const vector_f32 *)(x + i * GELU_LANES);
    gelu_anywhere(xs, ys, slopes);
    GELU_EACH {
        const integers_f32 is_near = (vector_f32)((integers_f32)xs[i] & 0x7FFFFFFF) <= GELU_END;
        vector_f32 *const to = (vector_f32 *)(y + i * GELU_LANES);
        *to = CK_SELECT(f32, is_near, *to, ys[i]);
        if (!slope) continue;
        vector_f32 *const slopes_to = (vector_f32 *)(slope + i * GELU_LANES);
        *slopes_to = CK_SELECT(f32, is_near, *slopes_to, slopes[i]);
    }
}

#undef GELU_END
#undef GELU_START

#endif

CK_INLINE CK_WIDE void gelu_block(const float *restrict x, float *restrict y, float *restrict slope) {
    vector_f32 xs[GELU_VECTORS], ys[GELU_VECTORS], slopes[GELU_VECTORS];
    GELU_EACH xs[i] = *(const vector_f32 *)(x + i * GELU_LANES);
#if CK_VECTOR == 64
    integers_f32 far = {0};
    gelu_near(xs, ys, slope ? slopes : 0, &far);
#else
    gelu_anywhere(xs, ys, slope ? slopes : 0);
#endif
    GELU_EACH {
        *(vector_f32 *)(y + i * GELU_LANES) = ys[i];
        if (slope) *(vector_f32 *)(slope + i * GELU_LANES) = slopes[i];
    }
#if CK_VECTOR == 64
    if (__builtin_expect(__builtin_reduce_or((far & ~0xFFFFFF) != 0) != 0, 0)) gelu_far(x, y, slope);
#endif
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

#undef GELU_EACH
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
