// y = f(x) and y = f(a, b), for contiguous operands, repeated scalars and any other stride.

#define EXP(x) CK_NAME2(ck_exp, TYPE)(x)
#define ERF(x) CK_NAME2(ck_erf, TYPE)(x)
#define TANH(x) CK_NAME2(ck_tanh, TYPE)(x)
#define LOG(x) CK_NAME2(ck_log, TYPE)(x)
#define SQRT(x) CK_NAME2(ck_sqrt, TYPE)(x)
#define LOG1P(x) CK_NAME2(ck_log1p, TYPE)(x)
#define EXPM1(x) CK_NAME2(ck_expm1, TYPE)(x)
#define SIN(x) CK_NAME2(ck_sin, TYPE)(x)
#define COS(x) CK_NAME2(ck_cos, TYPE)(x)
#define POWER(x, y) CK_NAME2(ck_power, TYPE)(x, y)
#define SIGMOID(x) (ONE / (ONE + EXP(-(x))))

#define UNARY(name, expression) \
    static void CK_NAME2(name, TYPE)(const void *x_, ptrdiff_t sx, void *y_, size_t n) { \
        const T *xs = x_; \
        T *ys = y_; \
        if (sx == 1) { \
            for (size_t i = 0; i < n; i++) { const T x = xs[i]; ys[i] = (expression); } \
        } else { \
            for (size_t i = 0; i < n; i++) { const T x = xs[(ptrdiff_t)i * sx]; ys[i] = (expression); } \
        } \
    }

// y = f(x) and slope = f'(x) in one pass; `statements` set both.
#define SLOPED(name, statements) \
    static void CK_NAME3(name, with_slope, TYPE)(const void *restrict x_, void *restrict y_, void *restrict slope_, \
                                                 size_t n) { \
        const T *xs = x_; \
        T *ys = y_, *slopes = slope_; \
        for (size_t i = 0; i < n; i++) { \
            const T x = xs[i]; \
            T y, slope; \
            statements; \
            ys[i] = y; \
            slopes[i] = slope; \
        } \
    }

#define BINARY(name, expression) \
    static void CK_NAME2(name, TYPE)(const void *a_, ptrdiff_t sa, const void *b_, ptrdiff_t sb, void *y_, size_t n) { \
        const T *as = a_; \
        const T *bs = b_; \
        T *ys = y_; \
        if (sa == 1 && sb == 1) { \
            for (size_t i = 0; i < n; i++) { const T a = as[i], b = bs[i]; ys[i] = (expression); } \
        } else if (sa == 1 && sb == 0) { \
            const T b = bs[0]; \
            for (size_t i = 0; i < n; i++) { const T a = as[i]; ys[i] = (expression); } \
        } else if (sa == 0 && sb == 1) { \
            const T a = as[0]; \
            for (size_t i = 0; i < n; i++) { const T b = bs[i]; ys[i] = (expression); } \
        } else { \
            for (size_t i = 0; i < n; i++) { \
                const T a = as[(ptrdiff_t)i * sa], b = bs[(ptrdiff_t)i * sb]; ys[i] = (expression); \
            } \
        } \
    }

#define ONE ((T)1)
#define HALF ((T)0.5)
#define ROOT_TWO_OVER_PI ((T)0.79788456080286535588)

// GELU's tanh form: ½(1 + tanh u) = sigmoid(2u), u = √(2/π)·(x + 0.044715·x³)
static inline T CK_NAME2(ck_gelu_gate, TYPE)(T x) {
    return SIGMOID((T)2 * ROOT_TWO_OVER_PI * (x + (T)0.044715 * x * x * x));
}

// s + x·s·(1 − s)·2u'; far out the second term is 0, but its factors would give 0·∞
SLOPED(gelu_tanh, {
    const T s = CK_NAME2(ck_gelu_gate, TYPE)(x);
    const T inner = (T)2 * ROOT_TWO_OVER_PI * (ONE + (T)0.134145 * x * x);
    y = x * s;
    slope = x * x > (T)2000 ? s : s + x * s * (ONE - s) * inner;
})
SLOPED(silu, {
    const T s = SIGMOID(x);
    y = x * s;
    slope = s * (ONE + x * (ONE - s));
})

// y = silu(a)·b
static void CK_NAME2(swiglu, TYPE)(const void *restrict a_, const void *restrict b_, void *restrict y_, size_t n) {
    const T *as = a_, *bs = b_;
    T *ys = y_;
    for (size_t i = 0; i < n; i++) {
        const T x = as[i];
        ys[i] = x * SIGMOID(x) * bs[i];
    }
}

