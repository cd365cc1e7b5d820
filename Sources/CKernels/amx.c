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
// The tiles take numbers below 2⁻¹²⁶ for 0, operands as well as products of pieces and their sums. So each product of two numbers may be
// off by a few times 2⁻¹²⁶: nothing where it is above 2⁻¹⁰², all of its digits where it is near 2⁻¹²⁶ itself. NaN, infinities, and numbers that would round to one, do not go
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

#include "amx_pieces.h"

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
            pack_strip(&b, j, n, first, k, right, panel, column_marks);
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
