// Attention forward: softmax(q·kᵀ·scale + mask)·v, block by block, without the matrix of weights.
//
// Each row keeps the greatest score so far and the sum of exp(score − greatest); what was added up before is scaled when
// a greater one comes (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
// "FlashAttention", 2022).

// For how many blocks of keys weights and greatest scores are remembered: for all where they are tapped or kept.
static size_t CK_NAME2(attention_blocks, TYPE)(const struct ck_attention *a) {
    return a->tap_count > 0 || a->kept ? (a->keys + KEYS - 1) / KEYS : 1;
}

// Memory for one call, in elements.
static size_t CK_NAME2(attention_workspace, TYPE)(const struct ck_attention *a) {
    const size_t blocks = CK_NAME2(attention_blocks, TYPE)(a);
    return ROWS * (a->width + (blocks + 1) * (KEYS + 1)) + (ROWS + KEYS) * PADDED(a->value_width);
}

// Adds values of NaN or infinity to the rows that see them, since the product leaves them out: y = fade·y + v. `s` has the
// scores; fade becomes 1.
static void CK_NAME2(attention_add_strange, TYPE)(const struct ck_attention *a, const T *v, size_t keys, size_t lanes,
                                                  size_t count, const T *s, T *fade, T *y) {
    const size_t padded = PADDED(a->value_width);
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < padded; c++) y[i * padded + c] *= fade[i];
        fade[i] = 1;
    }
    for (size_t j = 0; j < keys; j++) {
        for (size_t c = 0; c < a->value_width; c++) {
            const T x = v[(ptrdiff_t)j * a->v_strides[2] + (ptrdiff_t)c];
            if (x * 0 == 0) continue;
            for (size_t i = 0; i < count; i++) {
                if (s[j * lanes + i] != -(T)INFINITY) y[i * padded + c] += x;
            }
        }
    }
}

// One block of keys for the running softmax: s becomes exp(s − top); returns through `fade` what earlier sums shrink by.
CK_WIDE static void CK_NAME2(attention_advance, TYPE)(struct CK_NAME2(attention_block, TYPE) *block, size_t keys, T *s,
                                                      T *greatest, T *sum, T *fade) {
    const size_t lanes = block->lanes;
    const VEC lowest = (VEC){0} - (T)INFINITY;
    for (size_t u = 0; u < lanes; u += SPAN) {
        const VEC before = *(VEC *)(greatest + u);
        VEC now = before;
        for (size_t j = 0; j < keys; j++) {
            const VEC x = *(const VEC *)(s + j * lanes + u);
            now = CK_SELECT(TYPE, x > now, x, now);
        }
        const VEC top = CK_SELECT(TYPE, now == lowest, (VEC){0}, now);
        VEC scale = before - top;
        CK_NAME2(exp_below_zero, TYPE)(&scale, 1);
        const VEC total = *(VEC *)(sum + u) * scale + CK_NAME2(attention_exp, TYPE)(s + u, keys, lanes, top, 0);
        *(VEC *)(greatest + u) = now;
        *(VEC *)(block->top + u) = top;
        *(VEC *)(sum + u) = total;
        *(VEC *)(fade + u) = scale;
    }
}

// Makes weights of what was kept of each block of keys, exp(score − the greatest score by then).
CK_WIDE static void CK_NAME2(attention_keep, TYPE)(const struct CK_NAME2(attention_block, TYPE) *block, size_t reach,
                                                   const T *tops, T *kept) {
    const size_t lanes = block->lanes;
    for (size_t u = 0; u < lanes; u += SPAN) {
        const VEC top = *(const VEC *)(block->top + u), inverse = *(const VEC *)(block->inverse + u);
        for (size_t first = 0; first < reach; first += KEYS) {
            const VEC then = *(const VEC *)(tops + first / KEYS * lanes + u);
            VEC factor = then - top;
            CK_NAME2(exp_below_zero, TYPE)(&factor, 1);
            factor *= inverse;
            const size_t end = reach - first < KEYS ? reach : first + KEYS;
            for (size_t j = first; j < end; j++) *(VEC *)(kept + j * lanes + u) *= factor;
        }
    }
}

