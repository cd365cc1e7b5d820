// Matrix products of float32 on processors with AMX, whose tiles multiply bfloat16 numbers sixteen times as fast as vectors
// multiply float32.
//
// A float32 number is the sum of three bfloat16 numbers, each rounded from what the ones before leave: x = x₁ + x₂ + x₃, of
// 8 digits each. Of the nine products of two such sums six are computed, all but x₂·y₃, x₃·y₂ and x₃·y₃, which come to 2⁻²⁴·|x·y|
// at most, what float32 may lose where it rounds x·y, and to a fifth of that on average. Each of them is exact, and is added up
// in float32. The five small ones come first, for a whole block of k, so that what they lose to rounding is small too; then x₁·y₁.
// (Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations",
// 2019.)
//
// As in loops/product.h the bits of an element of C depend neither on where a tile begins nor on how a product is shared
// among threads: k is cut by k alone.
//
// A B of bfloat16 numbers is its own first piece, and takes three products.
//
// The tiles take numbers below 2⁻¹²⁶ for 0. So what is smaller than that of a product's operands, or of their lower digits,
// does not count: an error of at most 2⁻¹²⁶ in an operand. NaN, infinities, and numbers that would round to one, do not go
// through the tiles.
#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "CKernels.h"
#include "loops/turn.h"

extern const struct ck_table ck_table_v4;

#pragma clang attribute push(__attribute__((target("arch=x86-64-v4,tune=sapphirerapids,avx512bf16,amx-tile,amx-bf16"))), \
                             apply_to = function)

#define INLINE static inline __attribute__((always_inline))

enum {
    LANES = 16,           // rows of a tile
    DEPTH = 32,           // elements of k in a tile: 16 pairs
    SIDE = 2 * LANES,     // rows and columns of C that are computed at a time: two tiles by two
    PIECES = 3,
    TILE = LANES * DEPTH, // elements of a tile
    BLOCK = 256,          // of k
    STRIP = 512,          // of n
};

// MARK: Pieces

// Which numbers do not go through the tiles: NaN, and what is, or rounds to, an infinity. By the bits without the sign, doubled.
#define STRANGE 0xFEFF0000u

static int is_strange(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits << 1 >= STRANGE;
}

// The pieces of numbers a and b, pair by pair: those of a in the lower halves. After two roundings eight digits are left.
INLINE void split(__m512 a, __m512 b, __m512i pairs[PIECES]) {
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32((int)0xFFFF0000);
#pragma clang loop unroll(full)
    for (int piece = 0; piece < PIECES; piece++) {
        __m512i x = _mm512_castps_si512(a), y = _mm512_castps_si512(b);
        if (piece < PIECES - 1) {
            x = _mm512_and_si512(_mm512_add_epi32(x, half), upper);
            y = _mm512_and_si512(_mm512_add_epi32(y, half), upper);
            a = _mm512_sub_ps(a, _mm512_castsi512_ps(x));
            b = _mm512_sub_ps(b, _mm512_castsi512_ps(y));
        }
        pairs[piece] = _mm512_ternarylogic_epi32(_mm512_srli_epi32(x, 16), y, upper, 0xF8);  // x | (y & upper)
    }
}

// 16 vectors of 16 numbers become columns.
INLINE void transpose(__m512 *restrict x) {
    __m512 other[LANES];
    TURN(LANES, x, other, ZIP_LOW_16, ZIP_HIGH_16)
}

// One matrix as it is packed: lanes are rows of A or columns of B. The element of lane l at p is x[l·lane_step + place(p)].
struct operand {
    const void *x;
    ptrdiff_t lane_step, step;
    size_t run;  // as in ck_product, of A; 0 where k is evenly spaced
    ptrdiff_t run_step;
    int by_depth;  // whether a tile's rows are pairs of k, as they must be of B, instead of lanes
    int is_bfloat16;
};

static size_t pieces_of(const struct operand *o) { return o->is_bfloat16 ? 1 : PIECES; }

// A chunk of SIDE lanes and DEPTH elements of k: both tiles of the first piece, then of the second, of the third.
static size_t chunk_of(size_t pieces) { return 2 * pieces * TILE; }

INLINE float element(const struct operand *o, ptrdiff_t i) {
    if (!o->is_bfloat16) return ((const float *)o->x)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)o->x)[i] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// Elements i, i + 1, … of the memory, where the mask is set, and zeros.
INLINE __m512 elements(const struct operand *o, ptrdiff_t i, __mmask16 mask) {
    if (!o->is_bfloat16) return _mm512_maskz_loadu_ps(mask, (const float *)o->x + i);
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)o->x + i));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

