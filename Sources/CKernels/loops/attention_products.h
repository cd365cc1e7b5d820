// The small products of attention: a block of query rows against a block of keys.

#define VEC CK_NAME2(vector, TYPE)
#define SPAN ((int)(CK_VECTOR / sizeof(T)))
#define TILE_ROWS (CK_VECTOR == 16 ? 4 : 6)

// C[rows, vectors] = scale[r]·C + A·B, or A·B alone without `scale`: a tile that stays in registers.
CK_INLINE void CK_NAME2(attention_tile, TYPE)(const int rows, const int vectors, size_t k, const T *a, ptrdiff_t ar,
                                              ptrdiff_t ak, const T *b, ptrdiff_t br, T *c, ptrdiff_t cr,
                                              const T *scale) {
    // Where the rows of A are, in bytes: hidden from the compiler, which otherwise adds its way from row to row, each addition
    // waiting for the one before.
    ptrdiff_t once = ar * (ptrdiff_t)sizeof(T), thrice = 3 * once, fivefold = 5 * once, sevenfold = 7 * once;
    __asm__("" : "+r"(once), "+r"(thrice), "+r"(fivefold), "+r"(sevenfold));
    const char *from = (const char *)a;
#define ROW(r) \
    (r == 0 ? 0 : r == 1 ? once : r == 2 ? 2 * once : r == 3 ? thrice : r == 4 ? 4 * once : r == 5 ? fivefold : \
     r == 6 ? 2 * thrice : sevenfold)
    VEC sum[8][4];
    CK_UNROLL for (int r = 0; r < rows; r++) {
        CK_UNROLL for (int v = 0; v < vectors; v++) {
            sum[r][v] = scale ? *(const VEC *)(c + r * cr + v * SPAN) * scale[r] : (VEC){0};
        }
    }
    // With AVX2 in steps of four, which is worth 1 to 2 % on Zen 1.
#if CK_VECTOR == 32
    _Pragma("clang loop unroll_count(4)")
#else
    CK_NO_UNROLL
#endif
    for (size_t p = 0; p < k; p++) {
        VEC x[4];
        CK_UNROLL for (int v = 0; v < vectors; v++) x[v] = *(const VEC *)(b + v * SPAN);
        CK_UNROLL for (int r = 0; r < rows; r++) {
            const T y = *(const T *)(from + ROW(r));
            CK_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = y * x[v] + sum[r][v];
        }
        from += ak * (ptrdiff_t)sizeof(T);
        b += br;
    }
#undef ROW
    CK_UNROLL for (int r = 0; r < rows; r++) {
        CK_UNROLL for (int v = 0; v < vectors; v++) *(VEC *)(c + r * cr + v * SPAN) = sum[r][v];
    }
}

// All rows of `vectors` vectors of columns.
CK_INLINE void CK_NAME2(attention_panel, TYPE)(const int vectors, size_t m, size_t k, const T *a, ptrdiff_t ar,
                                               ptrdiff_t ak, const T *b, ptrdiff_t br, T *c, ptrdiff_t cr,
                                               const T *scale) {
    size_t r = 0;
#define STEP(rows) \
    CK_NAME2(attention_tile, TYPE)(rows, vectors, k, a + (ptrdiff_t)r * ar, ar, ak, b, br, c + (ptrdiff_t)r * cr, cr, \
                                   scale ? scale + r : 0); \
    r += rows
    // One vector of columns leaves registers for more rows; with 8 queries, all of them.
    while (vectors == 1 && r + 8 <= m) { STEP(8); }
    while (r + TILE_ROWS <= m) { STEP(TILE_ROWS); }
    if (r + 4 <= m) { STEP(4); }
    if (r + 2 <= m) { STEP(2); }
    if (r < m) { STEP(1); }
#undef STEP
}

// C[m, n] = scale[r]·C + A·B, n a multiple of SPAN; A is read element by element with any strides.
CK_WIDE static void CK_NAME2(attention_product, TYPE)(size_t m, size_t n, size_t k, const T *a, ptrdiff_t ar,
                                                      ptrdiff_t ak, const T *b, ptrdiff_t br, T *c, ptrdiff_t cr,
                                                      const T *scale) {
#define PANEL(vectors) CK_NAME2(attention_panel, TYPE)(vectors, m, k, a, ar, ak, b + x, br, c + x, cr, scale)
    size_t x = 0;
    for (; x + CK_TILE_VECTORS * SPAN <= n; x += CK_TILE_VECTORS * SPAN) PANEL(CK_TILE_VECTORS);
    switch ((n - x) / SPAN) {
#if CK_TILE_VECTORS == 4
    case 3: PANEL(3); break;
    case 2: PANEL(2); break;
#endif
    case 1: PANEL(1); break;
    default: break;
    }
#undef PANEL
}
