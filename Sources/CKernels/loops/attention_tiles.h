// What attention's passes share: a block of query rows against a block of keys.
//
// A block of scores lies with the queries side by side, s[key · lanes + query], so that what softmax does to a row is
// done to a lane, and no row is ever added up across a register.

#define ROWS ((int)(256 / sizeof(T)))  // the most queries in a block
#define KEYS 64                        // the most keys in a block
#define PADDED(n) (((n) + SPAN - 1) / SPAN * SPAN)

// MARK: Blocks of queries

// Some query rows of one batch member: where they stand, and their features, scaled, one row for each feature.
struct CK_NAME2(attention_block, TYPE) {
    size_t first;         // which row of the group comes first
    size_t count, lanes;  // rows, and their number with what fills the last vector
    size_t head[ROWS], row[ROWS];
    T position[ROWS];     // row, for the causal order
    T top[ROWS];          // the greatest score of each row, 0 where it sees nothing
    T inverse[ROWS];      // 1 / Σ exp(score − top), 0 where it sees nothing
    T *queries;           // [width, lanes]; NULL where no scores are wanted
};

// y[c · lanes + i] = scale · x[i · stride + c], zeros in the lanes beyond `count`
CK_WIDE static void CK_NAME2(attention_turn, TYPE)(const T *const *x, size_t count, size_t lanes, size_t width, T scale, T *y) {
    typedef T four __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
    size_t i = 0;
    for (; SPAN > 4 && i + SPAN <= count; i += SPAN) {
        size_t c = 0;
        for (; c + SPAN <= width; c += SPAN) {
            VEC turned[SPAN];
            CK_NAME2(load_turned, TYPE)(x + i, c, turned);
            CK_UNROLL for (int l = 0; l < SPAN; l++) *(VEC *)(y + (c + (size_t)l) * lanes + i) = turned[l] * scale;
        }
        for (; c < width; c++) {
            for (size_t l = 0; l < (size_t)SPAN; l++) y[c * lanes + i + l] = x[i + l][c] * scale;
        }
    }
    for (; i + 4 <= count; i += 4) {
        const T *const *r = x + i;
        size_t c = 0;
        for (; c + 4 <= width; c += 4) {
            const four a = *(const four *)(r[0] + c) * scale, b = *(const four *)(r[1] + c) * scale;
            const four d = *(const four *)(r[2] + c) * scale, e = *(const four *)(r[3] + c) * scale;
            const four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), de = __builtin_shufflevector(d, e, 0, 4, 1, 5);
            const four AB = __builtin_shufflevector(a, b, 2, 6, 3, 7), DE = __builtin_shufflevector(d, e, 2, 6, 3, 7);
            T *to = y + c * lanes + i;
            *(four *)to = __builtin_shufflevector(ab, de, 0, 1, 4, 5);
            *(four *)(to + lanes) = __builtin_shufflevector(ab, de, 2, 3, 6, 7);
            *(four *)(to + 2 * lanes) = __builtin_shufflevector(AB, DE, 0, 1, 4, 5);
            *(four *)(to + 3 * lanes) = __builtin_shufflevector(AB, DE, 2, 3, 6, 7);
        }
        for (; c < width; c++) {
            for (size_t l = 0; l < 4; l++) y[c * lanes + i + l] = r[l][c] * scale;
        }
    }
    for (; i < lanes; i++) {
        for (size_t c = 0; c < width; c++) y[c * lanes + i] = i < count ? x[i][c] * scale : 0;
    }
}

static const T *CK_NAME2(attention_row, TYPE)(const void *x, const ptrdiff_t *strides, size_t b, size_t h, size_t n) {
    return (const T *)x + (ptrdiff_t)b * strides[0] + (ptrdiff_t)h * strides[1] + (ptrdiff_t)n * strides[2];
}

// Lays out the features of rows whose `count`, `head`, `row` and `queries` are set.
static void CK_NAME2(attention_load, TYPE)(const struct ck_attention *a, size_t b,
                                           struct CK_NAME2(attention_block, TYPE) *block) {
    const T *rows[ROWS];
    block->lanes = PADDED(block->count);
    for (size_t i = 0; i < block->lanes; i++) {
        block->position[i] = i < block->count ? (T)block->row[i] : 0;
        if (i < block->count) rows[i] = CK_NAME2(attention_row, TYPE)(a->q, a->q_strides, b, block->head[i], block->row[i]);
    }
    if (block->queries) CK_NAME2(attention_turn, TYPE)(rows, block->count, block->lanes, a->width, (T)a->scale, block->queries);
}

