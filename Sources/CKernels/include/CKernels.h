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
    CK_UNARY_COUNT
};

enum ck_binary {
    CK_ADD, CK_SUBTRACT, CK_MULTIPLY, CK_DIVIDE, CK_MAXIMUM, CK_MINIMUM,
    CK_LESS, CK_EQUAL,  // 1 or 0 in the operands' own type
    // gradients: the first operand is what the forward saved, the second the cotangent
    CK_TANH_GRADIENT, CK_SIGMOID_GRADIENT, CK_RELU_GRADIENT, CK_GELU_GRADIENT, CK_ABS_GRADIENT, CK_ERF_GRADIENT,
    CK_BINARY_COUNT
};

// MARK: The table

// One table for each instruction set; all entries are filled.
struct ck_table {
    const char *name;  // "base", "v3" or "v4"
    ck_unary_fn unary[2][CK_UNARY_COUNT];
    ck_binary_fn binary[2][CK_BINARY_COUNT];

    // y[i] += x[i]
    void (*accumulate[2])(const void *x, void *y, size_t n);
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
    // dx[r] = y[r] ⊙ (g[r] − ⟨y[r], g[r]⟩)
    void (*softmax_gradient[2])(const void *y, const void *g, void *dx, size_t rows, size_t columns);
    // y[r] = x[r] − log Σ exp(x[r])
    void (*log_softmax[2])(const void *x, void *y, size_t rows, size_t columns);
    void (*log_softmax_gradient[2])(const void *y, const void *g, void *dx, size_t rows, size_t columns);

    // y = (x − mean)·rstd·weight + bias, row by row; weight and bias may be NULL; saves mean and rstd of each row
    void (*layer_norm[2])(const void *x, const void *weight, const void *bias, double epsilon, void *y,
                          void *mean, void *rstd, size_t rows, size_t columns);
    // dx of the above; and, where not NULL, this block's own sums for the weight's and the bias's gradient
    void (*layer_norm_gradient[2])(const void *x, const void *weight, const void *mean, const void *rstd,
                                   const void *g, void *dx, void *dweight, void *dbias, size_t rows,
                                   size_t columns);

    // Cross-entropy of each row against a class, with label smoothing: loss[r], and the softmax in `p`.
    // A row whose label equals `ignored` has loss 0.
    void (*cross_entropy[2])(const void *x, const int64_t *labels, int64_t ignored, double smoothing, void *loss,
                             void *p, size_t rows, size_t columns);
    // dx[r] = scale·g[r]·(p[r] − target[r]), 0 for ignored rows; g has one element a row
    void (*cross_entropy_gradient[2])(const void *p, const int64_t *labels, int64_t ignored, double smoothing,
                                      const void *g, void *dx, size_t rows, size_t columns);

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
};

// The widest table that this machine can run, or what FOVEA_ISA (base, v3 or v4) lowers it to.
const struct ck_table *ck_table(void);
// The table of that name, or NULL where this machine cannot run it.
const struct ck_table *ck_table_named(const char *name);

static inline ck_unary_fn ck_unary_loop(const struct ck_table *table, int type, enum ck_unary op) {
    return table->unary[type][op];
}
static inline ck_binary_fn ck_binary_loop(const struct ck_table *table, int type, enum ck_binary op) {
    return table->binary[type][op];
}

// MARK: Types

enum ck_type { CK_F32, CK_F64, CK_F16, CK_BF16, CK_I64, CK_I32, CK_U8, CK_BOOL };
// y[i] = (to)x[i]. Floats go to integers by truncation, saturating, NaN to 0; to bool as x ≠ 0.
void ck_convert(enum ck_type from, const void *x, enum ck_type to, void *y, size_t n);

// Copies a strided box into a row-major one. `size` is the element's bytes: 1, 2, 4 or 8.
void ck_gather_box(size_t size, size_t rank, const size_t *shape, const ptrdiff_t *strides, const void *x, void *y);
// Copies a row-major box into a strided one.
void ck_scatter_box(size_t size, size_t rank, const size_t *shape, const ptrdiff_t *strides, const void *x, void *y);

// MARK: Matrix products: the one seam to BLAS

// C[m, n] = alpha·op(A)·op(B) + beta·C, row-major; op transposes where the flag is set.
void ck_gemm_f32(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                 size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);
void ck_gemm_f64(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, double alpha, const double *a,
                 size_t lda, const double *b, size_t ldb, double beta, double *c, size_t ldc);
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

// MARK: What this thread records on

extern _Thread_local void *ck_thread_tape;   // recording now
extern _Thread_local void *ck_thread_stack;  // the innermost tape, recording or not
extern _Thread_local uint32_t ck_thread_label;  // the parameter that was read last
static inline uint32_t ck_get_thread_label(void) { return ck_thread_label; }
static inline void ck_set_thread_label(uint32_t label) { ck_thread_label = label; }
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
