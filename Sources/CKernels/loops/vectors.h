// Vectors as wide as the registers of the instruction set, for loops whose data must stay in registers.
//
// What fits the registers, the files that compile the loops say: CK_VECTOR is the width in bytes, CK_TILE_VECTORS how many
// vectors lie beside each other in a tile of attention, CK_TILE_ROWS how many rows of two vectors in a tile of a product.

#define CK_INLINE static inline __attribute__((always_inline))
#define CK_NO_UNROLL _Pragma("clang loop unroll(disable)")
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

// table[index[l] & 15] in each lane l
CK_INLINE CK_WIDE vector_f32 look_up_f32(const float table[16], integers_f32 index) {
#if CK_VECTOR == 64
    return (vector_f32)_mm512_permutexvar_ps((__m512i)index, _mm512_loadu_ps(table));
#elif CK_VECTOR == 32
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), (__m256i)index);
    return (vector_f32)_mm256_blendv_ps(low, high, (__m256)(index << 28));
#else
    vector_f32 y;
    for (size_t l = 0; l < CK_VECTOR / sizeof(float); l++) y[l] = table[index[l] & 15];
    return y;
#endif
}

// eˣ for x ≤ 0; 0 where it would be subnormal, and NaN stays NaN. Where a look-up is one instruction, x = n·ln 2 / 16 + r with
// 2^(n / 16) from a table: float32 has ln 2 to 0.05·2⁻²⁴, and with a fused multiply-add one constant will do. Elsewhere
// x = n·ln 2 + r.
CK_INLINE CK_WIDE vector_f32 exp_below_zero_f32(vector_f32 x) {
#if CK_VECTOR == 64
    static const float powers[16] = {0x1p+0f,        0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f,
                                     0x1.306fe0p+0f, 0x1.3dea64p+0f, 0x1.4bfdaep+0f, 0x1.5ab07ep+0f,
                                     0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f,
                                     0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};
    const vector_f32 shifted = x * 0x1.715476p+4f + 0x1.8p+23f;  // n sits in the low bits
    const vector_f32 r = x - (shifted - 0x1.8p+23f) * 0x1.62e430p-5f;
    vector_f32 p = r * 0x1.555646p-3f + 0x1.000222p-1f;
    p = p * r + 1.0f;
    const integers_f32 n = (integers_f32)shifted;
    const vector_f32 power = (vector_f32)((integers_f32)look_up_f32(powers, n) + ((n << 19) & ~0x7FFFFF));
    return CK_SELECT(f32, x < -87.0f, (vector_f32){0}, (power * r) * p + power);
#else
    const vector_f32 shifted = x * 0x1.715476p+0f + 0x1.8p+23f;
    const vector_f32 n = shifted - 0x1.8p+23f, r = (x - n * 0x1.62e400p-1f) - n * 0x1.7f7d1cp-20f;
    vector_f32 p = r * 0x1.687c22p-10f + 0x1.123b8ep-7f;
    p = p * r + 0x1.555b58p-5f;
    p = p * r + 0x1.55548ep-3f;
    p = p * r + 0x1.fffff8p-2f;
    p = (p * r) * r + r + 1.0f;
    const integers_f32 power = ((integers_f32)shifted << 23) + 0x3F800000;
    return CK_SELECT(f32, x < -87.0f, (vector_f32){0}, p * (vector_f32)power);
#endif
}

CK_INLINE vector_f64 exp_below_zero_f64(vector_f64 x) {
    for (int i = 0; i < (int)(CK_VECTOR / sizeof(double)); i++) x[i] = ck_exp_f64(x[i]);
    return x;
}
