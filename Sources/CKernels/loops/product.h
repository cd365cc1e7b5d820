// Matrix products on one thread: tiles of C in registers, over panels of B that lie row by row.
//
// Every element of C is one chain of multiply-adds over each block of k, and blocks are cut by k alone: its bits depend
// neither on where a tile begins nor on how a product is shared among threads.

#define VEC CK_NAME2(vector, TYPE)
#define LANES ((size_t)(CK_VECTOR / sizeof(T)))
#define PANEL (2 * LANES)

// MARK: Tiles

// `rows` rows and `vectors` vectors of columns; where `partial` is set, the last vector has `lanes` columns.
CK_INLINE CK_WIDE void CK_NAME2(tile, TYPE)(const size_t rows, const size_t vectors, const int partial, size_t k,
                                      const T *restrict a, ptrdiff_t ar, ptrdiff_t ac, const T *restrict b,
                                      ptrdiff_t br, const T *addend, ptrdiff_t dr, T *c, ptrdiff_t cr, size_t lanes) {
    VEC sum[CK_TILE_ROWS][2];
    CK_UNROLL for (size_t r = 0; r < rows; r++) {
        CK_UNROLL for (size_t v = 0; v < vectors; v++) {
            sum[r][v] = (VEC){0};
            __builtin_prefetch(c + (ptrdiff_t)r * cr + v * LANES, 1);
        }
    }
    for (size_t p = 0; p < k; p++) {
        VEC x[2];
        CK_UNROLL for (size_t v = 0; v < vectors; v++) {
            x[v] = partial && v == vectors - 1 ? CK_NAME2(load_lanes, TYPE)(b + v * LANES, lanes)
                                               : *(const VEC *)(b + v * LANES);
        }
        CK_UNROLL for (size_t r = 0; r < rows; r++) {
            const T y = a[(ptrdiff_t)r * ar];
            CK_UNROLL for (size_t v = 0; v < vectors; v++) sum[r][v] = y * x[v] + sum[r][v];
        }
        a += ac;
        b += br;
    }
    CK_UNROLL for (size_t r = 0; r < rows; r++) {
        CK_UNROLL for (size_t v = 0; v < vectors; v++) {
            const ptrdiff_t from = (ptrdiff_t)r * dr + (ptrdiff_t)(v * LANES);
            T *to = c + (ptrdiff_t)r * cr + v * LANES;
            if (partial && v == vectors - 1) {
                if (addend) sum[r][v] += CK_NAME2(load_lanes, TYPE)(addend + from, lanes);
                CK_NAME2(store_lanes, TYPE)(to, sum[r][v], lanes);
            } else {
                if (addend) sum[r][v] += *(const VEC *)(addend + from);
                *(VEC *)to = sum[r][v];
            }
        }
    }
}

typedef void (*CK_NAME2(tile_fn, TYPE))(size_t, const T *, ptrdiff_t, ptrdiff_t, const T *, ptrdiff_t, const T *,
                                        ptrdiff_t, T *, ptrdiff_t, size_t);

#define TILE(kind, rows, vectors, partial) \
    CK_WIDE static void CK_NAME3(tile, kind##_##rows, TYPE)(size_t k, const T *a, ptrdiff_t ar, ptrdiff_t ac, const T *b, \
                                                         ptrdiff_t br, const T *addend, ptrdiff_t dr, T *c, \
                                                         ptrdiff_t cr, size_t lanes) { \
        CK_NAME2(tile, TYPE)(rows, vectors, partial, k, a, ar, ac, b, br, addend, dr, c, cr, lanes); \
    }
