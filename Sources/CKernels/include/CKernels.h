// The one header that Swift sees: the table of loops, the matrix products and the thread's tape slot.
//
// Element types are float32 (index 0) and float64 (index 1) wherever a table has a dimension [2].
// Lengths and strides count elements. No loop allocates, none keeps a pointer.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Loops, element by element

// y[i] = f(x[i·sx])
typedef void (*ck_unary_fn)(const void *x, ptrdiff_t sx, void *y, size_t n);
// y[i] = f(a[i·sa], b[i·sb]); a stride of 0 repeats a scalar
typedef void (*ck_binary_fn)(const void *a, ptrdiff_t sa, const void *b, ptrdiff_t sb, void *y, size_t n);

enum ck_unary {
    CK_NEGATE, CK_EXP, CK_LOG, CK_SQRT, CK_SQUARE, CK_ABS, CK_TANH, CK_SIGMOID, CK_ERF, CK_RELU, CK_GELU,
    CK_RECIPROCAL, CK_RSQRT, CK_LOG1P, CK_EXPM1, CK_SIN, CK_COS, CK_SIGN, CK_FLOOR, CK_CEIL,
    CK_ROUND,  // ties to even
    CK_SQUARED_RELU, CK_GELU_TANH, CK_SILU,
    CK_UNARY_COUNT
};

enum ck_binary {
    CK_ADD, CK_SUBTRACT, CK_MULTIPLY, CK_DIVIDE, CK_MAXIMUM, CK_MINIMUM,
    CK_LESS, CK_EQUAL,  // 1 or 0 in the operands' own type
    // gradients: the first operand is what the forward saved, the second the cotangent
    CK_TANH_GRADIENT, CK_SIGMOID_GRADIENT, CK_RELU_GRADIENT, CK_ABS_GRADIENT, CK_ERF_GRADIENT,
    CK_RECIPROCAL_GRADIENT, CK_RSQRT_GRADIENT, CK_SIN_GRADIENT, CK_COS_GRADIENT, CK_SQUARED_RELU_GRADIENT,
    CK_POWER, CK_POWER_BASE_SLOPE, CK_POWER_EXPONENT_SLOPE,  // aᵇ and its derivatives by a and by b
    CK_BINARY_COUNT
};

// y[i] = f(x[i]), slope[i] = f'(x[i])
typedef void (*ck_sloped_fn)(const void *x, void *y, void *slope, size_t n);

// Functions whose value and slope share their work
enum ck_sloped { CK_SLOPED_GELU, CK_SLOPED_GELU_TANH, CK_SLOPED_SILU, CK_SLOPED_COUNT };

// y[i] = f(x[i]; p, q)
typedef void (*ck_parametric_fn)(const void *x, void *y, size_t n, double p, double q);
// dx[i] = f'(x[i]; p, q)·g[i]
typedef void (*ck_parametric_gradient_fn)(const void *x, const void *g, void *dx, size_t n, double p, double q);

enum ck_parametric {
    CK_LEAKY_RELU,  // p: the slope below 0
    CK_ELU,         // p: alpha
    CK_SOFTPLUS,    // p: beta, q: threshold
    CK_CLAMP,       // p: the least value, q: the largest
    CK_PARAMETRIC_COUNT
};

// Relations of a and b, 1 or 0 in bytes; `both`, `either` and `one_of` take what is not 0 as true
enum ck_compare {
    CK_IS_EQUAL, CK_IS_NOT_EQUAL, CK_IS_LESS, CK_IS_LESS_OR_EQUAL, CK_BOTH, CK_EITHER, CK_ONE_OF,
    CK_COMPARE_COUNT
};

// MARK: Matrix products

