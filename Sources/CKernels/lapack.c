// The seam to LAPACK. Its symbols are Fortran's, with pointers to everything; OpenBLAS ships no header for them.
//
// LAPACK reads matrices column by column. A row-major matrix is the transpose of what it sees; each function says
// what that means for its operands.
#include <stdlib.h>

#include "CKernels.h"

#if defined(__APPLE__)
#include <Accelerate/Accelerate.h>
#else
#include <cblas.h>
#endif

#if !defined(__APPLE__)
// The lengths of the character arguments come last, as gfortran passes them.
#define PROTOTYPES(T, p)                                                                                          \
    void p##getrf_(const int *m, const int *n, T *a, const int *lda, int *pivots, int *info);                     \
    void p##getrs_(const char *trans, const int *n, const int *nrhs, const T *a, const int *lda, const int *pivots, \
                   T *b, const int *ldb, int *info, size_t);                                                      \
    void p##potrf_(const char *uplo, const int *n, T *a, const int *lda, int *info, size_t);                      \
    void p##geqrf_(const int *m, const int *n, T *a, const int *lda, T *tau, T *work, const int *lwork, int *info); \
    void p##orgqr_(const int *m, const int *n, const int *k, T *a, const int *lda, const T *tau, T *work,         \
                   const int *lwork, int *info);                                                                  \
    void p##gesdd_(const char *jobz, const int *m, const int *n, T *a, const int *lda, T *s, T *u, const int *ldu, \
                   T *vt, const int *ldvt, T *work, const int *lwork, int *iwork, int *info, size_t);             \
    void p##syevd_(const char *jobz, const char *uplo, const int *n, T *a, const int *lda, T *w, T *work,         \
                   const int *lwork, int *iwork, const int *liwork, int *info, size_t, size_t);
PROTOTYPES(float, s)
PROTOTYPES(double, d)
#define LENGTH1 , 1
#define LENGTH2 , 1, 1
#else
#define LENGTH1
#define LENGTH2
#endif

static void *workspace(size_t count, size_t size) {
    void *memory = malloc((count > 0 ? count : 1) * size);
    if (!memory) abort();
    return memory;
}

