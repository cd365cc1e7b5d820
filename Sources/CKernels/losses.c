// Losses that compare an input and a target element by element.
#include <math.h>

#include "CKernels.h"

// Inlined for each kind and result, so that a loop asks for neither.
#define DEFINE_LOSS(T, TYPE, EXP, LOG, LOG1P, FABS)                                                             \
    static inline __attribute__((always_inline)) void loss_##TYPE(                                              \
        const enum ck_loss_kind kind, const T *x, const T *t, const T *weight, T delta, T *loss, T *dx, T *dt,   \
        size_t n) {                                                                                             \
        for (size_t i = 0; i < n; i++) {                                                                        \
            const T d = x[i] - t[i];                                                                            \
            T value = 0, by_x = 0, by_t = 0;                                                                    \
            switch (kind) {                                                                                     \
            case CK_LOSS_MSE:                                                                                   \
                value = d * d;                                                                                  \
                by_x = 2 * d;                                                                                   \
                by_t = -by_x;                                                                                   \
                break;                                                                                          \
            case CK_LOSS_HUBER: {                                                                               \
                const T size = FABS(d);                                                                         \
                value = size > delta ? delta * (size - delta / 2) : d * d / 2;                                  \
                by_x = d > delta ? delta : d < -delta ? -delta : d;                                             \
                by_t = -by_x;                                                                                   \
                break;                                                                                          \
            }                                                                                                   \
            case CK_LOSS_BINARY_CROSS_ENTROPY: {                                                                \
                /* log(1 + e⁻ˣ) and the sigmoid of −x, from the exponential that cannot overflow */             \
                const T small = EXP(-FABS(x[i]));                                                               \
                const T softplus = LOG1P(small) + (x[i] < 0 ? -x[i] : 0);                                       \
                const T sigmoid = (x[i] < 0 ? 1 : small) / (1 + small);                                         \
                const T extra = weight ? weight[i] - 1 : 0;                                                     \
                const T scale = 1 + extra * t[i];                                                               \
                value = (1 - t[i]) * x[i] + scale * softplus;                                                   \
                by_x = (1 - t[i]) - scale * sigmoid;                                                            \
                by_t = extra * softplus - x[i];                                                                 \
                break;                                                                                          \
            }                                                                                                   \
            case CK_LOSS_KL:                                                                                    \
                if (t[i] == 0) break; /* no mass, no divergence, whatever the input */                          \
                value = t[i] * (LOG(t[i]) - x[i]);                                                              \
                by_x = -t[i];                                                                                   \
                by_t = LOG(t[i]) + 1 - x[i];                                                                    \
                break;                                                                                          \
            case CK_LOSS_KL_LOG_TARGET: {                                                                       \
                if (t[i] == -(T)INFINITY) break;                                                                \
                const T mass = EXP(t[i]);                                                                       \
                value = -mass * d;                                                                              \
                by_x = -mass;                                                                                   \
                by_t = mass * (1 - d);                                                                          \
                break;                                                                                          \
            }                                                                                                   \
            }                                                                                                   \
            if (loss) loss[i] = value;                                                                          \
            if (dx) dx[i] = by_x;                                                                               \
            if (dt) dt[i] = by_t;                                                                               \
        }                                                                                                       \
    }

DEFINE_LOSS(float, f32, expf, logf, log1pf, fabsf)
DEFINE_LOSS(double, f64, exp, log, log1p, fabs)

void ck_loss(enum ck_loss_kind kind, int type, const void *x, const void *t, const void *weight, double parameter,
             void *loss, void *dx, void *dt, size_t n) {
#define EACH(kind, TYPE, T) \
    if (loss) loss_##TYPE(kind, x, t, weight, (T)parameter, loss, NULL, NULL, n); \
    if (dx) loss_##TYPE(kind, x, t, weight, (T)parameter, NULL, dx, NULL, n); \
    if (dt) loss_##TYPE(kind, x, t, weight, (T)parameter, NULL, NULL, dt, n);
#define CASE(kind) \
    case kind: \
        if (type == 0) { \
            EACH(kind, f32, float) \
        } else { \
            EACH(kind, f64, double) \
        } \
        break;
    switch (kind) {
        CASE(CK_LOSS_MSE)
        CASE(CK_LOSS_HUBER)
        CASE(CK_LOSS_BINARY_CROSS_ENTROPY)
        CASE(CK_LOSS_KL)
        CASE(CK_LOSS_KL_LOG_TARGET)
    }
#undef CASE
#undef EACH
}
