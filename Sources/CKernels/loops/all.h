// Every loop, compiled once for each instruction set (CK_ISA) and each element type.
// The attribute is pushed over the whole text, so that the inlined helpers are of the same instruction set
// as the loops that call them.
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "CKernels.h"

#define CK_PASTE3(a, b, c) a##_##b##_##c
#define CK_PASTE2(a, b) a##_##b
#define CK_NAME3(a, b, c) CK_PASTE3(a, b, c)
#define CK_NAME2(a, b) CK_PASTE2(a, b)

#if defined(CK_TARGET)
#pragma clang attribute push(__attribute__((target(CK_TARGET))), apply_to = function)
#endif

#include "scalar.h"
#include "vectors.h"
#include "lanes.h"
#include "gelu.h"
#include "random.h"

// For loops that write each element in the place of the one they read. Without it they fall back to one element at a time
// there; the C library's functions on float64 keep some so.
#define IN_PLACE _Pragma("clang loop vectorize(assume_safety)")

// Products cut k in blocks, and n in strips, of which B is packed at a time. A panel of it, two vectors wide, has 24 KiB or less up
// to AVX2: it stays in the first cache while some rows of A pass by, of which a tile takes fewer bytes, and the second cache need
// not hold the strip. AVX-512's panels have 48 KiB: there a tile's rows of A stay, all panels pass by, and the second cache holds them.
#define BLOCK 384
#define PANEL_STAYS (2 * CK_VECTOR * BLOCK <= 24 << 10)
#define STRIP (PANEL_STAYS ? 1024 : 512)

#define T float
#define TYPE f32
#include "elementwise.h"
#include "parametric.h"
#include "compare.h"
#include "reduce.h"
#include "rows.h"
#include "rotary.h"
#include "optimizer.h"
#include "attention_products.h"
#include "attention_tiles.h"
#include "attention.h"
#include "attention_gradient.h"
#include "product.h"
#undef T
#undef TYPE
#undef IN_PLACE
#define IN_PLACE

#define T double
#define TYPE f64
#include "elementwise.h"
#include "parametric.h"
#include "compare.h"
#include "reduce.h"
#include "rows.h"
#include "rotary.h"
#include "optimizer.h"
#include "attention_products.h"
#include "attention_tiles.h"
#include "attention.h"
#include "attention_gradient.h"
#include "product.h"
#undef T
#undef TYPE
#undef IN_PLACE

#define T int64_t
#define TYPE i64
#include "compare.h"
#undef T
#undef TYPE

#define T int32_t
#define TYPE i32
#include "compare.h"
#undef T
#undef TYPE

#define T uint8_t
#define TYPE u8
#include "compare.h"
#undef T
#undef TYPE

#include "select.h"

static uintptr_t product_tile(void) { return (uintptr_t)tiles_of_f32[CK_TILE_ROWS - 1][2]; }
static uintptr_t attention_tile_start(void) { return (uintptr_t)attention_product_f32; }

#if defined(CK_TARGET)
#pragma clang attribute pop
#endif

