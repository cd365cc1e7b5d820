// Times matrix products by BLAS and by the kernels of each instruction set on one thread. The products are read from
// standard input as shapes.py prints them. See docs/performance.md.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "CKernels.h"

static const struct ck_table *table;  // NULL: BLAS
static struct ck_product product;
static void *workspace;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run(void) {
    if (table) {
        table->product[0](&product, workspace);
    } else {
        ck_blas_product(0, &product);
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
    static const char *const sides[] = {"BLAS", "v3", "v4"};
    char line[256], step[32], name[32], last[32] = "";
    double total[3] = {0};
    unsigned long count, ta, tb, m, n, k;
    ck_blas_single_threaded();
    while (1) {
        const char *more = fgets(line, sizeof line, stdin);
        if (more) {
            sscanf(line, "%31s %31s %lu %lu %lu %lu %lu %lu", step, name, &count, &ta, &tb, &m, &n, &k);
        }
        if (*last && (!more || strcmp(step, last) != 0)) {
            printf("%-9s all of a step, ms:", last);
            for (int side = 0; side < 3; side++) printf("  %s %.2f", sides[side], total[side] * 1e3);
            printf("\n");
            memset(total, 0, sizeof total);
        }
        if (!more) return 0;
        strcpy(last, step);
        float *a = numbers(m * k), *b = numbers(k * n), *c = numbers(m * n);
        product = (struct ck_product){
            .m = m, .n = n, .k = k, .a = a, .a_row = ta ? 1 : (ptrdiff_t)k, .a_column = ta ? (ptrdiff_t)m : 1, .b = b,
            .b_row = tb ? 1 : (ptrdiff_t)n, .b_column = tb ? (ptrdiff_t)k : 1, .c = c, .c_row = (ptrdiff_t)n,
        };
        printf("%-9s %-17s %5lu %5lu %5lu  Gflop/s:", step, name, m, n, k);
        for (int side = 0; side < 3; side++) {
            table = side ? ck_table_named(sides[side]) : NULL;
            if (side && !table) continue;
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