// Adds Σ over the block's rows of weight[row]·attention[row, key] to each tap's sums.
CK_WIDE static void CK_NAME2(attention_tap, TYPE)(const struct ck_attention *a, size_t b, size_t g,
                                                  const struct CK_NAME2(attention_block, TYPE) *block, size_t reach,
                                                  const T *s, const T *tops, void *const *sums) {
    const size_t lanes = block->lanes;
    for (size_t t = 0; t < a->tap_count; t++) {
        const struct ck_attention_tap *tap = &a->taps[t];
        for (size_t head = block->head[0]; head <= block->head[block->count - 1]; head++) {
            T weight[ROWS] = {0}, factor[ROWS];
            int isEmpty = 1;
            for (size_t i = 0; i < block->count; i++) {
                const T w = ((const T *)tap->weights)[(ptrdiff_t)b * tap->strides[0] + (ptrdiff_t)block->row[i] * tap->strides[1]];
                if (block->head[i] == head) weight[i] = w * block->inverse[i];
                isEmpty &= weight[i] == 0;
            }
            if (isEmpty) continue;
            T *y = (T *)sums[t] + (head - g * a->share) * a->keys;
            for (size_t first = 0; first < reach; first += KEYS) {
                const size_t keys = reach - first < KEYS ? reach - first : KEYS;
                const T *p = s + first * lanes, *then = tops + first / KEYS * lanes;
                for (size_t u = 0; u < lanes; u += SPAN) {
                    VEC since = *(const VEC *)(then + u) - *(const VEC *)(block->top + u);
                    CK_NAME2(exp_below_zero, TYPE)(&since, 1);
                    *(VEC *)(factor + u) = *(const VEC *)(weight + u) * since;
                }
                for (size_t j = 0; j < keys; j++, p += lanes) {
                    VEC total = {0};
                    for (size_t u = 0; u < lanes; u += SPAN) total += *(const VEC *)(p + u) * *(const VEC *)(factor + u);
                    for (int half = SPAN / 2; half > 0; half /= 2) {
                        for (int i = 0; i < half; i++) total[i] += total[i + half];
                    }
                    y[first + j] += total[0];
                }
            }
        }
    }
}