// C[m, n] = addend + A[m, k]·B[k, n]. Element (i, j) of A is a[i·a_row + j·a_column], so that transposes and slices are
// read where they lie; B likewise; C and the addend have rows without gaps. The addend may be NULL, or C itself; with
// addend_row = 0 it is one row for all, such as a bias. B may be of bfloat16 where C is float32 and b_row is 1; it is widened
// on its way into the registers.
struct ck_product {
    size_t m, n, k;
    const void *a;
    ptrdiff_t a_row, a_column;
    // Where A's columns are not evenly spaced: they come in runs of so many, whose beginnings are a_run_step elements apart.
    // 0 where they are.
    size_t a_run;
    ptrdiff_t a_run_step;
    const void *b;
    ptrdiff_t b_row, b_column;
    const void *addend;
    ptrdiff_t addend_row;
    void *c;
    ptrdiff_t c_row;
    // So many products with one B, and one row as addend: their A are a_group elements apart, their C c_group. 1 for one.
    size_t groups;
    ptrdiff_t a_group, c_group;
    // Whether each element is a sum of its own along the rows of A and the columns of B, which must lie without gaps: for
    // few rows, where packing B would cost more than it saves.
    int is_few_rows;
    int is_b_bfloat16;
    // Whether products of float32 may be made of bfloat16 pieces, where the processor has tiles for them: see amx.c. It must not
    // depend on how a product is cut.
    int in_pieces;
};

// MARK: Attention

enum ck_attention_mask { CK_MASK_NONE, CK_MASK_VISIBLE, CK_MASK_ADDED };

// A sum that the forward pass takes of the attention on its way: Σ_n weights[b, n]·attention[b, h, n, :].
struct ck_attention_tap {
    const void *weights;
    ptrdiff_t strides[2];
};

// One call of attention. Features lie side by side; the strides are those of [B, H, N], or of the keys' [B, G, M].
struct ck_attention {
    size_t heads, share, queries, keys, width, value_width;  // H, H / G, N, M, d, e
    double scale;
    int is_causal;
    const void *q, *k, *v;
    ptrdiff_t q_strides[3], k_strides[3], v_strides[3];
    enum ck_attention_mask mask_kind;  // bytes that are not 0 where a query may look, or what is added to the scores
    const void *mask;
    ptrdiff_t mask_strides[4];  // of [B, H, N, M]
    uint64_t dropout_key;
    uint32_t dropout_below;  // a weight is dropped where its word is below; 0 for no dropout
    double dropout_kept;     // what the others are multiplied by
    const struct ck_attention_tap *taps;
    size_t tap_count;
    void *y;
    ptrdiff_t y_strides[3];
    void *top, *inverse;  // [B, H, N]: each row's greatest score and 1 / Σ exp(score − greatest)
    // The weights before dropout, for the gradients to find: for each [B, G] as many rows of M numbers as the H / G · N queries
    // have, in whole vectors. NULL where they are computed again.
    void *kept;

    // for the gradients alone
    const void *dy;
    ptrdiff_t dy_strides[3];
    void *dq, *dk, *dv;
    ptrdiff_t dq_strides[3], dk_strides[3], dv_strides[3];
    void *dmask;  // added to; its strides are 0 where the mask is repeated
    ptrdiff_t dmask_strides[4];
};

// MARK: The table

// One table for each instruction set; all entries are filled.
struct ck_table {
    const char *name;  // "base", "v3", "v4" or "amx"
    ck_unary_fn unary[2][CK_UNARY_COUNT];
    ck_binary_fn binary[2][CK_BINARY_COUNT];
    ck_sloped_fn sloped[2][CK_SLOPED_COUNT];
    // y[i] = silu(a[i])·b[i]
    void (*swiglu[2])(const void *a, const void *b, void *y, size_t n);
    // a and b become their gradients
    void (*swiglu_gradient[2])(void *a, void *b, const void *g, size_t n);
    ck_parametric_fn parametric[2][CK_PARAMETRIC_COUNT];
    ck_parametric_gradient_fn parametric_gradient[2][CK_PARAMETRIC_COUNT];
    ck_binary_fn compare[5][CK_COMPARE_COUNT];  // float32, float64, int64, int32, uint8

    // y[i] = mask[i·sm] ? a[i·sa] : b[i·sb]; `size` is the element's bytes: 1, 2, 4 or 8
    void (*select)(size_t size, const uint8_t *mask, ptrdiff_t sm, const void *a, ptrdiff_t sa, const void *b,
                   ptrdiff_t sb, void *y, size_t n);