// The rows `first ..< end` of those that share the keys of group g: its heads one after the other.
static void CK_NAME2(attention_take, TYPE)(const struct ck_attention *a, size_t b, size_t g, size_t first, size_t end,
                                           struct CK_NAME2(attention_block, TYPE) *block) {
    block->first = first;
    block->count = end - first;
    size_t head = g * a->share + first / a->queries, row = first % a->queries;
    for (size_t i = 0; i < block->count; i++) {
        block->head[i] = head;
        block->row[i] = row;
        if (++row == a->queries) {
            row = 0;
            head++;
        }
    }
    CK_NAME2(attention_load, TYPE)(a, b, block);
}

// Where the weights of the block are kept, [keys, lanes]; NULL where they are not.
CK_INLINE T *CK_NAME2(attention_kept, TYPE)(const struct ck_attention *a, size_t b, size_t g,
                                            const struct CK_NAME2(attention_block, TYPE) *block) {
    if (!a->kept) return 0;
    const size_t rows = PADDED(a->share * a->queries);
    return (T *)a->kept + ((b * (a->heads / a->share) + g) * rows + block->first) * a->keys;
}

static size_t CK_NAME2(attention_statistic, TYPE)(const struct ck_attention *a, size_t b, size_t head, size_t row) {
    return (b * a->heads + head) * a->queries + row;
}

// Reads back what the forward pass found out about each row.
static void CK_NAME2(attention_recall, TYPE)(const struct ck_attention *a, size_t b,
                                             struct CK_NAME2(attention_block, TYPE) *block) {
    for (size_t i = 0; i < block->lanes; i++) {
        const size_t at = i < block->count
            ? CK_NAME2(attention_statistic, TYPE)(a, b, block->head[i], block->row[i]) : 0;
        block->top[i] = i < block->count ? ((const T *)a->top)[at] : 0;
        block->inverse[i] = i < block->count ? ((const T *)a->inverse)[at] : 0;
    }
}

// How many keys the block may look at in the causal order.
static size_t CK_NAME2(attention_reach, TYPE)(const struct ck_attention *a,
                                              const struct CK_NAME2(attention_block, TYPE) *block) {
    if (!a->is_causal) return a->keys;
    size_t last = 0;
    for (size_t i = 0; i < block->count; i++) last = block->row[i] > last ? block->row[i] : last;
    return last + 1 < a->keys ? last + 1 : a->keys;
}

// MARK: On the diagonal

// In the causal order: how many lanes, in whole vectors, see none of the keys from `first` + KEYS / 2 on. Products leave them out
// with those keys; what they would add is 0. None unless the rows follow each other.
static size_t CK_NAME2(attention_unseen, TYPE)(const struct ck_attention *a,
                                               const struct CK_NAME2(attention_block, TYPE) *block, size_t first,
                                               size_t keys) {
    const size_t row = block->row[0], half = first + KEYS / 2;
    if (!a->is_causal || keys <= KEYS / 2 || half <= row || block->row[block->count - 1] != row + block->count - 1) return 0;
    const size_t unseen = (half - row) / SPAN * SPAN;
    return unseen < block->lanes ? unseen : block->lanes;
}

// c[keys, lanes] = a·b, a with a row for each key: without what is left out on the diagonal, which stays as it was.
CK_WIDE static void CK_NAME2(attention_by_keys, TYPE)(size_t keys, size_t lanes, size_t k, const T *a, ptrdiff_t ar,
                                                      const T *b, size_t unseen, T *c) {
    const size_t seen = unseen ? KEYS / 2 : keys;
    CK_NAME2(attention_product, TYPE)(seen, lanes, k, a, ar, 1, b, (ptrdiff_t)lanes, c, (ptrdiff_t)lanes, 0);
    if (seen == keys) return;
    CK_NAME2(attention_product, TYPE)(keys - seen, lanes - unseen, k, a + (ptrdiff_t)seen * ar, ar, 1, b + unseen,
                                      (ptrdiff_t)lanes, c + seen * lanes + unseen, (ptrdiff_t)lanes, 0);
}

// c[count, n] = scale·c + wᵀ·b, w with a row for each key and b too; without what is left out on the diagonal.
CK_WIDE static void CK_NAME2(attention_over_keys, TYPE)(size_t count, size_t n, size_t keys, size_t lanes, const T *w,
                                                        const T *b, ptrdiff_t br, size_t unseen, T *c, const T *scale) {
    const ptrdiff_t stride = (ptrdiff_t)lanes, row = (ptrdiff_t)n;
    if (unseen) CK_NAME2(attention_product, TYPE)(unseen, n, KEYS / 2, w, 1, stride, b, br, c, row, scale);
    CK_NAME2(attention_product, TYPE)(count - unseen, n, keys, w + unseen, 1, stride, b, br, c + unseen * n, row,
                                      scale ? scale + unseen : 0);
}