INLINE ptrdiff_t place(const struct operand *o, size_t p) {
    return o->run ? (ptrdiff_t)(p / o->run) * o->run_step + (ptrdiff_t)(p % o->run) * o->step : (ptrdiff_t)p * o->step;
}

// The first `count` ≤ 16.
INLINE __mmask16 first_lanes(size_t count) { return (__mmask16)(0xFFFFu >> (LANES - count)); }

// Of so many lanes the elements that begin with i of the memory.
INLINE __m512 gathered(const struct operand *o, ptrdiff_t i, size_t lanes) {
    if (o->lane_step == 1) return elements(o, i, first_lanes(lanes));
    float y[LANES] = {0};
    for (size_t l = 0; l < lanes; l++) y[l] = element(o, i + (ptrdiff_t)l * o->lane_step);
    return _mm512_loadu_ps(y);
}

// A row of each of the tiles; and the largest of the bits, for what does not go through them.
INLINE void store_pieces(__m512 a, __m512 b, size_t pieces, uint16_t *to, __m512i *greatest) {
    __m512i pairs[PIECES];
    split(a, b, pairs);
    const __m512i x = _mm512_slli_epi32(_mm512_castps_si512(a), 1), y = _mm512_slli_epi32(_mm512_castps_si512(b), 1);
    *greatest = _mm512_max_epu32(*greatest, _mm512_max_epu32(x, y));
#pragma clang loop unroll(full)
    for (size_t piece = 0; piece < PIECES; piece++) {
        if (piece < pieces) _mm512_storeu_si512(to + piece * 2 * TILE, pairs[piece]);
    }
}

static void pack_strange(const struct operand *o, size_t first, size_t lanes, size_t p, size_t depth, uint16_t *to,
                         uint8_t *marks);

// Packs `lanes` ≤ 16 lanes from `first` on, and `depth` ≤ 32 elements of k from p on, with zeros where there are no more: a tile
// for each piece, with one between them. Element p + i of k makes a pair with p + 16 + i: what order k has in a tile is all the same.
static void pack_tile(const struct operand *o, size_t first, size_t lanes, size_t p, size_t depth, uint16_t *to,
                      uint8_t *marks) {
    const int by_lanes = o->step == 1 && (!o->run || p / o->run == (p + depth - 1) / o->run);
    const size_t halves[2] = {depth < LANES ? depth : LANES, depth < LANES ? 0 : depth - LANES}, pieces = pieces_of(o);
    const __mmask16 masks[2] = {first_lanes(halves[0]), halves[1] ? first_lanes(halves[1]) : 0};
    const ptrdiff_t lane = (ptrdiff_t)first * o->lane_step, start = lane + place(o, p);
    __m512i greatest = _mm512_setzero_si512();
    if (by_lanes && !o->by_depth) {
        for (size_t l = 0; l < lanes; l++) {
            const ptrdiff_t row = start + (ptrdiff_t)l * o->lane_step;
            store_pieces(elements(o, row, masks[0]), elements(o, row + LANES, masks[1]), pieces, to + l * DEPTH, &greatest);
        }
        for (size_t l = lanes; l < LANES; l++) {
            store_pieces(_mm512_setzero_ps(), _mm512_setzero_ps(), pieces, to + l * DEPTH, &greatest);
        }
    } else {
        __m512 v[2][LANES];
        for (size_t half = 0; half < 2; half++) {
            const size_t count = by_lanes ? lanes : halves[half];
            for (size_t i = 0; i < count; i++) {
                v[half][i] = by_lanes
                    ? elements(o, start + (ptrdiff_t)(half * LANES) + (ptrdiff_t)i * o->lane_step, masks[half])
                    : gathered(o, lane + place(o, p + half * LANES + i), lanes);
            }
            for (size_t i = count; i < LANES; i++) v[half][i] = _mm512_setzero_ps();
            if (by_lanes == o->by_depth) transpose(v[half]);
        }
        for (size_t i = 0; i < LANES; i++) store_pieces(v[0][i], v[1][i], pieces, to + i * DEPTH, &greatest);
    }
    if (__builtin_expect(_mm512_cmpge_epu32_mask(greatest, _mm512_set1_epi32((int)STRANGE)), 0)) {
        pack_strange(o, first, lanes, p, depth, to, marks + first);
    }
}

