// Parts of vectors in memory, and what transposing takes.

// load_lanes(x, n): the first n ≥ 1 lanes, and zeros; what follows them in memory is not touched, nor by store_lanes.
#if CK_VECTOR == 64

CK_INLINE CK_WIDE vector_f32 load_lanes_f32(const float *x, size_t n) {
    return (vector_f32)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), x);
}
CK_INLINE CK_WIDE vector_f64 load_lanes_f64(const double *x, size_t n) {
    return (vector_f64)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), x);
}
CK_INLINE CK_WIDE void store_lanes_f32(float *x, vector_f32 y, size_t n) {
    _mm512_mask_storeu_ps(x, (__mmask16)((1u << n) - 1), (__m512)y);
}
CK_INLINE CK_WIDE void store_lanes_f64(double *x, vector_f64 y, size_t n) {
    _mm512_mask_storeu_pd(x, (__mmask8)((1u << n) - 1), (__m512d)y);
}

#elif CK_VECTOR == 32

// The sign of each lane says whether it is meant.
CK_INLINE __m256i first_lanes_f32(size_t n) {
    static const int32_t window[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(window + 8 - n));
}
CK_INLINE __m256i first_lanes_f64(size_t n) {
    static const int64_t window[8] = {-1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(window + 4 - n));
}
CK_INLINE vector_f32 load_lanes_f32(const float *x, size_t n) {
    return (vector_f32)_mm256_maskload_ps(x, first_lanes_f32(n));
}
CK_INLINE vector_f64 load_lanes_f64(const double *x, size_t n) {
    return (vector_f64)_mm256_maskload_pd(x, first_lanes_f64(n));
}
CK_INLINE void store_lanes_f32(float *x, vector_f32 y, size_t n) {
    _mm256_maskstore_ps(x, first_lanes_f32(n), (__m256)y);
}
CK_INLINE void store_lanes_f64(double *x, vector_f64 y, size_t n) {
    _mm256_maskstore_pd(x, first_lanes_f64(n), (__m256d)y);
}

#else

CK_INLINE vector_f32 load_lanes_f32(const float *x, size_t n) {
    vector_f32 y = {0};
    for (size_t i = 0; i < n; i++) y[i] = x[i];
    return y;
}
CK_INLINE vector_f64 load_lanes_f64(const double *x, size_t n) {
    vector_f64 y = {0};
    for (size_t i = 0; i < n; i++) y[i] = x[i];
    return y;
}
CK_INLINE void store_lanes_f32(float *x, vector_f32 y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = y[i];
}
CK_INLINE void store_lanes_f64(double *x, vector_f64 y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = y[i];
}

#endif

#include "turn.h"

#if CK_VECTOR == 64
#define ZIP_LOW_f32 ZIP_LOW_16
#define ZIP_HIGH_f32 ZIP_HIGH_16
#define ZIP_LOW_f64 ZIP_LOW_8
#define ZIP_HIGH_f64 ZIP_HIGH_8
#elif CK_VECTOR == 32
#define ZIP_LOW_f32 ZIP_LOW_8
#define ZIP_HIGH_f32 ZIP_HIGH_8
#define ZIP_LOW_f64 ZIP_LOW_4
#define ZIP_HIGH_f64 ZIP_HIGH_4
#else
#define ZIP_LOW_f32 ZIP_LOW_4
#define ZIP_HIGH_f32 ZIP_HIGH_4
#define ZIP_LOW_f64 ZIP_LOW_2
#define ZIP_HIGH_f64 ZIP_HIGH_2
#endif
