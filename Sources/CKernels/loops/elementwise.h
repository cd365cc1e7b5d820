// y = f(x) and y = f(a, b), for contiguous operands, repeated scalars and any other stride.

#define EXP(x) CK_NAME2(ck_exp, TYPE)(x)
#define ERF(x) CK_NAME2(ck_erf, TYPE)(x)
#define TANH(x) CK_NAME2(ck_tanh, TYPE)(x)
#define LOG(x) CK_NAME2(ck_log, TYPE)(x)
#define SQRT(x) CK_NAME2(ck_sqrt, TYPE)(x)

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
#define ROOT_HALF ((T)0.70710678118654752440)
#define ROOT_TWO_OVER_PI ((T)0.79788456080286535588)

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
UNARY(gelu, HALF *x *(ONE + ERF(x * ROOT_HALF)))

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
// d/dx x·Φ(x) = Φ(x) + x·φ(x); the second term is 0 at either infinity
BINARY(gelu_gradient, b *(HALF *(ONE + ERF(a *ROOT_HALF)) +
                          (a * a > (T)2000 ? (T)0 : HALF * ROOT_TWO_OVER_PI * a * EXP(-HALF * a * a))))

static void CK_NAME2(accumulate, TYPE)(const void *x_, void *y_, size_t n) {
    const T *x = x_;
    T *y = y_;
    for (size_t i = 0; i < n; i++) y[i] += x[i];
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
#undef BINARY
