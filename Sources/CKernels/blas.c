// The only file that sees the header of a vendor's BLAS.
#include "CKernels.h"

#if defined(__APPLE__)
#include <Accelerate/Accelerate.h>
#else
#include <cblas.h>
#endif

// How BLAS names what lies in memory: row-major, `leading` elements from row to row, or the transpose of that.
struct layout {
    enum CBLAS_TRANSPOSE transpose;
    int leading;
};

static struct layout layout_of(size_t rows, size_t columns, ptrdiff_t row, ptrdiff_t column) {
    // The stride of an axis of length 1 means nothing, but BLAS checks it.
    if (column == 1 || columns == 1) {
        return (struct layout){CblasNoTrans, (int)(rows == 1 || row < (ptrdiff_t)columns ? columns : (size_t)row)};
    }
    return (struct layout){CblasTrans, (int)(columns == 1 || column < (ptrdiff_t)rows ? rows : (size_t)column)};
}

void ck_blas_product(int type, const struct ck_product *x) {
    const struct layout a = layout_of(x->m, x->k, x->a_row, x->a_column);
    const struct layout b = layout_of(x->k, x->n, x->b_row, x->b_column);
    const int m = (int)x->m, n = (int)x->n, k = (int)x->k, c_row = (int)x->c_row;
    if (type == 0) {
        cblas_sgemm(CblasRowMajor, a.transpose, b.transpose, m, n, k, 1, x->a, a.leading, x->b, b.leading,
                    x->addend ? 1 : 0, x->c, c_row);
    } else {
        cblas_dgemm(CblasRowMajor, a.transpose, b.transpose, m, n, k, 1, x->a, a.leading, x->b, b.leading,
                    x->addend ? 1 : 0, x->c, c_row);
    }
}

void ck_blas_single_threaded(void) {
#if !defined(__APPLE__)
    openblas_set_num_threads(1);
#endif
}
