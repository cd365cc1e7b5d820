// Parts of vectors in memory, and vectors of a row turned into vectors of a column.

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

// load_turned(x, c, y): y[l] has element c + l of each of the rows x, which are as many as a vector has lanes.
#define LOAD_TURNED(TYPE, T, LANES, ZIP_LOW, ZIP_HIGH) \
    CK_INLINE CK_WIDE void load_turned_##TYPE(const T *const *x, size_t c, vector_##TYPE *y) { \
        vector_##TYPE other[LANES]; \
        CK_UNROLL for (int l = 0; l < LANES; l++) y[l] = *(const vector_##TYPE *)(x[l] + c); \
        TURN(LANES, y, other, ZIP_LOW, ZIP_HIGH) \
    }
// Shuffles that cross the middle of 256 bits are dear, eight times others on Zen 1; loads that join two halves are not. What is
// left takes place within each half.
#define LOAD_TURNED_BY_HALVES(TYPE, T, HALF, ZIP_LOW, ZIP_HIGH, ...) \
    CK_INLINE void load_turned_##TYPE(const T *const *x, size_t c, vector_##TYPE *y) { \
        typedef T half __attribute__((vector_size(HALF * sizeof(T)), aligned(sizeof(T)), may_alias)); \
        vector_##TYPE other[HALF]; \
        CK_UNROLL for (int l = 0; l < 2 * HALF; l++) { \
            const T *const *row = x + l % HALF; \
            const size_t from = c + (size_t)(l / HALF * HALF); \
            y[l] = __builtin_shufflevector(*(const half *)(row[0] + from), *(const half *)(row[HALF] + from), __VA_ARGS__); \
        } \
        TURN(HALF, y, other, ZIP_LOW, ZIP_HIGH) \
        TURN(HALF, (y + HALF), other, ZIP_LOW, ZIP_HIGH) \
    }
#if CK_VECTOR == 64
LOAD_TURNED(f32, float, 16, ZIP_LOW_16, ZIP_HIGH_16)
LOAD_TURNED(f64, double, 8, ZIP_LOW_8, ZIP_HIGH_8)
#elif CK_VECTOR == 32
#define ZIP_LOW_HALVES_8(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define ZIP_HIGH_HALVES_8(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define ZIP_LOW_HALVES_4(a, b) __builtin_shufflevector(a, b, 0, 4, 2, 6)
#define ZIP_HIGH_HALVES_4(a, b) __builtin_shufflevector(a, b, 1, 5, 3, 7)
LOAD_TURNED_BY_HALVES(f32, float, 4, ZIP_LOW_HALVES_8, ZIP_HIGH_HALVES_8, 0, 1, 2, 3, 4, 5, 6, 7)
LOAD_TURNED_BY_HALVES(f64, double, 2, ZIP_LOW_HALVES_4, ZIP_HIGH_HALVES_4, 0, 1, 2, 3)
#else
LOAD_TURNED(f32, float, 4, ZIP_LOW_4, ZIP_HIGH_4)
LOAD_TURNED(f64, double, 2, ZIP_LOW_2, ZIP_HIGH_2)
#endif
#undef LOAD_TURNED
#undef LOAD_TURNED_BY_HALVES
