// Attention backward: the weights are computed again, block by block, from what the forward pass kept of each row, unless it kept
// them all.
//
// With P the weights and D what dropout makes of them: dv = (P∘D)ᵀ·dy, dP = D∘(dy·vᵀ), dS = P∘(dP − δ), where
// δ = Σ_j P·dP = Σ_c dy·y of each row, dq = dS·k·scale and dk = dSᵀ·q·scale (Dao et al., "FlashAttention", 2022, appendix B).

// The rows that one block needs for its gradients.
struct CK_NAME2(attention_cotangent, TYPE) {
    T delta[ROWS];
    T *turned;   // dy as [value_width, lanes]
    T *rows;     // dy as [count, padded value_width]
    T *queries;  // q · scale as [count, padded width]
};

static size_t CK_NAME2(attention_gradient_workspace, TYPE)(const struct ck_attention *a, size_t keys) {
    const size_t width = PADDED(a->width), value_width = PADDED(a->value_width);
    return ROWS * (3 * width + 2 * value_width + 4 * KEYS) + 2 * KEYS * (width + value_width) + keys * (width + value_width);
}

static void CK_NAME2(attention_load_cotangent, TYPE)(const struct ck_attention *a, size_t b,
                                                     const struct CK_NAME2(attention_block, TYPE) *block,
                                                     struct CK_NAME2(attention_cotangent, TYPE) *cotangent) {
    const T *dy[ROWS];
    const size_t padded = PADDED(a->value_width), width = PADDED(a->width);
    for (size_t i = 0; i < block->lanes; i++) {
        cotangent->delta[i] = 0;
        if (i >= block->count) continue;
        dy[i] = CK_NAME2(attention_row, TYPE)(a->dy, a->dy_strides, b, block->head[i], block->row[i]);
        const T *y = CK_NAME2(attention_row, TYPE)(a->y, a->y_strides, b, block->head[i], block->row[i]);
        const T *q = CK_NAME2(attention_row, TYPE)(a->q, a->q_strides, b, block->head[i], block->row[i]);
        cotangent->delta[i] = CK_NAME2(dot_of, TYPE)(dy[i], y, a->value_width);
        T *to = cotangent->rows + i * padded;
        for (size_t c = 0; c < a->value_width; c++) to[c] = dy[i][c];
        for (size_t c = a->value_width; c < padded; c++) to[c] = 0;
        to = cotangent->queries + i * width;
        for (size_t c = 0; c < a->width; c++) to[c] = q[c] * (T)a->scale;
        for (size_t c = a->width; c < width; c++) to[c] = 0;
    }
    CK_NAME2(attention_turn, TYPE)(dy, block->count, block->lanes, a->value_width, 1, cotangent->turned);
}

// p = the weights after dropout, ds = the gradient of the scores.
//
// Where these are all the keys that the rows see, δ is added up from the very dP that it is taken from: what cancels, as where one
// key has all the weight, then does so to the last digit.
CK_WIDE static void CK_NAME2(attention_slopes, TYPE)(const struct ck_attention *a, size_t b, size_t g, size_t first,
                                                     size_t keys, const struct CK_NAME2(attention_block, TYPE) *block,
                                                     const struct CK_NAME2(attention_cotangent, TYPE) *cotangent,
                                                     const T *v, ptrdiff_t v_stride, T *drop, T *p, T *ds) {
    const size_t lanes = block->lanes, unseen = CK_NAME2(attention_unseen, TYPE)(a, block, first, keys);
    const T *const all = CK_NAME2(attention_kept, TYPE)(a, b, g, block), *const kept = all ? all + first * lanes : 0;
    if (!kept) CK_NAME2(attention_scores, TYPE)(a, b, g, first, keys, block, p);
    CK_NAME2(attention_by_keys, TYPE)(keys, lanes, a->value_width, v, v_stride, cotangent->turned, unseen, ds);
    const int isDropping = a->dropout_below > 0;
    const int isAll = first == 0 && keys == CK_NAME2(attention_reach, TYPE)(a, block);
    if (isDropping) CK_NAME2(attention_dropout, TYPE)(a, b, first, keys, block, drop);
    for (size_t u = 0; u < lanes; u += SPAN) {
        const VEC top = *(const VEC *)(block->top + u), inverse = *(const VEC *)(block->inverse + u);
        const size_t seen = u < unseen ? KEYS / 2 : keys;
        for (size_t j = seen; j < keys; j++) *(VEC *)(p + j * lanes + u) = *(VEC *)(ds + j * lanes + u) = (VEC){0};
        const T *const weights = kept ? kept : p;
        if (!kept) CK_NAME2(attention_exp, TYPE)(p + u, seen, lanes, top, &inverse);
        VEC delta = *(const VEC *)(cotangent->delta + u);
        for (size_t j = 0; isDropping && j < seen; j++) *(VEC *)(ds + j * lanes + u) *= *(const VEC *)(drop + j * lanes + u);
        if (isAll) {
            delta = (VEC){0};
            for (size_t j = 0; j < seen; j++) delta += *(const VEC *)(weights + j * lanes + u) * *(const VEC *)(ds + j * lanes + u);
        }
        for (size_t j = 0; j < seen; j++) {
            const size_t at = j * lanes + u;
            const VEC x = *(const VEC *)(weights + at);
            *(VEC *)(ds + at) = x * (*(const VEC *)(ds + at) - delta);
            *(VEC *)(p + at) = isDropping ? x * *(const VEC *)(drop + at) : x;
        }
    }
}

