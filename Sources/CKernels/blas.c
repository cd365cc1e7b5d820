// The only file that sees a vendor's header.
#include "CKernels.h"

#if defined(__APPLE__)
#include <Accelerate/Accelerate.h>
#else
#include <cblas.h>
#endif

#define TRANSPOSE(flag) ((flag) ? CblasTrans : CblasNoTrans)

void ck_gemm_f32(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                 size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
    cblas_sgemm(CblasRowMajor, TRANSPOSE(transpose_a), TRANSPOSE(transpose_b), (int)m, (int)n, (int)k, alpha, a,
                (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void ck_gemm_f64(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, double alpha, const double *a,
                 size_t lda, const double *b, size_t ldb, double beta, double *c, size_t ldc) {
    cblas_dgemm(CblasRowMajor, TRANSPOSE(transpose_a), TRANSPOSE(transpose_b), (int)m, (int)n, (int)k, alpha, a,
                (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void ck_blas_single_threaded(void) {
#if !defined(__APPLE__)
    openblas_set_num_threads(1);
#endif
}
