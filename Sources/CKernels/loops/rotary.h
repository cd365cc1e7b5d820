// One row of 2·half channels whose pairs are turned by angles, or back where `sign` is −1. Pair i is channels i and
// i + half, or 2i and 2i + 1 where they are interleaved.
static void CK_NAME2(rotate, TYPE)(const void *x_, const void *cosine_, const void *sine_, double sign_, int interleaved,
                                   void *y_, size_t half) {
    const T *restrict x = x_, *restrict cosine = cosine_, *restrict sine = sine_;
    T *restrict y = y_;
    const T sign = (T)sign_;
    if (interleaved) {
        for (size_t i = 0; i < half; i++) {
            const T a = x[2 * i], b = x[2 * i + 1], c = cosine[i], s = sign * sine[i];
            y[2 * i] = a * c - b * s;
            y[2 * i + 1] = b * c + a * s;
        }
    } else {
        for (size_t i = 0; i < half; i++) {
            const T a = x[i], b = x[i + half], c = cosine[i], s = sign * sine[i];
            y[i] = a * c - b * s;
            y[i + half] = b * c + a * s;
        }
    }
}