// Rows of whole vectors become 0. Column by column: a call of memset for each row of 64 bytes is slow.
CK_WIDE static void CK_NAME2(attention_clear, TYPE)(T *x, ptrdiff_t stride, size_t rows, size_t width) {
    for (size_t c = 0; c < width; c += SPAN) {
        for (size_t j = 0; j < rows; j++) *(VEC *)(x + (ptrdiff_t)j * stride + c) = (VEC){0};
    }
}

// dq, dk and dv of all rows that share the keys `first_key ..< end_key` of group g. dk and dv are overwritten, and may be one;
// dq, of [H / G · N, width] rows of its own strides, is what these keys contribute to it.
CK_WIDE static void CK_NAME2(attention_gradient, TYPE)(const struct ck_attention *a, size_t b, size_t g,
                                                       size_t first_key, size_t end_key, void *workspace) {
    const size_t width = PADDED(a->width), value_width = PADDED(a->value_width);
    struct CK_NAME2(attention_block, TYPE) block;
    struct CK_NAME2(attention_cotangent, TYPE) cotangent;
    block.queries = a->kept ? 0 : workspace;
    cotangent.turned = (T *)workspace + ROWS * width;
    cotangent.rows = cotangent.turned + ROWS * value_width;
    cotangent.queries = cotangent.rows + ROWS * value_width;
    T *dq = cotangent.queries + ROWS * width;
    T *p = dq + ROWS * width, *ds = p + ROWS * KEYS, *drop = ds + ROWS * KEYS, *copy = drop + ROWS * KEYS;
    T *sums = copy + 2 * KEYS * (width + value_width);
    T ones[KEYS > ROWS ? KEYS : ROWS];
    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++) ones[i] = 1;

    // In place where whole vectors fit, else beside it.
    const ptrdiff_t dk_stride = width == a->width ? a->dk_strides[2] : (ptrdiff_t)width;
    const ptrdiff_t dv_stride = value_width == a->value_width ? a->dv_strides[2] : (ptrdiff_t)value_width;
    T *const dk_target = (T *)CK_NAME2(attention_row, TYPE)(a->dk, a->dk_strides, b, g, first_key);
    T *const dv_target = (T *)CK_NAME2(attention_row, TYPE)(a->dv, a->dv_strides, b, g, first_key);
    T *const dk = width == a->width ? dk_target : sums;
    // Where keys and values are one tensor, so is their gradient: that of the keys is added to that of the values.
    const int isOne = a->dk == a->dv;
    T *const dv = isOne ? dk : value_width == a->value_width ? dv_target : sums + (end_key - first_key) * width;

    const size_t rows = a->share * a->queries;
    // The keys before `begun` have their gradients from the first rows that see them: these write, further ones add.
    size_t begun = first_key;
    for (size_t row = 0; row < rows; row += ROWS) {
        CK_NAME2(attention_take, TYPE)(a, b, g, row, rows - row < ROWS ? rows : row + ROWS, &block);
        const size_t lanes = block.lanes, reach = CK_NAME2(attention_reach, TYPE)(a, &block);
        CK_NAME2(attention_recall, TYPE)(a, b, &block);
        CK_NAME2(attention_load_cotangent, TYPE)(a, b, &block, &cotangent);
        if (reach <= first_key) {
            for (size_t i = 0; i < block.count * width; i++) dq[i] = 0;
        }
        for (size_t first = first_key; first < end_key && first < reach; first += KEYS) {
            const size_t end = end_key < reach ? end_key : reach;
            const size_t keys = end - first < KEYS ? end - first : KEYS;
            ptrdiff_t k_stride = a->k_strides[2], v_stride = a->v_strides[2];
            const T *k = CK_NAME2(attention_row, TYPE)(a->k, a->k_strides, b, g, first);
            const T *v = CK_NAME2(attention_row, TYPE)(a->v, a->v_strides, b, g, first);
            const int hides = CK_NAME2(attention_hides, TYPE)(a, first + keys, &block);
            const int isStrange = hides && CK_NAME2(attention_strange, TYPE)(k, k_stride, keys, a->width);
            k = CK_NAME2(attention_rows, TYPE)(k, &k_stride, keys, a->width, isStrange, copy);
            if (hides && CK_NAME2(attention_strange, TYPE)(v, v_stride, keys, a->value_width)) {
                v = CK_NAME2(attention_rows, TYPE)(v, &v_stride, keys, a->value_width, 1, copy + KEYS * width);
            }
            CK_NAME2(attention_slopes, TYPE)(a, b, g, first, keys, &block, &cotangent, v, v_stride, drop, p, ds);
            // A block of keys that earlier rows have seen in part.
            if (first < begun && begun < first + keys) {
                const ptrdiff_t from = (ptrdiff_t)(begun - first_key);
                CK_NAME2(attention_clear, TYPE)(dk + from * dk_stride, dk_stride, first + keys - begun, width);
                CK_NAME2(attention_clear, TYPE)(dv + from * dv_stride, dv_stride, first + keys - begun, value_width);
            }
            const T *const sum = first < begun ? ones : 0;
            begun = begun < first + keys ? first + keys : begun;
            const ptrdiff_t at = (ptrdiff_t)(first - first_key);
            const size_t unseen = CK_NAME2(attention_unseen, TYPE)(a, &block, first, keys);
            CK_NAME2(attention_over_rows, TYPE)(keys, value_width, block.count, lanes, p, cotangent.rows, unseen,
                                                dv + at * dv_stride, dv_stride, sum);
            CK_NAME2(attention_over_rows, TYPE)(keys, width, block.count, lanes, ds, cotangent.queries, unseen,
                                                dk + at * dk_stride, dk_stride, isOne ? ones : sum);
            CK_NAME2(attention_over_keys, TYPE)(block.count, width, keys, lanes, ds, k, k_stride, unseen, dq,
                                                first > first_key ? ones : 0);
        }
        for (size_t i = 0; i < block.count; i++) {
            T *to = (T *)CK_NAME2(attention_row, TYPE)(a->dq, a->dq_strides, b, block.head[i], block.row[i]);
            for (size_t c = 0; c < a->width; c++) to[c] = dq[i * width + c] * (T)a->scale;
        }
    }
    // Keys that no row sees.
    const ptrdiff_t unbegun = (ptrdiff_t)(begun - first_key);
    CK_NAME2(attention_clear, TYPE)(dk + unbegun * dk_stride, dk_stride, end_key - begun, width);
    CK_NAME2(attention_clear, TYPE)(dv + unbegun * dv_stride, dv_stride, end_key - begun, value_width);
    for (size_t j = 0; j < end_key - first_key; j++) {
        if (dk != dk_target) {
            memcpy(dk_target + (ptrdiff_t)j * a->dk_strides[2], dk + j * width, a->width * sizeof(T));
        }
        if (dv != dv_target && !isOne) {
            memcpy(dv_target + (ptrdiff_t)j * a->dv_strides[2], dv + j * value_width, a->value_width * sizeof(T));
        }
    }
}

