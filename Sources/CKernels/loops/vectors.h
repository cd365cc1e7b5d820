// Vectors as wide as the registers of the instruction set, for loops whose data must stay in registers.
//
// What fits the registers, the files that compile the loops say: CK_VECTOR is the width in bytes, CK_TILE_VECTORS how many
// vectors lie beside each other in a tile of attention, CK_TILE_ROWS how many rows of two vectors in a tile of a product.

#define CK_INLINE static inline __attribute__((always_inline))
#define CK_UNROLL _Pragma("clang loop unroll(full)")
// Without it a tuning for narrower registers would split each vector in two.
#define CK_WIDE __attribute__((min_vector_width(8 * CK_VECTOR)))

typedef float vector_f32 __attribute__((vector_size(CK_VECTOR), aligned(4), may_alias));
typedef double vector_f64 __attribute__((vector_size(CK_VECTOR), aligned(8), may_alias));
typedef int32_t integers_f32 __attribute__((vector_size(CK_VECTOR), aligned(4), may_alias));
typedef int64_t integers_f64 __attribute__((vector_size(CK_VECTOR), aligned(8), may_alias));

// A vector of bfloat16 numbers, which are the upper halves of float32.
typedef uint16_t bfloats_f32 __attribute__((vector_size(CK_VECTOR / 2), aligned(2), may_alias));
typedef uint32_t widened_f32 __attribute__((vector_size(CK_VECTOR)));
CK_INLINE CK_WIDE vector_f32 load_bfloat_f32(const uint16_t *x) {
    return (vector_f32)(__builtin_convertvector(*(const bfloats_f32 *)x, widened_f32) << 16);
}
CK_INLINE CK_WIDE vector_f64 load_bfloat_f64(const uint16_t *x) {
    vector_f64 y;
    for (int i = 0; i < (int)(CK_VECTOR / sizeof(double)); i++) {
        const uint32_t bits = (uint32_t)x[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        y[i] = value;
    }
    return y;
}

// mask ? a : b, where the mask's elements are 0 or −1
#define CK_SELECT(type, mask, a, b) \
    ((CK_NAME2(vector, type))(((mask) & (CK_NAME2(integers, type))(a)) | (~(mask) & (CK_NAME2(integers, type))(b))))

// eˣ for x ≤ 0: 2 to the power of n + r with n whole and |r| ≤ 1/2, r so far off as x·log₂e is rounded: |x| units.
// 0 where eˣ would be subnormal; NaN stays NaN.
CK_INLINE vector_f32 exp_below_zero_f32(vector_f32 x) {
    const vector_f32 t = x * 0x1.715476p+0f;
    const vector_f32 shifted = t + 0x1.8p+23f;
    const vector_f32 r = t - (shifted - 0x1.8p+23f);
    vector_f32 p = r * 0x1.444004p-13f + 0x1.5f0896p-10f;
    p = p * r + 0x1.3b2a1cp-7f;
    p = p * r + 0x1.c6af6cp-5f;
    p = p * r + 0x1.ebfbe0p-3f;
    p = p * r + 0x1.62e430p-1f;
    p = p * r + 1.0f;
    const integers_f32 power = ((integers_f32)shifted << 23) + 0x3F800000;
    return CK_SELECT(f32, x < -87.0f, (vector_f32){0}, p * (vector_f32)power);
}

CK_INLINE vector_f64 exp_below_zero_f64(vector_f64 x) {
    for (int i = 0; i < (int)(CK_VECTOR / sizeof(double)); i++) x[i] = ck_exp_f64(x[i]);
    return x;
}