#define TILES(rows) TILE(narrow, rows, 1, 1) TILE(wide, rows, 2, 1) TILE(whole, rows, 2, 0)
#define ENTRIES(rows) \
    {CK_NAME3(tile, narrow_##rows, TYPE), CK_NAME3(tile, wide_##rows, TYPE), CK_NAME3(tile, whole_##rows, TYPE)},
CK_EACH_TILE(TILES)
// By rows − 1; then for at most one vector of columns, for at most two, for two whole ones.
static const CK_NAME2(tile_fn, TYPE) CK_NAME2(tiles_of, TYPE)[CK_TILE_ROWS][3] = {CK_EACH_TILE(ENTRIES)};
#undef TILE
#undef TILES
#undef ENTRIES

// C = addend + A·B with nothing copied and k not cut. The rows of B have no gaps within a panel; from panel to panel there
// are `panel` elements. Heights of tiles differ by one at most: 15 rows are 8 and 7, not 14 and 1.
static void CK_NAME2(tiles, TYPE)(size_t m, size_t n, size_t k, const T *a, ptrdiff_t ar, ptrdiff_t ac, const T *b,
                                  ptrdiff_t br, ptrdiff_t panel, const T *addend, ptrdiff_t dr, T *c, ptrdiff_t cr) {
    const size_t down = (m + CK_TILE_ROWS - 1) / CK_TILE_ROWS, across = (n + PANEL - 1) / PANEL;
    const size_t height = m / down, higher = m % down;
    for (size_t outer = 0; outer < (PANEL_STAYS ? across : down); outer++) {
        for (size_t inner = 0; inner < (PANEL_STAYS ? down : across); inner++) {
            const size_t i = PANEL_STAYS ? inner : outer, at = PANEL_STAYS ? outer : inner;
            const size_t first = i * height + (i < higher ? i : higher), rows = height + (i < higher), j = at * PANEL;
            const size_t columns = n - j;
            const int kind = columns >= PANEL ? 2 : columns > LANES;
            CK_NAME2(tiles_of, TYPE)[rows - 1][kind](
                k, a + (ptrdiff_t)first * ar, ar, ac, b + (ptrdiff_t)at * panel, br,
                addend ? addend + (ptrdiff_t)first * dr + j : 0, dr, c + (ptrdiff_t)first * cr + j, cr,
                kind == 1 ? columns - LANES : columns);
        }
    }
}

// MARK: Packing

// Rows of A that are packed at a time: each without a gap where it lies so already, LEFT_ROW apart, else each column,
// LEFT_ROWS apart. Powers of two would crowd what a tile reads into one place of the cache.
#define LEFT_ROWS (112 / CK_TILE_ROWS * CK_TILE_ROWS)
#define LEFT_ROW (BLOCK + 16)

// LANES columns of LANES elements, `stride` apart, become LANES rows, PANEL apart.
CK_INLINE CK_WIDE void CK_NAME2(transpose, TYPE)(const T *restrict x, ptrdiff_t stride, T *restrict y) {
    const T *columns[LANES];
    VEC rows[LANES];
    CK_UNROLL for (size_t i = 0; i < LANES; i++) columns[i] = x + (ptrdiff_t)i * stride;
    CK_NAME2(load_turned, TYPE)(columns, 0, rows);
    CK_UNROLL for (size_t i = 0; i < LANES; i++) *(VEC *)(y + i * PANEL) = rows[i];
}

// bfloat16 numbers as they are: the upper halves of float32.
CK_WIDE static void CK_NAME2(widen, TYPE)(const uint16_t *restrict x, T *restrict y, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)x[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        y[i] = value;
    }
}

// B[k, n] in panels of PANEL columns, each row by row; what the last panel lacks stays as it was.
#define AHEAD 8
// Some rows at a time go to one panel after the other, which lie far apart. Where the rows do so too, the machine's own prefetching
// does not reach them.
CK_INLINE CK_WIDE void CK_NAME2(pack_rows, TYPE)(const int prefetches, const T *b, ptrdiff_t br, size_t k, size_t n,
                                                 T *panels) {
    for (size_t first = 0; first < k; first += AHEAD) {
        const size_t end = k - first < AHEAD ? k : first + AHEAD;
        T *to = panels;
        size_t j = 0;
        for (; j + PANEL <= n; j += PANEL, to += k * PANEL) {
            for (size_t p = first; p < end; p++) {
                const T *row = b + (ptrdiff_t)p * br + j;
                CK_UNROLL for (size_t v = 0; v < 2; v++) {
                    if (prefetches) __builtin_prefetch(row + AHEAD * br + v * LANES);
                    *(VEC *)(to + p * PANEL + v * LANES) = *(const VEC *)(row + v * LANES);
                }
            }
        }
        for (size_t p = first; p < end; p++) {
            for (size_t c = 0; j + c < n; c++) to[p * PANEL + c] = b[(ptrdiff_t)p * br + (ptrdiff_t)(j + c)];
        }
    }
}

CK_WIDE static void CK_NAME2(pack, TYPE)(const void *b_, ptrdiff_t br, ptrdiff_t bc, size_t k, size_t n, int is_bfloat16,
                                         void *panels) {
    // An empty B may have no memory to point to.
    if (k == 0) return;
    const T *b = b_;
    if (bc == 1 && !is_bfloat16) {
        if (br >= (ptrdiff_t)(4096 / sizeof(T))) CK_NAME2(pack_rows, TYPE)(1, b, br, k, n, panels);
        else CK_NAME2(pack_rows, TYPE)(0, b, br, k, n, panels);
        return;
    }
    for (size_t j = 0; j < n; j += LANES) {
        T *to = (T *)panels + j / PANEL * PANEL * k + j % PANEL;
        const T *from = b + (ptrdiff_t)j * bc;
        const size_t columns = n - j < LANES ? n - j : LANES;
        size_t p = 0;
        T wide[LANES * BLOCK];
        if (is_bfloat16) {
            for (size_t c = 0; c < columns; c++) {
                CK_NAME2(widen, TYPE)((const uint16_t *)b_ + (ptrdiff_t)(j + c) * bc, wide + c * BLOCK, k);
            }
            from = wide;
        }
        const ptrdiff_t fr = is_bfloat16 ? 1 : br, fc = is_bfloat16 ? BLOCK : bc;
        if (fr == 1 && columns == LANES) {
            for (; p + LANES <= k; p += LANES) CK_NAME2(transpose, TYPE)(from + p, fc, to + p * PANEL);
        }
        for (; p < k; p++) {
            for (size_t c = 0; c < columns; c++) to[p * PANEL + c] = from[(ptrdiff_t)p * fr + (ptrdiff_t)c * fc];
        }
    }
}

// Whether a packed A has its rows next to each other, else its columns.
static int CK_NAME2(packs_rows, TYPE)(const struct ck_product *x) { return x->a_column == 1 && !x->a_run; }

// A[m, k] as described above, from column `first` on.
CK_WIDE static void CK_NAME2(pack_left, TYPE)(const struct ck_product *x, const T *a, size_t first, size_t m, size_t k,
                                              T *y) {
    const ptrdiff_t ar = x->a_row, ac = x->a_column;
    if (CK_NAME2(packs_rows, TYPE)(x)) {
        for (size_t r = 0; r < m; r++) memcpy(y + r * LEFT_ROW, a + (ptrdiff_t)r * ar + first, k * sizeof(T));
        return;
    }
    const ptrdiff_t run = (ptrdiff_t)x->a_run;
    ptrdiff_t within = run ? (ptrdiff_t)first % run : 0;
    const T *column = a + (run ? (ptrdiff_t)first / run * x->a_run_step + within * ac : (ptrdiff_t)first * ac);
    for (size_t p = 0; p < k; p++, y += LEFT_ROWS) {
        size_t r = 0;
        if (ar == 1) {
            for (; r + LANES <= m; r += LANES) {
                __builtin_prefetch(column + AHEAD * ac + r);
                *(VEC *)(y + r) = *(const VEC *)(column + r);
            }
        }
        for (; r < m; r++) y[r] = column[(ptrdiff_t)r * ar];
        column += ac;
        if (run && ++within == run) {
            within = 0;
            column += x->a_run_step - run * ac;
        }
    }
}

// MARK: The product

// Packing a matrix pays once a few tiles read it. Rows of A that lie row by row are as good where they are, unless a page
// apart: then those of a tile crowd into one place of the cache.
static int CK_NAME2(packs_left, TYPE)(const struct ck_product *x) {
    if (x->a_run) return 1;
    return x->n > 2 * PANEL && (x->a_column != 1 || x->a_row % (ptrdiff_t)(4096 / sizeof(T)) == 0);
}
static int CK_NAME2(packs_right, TYPE)(const struct ck_product *x) {
    return x->b_column != 1 || x->m * x->groups > 2 * CK_TILE_ROWS || x->is_b_bfloat16;
}

// The elements of B that are packed at a time.
static size_t CK_NAME2(right_count, TYPE)(const struct ck_product *x) {
    const size_t k = x->k < BLOCK ? x->k : BLOCK, n = x->n < STRIP ? (x->n + PANEL - 1) / PANEL * PANEL : STRIP;
    return CK_NAME2(packs_right, TYPE)(x) ? k * n : 0;
}

static size_t CK_NAME2(product_workspace, TYPE)(const struct ck_product *x) {
    const size_t left = CK_NAME2(packs_rows, TYPE)(x) ? (x->m < LEFT_ROWS ? x->m : LEFT_ROWS) * LEFT_ROW
                                         : (x->k < BLOCK ? x->k : BLOCK) * LEFT_ROWS;
    return (CK_NAME2(right_count, TYPE)(x) + (CK_NAME2(packs_left, TYPE)(x) ? left : 0)) * sizeof(T);
}

// MARK: Few rows

#define COLUMNS 4
#define SUMS 4

// The sums of a row of A along so many columns of B, `stride` elements apart: each in SUMS vectors of partial sums, that B
// may stream from memory.
#define DOTS(name, U, LOAD) \
    CK_INLINE CK_WIDE void CK_NAME3(dots, name, TYPE)(const size_t columns, size_t k, const T *restrict a, \
                                                    const U *restrict b, ptrdiff_t stride, T *y) { \
        VEC sum[COLUMNS][SUMS]; \
        CK_UNROLL for (size_t c = 0; c < columns; c++) { CK_UNROLL for (size_t s = 0; s < SUMS; s++) sum[c][s] = (VEC){0}; } \
        size_t p = 0; \
        for (; p + SUMS * LANES <= k; p += SUMS * LANES) { \
            CK_UNROLL for (size_t s = 0; s < SUMS; s++) { \
                const VEC x = *(const VEC *)(a + p + s * LANES); \
                CK_UNROLL for (size_t c = 0; c < columns; c++) { \
                    sum[c][s] = LOAD(b + (ptrdiff_t)c * stride + p + s * LANES) * x + sum[c][s]; \
                } \
            } \
        } \
        for (; p + LANES <= k; p += LANES) { \
            const VEC x = *(const VEC *)(a + p); \
            CK_UNROLL for (size_t c = 0; c < columns; c++) sum[c][0] = LOAD(b + (ptrdiff_t)c * stride + p) * x + sum[c][0]; \
        } \
        CK_UNROLL for (size_t c = 0; c < columns; c++) { \
            const VEC all = (sum[c][0] + sum[c][1]) + (sum[c][2] + sum[c][3]); \
            T total = 0; \
            for (size_t lane = 0; lane < LANES; lane++) total += all[lane]; \
            for (size_t rest = p; rest < k; rest++) total += a[rest] * CK_NAME2(name, TYPE)(b[(ptrdiff_t)c * stride + rest]); \
            y[c] = total; \
        } \
    } \
    CK_WIDE static void CK_NAME3(few_rows, name, TYPE)(const struct ck_product *x) { \
        for (size_t j = 0; j < x->n; j += COLUMNS) { \
            const size_t columns = x->n - j < COLUMNS ? x->n - j : COLUMNS; \
            const U *b = (const U *)x->b + (ptrdiff_t)j * x->b_column; \
            for (size_t r = 0; r < x->m; r++) { \
                const T *a = (const T *)x->a + (ptrdiff_t)r * x->a_row; \
                T y[COLUMNS]; \
                if (columns == COLUMNS) { \
                    CK_NAME3(dots, name, TYPE)(COLUMNS, x->k, a, b, x->b_column, y); \
                } else { \
                    for (size_t c = 0; c < columns; c++) { \
                        CK_NAME3(dots, name, TYPE)(1, x->k, a, b + (ptrdiff_t)c * x->b_column, x->b_column, y + c); \
                    } \
                } \
                const T *addend = x->addend ? (const T *)x->addend + (ptrdiff_t)r * x->addend_row + j : 0; \
                T *to = (T *)x->c + (ptrdiff_t)r * x->c_row + j; \
                for (size_t c = 0; c < columns; c++) to[c] = addend ? y[c] + addend[c] : y[c]; \
            } \
        } \
    }

CK_INLINE T CK_NAME2(own, TYPE)(T x) { return x; }
CK_INLINE T CK_NAME2(bfloat, TYPE)(uint16_t x) {
    T y;
    CK_NAME2(widen, TYPE)(&x, &y, 1);
    return y;
}
#define LOAD_OWN(p) (*(const VEC *)(p))
DOTS(own, T, LOAD_OWN)
DOTS(bfloat, uint16_t, CK_NAME2(load_bfloat, TYPE))
#undef LOAD_OWN
#undef DOTS
#undef COLUMNS
#undef SUMS

static void CK_NAME2(product, TYPE)(const struct ck_product *x, void *workspace) {
    if (x->is_few_rows) {
        if (x->is_b_bfloat16) CK_NAME3(few_rows, bfloat, TYPE)(x);
        else CK_NAME3(few_rows, own, TYPE)(x);
        return;
    }
    const int packs_left = CK_NAME2(packs_left, TYPE)(x), packs_right = CK_NAME2(packs_right, TYPE)(x);
    const int packs_rows = CK_NAME2(packs_rows, TYPE)(x);
    const size_t blocks = x->k > BLOCK ? (x->k + BLOCK - 1) / BLOCK : 1;
    T *right = workspace, *left = right + CK_NAME2(right_count, TYPE)(x);
    for (size_t j = 0; j < x->n; j += STRIP) {
        const size_t n = x->n - j < STRIP ? x->n - j : STRIP;
        for (size_t block = 0; block < blocks; block++) {
            const size_t first = x->k * block / blocks, k = x->k * (block + 1) / blocks - first;
            const size_t size = x->is_b_bfloat16 ? sizeof(uint16_t) : sizeof(T);
            const void *from = (const char *)x->b + ((ptrdiff_t)first * x->b_row + (ptrdiff_t)j * x->b_column) * (ptrdiff_t)size;
            const T *b = from;
            ptrdiff_t br = x->b_row, panel = PANEL;
            if (packs_right) {
                CK_NAME2(pack, TYPE)(from, br, x->b_column, k, n, x->is_b_bfloat16, right);
                b = right, br = PANEL, panel = (ptrdiff_t)(PANEL * k);
            }
            for (size_t group = 0; group < x->groups; group++) {
                const T *rows = (const T *)x->a + (ptrdiff_t)group * x->a_group;
                T *to = (T *)x->c + (ptrdiff_t)group * x->c_group + j;
                for (size_t i = 0; i < x->m; i += LEFT_ROWS) {
                    const size_t m = x->m - i < LEFT_ROWS ? x->m - i : LEFT_ROWS;
                    const T *a = rows + (ptrdiff_t)i * x->a_row;
                    ptrdiff_t ar = x->a_row, ac = x->a_column;
                    if (packs_left) {
                        CK_NAME2(pack_left, TYPE)(x, a, first, m, k, left);
                        a = left, ar = packs_rows ? LEFT_ROW : 1, ac = packs_rows ? 1 : LEFT_ROWS;
                    } else {
                        a += (ptrdiff_t)first * ac;
                    }
                    T *c = to + (ptrdiff_t)i * x->c_row;
                    const T *addend = x->addend ? (const T *)x->addend + (ptrdiff_t)i * x->addend_row + j : 0;
                    CK_NAME2(tiles, TYPE)(m, n, k, a, ar, ac, b, br, panel, block > 0 ? c : addend,
                                          block > 0 ? x->c_row : x->addend_row, c, x->c_row);
                }
            }
        }
    }
}

#undef VEC
#undef LANES
#undef PANEL
#undef LEFT_ROWS
#undef LEFT_ROW
#undef AHEAD