// The same with 0 for what does not go through the tiles, whose lanes are marked.
static __attribute__((noinline)) void pack_strange(const struct operand *o, size_t first, size_t lanes, size_t p, size_t depth,
                                                   uint16_t *to, uint8_t *marks) {
    float clean[LANES * DEPTH] = {0};
    for (size_t l = 0; l < lanes; l++) {
        for (size_t i = 0; i < depth; i++) {
            const float value = element(o, (ptrdiff_t)(first + l) * o->lane_step + place(o, p + i));
            if (is_strange(value)) marks[l] = 1;
            else clean[l * DEPTH + i] = value;
        }
    }
    // The pieces of a bfloat16 number behind its first are 0, and have no place.
    uint16_t tiles[2 * PIECES * TILE];
    const struct operand rest = {clean, DEPTH, 1, 0, 0, o->by_depth, 0};
    pack_tile(&rest, 0, LANES, 0, DEPTH, tiles, marks);
    for (size_t piece = 0; piece < pieces_of(o); piece++) {
        memcpy(to + piece * 2 * TILE, tiles + piece * 2 * TILE, TILE * sizeof *to);
    }
}

// SIDE lanes from `first` on, or what there is of them, and a block of k from `start` on, that are packed tile by tile.
struct packing {
    const struct operand *operand;
    size_t first, lanes, start, k;
    uint16_t *to;
    uint8_t *marks;
    size_t tile, tiles;  // the next one, and how many there are: two for each chunk
};

INLINE struct packing packing(const struct operand *o, size_t first, size_t lanes, size_t start, size_t k, uint16_t *to,
                              uint8_t *marks) {
    return (struct packing){o, first, lanes < SIDE ? lanes : SIDE, start, k, to, marks, 0, (k + DEPTH - 1) / DEPTH * 2};
}

// Packs the next tile, if there is one.
static void pack_next(struct packing *w) {
    if (w->tile == w->tiles) return;
    const size_t chunk = w->tile / 2, half = w->tile % 2, p = chunk * DEPTH;
    w->tile++;
    const size_t pieces = pieces_of(w->operand);
    uint16_t *to = w->to + chunk * chunk_of(pieces) + half * TILE;
    if (half * LANES >= w->lanes) {
        for (size_t piece = 0; piece < pieces; piece++) memset(to + piece * 2 * TILE, 0, TILE * sizeof *to);
        return;
    }
    const size_t lanes = w->lanes - half * LANES < LANES ? w->lanes - half * LANES : LANES;
    pack_tile(w->operand, w->first + half * LANES, lanes, w->start + p, w->k - p < DEPTH ? w->k - p : DEPTH, to, w->marks);
}

static void pack(struct packing w) {
    while (w.tile < w.tiles) pack_next(&w);
}

// MARK: Tiles

// The registers: four tiles of C, two of A, two of B.
#define C00 0
#define C01 1
#define C10 2
#define C11 3
#define A0 4
#define A1 5
#define B0 6
#define B1 7

#define LOAD_A(piece) \
    _tile_loadd(A0, a + (piece) * 2 * TILE, 64); \
    _tile_loadd(A1, a + ((piece) * 2 + 1) * TILE, 64)
#define LOAD_B(piece) \
    _tile_loadd(B0, b + (piece) * 2 * TILE, 64); \
    _tile_loadd(B1, b + ((piece) * 2 + 1) * TILE, 64)
#define MULTIPLY() \
    _tile_dpbf16ps(C00, A0, B0); \
    _tile_dpbf16ps(C01, A0, B1); \
    _tile_dpbf16ps(C10, A1, B0); \
    _tile_dpbf16ps(C11, A1, B1)

// A tile of C whose sums are there, and wait to be added up and stored: c = addend + sums. The addend may be c, or NULL.
struct pending {
    const float *sums, *addend;
    float *c;
    ptrdiff_t addend_row, c_row;
    size_t rows;  // that are left
    __mmask16 lanes[2];
};

INLINE void finish(struct pending *t, size_t rows) {
    for (; rows > 0 && t->rows > 0; rows--, t->rows--) {
        __m512 x = _mm512_load_ps(t->sums), y = _mm512_load_ps(t->sums + LANES);
        if (t->addend) {
            x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(t->lanes[0], t->addend));
            y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(t->lanes[1], t->addend + LANES));
            t->addend += t->addend_row;
        }
        _mm512_mask_storeu_ps(t->c, t->lanes[0], x);
        _mm512_mask_storeu_ps(t->c + LANES, t->lanes[1], y);
        t->sums += SIDE;
        t->c += t->c_row;
    }
}