    // y[i] += x[i]
    void (*accumulate[2])(const void *x, void *y, size_t n);
    // y[i] *= x[i]
    void (*multiply_by[2])(const void *x, void *y, size_t n);
    // out[r] = Σ_c x[r, c]
    void (*row_sum[2])(const void *x, void *out, size_t rows, size_t columns);
    // out[r] = max_c x[r, c]; NaN wins
    void (*row_max[2])(const void *x, void *out, size_t rows, size_t columns);
    // out[r] = min_c x[r, c]; NaN wins
    void (*row_min[2])(const void *x, void *out, size_t rows, size_t columns);
    // index[r] = the first c with the largest x[r, c], or the smallest; the first NaN wins
    void (*row_argmax[2])(const void *x, int64_t *index, size_t rows, size_t columns);
    void (*row_argmin[2])(const void *x, int64_t *index, size_t rows, size_t columns);
    // out[r] = Π_c x[r, c]
    void (*row_product[2])(const void *x, void *out, size_t rows, size_t columns);
    // dx[r, c] = g[r]·Π_{j ≠ c} x[r, j]
    void (*row_product_gradient[2])(const void *x, const void *g, void *dx, size_t rows, size_t columns);
    // out[r] = log Σ_c exp x[r, c]; -∞ of a row of -∞ alone
    void (*row_log_sum_exp[2])(const void *x, void *out, size_t rows, size_t columns);
    // y[r, c] = Σ_{j ≤ c} x[r, j], or Σ_{j ≥ c} where `backward` is set
    void (*row_cumulative_sum[2])(const void *x, void *y, size_t rows, size_t columns, int backward);
    // out[c] = Σ_r x[r·stride + c] for `columns` columns
    void (*column_sum[2])(const void *x, size_t stride, void *out, size_t rows, size_t columns);
    // Σ x[i]², added up in double
    double (*sum_of_squares[2])(const void *x, size_t n);

    // y[r] = softmax(x[r]); a row of -∞ alone becomes zeros
    void (*softmax[2])(const void *x, void *y, size_t rows, size_t columns);
    // dx[r] = y[r] ⊙ (g[r] − ⟨y[r], g[r]⟩); dx may be y itself, here and for the logarithm
    void (*softmax_gradient[2])(const void *y, const void *g, void *dx, size_t rows, size_t columns);
    // y[r] = x[r] − log Σ exp(x[r])
    void (*log_softmax[2])(const void *x, void *y, size_t rows, size_t columns);
    void (*log_softmax_gradient[2])(const void *y, const void *g, void *dx, size_t rows, size_t columns);

    // y = (x − mean)·rstd·weight + bias, row by row; weight and bias may be NULL; saves mean and rstd of each row
    void (*layer_norm[2])(const void *x, const void *weight, const void *bias, double epsilon, void *y,
                          void *mean, void *rstd, size_t rows, size_t columns);
    // dx of the above; and, where not NULL, added to: the weight's and the bias's gradient
    void (*layer_norm_gradient[2])(const void *x, const void *weight, const void *mean, const void *rstd,
                                   const void *g, void *dx, void *dweight, void *dbias, size_t rows,
                                   size_t columns);

    // y = x·weight + bias, row by row; one of weight and bias may be NULL
    void (*affine[2])(const void *x, const void *weight, const void *bias, void *y, size_t rows, size_t columns);
    // Added to, where not NULL: the gradients of weight and bias
    void (*affine_gradient[2])(const void *x, const void *g, void *dweight, void *dbias, size_t rows, size_t columns);

    // y = x·rstd·weight with rstd = 1 / √(mean x² + ε), row by row; weight may be NULL; saves rstd of each row
    void (*rms_norm[2])(const void *x, const void *weight, double epsilon, void *y, void *rstd, size_t rows,
                        size_t columns);
    // dx of the above; and, where not NULL, added to: the weight's gradient
    void (*rms_norm_gradient[2])(const void *x, const void *weight, const void *rstd, const void *g, void *dx,
                                 void *dweight, size_t rows, size_t columns);

    // Cross-entropy of each row against a class, with label smoothing: loss[r], and the softmax in `p`.
    // A row whose label equals `ignored` has loss 0.
    void (*cross_entropy[2])(const void *x, const int64_t *labels, int64_t ignored, double smoothing, void *loss,
                             void *p, size_t rows, size_t columns);
    // dx[r] = scale·g[r]·(p[r] − target[r]), 0 for ignored rows; g has one element a row
    void (*cross_entropy_gradient[2])(const void *p, const int64_t *labels, int64_t ignored, double smoothing,
                                      const void *g, void *dx, size_t rows, size_t columns);

