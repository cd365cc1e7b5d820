// What transposing takes: any number of vectors of as many lanes, a power of two. It stands alone, for loops of one width too.

// The lower, and the upper, halves of two vectors, lane by lane in turn.
#define ZIP_LOW_2(a, b) __builtin_shufflevector(a, b, 0, 2)
#define ZIP_HIGH_2(a, b) __builtin_shufflevector(a, b, 1, 3)
#define ZIP_LOW_4(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH_4(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define ZIP_LOW_8(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH_8(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define ZIP_LOW_16(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH_16(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

// The n vectors of a become their columns; b has room for as many. `zip_low` and `zip_high` are those of n lanes.
#define TURN(n, a, b, zip_low, zip_high) \
    _Pragma("clang loop unroll(full)") for (size_t half = 1; half < (n); half *= 2) { \
        _Pragma("clang loop unroll(full)") for (size_t i = 0; i < (n) / 2; i++) { \
            b[2 * i] = zip_low(a[i], a[i + (n) / 2]); \
            b[2 * i + 1] = zip_high(a[i], a[i + (n) / 2]); \
        } \
        _Pragma("clang loop unroll(full)") for (size_t i = 0; i < (n); i++) a[i] = b[i]; \
    }