// sums[SIDE, SIDE] = A·B of packed chunks. Meanwhile the tile before is finished, and what comes next is packed: other units of
// the core do that.
INLINE void multiply_tiles(const uint16_t *a, const uint16_t *b, size_t pieces, size_t chunks, float *sums,
                           struct pending *before, struct packing *next) {
    const size_t of_a = chunk_of(PIECES), of_b = chunk_of(pieces);
    const size_t rows = (SIDE + chunks - 1) / chunks;
    _tile_zero(C00);
    _tile_zero(C01);
    _tile_zero(C10);
    _tile_zero(C11);
    for (size_t chunk = 0; chunk < chunks; chunk++, a += of_a, b += of_b) {
        LOAD_B(0);
        LOAD_A(2);
        MULTIPLY();
        LOAD_A(1);
        MULTIPLY();
        if (pieces > 1) {
            LOAD_B(1);
            MULTIPLY();
            LOAD_A(0);
            MULTIPLY();
            LOAD_B(2);
            MULTIPLY();
        }
        finish(before, rows);
        pack_next(next);
    }
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        a -= of_a, b -= of_b;
        LOAD_A(0);
        LOAD_B(0);
        MULTIPLY();
    }
    _tile_stored(C00, sums, SIDE * sizeof(float));
    _tile_stored(C01, sums + LANES, SIDE * sizeof(float));
    _tile_stored(C10, sums + LANES * SIDE, SIDE * sizeof(float));
    _tile_stored(C11, sums + LANES * SIDE + LANES, SIDE * sizeof(float));
}