// Adds the gradient of the scores of some rows of group g and some keys to that of the mask. Without kept weights: these rows are
// other blocks than those of the forward pass.
CK_WIDE static void CK_NAME2(attention_mask_gradient, TYPE)(const struct ck_attention *a, size_t b, size_t g,
                                                            size_t first_row, size_t end_row, size_t first_key,
                                                            size_t end_key, void *workspace) {
    struct CK_NAME2(attention_block, TYPE) block;
    struct CK_NAME2(attention_cotangent, TYPE) cotangent;
    block.queries = workspace;
    cotangent.turned = block.queries + ROWS * PADDED(a->width);
    cotangent.rows = cotangent.turned + ROWS * PADDED(a->value_width);
    cotangent.queries = cotangent.rows + ROWS * PADDED(a->value_width);
    T *p = cotangent.queries + ROWS * PADDED(a->width);
    T *ds = p + ROWS * KEYS, *drop = ds + ROWS * KEYS, *copy = drop + ROWS * KEYS;
    for (size_t row = first_row; row < end_row; row += ROWS) {
        CK_NAME2(attention_take, TYPE)(a, b, g, row, end_row - row < ROWS ? end_row : row + ROWS, &block);
        const size_t reach = CK_NAME2(attention_reach, TYPE)(a, &block);
        CK_NAME2(attention_recall, TYPE)(a, b, &block);
        CK_NAME2(attention_load_cotangent, TYPE)(a, b, &block, &cotangent);
        const size_t end = end_key < reach ? end_key : reach;
        for (size_t first = first_key; first < end; first += KEYS) {
            const size_t keys = end - first < KEYS ? end - first : KEYS;
            ptrdiff_t v_stride = a->v_strides[2];
            const T *v = CK_NAME2(attention_row, TYPE)(a->v, a->v_strides, b, g, first);
            if (CK_NAME2(attention_strange, TYPE)(v, v_stride, keys, a->value_width)) {
                v = CK_NAME2(attention_rows, TYPE)(v, &v_stride, keys, a->value_width, 1, copy);
            }
            CK_NAME2(attention_slopes, TYPE)(a, b, g, first, keys, &block, &cotangent, v, v_stride, drop, p, ds);
            for (size_t i = 0; i < block.count; i++) {
                T *to = (T *)a->dmask + (ptrdiff_t)b * a->dmask_strides[0] + (ptrdiff_t)block.head[i] * a->dmask_strides[1] +
                    (ptrdiff_t)block.row[i] * a->dmask_strides[2];
                for (size_t j = 0; j < keys; j++) to[(ptrdiff_t)(first + j) * a->dmask_strides[3]] += ds[j * block.lanes + i];
            }
        }
    }
}

#undef VEC
#undef SPAN
#undef ROWS
#undef KEYS
#undef TILE_ROWS
#undef PADDED