    // Rows of 2·half channels with their pairs turned by angles, or turned back where `sign` is −1. Rows of x and of the
    // angles are so many elements apart, those of y lie side by side.
    void (*rotate[2])(const void *x, ptrdiff_t x_row, const void *cosine, const void *sine, ptrdiff_t angle_row,
                      double sign, int interleaved, void *y, size_t half, size_t rows);

    // AdamW with decoupled decay: see optimizers. `correction1/2` are 1 − β₁ᵗ and 1 − β₂ᵗ.
    void (*adamw[2])(void *w, const void *g, void *m, void *v, size_t n, double rate, double beta1, double beta2,
                     double epsilon, double decay, double correction1, double correction2);
    // v = momentum·v + (g + decay·w); w −= rate·(nesterov ? g + momentum·v : v)
    void (*sgd[2])(void *w, const void *g, void *v, size_t n, double rate, double momentum, double decay, int nesterov);
    // y = a·y + b·x
    void (*blend[2])(const void *x, void *y, size_t n, double a, double b);
    // y = a·x
    void (*scale[2])(const void *x, void *y, size_t n, double a);
    // y[i] = value
    void (*fill[2])(void *y, size_t n, double value);

    // Attention of the rows `first ..< end` among the share·N that look at the keys of group g; `sums` has [share, M] for
    // each tap, to be added to. The workspaces hold as many elements as the functions beside say.
    void (*attention[2])(const struct ck_attention *a, size_t b, size_t g, size_t first, size_t end, void *const *sums,
                         void *workspace);
    size_t (*attention_workspace[2])(const struct ck_attention *a);
    // The attention of some query rows to the keys `first ..< end`, after the forward pass: y[h·head_stride +
    // r·row_stride + key], or the mean over the heads where `head_stride` is 0.
    void (*attention_of_rows[2])(const struct ck_attention *a, size_t b, const int64_t *rows, size_t count, size_t first,
                                 size_t end, void *y, ptrdiff_t head_stride, ptrdiff_t row_stride, void *workspace);
    // dk and dv of the keys `first ..< end` of group g, and what these contribute to dq, which is overwritten
    void (*attention_gradient[2])(const struct ck_attention *a, size_t b, size_t g, size_t first, size_t end,
                                  void *workspace);
    // dmask += the gradient of the scores of some rows of group g and some keys
    void (*attention_mask_gradient[2])(const struct ck_attention *a, size_t b, size_t g, size_t first_row, size_t end_row,
                                       size_t first_key, size_t end_key, void *workspace);
    size_t (*attention_gradient_workspace[2])(const struct ck_attention *a, size_t keys);

    // A matrix product on the calling thread. `workspace` is 64-byte aligned and as large as `product_workspace` says,
    // in bytes; NULL where that is 0. With fused multiply-adds each element of C has the same bits in whichever rows and
    // columns the product is cut.
    void (*product[2])(const struct ck_product *x, void *workspace);
    size_t (*product_workspace[2])(const struct ck_product *x);
    size_t panel[2];  // columns that are computed at a time: best cut at multiples of it
    size_t strip;     // columns of B that are packed at a time
    // Where the register tiles of products and of attention begin in float32, for tests that look at their machine code.
    uintptr_t (*product_tile)(void);
    uintptr_t (*attention_tile)(void);
    int has_pieces;    // whether products of float32 may be made of bfloat16 pieces
    int prefers_blas;  // whether the machine's BLAS is faster than `product`
};

// The widest table that this machine can run, or what FOVEA_ISA (base, v3, v4 or amx) lowers it to.
const struct ck_table *ck_table(void);
// The table of that name, or NULL where this machine cannot run it.
const struct ck_table *ck_table_named(const char *name);