// c[keys, n] = scale·c + w·b, w with a row for each key, b with one for each query; without what is left out on the diagonal.
CK_WIDE static void CK_NAME2(attention_over_rows, TYPE)(size_t keys, size_t n, size_t count, size_t lanes, const T *w,
                                                        const T *b, size_t unseen, T *c, ptrdiff_t cr, const T *scale) {
    const size_t seen = unseen ? KEYS / 2 : keys;
    const ptrdiff_t stride = (ptrdiff_t)lanes, row = (ptrdiff_t)n;
    CK_NAME2(attention_product, TYPE)(seen, n, count, w, stride, 1, b, row, c, cr, scale);
    if (seen == keys) return;
    CK_NAME2(attention_product, TYPE)(keys - seen, n, count - unseen, w + seen * lanes + unseen, stride, 1, b + unseen * n,
                                      row, c + (ptrdiff_t)seen * cr, cr, scale ? scale + seen : 0);
}

// MARK: Scores

// Adds the mask to a block of scores; what it hides becomes −∞.
CK_WIDE static void CK_NAME2(attention_mask, TYPE)(const struct ck_attention *a, size_t b, size_t first, size_t keys,
                                                   const struct CK_NAME2(attention_block, TYPE) *block, T *s) {
    const size_t lanes = block->lanes;
    const ptrdiff_t step = a->mask_strides[3];
    const T hidden = -(T)INFINITY;
    T added[ROWS * KEYS], turned[KEYS * ROWS];
    const T *rows[ROWS];
    ptrdiff_t before = 0;
    int isShared = 1;
    for (size_t i = 0; i < block->count; i++) {
        const ptrdiff_t start = (ptrdiff_t)b * a->mask_strides[0] + (ptrdiff_t)block->head[i] * a->mask_strides[1] +
            (ptrdiff_t)block->row[i] * a->mask_strides[2] + (ptrdiff_t)first * step;
        T *row = added + i * KEYS;
        rows[i] = row;
        if (i > 0 && start == before) {
            rows[i] = rows[i - 1];
            continue;
        }
        isShared &= i == 0;
        before = start;
        if (a->mask_kind == CK_MASK_ADDED && step == 1) {
            rows[i] = (const T *)a->mask + start;
        } else if (a->mask_kind == CK_MASK_ADDED) {
            const T *mask = (const T *)a->mask + start;
            for (size_t j = 0; j < keys; j++) row[j] = mask[(ptrdiff_t)j * step];
        } else if (step == 1) {
            const uint8_t *mask = (const uint8_t *)a->mask + start;
            for (size_t j = 0; j < keys; j++) row[j] = mask[j] ? 0 : hidden;
        } else {
            const uint8_t *mask = (const uint8_t *)a->mask + start;
            for (size_t j = 0; j < keys; j++) row[j] = mask[(ptrdiff_t)j * step] ? 0 : hidden;
        }
    }
    if (!isShared) CK_NAME2(attention_turn, TYPE)(rows, block->count, lanes, keys, 1, turned);
    for (size_t j = 0; j < keys; j++) {
        const VEC all = (VEC){0} + rows[0][j];
        for (size_t u = 0; u < lanes; u += SPAN) {
            const VEC x = isShared ? all : *(const VEC *)(turned + j * lanes + u);
            VEC *y = (VEC *)(s + j * lanes + u);
            *y = CK_SELECT(TYPE, x == hidden, x, *y + x);
        }
    }
}

// Whether some query of the block may not look at some of the keys before `end`.
static int CK_NAME2(attention_hides, TYPE)(const struct ck_attention *a, size_t end,
                                           const struct CK_NAME2(attention_block, TYPE) *block) {
    if (a->mask_kind != CK_MASK_NONE) return 1;
    if (a->is_causal) {
        for (size_t i = 0; i < block->count; i++) {
            if (block->row[i] + 1 < end) return 1;
        }
    }
    return 0;
}

// s[keys, lanes] = k·q, with the mask and the causal order in it.
CK_WIDE static void CK_NAME2(attention_scores, TYPE)(const struct ck_attention *a, size_t b, size_t g, size_t first,
                                                     size_t keys, const struct CK_NAME2(attention_block, TYPE) *block,
                                                     T *s) {
    const size_t lanes = block->lanes;
    CK_NAME2(attention_by_keys, TYPE)(keys, lanes, a->width, CK_NAME2(attention_row, TYPE)(a->k, a->k_strides, b, g, first),
                                      a->k_strides[2], block->queries,
                                      CK_NAME2(attention_unseen, TYPE)(a, block, first, keys), s);
    if (!CK_NAME2(attention_hides, TYPE)(a, first + keys, block)) return;
    if (a->mask_kind != CK_MASK_NONE) CK_NAME2(attention_mask, TYPE)(a, b, first, keys, block, s);
    if (a->is_causal) {
        const VEC hidden = (VEC){0} - (T)INFINITY;
        for (size_t u = 0; u < lanes; u += SPAN) {
            const VEC position = *(const VEC *)(block->position + u);
            for (size_t j = 0; j < keys; j++) {
                VEC *x = (VEC *)(s + j * lanes + u);
                *x = CK_SELECT(TYPE, position >= (T)(first + j), *x, hidden);
            }
        }
    }
}

