// y = mask ? a : b, by the size of an element; nothing is computed, so no type is needed.

#define SELECT(Word) \
    { \
        const Word *as = a; \
        const Word *bs = b; \
        Word *ys = y; \
        if (sm == 1 && sa == 1 && sb == 1) { \
            for (size_t i = 0; i < n; i++) ys[i] = mask[i] ? as[i] : bs[i]; \
        } else if (sm == 1 && sa == 1 && sb == 0) { \
            const Word other = bs[0]; \
            for (size_t i = 0; i < n; i++) ys[i] = mask[i] ? as[i] : other; \
        } else { \
            for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++) ys[i] = mask[i * sm] ? as[i * sa] : bs[i * sb]; \
        } \
    }

static void select_elements(size_t size, const uint8_t *mask, ptrdiff_t sm, const void *a, ptrdiff_t sa, const void *b,
                            ptrdiff_t sb, void *y, size_t n) {
    switch (size) {
    case 1: SELECT(uint8_t) break;
    case 2: SELECT(uint16_t) break;
    case 4: SELECT(uint32_t) break;
    default: SELECT(uint64_t) break;
    }
}

#undef SELECT