static inline ck_unary_fn ck_unary_loop(const struct ck_table *table, int type, enum ck_unary op) {
    return table->unary[type][op];
}
static inline ck_binary_fn ck_binary_loop(const struct ck_table *table, int type, enum ck_binary op) {
    return table->binary[type][op];
}
static inline ck_sloped_fn ck_sloped_loop(const struct ck_table *table, int type, enum ck_sloped op) {
    return table->sloped[type][op];
}
static inline ck_parametric_fn ck_parametric_loop(const struct ck_table *table, int type, enum ck_parametric op) {
    return table->parametric[type][op];
}
static inline ck_parametric_gradient_fn ck_parametric_gradient_loop(const struct ck_table *table, int type,
                                                                    enum ck_parametric op) {
    return table->parametric_gradient[type][op];
}
static inline ck_binary_fn ck_compare_loop(const struct ck_table *table, int type, enum ck_compare op) {
    return table->compare[type][op];
}

// MARK: Types

enum ck_type { CK_F32, CK_F64, CK_F16, CK_BF16, CK_I64, CK_I32, CK_U8, CK_BOOL };
// y[i] = (to)x[i]. Floats go to integers by truncation, saturating, NaN to 0; to bool as x ≠ 0.
void ck_convert(enum ck_type from, const void *x, enum ck_type to, void *y, size_t n);

// MARK: Boxes

// The most axes that a tensor has.
enum { CK_MAX_RANK = 32 };

// An axis that up to three operands share: its length, and in each of them the elements from one index to the next.
struct ck_axis {
    ptrdiff_t length;
    ptrdiff_t steps[3];
};

// Elements that operands share, by axes, the innermost first. No axis has length 1, and none lies in all operands as if it
// belonged to the one inside of it: so a box without axes is one element, and loops are as long as can be.
struct ck_box {
    size_t rank;
    struct ck_axis axes[CK_MAX_RANK];
};

// Puts an axis around the box.
static inline void ck_box_add(struct ck_box *box, ptrdiff_t length, ptrdiff_t a, ptrdiff_t b, ptrdiff_t c) {
    if (length == 1) return;
    if (box->rank > 0) {
        struct ck_axis *outermost = &box->axes[box->rank - 1];
        const ptrdiff_t inner = outermost->length;
        if (a == outermost->steps[0] * inner && b == outermost->steps[1] * inner && c == outermost->steps[2] * inner) {
            outermost->length *= length;
            return;
        }
    }
    struct ck_axis *axis = &box->axes[box->rank++];
    axis->length = length;
    axis->steps[0] = a;
    axis->steps[1] = b;
    axis->steps[2] = c;
}

// A way along the axes of a box from `first` on, in row-major order, and where it is in each operand.
struct ck_walk {
    size_t first;
    ptrdiff_t offsets[3];
    ptrdiff_t at[CK_MAX_RANK];
};

static inline void ck_walk_start(struct ck_walk *walk, const struct ck_box *box, size_t first, ptrdiff_t position) {
    walk->first = first;
    for (int i = 0; i < 3; i++) walk->offsets[i] = 0;
    for (size_t d = first; d < box->rank; d++) {
        walk->at[d] = position % box->axes[d].length;
        position /= box->axes[d].length;
        for (int i = 0; i < 3; i++) walk->offsets[i] += walk->at[d] * box->axes[d].steps[i];
    }
}

static inline void ck_walk_advance(struct ck_walk *walk, const struct ck_box *box) {
    for (size_t d = walk->first; d < box->rank; d++) {
        const struct ck_axis *axis = &box->axes[d];
        for (int i = 0; i < 3; i++) walk->offsets[i] += axis->steps[i];
        if (++walk->at[d] < axis->length) return;
        for (int i = 0; i < 3; i++) walk->offsets[i] -= axis->steps[i] * axis->length;
        walk->at[d] = 0;
    }
}

// Copies a box, the first operand, to row-major order. `size` is the element's bytes: 1, 2, 4 or 8.
void ck_gather_box(size_t size, const struct ck_box *box, const void *x, void *y);
// Copies what is in row-major order to a box.
void ck_scatter_box(size_t size, const struct ck_box *box, const void *x, void *y);

// MARK: Indexing, sorting

// The first i with index[i] outside 0 ..< bound, or −1.
ptrdiff_t ck_first_outside(const int64_t *index, size_t n, int64_t bound);
// positions[i] of the element on the line along `axis` that a row-major index of this shape names; the strides are the
// source's.
void ck_line_positions(size_t rank, const size_t *shape, const ptrdiff_t *strides, size_t axis, const int64_t *index,
                       int64_t *positions);
