// Cutting float32 numbers in pieces of bfloat16 and packing them for the tiles of AMX: a part of amx.c, which tells what the
// pieces are and includes this under its instruction set.
#pragma once

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

// Packs a strip of at most STRIP lanes from `first` on, SIDE by SIDE, `size` elements from one to the next. Where lanes lie side by
// side, one chunk of k after the other, so that memory is read by rows of the strip: two lines of each row, and on to the next row,
// take twice as long where the rows come from the last cache or from memory.
static void pack_strip(const struct operand *o, size_t first, size_t lanes, size_t start, size_t k, uint16_t *to, size_t size,
                       uint8_t *marks) {
    struct packing panels[STRIP / SIDE];
    const size_t count = (lanes + SIDE - 1) / SIDE;
    for (size_t i = 0; i < count; i++) {
        panels[i] = packing(o, first + i * SIDE, lanes - i * SIDE, start, k, to + i * size, marks);
    }
    const size_t tiles = panels[0].tiles, run = o->lane_step == 1 ? 2 : tiles;
    for (size_t tile = 0; tile < tiles; tile += run) {
        for (size_t i = 0; i < count; i++) {
            for (size_t next = 0; next < run; next++) pack_next(&panels[i]);
        }
    }
}