#define CK_STRING2(x) #x
#define CK_STRING(x) CK_STRING2(x)
#define BOTH(name) {CK_NAME2(name, f32), CK_NAME2(name, f64)}
#define UNARY_ROW(type) \
    {[CK_NEGATE] = negate_##type, [CK_EXP] = exp_##type, [CK_LOG] = log_##type, [CK_SQRT] = sqrt_##type, \
     [CK_SQUARE] = square_##type, [CK_ABS] = abs_##type, [CK_TANH] = tanh_##type, [CK_SIGMOID] = sigmoid_##type, \
     [CK_ERF] = erf_##type, [CK_RELU] = relu_##type, [CK_GELU] = gelu_##type, \
     [CK_RECIPROCAL] = reciprocal_##type, [CK_RSQRT] = rsqrt_##type, [CK_LOG1P] = log1p_##type, \
     [CK_EXPM1] = expm1_##type, [CK_SIN] = sin_##type, [CK_COS] = cos_##type, [CK_SIGN] = sign_##type, \
     [CK_FLOOR] = floor_##type, [CK_CEIL] = ceil_##type, [CK_ROUND] = round_##type, \
     [CK_SQUARED_RELU] = squared_relu_##type, [CK_GELU_TANH] = gelu_tanh_##type, [CK_SILU] = silu_##type}
#define BINARY_ROW(type) \
    {[CK_ADD] = add_##type, [CK_SUBTRACT] = subtract_##type, [CK_MULTIPLY] = multiply_##type, \
     [CK_DIVIDE] = divide_##type, [CK_MAXIMUM] = maximum_##type, [CK_MINIMUM] = minimum_##type, \
     [CK_LESS] = less_##type, [CK_EQUAL] = equal_##type, [CK_TANH_GRADIENT] = tanh_gradient_##type, \
     [CK_SIGMOID_GRADIENT] = sigmoid_gradient_##type, [CK_RELU_GRADIENT] = relu_gradient_##type, \
     [CK_ABS_GRADIENT] = abs_gradient_##type, \
     [CK_ERF_GRADIENT] = erf_gradient_##type, [CK_RECIPROCAL_GRADIENT] = reciprocal_gradient_##type, \
     [CK_RSQRT_GRADIENT] = rsqrt_gradient_##type, [CK_SIN_GRADIENT] = sin_gradient_##type, \
     [CK_COS_GRADIENT] = cos_gradient_##type, [CK_SQUARED_RELU_GRADIENT] = squared_relu_gradient_##type, \
     [CK_POWER] = power_##type, [CK_POWER_BASE_SLOPE] = power_base_slope_##type, \
     [CK_POWER_EXPONENT_SLOPE] = power_exponent_slope_##type}
#define SLOPED_ROW(type) \
    {[CK_SLOPED_GELU] = gelu_with_slope_##type, [CK_SLOPED_GELU_TANH] = gelu_tanh_with_slope_##type, \
     [CK_SLOPED_SILU] = silu_with_slope_##type}
#define PARAMETRIC_ROW(type) \
    {[CK_LEAKY_RELU] = leaky_relu_##type, [CK_ELU] = elu_##type, [CK_SOFTPLUS] = softplus_##type, \
     [CK_CLAMP] = clamp_##type}
#define COMPARE_ROW(type) \
    {[CK_IS_EQUAL] = is_equal_##type, [CK_IS_NOT_EQUAL] = is_not_equal_##type, [CK_IS_LESS] = is_less_##type, \
     [CK_IS_LESS_OR_EQUAL] = is_less_or_equal_##type, [CK_BOTH] = both_##type, [CK_EITHER] = either_##type, \
     [CK_ONE_OF] = one_of_##type}

const struct ck_table CK_NAME2(ck_table, CK_ISA) = {
    .name = CK_STRING(CK_ISA),
    .unary = {UNARY_ROW(f32), UNARY_ROW(f64)},
    .binary = {BINARY_ROW(f32), BINARY_ROW(f64)},
    .sloped = {SLOPED_ROW(f32), SLOPED_ROW(f64)},
    .swiglu = BOTH(swiglu),
    .swiglu_gradient = BOTH(swiglu_gradient),
    .parametric = {PARAMETRIC_ROW(f32), PARAMETRIC_ROW(f64)},
    .parametric_gradient = {PARAMETRIC_ROW(gradient_f32), PARAMETRIC_ROW(gradient_f64)},
    .compare = {COMPARE_ROW(f32), COMPARE_ROW(f64), COMPARE_ROW(i64), COMPARE_ROW(i32), COMPARE_ROW(u8)},
    .select = select_elements,
    .accumulate = BOTH(accumulate),
    .multiply_by = BOTH(multiply_by),
    .row_sum = BOTH(row_sum),
    .row_max = BOTH(row_max),
    .row_min = BOTH(row_min),
    .row_argmax = BOTH(row_argmax),
    .row_argmin = BOTH(row_argmin),
    .row_product = BOTH(row_product),
    .row_product_gradient = BOTH(row_product_gradient),
    .row_log_sum_exp = BOTH(row_log_sum_exp),
    .row_cumulative_sum = BOTH(row_cumulative_sum),
    .column_sum = BOTH(column_sum),
    .sum_of_squares = BOTH(sum_of_squares),
    .softmax = BOTH(softmax),
    .softmax_gradient = BOTH(softmax_gradient),
    .log_softmax = BOTH(log_softmax),
    .log_softmax_gradient = BOTH(log_softmax_gradient),
    .layer_norm = BOTH(layer_norm),
    .layer_norm_gradient = BOTH(layer_norm_gradient),
    .affine = BOTH(affine),
    .affine_gradient = BOTH(affine_gradient),
    .rms_norm = BOTH(rms_norm),
    .rms_norm_gradient = BOTH(rms_norm_gradient),
    .cross_entropy = BOTH(cross_entropy),
    .cross_entropy_gradient = BOTH(cross_entropy_gradient),
    .rotate = BOTH(rotate),
    .adamw = BOTH(adamw),
    .sgd = BOTH(sgd),
    .blend = BOTH(blend),
    .scale = BOTH(scale),
    .fill = BOTH(fill),
    .attention = BOTH(attention),
    .attention_workspace = BOTH(attention_workspace),
    .attention_of_rows = BOTH(attention_of_rows),
    .attention_gradient = BOTH(attention_gradient),
    .attention_mask_gradient = BOTH(attention_mask_gradient),
    .attention_gradient_workspace = BOTH(attention_gradient_workspace),
    .product = BOTH(product),
    .product_workspace = BOTH(product_workspace),
    .product_tile = product_tile,
    .attention_tile = attention_tile_start,
    .panel = {2 * CK_VECTOR / sizeof(float), 2 * CK_VECTOR / sizeof(double)},
    .strip = STRIP,
    .prefers_blas = CK_VECTOR == 16,
};
