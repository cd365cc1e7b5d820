// Windows of planes, and weighted sums along an axis: pooling and interpolation.
#include "CKernels.h"

#define T float
#define NAME(name) name##_f32
#include "loops/windows2d.h"
#undef T
#undef NAME

#define T double
#define NAME(name) name##_f64
#include "loops/windows2d.h"
#undef T
#undef NAME

#define CALL(type, name, ...)        \
    do {                             \
        if ((type) == 0) {           \
            name##_f32(__VA_ARGS__); \
        } else {                     \
            name##_f64(__VA_ARGS__); \
        }                            \
    } while (0)

void ck_max_pool(int type, const struct ck_windows *w, const void *x, void *y, int64_t *index, size_t planes) {
    CALL(type, max_pool, w, x, y, index, planes);
}

void ck_max_pool_gradient(int type, const struct ck_windows *w, const void *g, const int64_t *index, void *dx,
                          size_t planes) {
    CALL(type, max_pool_gradient, w, g, index, dx, planes);
}

void ck_resample(int type, const struct ck_resampling *s, const void *x, void *y, size_t blocks, size_t inner) {
    CALL(type, resample, s, x, y, blocks, inner);
}

void ck_resample_transposed(int type, const struct ck_resampling *s, const void *y, void *x, size_t blocks,
                            size_t inner) {
    CALL(type, resample_transposed, s, y, x, blocks, inner);
}
