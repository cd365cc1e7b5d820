// y = a relation b as bytes of 1 and 0, for any element type.

#define COMPARE(name, expression) \
    static void CK_NAME2(name, TYPE)(const void *a_, ptrdiff_t sa, const void *b_, ptrdiff_t sb, void *y_, size_t n) { \
        const T *as = a_; \
        const T *bs = b_; \
        uint8_t *ys = y_; \
        if (sa == 1 && sb == 1) { \
            for (size_t i = 0; i < n; i++) { const T a = as[i], b = bs[i]; ys[i] = (expression); } \
        } else if (sa == 1 && sb == 0) { \
            const T b = bs[0]; \
            for (size_t i = 0; i < n; i++) { const T a = as[i]; ys[i] = (expression); } \
        } else { \
            for (size_t i = 0; i < n; i++) { \
                const T a = as[(ptrdiff_t)i * sa], b = bs[(ptrdiff_t)i * sb]; ys[i] = (expression); \
            } \
        } \
    }

COMPARE(is_equal, a == b)
COMPARE(is_not_equal, a != b)
COMPARE(is_less, a < b)
COMPARE(is_less_or_equal, a <= b)
COMPARE(both, (a != 0) & (b != 0))
COMPARE(either, (a != 0) | (b != 0))
COMPARE(one_of, (a != 0) ^ (b != 0))

#undef COMPARE
