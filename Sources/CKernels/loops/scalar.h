// Scalar functions that the compiler can widen. float32 has polynomials of its own (the C library's functions
// would keep a loop scalar); float64, which checks gradients, takes the C library's.
//
// Coefficients: least squares on Chebyshev nodes in 40 digits, relative for exp, erf and tanh near zero.

static inline float ck_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t ck_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

// eʳ for |r| ≤ ln 2 / 2.
static inline float ck_exp_core(float r) {
    float p = 0x1.6a2348p-10f;
    p = p * r + 0x1.123a6cp-7f;
    p = p * r + 0x1.5558f4p-5f;
    p = p * r + 0x1.555490p-3f;
    p = p * r + 0x1.fffffcp-2f;
    return (p * r) * r + r + 1.0f;
}

// eˣ: x = n·ln 2 + r, |r| ≤ ln 2 / 2, and 2ⁿ in two factors, so that neither end overflows early.
static inline float ck_exp_f32(float x) {
    x = x < -110.0f ? -110.0f : x;
    x = x > 100.0f ? 100.0f : x;
    const float shifted = x * 0x1.715476p+0f + 0x1.8p+23f;  // n sits in the low bits
    const float n = shifted - 0x1.8p+23f;
    float r = x - n * 0x1.62e400p-1f;
    r = r - n * 0x1.7f7d1cp-20f;
    const int32_t exponent = (int32_t)(ck_bits(shifted) - 0x4B400000u);
    const int32_t half = exponent >> 1;
    return ck_exp_core(r) * ck_from_bits((uint32_t)(half + 127) << 23) *
           ck_from_bits((uint32_t)(exponent - half + 127) << 23);
}

// eˣ for x ≤ 0; 0 below the normal numbers. Cheaper than the above, since one factor 2ⁿ suffices.
static inline float ck_exp_negative_f32(float x) {
    const float shifted = x * 0x1.715476p+0f + 0x1.8p+23f;
    const float n = shifted - 0x1.8p+23f;
    float r = x - n * 0x1.62e400p-1f;
    r = r - n * 0x1.7f7d1cp-20f;
    const float y = ck_exp_core(r) * ck_from_bits((ck_bits(shifted) << 23) + 0x3F800000u);
    return x < -87.0f ? 0.0f : y;
}

// erf x: an odd polynomial near zero; 1 − exp(−q(|x|)) beyond, where q is a polynomial for −log erfc.
static inline float ck_erf_f32(float x) {
    float a = x < 0 ? -x : x;
    const float t = x * x;
    float s = -0x1.3357acp-11f;
    s = s * t + 0x1.458cf8p-8f;
    s = s * t - 0x1.b640e0p-6f;
    s = s * t + 0x1.ce1538p-4f;
    s = s * t - 0x1.8126c6p-2f;
    s = s * t + 0x1.06eba4p-3f;
    const float small = s * x + x;
    const float b = a > 4.0f ? 4.0f : a;
    float q = -0x1.06b78ap-20f;
    q = q * b + 0x1.082f7ep-16f;
    q = q * b - 0x1.73dcecp-14f;
    q = q * b + 0x1.b0e66ep-21f;
    q = q * b + 0x1.94ba4ep-9f;
    q = q * b - 0x1.7eca92p-6f;
    q = q * b + 0x1.b3eb00p-4f;
    q = q * b + 0x1.44e79ep-1f;
    q = q * b + 0x1.210938p+0f;
    q = q * b - 0x1.97eadep-14f;
    float large = 1.0f - ck_exp_negative_f32(-q);
    large = x < 0 ? -large : large;
    const float y = a < 0.92f ? small : large;
    return x != x ? x : y;
}

// tanh x: an odd polynomial near zero, 1 − 2 / (e²ˣ + 1) beyond.
static inline float ck_tanh_f32(float x) {
    const float a = x < 0 ? -x : x;
    const float t = x * x;
    float s = 0x1.17394cp-9f;
    s = s * t - 0x1.0b6d5ep-7f;
    s = s * t + 0x1.636a02p-6f;
    s = s * t - 0x1.b9eaa2p-5f;
    s = s * t + 0x1.11104ap-3f;
    s = s * t - 0x1.555552p-2f;
    const float small = (s * t) * x + x;
    float large = 1.0f - 2.0f / (ck_exp_f32(a + a) + 1.0f);
    large = x < 0 ? -large : large;
    return a < 0.625f ? small : large;
}

// log(1 + t) for 0 ≤ t ≤ 1: 2·artanh(t / (2 + t)), its series in at most 1/3 cut where the rest is below 2⁻²⁹.
static inline float ck_log1p_unit_f32(float t) {
    const float s = t / (2.0f + t);
    const float z = s * s;
    float p = 1.0f / 15;
    p = p * z + 1.0f / 13;
    p = p * z + 1.0f / 11;
    p = p * z + 1.0f / 9;
    p = p * z + 1.0f / 7;
    p = p * z + 1.0f / 5;
    p = p * z + 1.0f / 3;
    return 2.0f * (s + s * z * p);
}

// eˣ − 1 for x ≤ 0: 2t / (1 − t) with t = tanh(x / 2), which keeps the digits near zero.
static inline float ck_expm1_negative_f32(float x) {
    const float t = ck_tanh_f32(0.5f * x);
    return 2.0f * t / (1.0f - t);
}

static inline double ck_log1p_unit_f64(double t) { return log1p(t); }
static inline double ck_expm1_negative_f64(double x) { return expm1(x); }

static inline float ck_log_f32(float x) { return logf(x); }
static inline float ck_sqrt_f32(float x) { return __builtin_elementwise_sqrt(x); }  // without errno, which keeps loops scalar
static inline double ck_exp_f64(double x) { return exp(x); }
static inline double ck_erf_f64(double x) { return erf(x); }
static inline double ck_tanh_f64(double x) { return tanh(x); }
static inline double ck_log_f64(double x) { return log(x); }
static inline double ck_sqrt_f64(double x) { return __builtin_elementwise_sqrt(x); }
static inline float ck_log1p_f32(float x) { return log1pf(x); }
static inline float ck_expm1_f32(float x) { return expm1f(x); }
static inline float ck_sin_f32(float x) { return sinf(x); }
static inline float ck_cos_f32(float x) { return cosf(x); }
static inline float ck_power_f32(float x, float y) { return powf(x, y); }
static inline float ck_floor_f32(float x) { return floorf(x); }
static inline float ck_ceil_f32(float x) { return ceilf(x); }
static inline float ck_round_f32(float x) { return rintf(x); }  // ties to even
static inline double ck_log1p_f64(double x) { return log1p(x); }
static inline double ck_expm1_f64(double x) { return expm1(x); }
static inline double ck_sin_f64(double x) { return sin(x); }
static inline double ck_cos_f64(double x) { return cos(x); }
static inline double ck_power_f64(double x, double y) { return pow(x, y); }
static inline double ck_floor_f64(double x) { return floor(x); }
static inline double ck_ceil_f64(double x) { return ceil(x); }
static inline double ck_round_f64(double x) { return rint(x); }
