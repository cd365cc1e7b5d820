// Conversions between element types, and copies of strided boxes.
#include <math.h>
#include <string.h>

#include "CKernels.h"

static inline float bits_to_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t float_to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float half_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t magnitude = h & 0x7FFFu;
    if (magnitude >= 0x7C00u) return bits_to_float(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
    if (magnitude >= 0x0400u) return bits_to_float(sign | ((magnitude << 13) + 0x38000000u));
    const float tiny = (float)magnitude * 0x1p-24f;  // subnormal
    return sign ? -tiny : tiny;
}

// Round to nearest, ties to even; overflow to infinity; NaN stays NaN.
static inline uint16_t float_to_half(float x) {
    const uint32_t bits = float_to_bits(x);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u);  // 65520 and more
    if (magnitude < 0x38800000u) {                                    // below 2⁻¹⁴: a multiple of 2⁻²⁴
        const float scaled = bits_to_float(magnitude) * 0x1p+24f;
        const float rounded = (scaled + 0x1p+23f) - 0x1p+23f;
        return (uint16_t)(sign | (uint16_t)rounded);
    }
    const uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xFFFu + odd) >> 13));
}

static inline float bfloat_to_float(uint16_t b) { return bits_to_float((uint32_t)b << 16); }

static inline uint16_t float_to_bfloat(float x) {
    const uint32_t bits = float_to_bits(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

// On the way from float64 to 16 bits: rounding to float32 first, to nearest, would round ties that were none. Cut off
// instead, with the last bit set where something was lost, which keeps the number off every tie.
static inline float double_to_odd_float(double x) {
    const float nearest = (float)x;
    if ((double)nearest == x || x != x) return nearest;
    uint32_t bits = float_to_bits(nearest);
    if (fabs((double)nearest) > fabs(x)) bits -= 1;
    return bits_to_float(bits | 1u);
}

static inline int64_t double_to_i64(double x) {
    if (x != x) return 0;
    if (x >= 0x1p63) return INT64_MAX;
    if (x < -0x1p63) return INT64_MIN;
    return (int64_t)x;
}

static inline int64_t clamp_i64(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

// Every type is read as double or int64 and written from it; float32 ↔ float64/16-bit, the hot pairs, get loops of
// their own by inlining.
#define READ_F32(i) ((const float *)x)[i]
#define READ_F64(i) ((const double *)x)[i]
#define READ_F16(i) half_to_float(((const uint16_t *)x)[i])
#define READ_BF16(i) bfloat_to_float(((const uint16_t *)x)[i])
#define READ_I64(i) ((const int64_t *)x)[i]
#define READ_I32(i) ((const int32_t *)x)[i]
#define READ_U8(i) ((const uint8_t *)x)[i]
#define READ_BOOL(i) (((const uint8_t *)x)[i] != 0)

#define LOOP(statement) \
    for (size_t i = 0; i < n; i++) { statement; } \
    return;

#define FROM_FLOATING(read, narrow) \
    switch (to) { \
        case CK_F32: LOOP(((float *)y)[i] = (float)read(i)) \
        case CK_F64: LOOP(((double *)y)[i] = (double)read(i)) \
        case CK_F16: LOOP(((uint16_t *)y)[i] = float_to_half(narrow(read(i)))) \
        case CK_BF16: LOOP(((uint16_t *)y)[i] = float_to_bfloat(narrow(read(i)))) \
        case CK_I64: LOOP(((int64_t *)y)[i] = double_to_i64((double)read(i))) \
        case CK_I32: LOOP(((int32_t *)y)[i] = (int32_t)clamp_i64(double_to_i64((double)read(i)), INT32_MIN, INT32_MAX)) \
        case CK_U8: LOOP(((uint8_t *)y)[i] = (uint8_t)clamp_i64(double_to_i64((double)read(i)), 0, 255)) \
        case CK_BOOL: LOOP(((uint8_t *)y)[i] = read(i) != 0) \
    } \
    return;

#define FROM_INTEGER(read) \
    switch (to) { \
        case CK_F32: LOOP(((float *)y)[i] = (float)read(i)) \
        case CK_F64: LOOP(((double *)y)[i] = (double)read(i)) \
        case CK_F16: LOOP(((uint16_t *)y)[i] = float_to_half((float)read(i))) \
        case CK_BF16: LOOP(((uint16_t *)y)[i] = float_to_bfloat((float)read(i))) \
        case CK_I64: LOOP(((int64_t *)y)[i] = (int64_t)read(i)) \
        case CK_I32: LOOP(((int32_t *)y)[i] = (int32_t)clamp_i64((int64_t)read(i), INT32_MIN, INT32_MAX)) \
        case CK_U8: LOOP(((uint8_t *)y)[i] = (uint8_t)clamp_i64((int64_t)read(i), 0, 255)) \
        case CK_BOOL: LOOP(((uint8_t *)y)[i] = read(i) != 0) \
    } \
    return;

void ck_convert(enum ck_type from, const void *x, enum ck_type to, void *y, size_t n) {
    switch (from) {
        case CK_F32: FROM_FLOATING(READ_F32, (float))
        case CK_F64: FROM_FLOATING(READ_F64, double_to_odd_float)
        case CK_F16: FROM_FLOATING(READ_F16, (float))
        case CK_BF16: FROM_FLOATING(READ_BF16, (float))
        case CK_I64: FROM_INTEGER(READ_I64)
        case CK_I32: FROM_INTEGER(READ_I32)
        case CK_U8: FROM_INTEGER(READ_U8)
        case CK_BOOL: FROM_INTEGER(READ_BOOL)
    }
}

// One row of a box; a contiguous row is a memcpy.
#define ROW(type) \
    for (size_t i = 0; i < n; i++) ((type *)y)[(ptrdiff_t)i * sy] = ((const type *)x)[(ptrdiff_t)i * sx];

static void copy_row(size_t size, size_t n, const void *x, ptrdiff_t sx, void *y, ptrdiff_t sy) {
    if (sx == 1 && sy == 1) {
        memcpy(y, x, n * size);
        return;
    }
    switch (size) {
        case 1: ROW(uint8_t) break;
        case 2: ROW(uint16_t) break;
        case 4: ROW(uint32_t) break;
        default: ROW(uint64_t) break;
    }
}

// Between a box and what lies in row-major order, which is gone through from its beginning to its end.
static void copy_box(size_t size, const struct ck_box *box, const char *x, char *y, int is_scatter) {
    const struct ck_axis row = box->rank > 0 ? box->axes[0] : (struct ck_axis){1, {1, 1, 1}};
    size_t rows = 1;
    for (size_t d = 1; d < box->rank; d++) rows *= (size_t)box->axes[d].length;
    if (rows == 0 || row.length == 0) return;
    const size_t n = (size_t)row.length;
    struct ck_walk walk;
    ck_walk_start(&walk, box, 1, 0);
    for (size_t r = 0; r < rows; r++) {
        const ptrdiff_t own = walk.offsets[0] * (ptrdiff_t)size, dense = (ptrdiff_t)(r * n * size);
        if (is_scatter) copy_row(size, n, x + dense, 1, y + own, row.steps[0]);
        else copy_row(size, n, x + own, row.steps[0], y + dense, 1);
        ck_walk_advance(&walk, box);
    }
}

void ck_gather_box(size_t size, const struct ck_box *box, const void *x, void *y) { copy_box(size, box, x, y, 0); }

void ck_scatter_box(size_t size, const struct ck_box *box, const void *x, void *y) { copy_box(size, box, x, y, 1); }
