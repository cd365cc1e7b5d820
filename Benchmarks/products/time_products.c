// Times matrix products by BLAS, by the kernels of each instruction set, and by BLIS and oneDNN where they are installed,
// on one thread; with LIBXSMM defined by libxsmm too, which comes as a static library. The products are read from standard input as shapes.py prints them. See docs/performance.md.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "CKernels.h"

enum { BLAS, V3, V4, AMX, BLIS, ONEDNN, XSMM, SIDES };
static const char *const sides[SIDES] = {"BLAS", "v3", "v4", "amx", "BLIS", "oneDNN", "libxsmm"};

// As the other libraries have them.
typedef void (*c_gemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                       int ldb, float beta, float *c, int ldc);
typedef int (*letter_gemm)(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                           const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
typedef void (*fortran_gemm)(const char *ta, const char *tb, const int *m, const int *n, const int *k, const float *alpha,
                             const float *a, const int *lda, const float *b, const int *ldb, const float *beta, float *c,
                             const int *ldc);
#if defined(LIBXSMM)
void libxsmm_sgemm(const char *, const char *, const int *, const int *, const int *, const float *, const float *,
                   const int *, const float *, const int *, const float *, float *, const int *);
#endif

static int side;
static const struct ck_table *table;
static struct ck_product product;
static void *workspace, *other;
static int transposed_a, transposed_b;

// The function of a library, apart from this program's own BLAS; NULL where it is not installed.
static void *found(const char *library, const char *name) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    return handle ? dlsym(handle, name) : NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run(void) {
    const int m = (int)product.m, n = (int)product.n, k = (int)product.k;
    const int lda = transposed_a ? m : k, ldb = transposed_b ? k : n;
    const float *a = (const float *)product.a, *b = (const float *)product.b;
    float *c = (float *)product.c;
    switch (side) {
    case BLAS: ck_blas_product(0, &product); break;
    case V3:
    case V4:
    case AMX: table->product[0](&product, workspace); break;
    case BLIS:
        ((c_gemm)other)(101, transposed_a ? 112 : 111, transposed_b ? 112 : 111, m, n, k, 1, a, lda, b, ldb, 0, c, n);
        break;
    case XSMM: {  // columns first: the transpose of C is that of B times that of A
        const float one = 1, zero = 0;
        ((fortran_gemm)other)(transposed_b ? "T" : "N", transposed_a ? "T" : "N", &n, &m, &k, &one, b, &ldb, a, &lda,
                              &zero, c, &n);
        break;
    }
    default:
        ((letter_gemm)other)(transposed_a ? 'T' : 'N', transposed_b ? 'T' : 'N', m, n, k, 1, a, lda, b, ldb, 0, c, n);
        break;
    }
}

// The best of a fifth of a second.
static double best(void) {
    double least = 1e9;
    for (double start = now(); now() - start < 0.2;) {
        const double before = now();
        run();
        const double taken = now() - before;
        least = taken < least ? taken : least;
    }
    return least;
}

static float *numbers(size_t count) {
    float *x = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++) x[i] = (float)(rand() % 2001 - 1000) / 1000;
    return x;
}

int main(void) {
    setenv("OMP_NUM_THREADS", "1", 1);  // what BLIS and oneDNN look at when they are loaded
    void *libraries[SIDES] = {
        [BLIS] = found("libblis.so.4", "cblas_sgemm"), [ONEDNN] = found("libdnnl.so.2", "dnnl_sgemm"),
#if defined(LIBXSMM)
        [XSMM] = (void *)libxsmm_sgemm,
#endif
    };
    char line[256], step[32], name[32], last[32] = "";
    double total[SIDES] = {0};
    unsigned long count, ta, tb, m, n, k;
    ck_blas_single_threaded();
    while (1) {
        const char *more = fgets(line, sizeof line, stdin);
        if (more) {
            sscanf(line, "%31s %31s %lu %lu %lu %lu %lu %lu", step, name, &count, &ta, &tb, &m, &n, &k);
        }
        if (*last && (!more || strcmp(step, last) != 0)) {
            printf("%-9s all of a step, ms:", last);
            for (int i = 0; i < SIDES; i++) {
                if (total[i] > 0) printf("  %s %.2f", sides[i], total[i] * 1e3);
            }
            printf("\n");
            memset(total, 0, sizeof total);
        }
        if (!more) return 0;
        strcpy(last, step);
        float *a = numbers(m * k), *b = numbers(k * n), *c = numbers(m * n);
        product = (struct ck_product){
            .m = m, .n = n, .k = k, .a = a, .a_row = ta ? 1 : (ptrdiff_t)k, .a_column = ta ? (ptrdiff_t)m : 1, .b = b,
            .b_row = tb ? 1 : (ptrdiff_t)n, .b_column = tb ? (ptrdiff_t)k : 1, .c = c, .c_row = (ptrdiff_t)n,
            .groups = 1, .in_pieces = 1,
        };
        transposed_a = (int)ta, transposed_b = (int)tb;
        printf("%-9s %-17s %5lu %5lu %5lu  Gflop/s:", step, name, m, n, k);
        for (side = 0; side < SIDES; side++) {
            table = side == V3 || side == V4 || side == AMX ? ck_table_named(sides[side]) : NULL;
            other = libraries[side];
            if (side != BLAS && !table && !other) continue;
            workspace = table ? aligned_alloc(64, (table->product_workspace[0](&product) + 63) / 64 * 64 + 64) : NULL;
            const double taken = best();
            total[side] += (double)count * taken;
            printf("  %s %6.1f", sides[side], 2e-9 * (double)(m * n * k) / taken);
            fflush(stdout);
            free(workspace);
        }
        printf("\n");
        free(a), free(b), free(c);
    }
}
