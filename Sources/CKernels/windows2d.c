// Windows of planes, and weighted sums along an axis: unfolding, pooling and interpolation.
#include "CKernels.h"

#include <string.h>

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

// MARK: Unfolding

// Calls the body with the pixel under each place of each kernel element, −1 outside; `i` numbers them.
#define FOR_WINDOWS(body) \
    size_t i = 0; \
    for (ptrdiff_t a = 0; a < w->kernel[0]; a++) \
        for (ptrdiff_t b = 0; b < w->kernel[1]; b++) \
            for (ptrdiff_t r = 0; r < w->counts[0]; r++) { \
                const ptrdiff_t row = r * w->stride[0] - w->padding[0] + a * w->dilation[0]; \
                for (ptrdiff_t c = 0; c < w->counts[1]; c++, i++) { \
                    const ptrdiff_t column = c * w->stride[1] - w->padding[1] + b * w->dilation[1]; \
                    const int inside = row >= 0 && row < w->image[0] && column >= 0 && column < w->image[1]; \
                    const ptrdiff_t pixel = row * w->image[1] + column; \
                    body \
                } \
            }

#define UNFOLD(type) \
    for (size_t p = 0; p < planes; p++) { \
        const type *from = (const type *)x + p * pixels; \
        type *to = (type *)y + p * places; \
        FOR_WINDOWS(to[i] = inside ? from[pixel] : 0;) \
    }

void ck_unfold(size_t size, const struct ck_windows *w, const void *x, void *y, size_t planes) {
    const size_t pixels = (size_t)(w->image[0] * w->image[1]);
    const size_t places = (size_t)(w->kernel[0] * w->kernel[1] * w->counts[0] * w->counts[1]);
    switch (size) {
        case 1: UNFOLD(uint8_t) break;
        case 2: UNFOLD(uint16_t) break;
        case 4: UNFOLD(uint32_t) break;
        default: UNFOLD(uint64_t) break;
    }
}

#define FOLD(type) \
    for (size_t p = 0; p < planes; p++) { \
        type *to = (type *)y + p * pixels; \
        const type *from = (const type *)x + p * places; \
        memset(to, 0, pixels * sizeof(type)); \
        FOR_WINDOWS(if (inside) to[pixel] += from[i];) \
    }

void ck_fold(int type, const struct ck_windows *w, const void *x, void *y, size_t planes) {
    const size_t pixels = (size_t)(w->image[0] * w->image[1]);
    const size_t places = (size_t)(w->kernel[0] * w->kernel[1] * w->counts[0] * w->counts[1]);
    if (type == 0) {
        FOLD(float)
    } else {
        FOLD(double)
    }
}