// The exponentials of one vector of queries, and their sum: s = exp(s − top) for `keys` vectors, each `lanes` after the one before; times `inverse`
// where that is given, and then without a sum.
CK_INLINE CK_WIDE VEC CK_NAME2(attention_exp, TYPE)(T *s, size_t keys, size_t lanes, VEC top, const VEC *inverse) {
    VEC sum = {0};
    size_t j = 0;
#define STEP(count) do { \
    VEC e[CK_EXPONENTIALS]; \
    CK_UNROLL for (size_t i = 0; i < count; i++) e[i] = *(const VEC *)(s + (j + i) * lanes) - top; \
    CK_NAME2(exp_below_zero, TYPE)(e, count); \
    CK_UNROLL for (size_t i = 0; i < count; i++) { \
        *(VEC *)(s + (j + i) * lanes) = inverse ? e[i] * *inverse : e[i]; \
        if (!inverse) sum += e[i]; \
    } \
} while (0)
    for (; j + CK_EXPONENTIALS <= keys; j += CK_EXPONENTIALS) STEP(CK_EXPONENTIALS);
    for (; j < keys; j++) STEP(1);
#undef STEP
    return sum;
}

// s = exp(s − top) · inverse: the scores become attention.
CK_WIDE static void CK_NAME2(attention_weights, TYPE)(const struct CK_NAME2(attention_block, TYPE) *block, size_t keys,
                                                      T *s) {
    const size_t lanes = block->lanes;
    for (size_t u = 0; u < lanes; u += SPAN) {
        const VEC top = *(const VEC *)(block->top + u), inverse = *(const VEC *)(block->inverse + u);
        CK_NAME2(attention_exp, TYPE)(s + u, keys, lanes, top, &inverse);
    }
}

// MARK: Keys and values as rows of vectors

// Whether a row has NaN or an infinity.
CK_WIDE static int CK_NAME2(attention_strange, TYPE)(const T *x, ptrdiff_t stride, size_t rows, size_t width) {
    VEC sum = {0};
    T rest = 0;
    for (size_t r = 0; r < rows; r++) {
        const T *row = x + (ptrdiff_t)r * stride;
        size_t c = 0;
        for (; c + SPAN <= width; c += SPAN) sum += *(const VEC *)(row + c) * (T)0;
        for (; c < width; c++) rest += row[c] * 0;
    }
    for (int i = 0; i < SPAN; i++) rest += sum[i];
    return rest != 0;
}

// Rows that can be read vector by vector: in place where their width allows it, else copied with zeros behind. With
// `clean` set, NaN and infinities become 0.
CK_INLINE const T *CK_NAME2(attention_rows, TYPE)(const T *x, ptrdiff_t *stride, size_t rows, size_t width, int clean,
                                                  T *copy) {
    const size_t padded = PADDED(width);
    if (padded == width && !clean) return x;
    for (size_t r = 0; r < rows; r++) {
        const T *from = x + (ptrdiff_t)r * *stride;
        T *to = copy + r * padded;
        for (size_t c = 0; c < width; c++) to[c] = clean && from[c] * 0 != 0 ? 0 : from[c];
        for (size_t c = width; c < padded; c++) to[c] = 0;
    }
    *stride = (ptrdiff_t)padded;
    return copy;
}

// MARK: Dropout

// drop[keys, lanes]: 0 where a weight is dropped, else `dropout_kept`. Weight p of [B, H, N, M], counted row by row, takes
// word p mod 4 of group p / 4 of its key.
static void CK_NAME2(attention_dropout, TYPE)(const struct ck_attention *a, size_t b, size_t first, size_t keys,
                                              const struct CK_NAME2(attention_block, TYPE) *block, T *drop) {
    uint32_t words[KEYS + 4 + 4 * CK_PHILOX_BATCH];
    T kept[ROWS * KEYS];
    const T *rows[ROWS];
    for (size_t i = 0; i < block->count; i++) {
        const uint64_t at =
            CK_NAME2(attention_statistic, TYPE)(a, b, block->head[i], block->row[i]) * (uint64_t)a->keys + first;
        ck_philox_words(a->dropout_key, at / 4, (at % 4 + keys + 3) / 4, words);
        T *row = kept + i * KEYS;
        for (size_t j = 0; j < keys; j++) row[j] = words[at % 4 + j] < a->dropout_below ? 0 : (T)a->dropout_kept;
        rows[i] = row;
    }
    CK_NAME2(attention_turn, TYPE)(rows, block->count, block->lanes, keys, 1, drop);
}
