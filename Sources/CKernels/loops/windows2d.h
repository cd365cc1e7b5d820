// The text of windows2d.c for one element type T.

static void NAME(max_pool)(const struct ck_windows *w, const T *x, T *y, int64_t *index, size_t planes) {
    const ptrdiff_t height = w->image[0], width = w->image[1];
    for (size_t plane = 0; plane < planes; plane++, x += height * width) {
        for (ptrdiff_t i = 0; i < w->counts[0]; i++) {
            for (ptrdiff_t j = 0; j < w->counts[1]; j++) {
                int64_t best = -1;
                for (ptrdiff_t a = 0; a < w->kernel[0]; a++) {
                    const ptrdiff_t row = i * w->stride[0] - w->padding[0] + a * w->dilation[0];
                    if (row < 0 || row >= height) continue;
                    for (ptrdiff_t b = 0; b < w->kernel[1]; b++) {
                        const ptrdiff_t column = j * w->stride[1] - w->padding[1] + b * w->dilation[1];
                        if (column < 0 || column >= width) continue;
                        const ptrdiff_t at = row * width + column;
                        // Not "larger", so that NaN wins; once it has, nothing else does.
                        if (best < 0 || (x[best] == x[best] && !(x[at] <= x[best]))) best = at;
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
    const size_t windows = (size_t)(w->counts[0] * w->counts[1]), pixels = (size_t)(w->image[0] * w->image[1]);
    for (size_t i = 0; i < planes * pixels; i++) dx[i] = 0;
    for (size_t plane = 0; plane < planes; plane++, dx += pixels) {
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