// The gradients of the above take the operands' places.
static void CK_NAME2(swiglu_gradient, TYPE)(void *restrict a_, void *restrict b_, const void *restrict g_, size_t n) {
    T *as = a_, *bs = b_;
    const T *gs = g_;
    for (size_t i = 0; i < n; i++) {
        const T x = as[i], b = bs[i], g = gs[i];
        const T s = SIGMOID(x);
        as[i] = g * b * (s * (ONE + x * (ONE - s)));
        bs[i] = g * (x * s);
    }
}

UNARY(negate, -x)
UNARY(exp, EXP(x))
UNARY(log, LOG(x))
UNARY(sqrt, SQRT(x))
UNARY(square, x *x)
UNARY(abs, x < 0 ? -x : x == 0 ? (T)0 : x)
UNARY(tanh, TANH(x))
UNARY(sigmoid, ONE / (ONE + EXP(-x)))
UNARY(erf, ERF(x))
UNARY(relu, x < 0 ? (T)0 : x)
UNARY(reciprocal, ONE / x)
UNARY(rsqrt, ONE / SQRT(x))
UNARY(log1p, LOG1P(x))
UNARY(expm1, EXPM1(x))
UNARY(sin, SIN(x))
UNARY(cos, COS(x))
UNARY(sign, x > 0 ? ONE : x < 0 ? -ONE : x)
UNARY(floor, CK_NAME2(ck_floor, TYPE)(x))
UNARY(ceil, CK_NAME2(ck_ceil, TYPE)(x))
UNARY(round, CK_NAME2(ck_round, TYPE)(x))
UNARY(squared_relu, x < 0 ? (T)0 : x *x)
UNARY(gelu_tanh, x *CK_NAME2(ck_gelu_gate, TYPE)(x))
UNARY(silu, x *SIGMOID(x))

BINARY(add, a + b)
BINARY(subtract, a - b)
BINARY(multiply, a *b)
BINARY(divide, a / b)
BINARY(maximum, a != a ? a : b > a ? b : b != b ? b : a)
BINARY(minimum, a != a ? a : b < a ? b : b != b ? b : a)
BINARY(less, a < b ? ONE : (T)0)
BINARY(equal, a == b ? ONE : (T)0)
BINARY(tanh_gradient, (ONE - a * a) * b)                // a = tanh x
BINARY(sigmoid_gradient, a *(ONE - a) * b)              // a = sigmoid x
BINARY(relu_gradient, a > 0 ? b : a != a ? a : (T)0)    // a = x
BINARY(abs_gradient, a > 0 ? b : a < 0 ? -b : a != a ? a : (T)0)
BINARY(erf_gradient, (T)1.12837916709551257390 * EXP(-(a * a)) * b)
BINARY(reciprocal_gradient, -(a * a * b))               // a = 1 / x
BINARY(rsqrt_gradient, -HALF * a * a * a * b)           // a = 1 / √x
BINARY(sin_gradient, COS(a) * b)
BINARY(cos_gradient, -SIN(a) * b)
BINARY(squared_relu_gradient, a > 0 ? (T)2 * a * b : a != a ? a : (T)0)
BINARY(power, POWER(a, b))
BINARY(power_base_slope, b == 0 ? (T)0 : b *POWER(a, b - ONE))                           // ∂aᵇ/∂a
BINARY(power_exponent_slope, a == 0 && b >= 0 ? (T)0 : POWER(a, b) * LOG(a))             // ∂aᵇ/∂b

static void CK_NAME2(accumulate, TYPE)(const void *x_, void *y_, size_t n) {
    const T *x = x_;
    T *y = y_;
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static void CK_NAME2(multiply_by, TYPE)(const void *x_, void *y_, size_t n) {
    const T *x = x_;
    T *y = y_;
    for (size_t i = 0; i < n; i++) y[i] *= x[i];
}

static void CK_NAME2(scale, TYPE)(const void *x_, void *y_, size_t n, double a_) {
    const T *x = x_, a = (T)a_;
    T *y = y_;
    for (size_t i = 0; i < n; i++) y[i] = a * x[i];
}

static void CK_NAME2(blend, TYPE)(const void *x_, void *y_, size_t n, double a_, double b_) {
    const T *x = x_, a = (T)a_, b = (T)b_;
    T *y = y_;
    for (size_t i = 0; i < n; i++) y[i] = a * y[i] + b * x[i];
}

static void CK_NAME2(fill, TYPE)(void *y_, size_t n, double value) {
    T *y = y_;
    for (size_t i = 0; i < n; i++) y[i] = (T)value;
}

#undef UNARY
#undef SLOPED
#undef BINARY
