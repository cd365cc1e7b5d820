// The text of windows2d.c for one element type T.

static void NAME(max_pool)(const struct ck_windows *w, const T *x, T *y, int64_t *index, size_t planes) {
    for (size_t plane = 0; plane < planes; plane++, x += w->height * w->width) {
        for (size_t i = 0; i < w->out_height; i++) {
            for (size_t j = 0; j < w->out_width; j++) {
                int64_t best = -1;
                for (size_t row = 0; row < w->kernel_height; row++) {
                    const size_t down = i * w->stride_height + row - w->padding_height;
                    if (down >= w->height) continue;
                    for (size_t column = 0; column < w->kernel_width; column++) {
                        const size_t across = j * w->stride_width + column - w->padding_width;
                        if (across >= w->width) continue;
                        const size_t at = down * w->width + across;
                        // Not "larger", so that NaN wins; once it has, nothing else does.
                        if (best < 0 || (x[best] == x[best] && !(x[at] <= x[best]))) best = (int64_t)at;
                    }
                }
                *y++ = x[best];
                *index++ = best;
            }
        }
    }
}

static void NAME(max_pool_gradient)(const struct ck_windows *w, const T *g, const int64_t *index, T *dx,
                                    size_t planes) {
    const size_t windows = w->out_height * w->out_width;
    for (size_t i = 0; i < planes * w->height * w->width; i++) dx[i] = 0;
    for (size_t plane = 0; plane < planes; plane++, dx += w->height * w->width) {
        for (size_t i = 0; i < windows; i++) dx[*index++] += *g++;
    }
}

static void NAME(resample)(const struct ck_resampling *s, const T *x, T *y, size_t blocks, size_t inner) {
    for (size_t block = 0; block < blocks; block++, x += s->length * inner) {
        for (size_t o = 0; o < s->out_length; o++, y += inner) {
            const T *from = x + (size_t)s->first[o] * inner;
            const double *weights = s->weights + o * s->max_taps;
            const T weight = (T)weights[0];
            for (size_t i = 0; i < inner; i++) y[i] = weight * from[i];
            for (int64_t t = 1; t < s->taps[o]; t++) {
                const T weight = (T)weights[t];
                for (size_t i = 0; i < inner; i++) y[i] += weight * from[(size_t)t * inner + i];
            }
        }
    }
}

static void NAME(resample_transposed)(const struct ck_resampling *s, const T *y, T *x, size_t blocks, size_t inner) {
    for (size_t i = 0; i < blocks * s->length * inner; i++) x[i] = 0;
    for (size_t block = 0; block < blocks; block++, x += s->length * inner) {
        for (size_t o = 0; o < s->out_length; o++, y += inner) {
            T *to = x + (size_t)s->first[o] * inner;
            for (int64_t t = 0; t < s->taps[o]; t++) {
                const T weight = (T)s->weights[o * s->max_taps + (size_t)t];
                for (size_t i = 0; i < inner; i++) to[(size_t)t * inner + i] += weight * y[i];
            }
        }
    }
}