// positions[o, i] = o·length + index[i]
void ck_row_positions(size_t outer, int64_t length, const int64_t *index, size_t n, int64_t *positions);
// Where the mask is not 0, and how often; positions may be NULL.
size_t ck_true_positions(const uint8_t *mask, size_t n, int64_t *positions);
// y[i] = x[positions[i]], blocks of `block` elements of `size` bytes
void ck_take(size_t size, const void *x, const int64_t *positions, size_t n, size_t block, void *y);
// y[positions[i]] += x[i] for `count` columns of each block from `first` on, in the order of i; a position that equals
// `skipped` is left out. The type is 0 for float32, 1 for float64.
void ck_add_at(int type, const void *x, const int64_t *positions, int64_t skipped, size_t n, size_t block, size_t first,
               size_t count, void *y);
// Rows `first` and on of weighted sums of the rows of x: y[p] = Σ w[e] x[index[e]] over bounds[p] <= e < bounds[p + 1]. w may be
// NULL for 1; y is where the first of these rows goes. The type is 0 for float32, 1 for float64.
void ck_bag_sums(int type, const void *x, const int64_t *index, const int64_t *bounds, const void *w, size_t first,
                 size_t count, size_t width, void *y);
// y[e] = x[index[e]] · g[p] for the same e of the same rows p
void ck_bag_products(int type, const void *x, const int64_t *index, const int64_t *bounds, const void *g, size_t first,
                     size_t count, size_t width, void *y);
// y[i] = mask[i] ? value : x[i]
void ck_fill_where(size_t size, const uint8_t *mask, const void *value, const void *x, void *y, size_t n);
// counts[index[i]] += 1
void ck_bincount(const int64_t *index, size_t n, int64_t *counts);
// Rows `first` and on of matrices [height, width]: the lower or upper triangle, and zeros.
void ck_triangle(size_t size, int lower, ptrdiff_t diagonal, size_t height, size_t width, size_t first, size_t rows,
                 const void *x, void *y);

// index = the stable order of n keys, float32, float64 or int64; NaN counts as the largest.
void ck_argsort(enum ck_type type, const void *keys, size_t n, int descending, int64_t *index, int64_t *scratch);

// MARK: Losses, element by element

enum ck_loss_kind {
    CK_LOSS_MSE, CK_LOSS_HUBER, CK_LOSS_BINARY_CROSS_ENTROPY, CK_LOSS_KL, CK_LOSS_KL_LOG_TARGET,
};
// loss[i] of the input x[i] against the target t[i], and its derivatives by both; each is left out where NULL.
// `parameter` is Huber's delta; `weight` the positive weights of the binary cross-entropy, or NULL.
void ck_loss(enum ck_loss_kind kind, int type, const void *x, const void *t, const void *weight, double parameter,
             void *loss, void *dx, void *dt, size_t n);

// MARK: Windows of planes

// Windows that slide over planes of image[0] × image[1] elements, and how many there are: rows, then columns.
struct ck_windows {
    ptrdiff_t image[2], kernel[2], stride[2], padding[2], dilation[2], counts[2];
};
// y[p, kernel, windows] = x[p, pixel], 0 outside the image
void ck_unfold(size_t size, const struct ck_windows *w, const void *x, void *y, size_t planes);
// y[p, pixel] = Σ x[p, kernel, windows]
void ck_fold(int type, const struct ck_windows *w, const void *x, void *y, size_t planes);
// The largest element of each window and its position in the plane; the first of equal ones, the first NaN of all
void ck_max_pool(int type, const struct ck_windows *w, const void *x, void *y, int64_t *index, size_t planes);
// dx[plane, index] += g; dx is overwritten
void ck_max_pool_gradient(int type, const struct ck_windows *w, const void *g, const int64_t *index, void *dx,
                          size_t planes);

// Weighted sums along one axis: output o takes `taps[o]` inputs from `first[o]` on, with weights[o · max_taps + t].
struct ck_resampling {
    size_t length, out_length, max_taps;
    const int64_t *first, *taps;
    const double *weights;
};
// y[b, o, i] = Σ_t weights[o, t] · x[b, first[o] + t, i] for blocks of length × inner elements
void ck_resample(int type, const struct ck_resampling *s, const void *x, void *y, size_t blocks, size_t inner);
// The transpose of the above; x is overwritten
void ck_resample_transposed(int type, const struct ck_resampling *s, const void *y, void *x, size_t blocks,
                            size_t inner);

