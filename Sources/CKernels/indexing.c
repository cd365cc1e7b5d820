// Moving elements by index: plain loops, whose speed is the memory's.
#include <string.h>

#include "CKernels.h"

ptrdiff_t ck_first_outside(const int64_t *index, size_t n, int64_t bound) {
    for (size_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= bound) return (ptrdiff_t)i;
    return -1;
}

void ck_line_positions(size_t rank, const size_t *shape, const ptrdiff_t *strides, size_t axis, const int64_t *index,
                       int64_t *positions) {
    size_t n = 1;
    for (size_t d = 0; d < rank; d++) n *= shape[d];
    size_t at[CK_MAX_RANK] = {0};
    int64_t home = 0;  // of the line that the element stands on
    for (size_t i = 0; i < n; i++) {
        positions[i] = home + index[i] * strides[axis];
        for (size_t d = rank; d-- > 0;) {
            if (d != axis) home += strides[d];
            if (++at[d] < shape[d]) break;
            if (d != axis) home -= strides[d] * (int64_t)shape[d];
            at[d] = 0;
        }
    }
}

void ck_row_positions(size_t outer, int64_t length, const int64_t *index, size_t n, int64_t *positions) {
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < n; i++) positions[o * n + i] = (int64_t)o * length + index[i];
}

size_t ck_true_positions(const uint8_t *mask, size_t n, int64_t *positions) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!mask[i]) continue;
        if (positions) positions[count] = (int64_t)i;
        count++;
    }
    return count;
}

#define TAKE(type) \
    for (size_t i = 0; i < n; i++) ((type *)y)[i] = ((const type *)x)[positions[i]];

void ck_take(size_t size, const void *x, const int64_t *positions, size_t n, size_t block, void *y) {
    if (block == 1) {
        switch (size) {
            case 1: TAKE(uint8_t) break;
            case 2: TAKE(uint16_t) break;
            case 4: TAKE(uint32_t) break;
            default: TAKE(uint64_t) break;
        }
        return;
    }
    const size_t bytes = block * size;
    for (size_t i = 0; i < n; i++) memcpy((char *)y + i * bytes, (const char *)x + (size_t)positions[i] * bytes, bytes);
}

#define ADD_AT(type) \
    for (size_t i = 0; i < n; i++) { \
        if (positions[i] == skipped) continue; \
        const type *from = (const type *)x + i * block + first; \
        type *to = (type *)y + (size_t)positions[i] * block + first; \
        for (size_t j = 0; j < count; j++) to[j] += from[j]; \
    }

void ck_add_at(int type, const void *x, const int64_t *positions, int64_t skipped, size_t n, size_t block, size_t first,
               size_t count, void *y) {
    if (type == 0) {
        ADD_AT(float)
    } else {
        ADD_AT(double)
    }
}

#define BAG_SUMS(type) \
    for (size_t p = first; p < first + count; p++) { \
        type *to = (type *)y + (p - first) * width; \
        if (bounds[p] == bounds[p + 1]) memset(to, 0, width * sizeof(type)); \
        for (int64_t e = bounds[p]; e < bounds[p + 1]; e++) { \
            const type *from = (const type *)x + (size_t)index[e] * width; \
            const type share = w ? ((const type *)w)[e] : 1; \
            if (e == bounds[p]) \
                for (size_t j = 0; j < width; j++) to[j] = share * from[j]; \
            else \
                for (size_t j = 0; j < width; j++) to[j] += share * from[j]; \
        } \
    }

void ck_bag_sums(int type, const void *x, const int64_t *index, const int64_t *bounds, const void *w, size_t first,
                 size_t count, size_t width, void *y) {
    if (type == 0) {
        BAG_SUMS(float)
    } else {
        BAG_SUMS(double)
    }
}