// The rows `first ..< end` of those that share the keys of group g. `sums` has, for each tap, [H / G, M] to add to.
CK_WIDE static void CK_NAME2(attention, TYPE)(const struct ck_attention *a, size_t b, size_t g, size_t first_row,
                                              size_t end_row, void *const *sums, void *workspace) {
    const size_t padded = PADDED(a->value_width);
    struct CK_NAME2(attention_block, TYPE) block;
    T greatest[ROWS], sum[ROWS], fade[ROWS];
    block.queries = workspace;
    T *y = block.queries + ROWS * a->width;
    T *copy = y + ROWS * padded, *drop = copy + KEYS * padded;
    T *tops = drop + ROWS * KEYS;
    T *own = tops + ROWS * CK_NAME2(attention_blocks, TYPE)(a);
    for (size_t row = first_row; row < end_row; row += ROWS) {
        CK_NAME2(attention_take, TYPE)(a, b, g, row, end_row - row < ROWS ? end_row : row + ROWS, &block);
        const size_t lanes = block.lanes, reach = CK_NAME2(attention_reach, TYPE)(a, &block);
        T *const kept = CK_NAME2(attention_kept, TYPE)(a, b, g, &block), *const weights = kept ? kept : own;
        int isTapped = 0;
        for (size_t t = 0; t < a->tap_count; t++) {
            for (size_t i = 0; i < block.count; i++) {
                isTapped |= ((const T *)a->taps[t].weights)[(ptrdiff_t)b * a->taps[t].strides[0] +
                                                            (ptrdiff_t)block.row[i] * a->taps[t].strides[1]] != 0;
            }
        }
        const int isRemembered = isTapped || kept;
        for (size_t i = 0; i < lanes; i++) {
            greatest[i] = -(T)INFINITY;
            sum[i] = 0;
            fade[i] = 0;
            block.top[i] = 0;
        }
        for (size_t i = 0; i < block.count * padded; i++) y[i] = 0;
        for (size_t first = 0; first < reach; first += KEYS) {
            const size_t keys = reach - first < KEYS ? reach - first : KEYS;
            T *s = weights + (isRemembered ? first * lanes : 0);
            CK_NAME2(attention_scores, TYPE)(a, b, g, first, keys, &block, s);
            const T *v = CK_NAME2(attention_row, TYPE)(a->v, a->v_strides, b, g, first);
            const int isStrange = CK_NAME2(attention_hides, TYPE)(a, first + keys, &block) &&
                CK_NAME2(attention_strange, TYPE)(v, a->v_strides[2], keys, a->value_width);
            if (isStrange) memcpy(drop, s, keys * lanes * sizeof(T));
            CK_NAME2(attention_advance, TYPE)(&block, keys, s, greatest, sum, fade);
            if (isStrange) CK_NAME2(attention_add_strange, TYPE)(a, v, keys, lanes, block.count, drop, fade, y);
            if (isRemembered) memcpy(tops + first / KEYS * lanes, block.top, lanes * sizeof(T));
            const T *p = s;
            if (a->dropout_below > 0) {
                CK_NAME2(attention_dropout, TYPE)(a, b, first, keys, &block, drop);
                for (size_t i = 0; i < keys * lanes; i += SPAN) *(VEC *)(drop + i) *= *(VEC *)(s + i);
                p = drop;
            }
            ptrdiff_t stride = a->v_strides[2];
            v = CK_NAME2(attention_rows, TYPE)(v, &stride, keys, a->value_width, isStrange, copy);
            CK_NAME2(attention_over_keys, TYPE)(block.count, padded, keys, lanes, p, v, stride,
                                                CK_NAME2(attention_unseen, TYPE)(a, &block, first, keys), y, fade);
        }
        for (size_t i = 0; i < block.count; i++) {
            const size_t at = CK_NAME2(attention_statistic, TYPE)(a, b, block.head[i], block.row[i]);
            const T inverse = sum[i] == 0 ? 0 : 1 / sum[i];
            block.inverse[i] = inverse;
            ((T *)a->top)[at] = block.top[i];
            ((T *)a->inverse)[at] = inverse;
            T *to = (T *)CK_NAME2(attention_row, TYPE)(a->y, a->y_strides, b, block.head[i], block.row[i]);
            for (size_t c = 0; c < a->value_width; c++) to[c] = y[i * padded + c] * inverse;
        }
        if (isTapped) CK_NAME2(attention_tap, TYPE)(a, b, g, &block, reach, weights, tops, sums);
        if (kept) CK_NAME2(attention_keep, TYPE)(&block, reach, tops, kept);
    }
}

// The attention of `count` query rows to the keys `first ..< end`: into y[row · row_stride + key], one such block for each
// head, or their mean where `head_stride` is 0.
CK_WIDE static void CK_NAME2(attention_of_rows, TYPE)(const struct ck_attention *a, size_t b, const int64_t *rows,
                                                      size_t count, size_t first_key, size_t end_key, void *y_,
                                                      ptrdiff_t head_stride, ptrdiff_t row_stride, void *workspace) {
    struct CK_NAME2(attention_block, TYPE) block;
    block.queries = workspace;
    T *s = block.queries + ROWS * a->width;
    const T share = head_stride ? 1 : (T)1 / (T)a->heads;
    for (size_t head = 0; head < a->heads; head++) {
        for (size_t start = 0; start < count; start += ROWS) {
            block.count = count - start < ROWS ? count - start : ROWS;
            for (size_t i = 0; i < block.count; i++) {
                block.head[i] = head;
                block.row[i] = (size_t)rows[start + i];
            }
            CK_NAME2(attention_load, TYPE)(a, b, &block);
            CK_NAME2(attention_recall, TYPE)(a, b, &block);
            for (size_t first = first_key; first < end_key; first += KEYS) {
                const size_t keys = end_key - first < KEYS ? end_key - first : KEYS;
                CK_NAME2(attention_scores, TYPE)(a, b, head / a->share, first, keys, &block, s);
                CK_NAME2(attention_weights, TYPE)(&block, keys, s);
                for (size_t i = 0; i < block.count; i++) {
                    T *y = (T *)y_ + (ptrdiff_t)head * head_stride + (ptrdiff_t)(start + i) * row_stride;
                    for (size_t j = 0; j < keys; j++) {
                        const T x = s[j * block.lanes + i] * share;
                        y[first + j] = head_stride || head == 0 ? x : y[first + j] + x;
                    }
                }
            }
        }
    }
}
