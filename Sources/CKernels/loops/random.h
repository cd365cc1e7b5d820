// Philox 4×32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): the words of `groups` groups of four
// from group `first` on, as `RandomKey.words(inGroup:)` gives them. At most CK_PHILOX_GROUPS groups.
#define CK_PHILOX_GROUPS 32
static void ck_philox_words(uint64_t key, uint64_t first, size_t groups, uint32_t *words) {
    uint32_t c0[CK_PHILOX_GROUPS], c1[CK_PHILOX_GROUPS], c2[CK_PHILOX_GROUPS], c3[CK_PHILOX_GROUPS];
    for (size_t i = 0; i < groups; i++) {
        c0[i] = (uint32_t)(first + i);
        c1[i] = (uint32_t)((first + i) >> 32);
        c2[i] = 2;  // the stream of words
        c3[i] = 0;
    }
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < groups; i++) {
            const uint64_t p0 = (uint64_t)c0[i] * 0xD2511F53u, p1 = (uint64_t)c2[i] * 0xCD9E8D57u;
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (size_t i = 0; i < groups; i++) {
        words[4 * i] = c0[i];
        words[4 * i + 1] = c1[i];
        words[4 * i + 2] = c2[i];
        words[4 * i + 3] = c3[i];
    }
}
