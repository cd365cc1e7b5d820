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

#if CK_VECTOR == 64
// table[index[l] & 15] in each lane l
CK_INLINE CK_WIDE vector_f32 look_up_f32(const float table[16], integers_f32 index) {
    return (vector_f32)_mm512_permutexvar_ps((__m512i)index, _mm512_loadu_ps(table));
}
#endif

// How many exponentials go side by side: one alone waits for itself, step by step.
#define CK_EXPONENTIALS 4

// eˣ for x ≤ 0, in place, of `count` vectors ≤ CK_EXPONENTIALS; 0 at the latest where it has no bit of a normal number, and NaN
// stays NaN. Where a look-up is one instruction, x = n·ln 2 / 16 + r with 2^(n / 16) from a table; float32 has ln 2 to 0.05·2⁻²⁴,
// and with a fused multiply-add one constant will do. Elsewhere x = n·ln 2 + r.
CK_INLINE CK_WIDE void exp_below_zero_f32(vector_f32 *x, const int count) {
#define EACH CK_UNROLL for (int i = 0; i < count; i++)
    vector_f32 shifted[CK_EXPONENTIALS], r[CK_EXPONENTIALS], p[CK_EXPONENTIALS];
#if CK_VECTOR == 64
    static const float powers[16] = {0x1p+0f,        0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f,
                                     0x1.306fe0p+0f, 0x1.3dea64p+0f, 0x1.4bfdaep+0f, 0x1.5ab07ep+0f,
                                     0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f,
                                     0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};
    EACH shifted[i] = x[i] * 0x1.715476p+4f + 0x1.8p+23f;  // n sits in the low bits
    EACH r[i] = x[i] - (shifted[i] - 0x1.8p+23f) * 0x1.62e430p-5f;
    EACH p[i] = r[i] * 0x1.555646p-3f + 0x1.000222p-1f;
    EACH p[i] = p[i] * r[i] + 1.0f;
    EACH {
        const integers_f32 n = (integers_f32)shifted[i];
        const vector_f32 power = (vector_f32)((integers_f32)look_up_f32(powers, n) + ((n << 19) & ~0x7FFFFF));
        x[i] = CK_SELECT(f32, x[i] < -87.0f, (vector_f32){0}, (power * r[i]) * p[i] + power);
    }
#else
    const vector_f32 lowest = (vector_f32){0} - 88.02f;  // where n is −127 and the bits of 2ⁿ are those of 0
    EACH x[i] = CK_SELECT(f32, x[i] < lowest, lowest, x[i]);
    EACH shifted[i] = x[i] * 0x1.715476p+0f + 0x1.8p+23f;
#if CK_VECTOR == 32
    const float upper = 0x1.62e43p-1f, lower = -0x1.05c61p-29f;
#else  // no fused multiply-add: n·upper is exact
    const float upper = 0x1.62e4p-1f, lower = 0x1.7f7d1cp-20f;
#endif
    EACH {
        const vector_f32 n = shifted[i] - 0x1.8p+23f;
        r[i] = (x[i] - n * upper) - n * lower;
    }
    EACH p[i] = r[i] * 0x1.687c22p-10f + 0x1.123b8ep-7f;
    EACH p[i] = p[i] * r[i] + 0x1.555b58p-5f;
    EACH p[i] = p[i] * r[i] + 0x1.55548ep-3f;
    EACH p[i] = p[i] * r[i] + 0x1.fffff8p-2f;
    EACH p[i] = (p[i] * r[i]) * r[i] + r[i];
    EACH shifted[i] = (vector_f32)(((integers_f32)shifted[i] << 23) + 0x3F800000);
    EACH x[i] = p[i] * shifted[i] + shifted[i];
#endif
#undef EACH
}

CK_INLINE void exp_below_zero_f64(vector_f64 *x, const int count) {
    for (int i = 0; i < count; i++) {
        for (int l = 0; l < (int)(CK_VECTOR / sizeof(double)); l++) x[i][l] = ck_exp_f64(x[i][l]);
    }
}