struct __attribute__((packed)) configuration {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

INLINE void configure(void) {
    struct configuration all = {.palette = 1};
    for (int i = 0; i < 8; i++) all.bytes[i] = 64, all.rows[i] = LANES;
    _tile_loadconfig(&all);
}

// MARK: What does not go through the tiles

// Adds what the strange numbers of marked rows of A, and of marked columns of B, contribute: in the order of k.
static void add_strange(const struct ck_product *x, const struct operand *left, const struct operand *right, float *c,
                        const uint8_t *row_marks, const uint8_t *column_marks) {
    for (size_t i = 0; i < x->m; i++) {
        for (size_t p = 0; row_marks[i] && p < x->k; p++) {
            const float v = element(left, (ptrdiff_t)i * x->a_row + place(left, p));
            if (!is_strange(v)) continue;
            for (size_t j = 0; j < x->n; j++) {
                c[(ptrdiff_t)i * x->c_row + (ptrdiff_t)j] +=
                    v * element(right, (ptrdiff_t)p * x->b_row + (ptrdiff_t)j * x->b_column);
            }
        }
    }
    for (size_t j = 0; j < x->n; j++) {
        for (size_t p = 0; column_marks[j] && p < x->k; p++) {
            const float v = element(right, (ptrdiff_t)p * x->b_row + (ptrdiff_t)j * x->b_column);
            if (!is_strange(v)) continue;
            for (size_t i = 0; i < x->m; i++) {
                const float u = element(left, (ptrdiff_t)i * x->a_row + place(left, p));
                // Two strange numbers have met above.
                if (!is_strange(u)) c[(ptrdiff_t)i * x->c_row + (ptrdiff_t)j] += u * v;
            }
        }
    }
}

// MARK: The product

static size_t chunks_of(size_t k) { return ((k < BLOCK ? k : BLOCK) + DEPTH - 1) / DEPTH; }

static size_t panels_of(size_t n) { return n < STRIP ? (n + SIDE - 1) / SIDE : STRIP / SIDE; }

static struct operand left_of(const struct ck_product *x, size_t group) {
    return (struct operand){(const float *)x->a + (ptrdiff_t)group * x->a_group, x->a_row, x->a_column, x->a_run, x->a_run_step, 0, 0};
}

static size_t workspace(const struct ck_product *x) {
    if (!x->in_pieces || x->k == 0) return ck_table_v4.product_workspace[0](x);
    const size_t marks = (x->m * x->groups + x->n + 63) / 64 * 64;
    const size_t chunk = panels_of(x->n) * chunk_of(x->is_b_bfloat16 ? 1 : PIECES) + 2 * chunk_of(PIECES);
    return chunks_of(x->k) * chunk * sizeof(uint16_t) + 2 * SIDE * SIDE * sizeof(float) + marks;
}

static void product(const struct ck_product *x, void *memory) {
    if (!x->in_pieces || x->k == 0) {
        ck_table_v4.product[0](x, memory);
        return;
    }
    const struct operand b = {x->b, x->b_column, x->b_row, 0, 0, 1, x->is_b_bfloat16};
    const size_t blocks = (x->k + BLOCK - 1) / BLOCK, pieces = pieces_of(&b);
    // What is packed at a time of SIDE rows, and of as many columns.
    const size_t size = chunks_of(x->k) * chunk_of(PIECES), panel = chunks_of(x->k) * chunk_of(pieces);
    uint16_t *const right = memory, *const left = right + panels_of(x->n) * panel;
    float *const sums = (float *)(left + 2 * size);
    uint8_t *const row_marks = (uint8_t *)(sums + 2 * SIDE * SIDE), *const column_marks = row_marks + x->m * x->groups;
    memset(row_marks, 0, x->m * x->groups + x->n);
    struct pending pending = {0};
    size_t tile = 0;
    configure();
    for (size_t j = 0; j < x->n; j += STRIP) {
        const size_t n = x->n - j < STRIP ? x->n - j : STRIP;
        for (size_t block = 0; block < blocks; block++) {
            const size_t first = x->k * block / blocks, k = x->k * (block + 1) / blocks - first;
            const size_t chunks = (k + DEPTH - 1) / DEPTH;
            for (size_t column = 0; column < n; column += SIDE) {
                pack(packing(&b, j + column, n - column, first, k, right + column / SIDE * panel, column_marks));
            }
            for (size_t group = 0; group < x->groups; group++) {
                const struct operand a = left_of(x, group);
                float *const to = (float *)x->c + (ptrdiff_t)group * x->c_group + j;
                uint8_t *const marks = row_marks + group * x->m;
                struct packing next = packing(&a, 0, x->m, first, k, left, marks);
                for (size_t i = 0; i < x->m; i += SIDE) {
                    const size_t rows = x->m - i < SIDE ? x->m - i : SIDE;
                    pack(next);
                    uint16_t *const here = next.to, *const beside = here == left ? left + size : left;
                    next = i + SIDE < x->m ? packing(&a, i + SIDE, x->m - i - SIDE, first, k, beside, marks) : (struct packing){0};
                    float *c = to + (ptrdiff_t)i * x->c_row;
                    const float *addend = x->addend ? (const float *)x->addend + (ptrdiff_t)i * x->addend_row + j : 0;
                    if (block > 0) addend = c;
                    const ptrdiff_t dr = block > 0 ? x->c_row : x->addend_row;
                    for (size_t column = 0; column < n; column += SIDE) {
                        const size_t columns = n - column < SIDE ? n - column : SIDE;
                        float *const own = sums + tile++ % 2 * SIDE * SIDE;
                        const uint16_t *const beneath = right + column / SIDE * panel;
                        // Twice, since the compiler then knows how many pieces there are.
                        if (pieces == 1) multiply_tiles(here, beneath, 1, chunks, own, &pending, &next);
                        else multiply_tiles(here, beneath, PIECES, chunks, own, &pending, &next);
                        pending = (struct pending){
                            own, addend ? addend + column : 0, c + column, dr, x->c_row, rows,
                            {first_lanes(columns < LANES ? columns : LANES), columns > LANES ? first_lanes(columns - LANES) : 0},
                        };
                    }
                }
            }
        }
    }
    finish(&pending, SIDE);
    _tile_release();
    if (!memchr(row_marks, 1, x->m * x->groups + x->n)) return;
    for (size_t group = 0; group < x->groups; group++) {
        const struct operand a = left_of(x, group);
        add_strange(x, &a, &b, (float *)x->c + (ptrdiff_t)group * x->c_group, row_marks + group * x->m, column_marks);
    }
}

#pragma clang attribute pop

// Asks for the tiles' registers, which a process must, once; 0 where there are none.
static int may_use_tiles(void) {
    enum { request_permission = 0x1023, tile_data = 18 };
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("avx512bf16") &&
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

static struct ck_table table;

// Before any thread: the loops of v4 with other products.
__attribute__((constructor)) static void prepare(void) {
    __builtin_cpu_init();
    if (!ck_table_named("v4") || !may_use_tiles()) return;
    table = ck_table_v4;
    table.product[0] = product;
    table.product_workspace[0] = workspace;
    table.has_pieces = 1;
    table.name = "amx";
}

const struct ck_table *ck_table_amx(void) { return table.name ? &table : 0; }

#else

#include "CKernels.h"

const struct ck_table *ck_table_amx(void) { return 0; }

#endif