// MARK: The one seam to BLAS

// The same product by BLAS, on the calling thread. `type` is 0 for float32, 1 for float64. A and B must each have a
// stride of 1; the addend must be C or NULL; A has no runs, and there is one product alone.
void ck_blas_product(int type, const struct ck_product *x);
// Tells BLAS to stay on the calling thread; the workers are ours.
void ck_blas_single_threaded(void);

// MARK: Factorizations: the one seam to LAPACK
//
// `type` is 0 for float32, 1 for float64. No length may be 0. "Columns first" is LAPACK's order: the transpose, where it
// is read row by row. Each returns LAPACK's `info`: 0 when it went well. These allocate their working memory.

// P·L·U of a [n, n], columns first, in place.
int ck_lu(int type, int n, void *a, int *pivots);
// b [n, columns], columns first, becomes A⁻¹·b, or A⁻ᵀ·b where `transpose` is set.
int ck_lu_solve(int type, int transpose, int n, int columns, const void *lu, const int *pivots, void *b);
// The lower triangle of a row-major symmetric [n, n] becomes L of L·Lᵀ; the rest stays as it is.
int ck_cholesky(int type, int n, void *a);
// R in the upper triangle of a [m, n], columns first, and below it the reflections, with min(m, n) factors in tau.
int ck_qr(int type, int m, int n, void *a, void *tau);
// The first k columns of Q, in place of k reflections [m, k], columns first; k ≤ m.
int ck_qr_basis(int type, int m, int k, void *a, const void *tau);
// a [m, n] = u [m, k]·diag(s)·vt [k, n], all row-major, k = min(m, n); a is overwritten.
int ck_svd(int type, int m, int n, void *a, void *u, void *s, void *vt);
// A row-major symmetric [n, n] becomes its eigenvectors, one a row, in the order of the ascending eigenvalues.
int ck_eigen(int type, int n, void *a, void *values);
// b [m, n] becomes op(T)⁻¹·b, or b·op(T)⁻¹ where `right` is set; all row-major. Of T one triangle is read.
void ck_triangular_solve(int type, int right, int upper, int transpose, int m, int n, const void *t, void *b);

// MARK: Working memory

// At least so many bytes at a multiple of 512, until they are given back; NULL where there is no memory. A thread gets the
// same again at each call: it has them in its cache, where a pool would hand it what another has just written to. They are
// freed with the thread.
void *ck_take_scratch(size_t bytes);
void ck_return_scratch(void *memory);

// Copies without fetching what is overwritten, and past the caches. Other threads may look after `ck_finish_stores`.
void ck_store_past_caches(void *y, const void *x, size_t bytes);
void ck_finish_stores(void);
// The bytes of the last cache that the first core has; SIZE_MAX where that is not known.
size_t ck_last_cache(void);

// MARK: What this thread records on

extern _Thread_local void *ck_thread_tape;   // recording now
extern _Thread_local void *ck_thread_stack;  // the innermost tape, recording or not
extern _Thread_local uint32_t ck_thread_label;  // the parameter that was read last
static inline uint32_t ck_get_thread_label(void) { return ck_thread_label; }
static inline void ck_set_thread_label(uint32_t label) { ck_thread_label = label; }
extern _Thread_local int ck_thread_planning;     // tensors get no memory
static inline int ck_get_thread_planning(void) { return ck_thread_planning; }
static inline void ck_set_thread_planning(int planning) { ck_thread_planning = planning; }
static inline void *ck_get_thread_tape(void) { return ck_thread_tape; }
static inline void ck_set_thread_tape(void *tape) { ck_thread_tape = tape; }
static inline void *ck_get_thread_stack(void) { return ck_thread_stack; }
static inline void ck_set_thread_stack(void *tape) { ck_thread_stack = tape; }

// MARK: Threads and memory

// A hint to the core that the caller spins.
static inline void ck_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#ifdef __cplusplus
}
#endif
