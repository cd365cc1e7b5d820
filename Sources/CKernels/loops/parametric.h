// y = f(x) with one or two numbers p and q that are the same for all elements, and dx = f'(x)·g.

#define PARAMETRIC(name, expression, derivative) \
    static void CK_NAME2(name, TYPE)(const void *x_, void *y_, size_t n, double p_, double q_) { \
        const T *xs = x_; \
        T *ys = y_; \
        const T p = (T)p_, q = (T)q_; \
        (void)p, (void)q; \
        for (size_t i = 0; i < n; i++) { const T x = xs[i]; ys[i] = (expression); } \
    } \
    static void CK_NAME3(name, gradient, TYPE)(const void *x_, const void *g_, void *dx_, size_t n, double p_, \
                                               double q_) { \
        const T *xs = x_, *gs = g_; \
        T *dxs = dx_; \
        const T p = (T)p_, q = (T)q_; \
        (void)p, (void)q; \
        for (size_t i = 0; i < n; i++) { const T x = xs[i], g = gs[i]; dxs[i] = (derivative); } \
    }

// log(1 + eᶻ) = max(z, 0) + log(1 + e^−|z|)
static inline T CK_NAME2(ck_softplus, TYPE)(T z) {
    const T size = z < 0 ? -z : z;
    return (z > 0 ? z : (T)0) + CK_NAME2(ck_log1p_unit, TYPE)(EXP(-size));
}

static inline T CK_NAME2(ck_elu, TYPE)(T x, T alpha) {
    // Both branches are computed; the bound keeps the second one from overflowing, and lets NaN through.
    const T below = alpha * CK_NAME2(ck_expm1_negative, TYPE)(x > 0 ? (T)0 : x);
    return x > 0 ? x : below;
}

static inline T CK_NAME2(ck_elu_slope, TYPE)(T x, T alpha) {
    const T below = alpha * EXP(x > 0 ? (T)0 : x);
    return x > 0 ? ONE : below;
}

PARAMETRIC(leaky_relu, x > 0 ? x : p *x, x > 0 ? g : x != x ? x : p *g)
PARAMETRIC(elu, CK_NAME2(ck_elu, TYPE)(x, p), CK_NAME2(ck_elu_slope, TYPE)(x, p) * g)
PARAMETRIC(softplus, x *p > q ? x : CK_NAME2(ck_softplus, TYPE)(x *p) / p, x *p > q ? g : SIGMOID(x *p) * g)
PARAMETRIC(clamp, (x < p ? p : x) > q ? q : x < p ? p : x, x >= p && x <= q ? g : (T)0)

#undef PARAMETRIC