// Eight sums side by side, so that the compiler may use vectors without changing what is computed.
#define BAG_PRODUCTS(type) \
    for (size_t p = first; p < first + count; p++) { \
        const type *b = (const type *)g + p * width; \
        for (int64_t e = bounds[p]; e < bounds[p + 1]; e++) { \
            const type *a = (const type *)x + (size_t)index[e] * width; \
            type sums[8] = {0}, rest = 0; \
            size_t j = 0; \
            for (; j + 8 <= width; j += 8) \
                for (size_t k = 0; k < 8; k++) sums[k] += a[j + k] * b[j + k]; \
            for (; j < width; j++) rest += a[j] * b[j]; \
            for (size_t k = 0; k < 8; k++) rest += sums[k]; \
            ((type *)y)[e] = rest; \
        } \
    }

void ck_bag_products(int type, const void *x, const int64_t *index, const int64_t *bounds, const void *g, size_t first,
                     size_t count, size_t width, void *y) {
    if (type == 0) {
        BAG_PRODUCTS(float)
    } else {
        BAG_PRODUCTS(double)
    }
}

#define FILL_WHERE(type) \
    for (size_t i = 0; i < n; i++) ((type *)y)[i] = mask[i] ? *(const type *)value : ((const type *)x)[i];

void ck_fill_where(size_t size, const uint8_t *mask, const void *value, const void *x, void *y, size_t n) {
    switch (size) {
        case 1: FILL_WHERE(uint8_t) break;
        case 2: FILL_WHERE(uint16_t) break;
        case 4: FILL_WHERE(uint32_t) break;
        default: FILL_WHERE(uint64_t) break;
    }
}

void ck_bincount(const int64_t *index, size_t n, int64_t *counts) {
    for (size_t i = 0; i < n; i++) counts[index[i]]++;
}

static inline size_t clamped(ptrdiff_t x, size_t high) { return x < 0 ? 0 : (size_t)x > high ? high : (size_t)x; }

void ck_triangle(size_t size, int lower, ptrdiff_t diagonal, size_t height, size_t width, size_t first, size_t rows,
                 const void *x, void *y) {
    for (size_t r = first; r < first + rows; r++) {
        const ptrdiff_t edge = (ptrdiff_t)(r % height) + diagonal;
        const size_t from = lower ? 0 : clamped(edge, width), to = lower ? clamped(edge + 1, width) : width;
        const char *source = (const char *)x + r * width * size;
        char *target = (char *)y + r * width * size;
        memset(target, 0, from * size);
        memcpy(target + from * size, source + from * size, (to - from) * size);
        memset(target + to * size, 0, (width - to) * size);
    }
}

// MARK: Sorting

// Merges runs of 1, 2, 4, … indices. The right run goes first only where it must, which keeps the order of equals.
// NaN stands after every number.
#define LESS(p, q) ((p) < (q) || ((q) != (q) && (p) == (p)))
#define ARGSORT(type) \
    const type *x = keys; \
    for (size_t i = 0; i < n; i++) index[i] = (int64_t)i; \
    for (size_t width = 1; width < n; width *= 2) { \
        for (size_t start = 0; start < n; start += 2 * width) { \
            const size_t middle = start + width < n ? start + width : n; \
            const size_t end = start + 2 * width < n ? start + 2 * width : n; \
            size_t left = start, right = middle; \
            for (size_t out = start; out < end; out++) { \
                int second = left == middle; \
                if (!second && right < end) { \
                    const type p = x[index[left]], q = x[index[right]]; \
                    second = descending ? LESS(p, q) : LESS(q, p); \
                } \
                scratch[out] = index[second ? right++ : left++]; \
            } \
        } \
        memcpy(index, scratch, n * sizeof *index); \
    }

static void argsort_f32(const void *keys, size_t n, int descending, int64_t *index, int64_t *scratch) {
    ARGSORT(float)
}
static void argsort_f64(const void *keys, size_t n, int descending, int64_t *index, int64_t *scratch) {
    ARGSORT(double)
}
static void argsort_i64(const void *keys, size_t n, int descending, int64_t *index, int64_t *scratch) {
    ARGSORT(int64_t)
}

void ck_argsort(enum ck_type type, const void *keys, size_t n, int descending, int64_t *index, int64_t *scratch) {
    switch (type) {
        case CK_F32: argsort_f32(keys, n, descending, index, scratch); break;
        case CK_F64: argsort_f64(keys, n, descending, index, scratch); break;
        default: argsort_i64(keys, n, descending, index, scratch); break;
    }
}