#define DEFINE(T, TYPE, p)                                                                                        \
    static int lu_##TYPE(int n, T *a, int *pivots) {                                                              \
        int info = 0;                                                                                             \
        p##getrf_(&n, &n, a, &n, pivots, &info);                                                                  \
        return info;                                                                                              \
    }                                                                                                             \
    static int lu_solve_##TYPE(int transpose, int n, int columns, const T *lu, const int *pivots, T *b) {         \
        int info = 0;                                                                                             \
        p##getrs_(transpose ? "T" : "N", &n, &columns, (T *)lu, &n, (int *)pivots, b, &n, &info LENGTH1);         \
        return info;                                                                                              \
    }                                                                                                             \
    static int cholesky_##TYPE(int n, T *a) {                                                                     \
        int info = 0;                                                                                             \
        p##potrf_("U", &n, a, &n, &info LENGTH1);                                                                 \
        return info;                                                                                              \
    }                                                                                                             \
    static int qr_##TYPE(int m, int n, T *a, T *tau) {                                                            \
        const int query = -1;                                                                                     \
        int info = 0;                                                                                             \
        T best;                                                                                                   \
        p##geqrf_(&m, &n, a, &m, tau, &best, &query, &info);                                                      \
        const int length = (int)best;                                                                             \
        T *work = workspace((size_t)length, sizeof(T));                                                           \
        p##geqrf_(&m, &n, a, &m, tau, work, &length, &info);                                                      \
        free(work);                                                                                               \
        return info;                                                                                              \
    }                                                                                                             \
    static int qr_basis_##TYPE(int m, int k, T *a, const T *tau) {                                                \
        const int query = -1;                                                                                     \
        int info = 0;                                                                                             \
        T best;                                                                                                   \
        p##orgqr_(&m, &k, &k, a, &m, (T *)tau, &best, &query, &info);                                             \
        const int length = (int)best;                                                                             \
        T *work = workspace((size_t)length, sizeof(T));                                                           \
        p##orgqr_(&m, &k, &k, a, &m, (T *)tau, work, &length, &info);                                             \
        free(work);                                                                                               \
        return info;                                                                                              \
    }                                                                                                             \
    static int svd_##TYPE(int m, int n, T *a, T *u, T *s, T *vt) {                                                \
        const int query = -1, k = m < n ? m : n;                                                                  \
        int info = 0, *steps = workspace(8 * (size_t)k, sizeof(int));                                             \
        T best;                                                                                                   \
        /* What stands here row by row is Aᵀ = V·S·Uᵀ column by column. */                                        \
        p##gesdd_("S", &n, &m, a, &n, s, vt, &n, u, &k, &best, &query, steps, &info LENGTH1);                     \
        const int length = (int)best;                                                                             \
        T *work = workspace((size_t)length, sizeof(T));                                                           \
        p##gesdd_("S", &n, &m, a, &n, s, vt, &n, u, &k, work, &length, steps, &info LENGTH1);                     \
        free(work);                                                                                               \
        free(steps);                                                                                              \
        return info;                                                                                              \
    }                                                                                                             \
    static int eigen_##TYPE(int n, T *a, T *values) {                                                             \
        const int query = -1;                                                                                     \
        int info = 0, step_length = 0;                                                                            \
        T best;                                                                                                   \
        p##syevd_("V", "U", &n, a, &n, values, &best, &query, &step_length, &query, &info LENGTH2);               \
        const int length = (int)best;                                                                             \
        T *work = workspace((size_t)length, sizeof(T));                                                           \
        int *steps = workspace((size_t)step_length, sizeof(int));                                                 \
        p##syevd_("V", "U", &n, a, &n, values, work, &length, steps, &step_length, &info LENGTH2);                \
        free(work);                                                                                               \
        free(steps);                                                                                              \
        return info;                                                                                              \
    }

DEFINE(float, f32, s)
DEFINE(double, f64, d)

#define PICK(name, ...) (type == 0 ? name##_f32(__VA_ARGS__) : name##_f64(__VA_ARGS__))

int ck_lu(int type, int n, void *a, int *pivots) { return PICK(lu, n, a, pivots); }

int ck_lu_solve(int type, int transpose, int n, int columns, const void *lu, const int *pivots, void *b) {
    return PICK(lu_solve, transpose, n, columns, lu, pivots, b);
}

int ck_cholesky(int type, int n, void *a) { return PICK(cholesky, n, a); }

int ck_qr(int type, int m, int n, void *a, void *tau) { return PICK(qr, m, n, a, tau); }

int ck_qr_basis(int type, int m, int k, void *a, const void *tau) { return PICK(qr_basis, m, k, a, tau); }

int ck_svd(int type, int m, int n, void *a, void *u, void *s, void *vt) { return PICK(svd, m, n, a, u, s, vt); }

int ck_eigen(int type, int n, void *a, void *values) { return PICK(eigen, n, a, values); }

void ck_triangular_solve(int type, int right, int upper, int transpose, int m, int n, const void *t, void *b) {
    const enum CBLAS_SIDE side = right ? CblasRight : CblasLeft;
    const enum CBLAS_UPLO part = upper ? CblasUpper : CblasLower;
    const enum CBLAS_TRANSPOSE turn = transpose ? CblasTrans : CblasNoTrans;
    const int order = right ? n : m;
    if (type == 0) {
        cblas_strsm(CblasRowMajor, side, part, turn, CblasNonUnit, m, n, 1, t, order, b, n);
    } else {
        cblas_dtrsm(CblasRowMajor, side, part, turn, CblasNonUnit, m, n, 1, t, order, b, n);
    }
}
