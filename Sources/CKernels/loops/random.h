// Philox 4×32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): the words of `groups` groups of four
// from group `first` on, as `RandomKey.words(inGroup:)` gives them. Written in whole batches: `words` has room for
// CK_PHILOX_BATCH groups more.
#define CK_PHILOX_BATCH 16
static void ck_philox_words(uint64_t key, uint64_t first, size_t groups, uint32_t *words) {
    for (size_t done = 0; done < groups; done += CK_PHILOX_BATCH, words += 4 * CK_PHILOX_BATCH) {
        // Words in 64 bits each: products need them so.
        uint64_t c0[CK_PHILOX_BATCH], c1[CK_PHILOX_BATCH], c2[CK_PHILOX_BATCH], c3[CK_PHILOX_BATCH];
        for (size_t i = 0; i < CK_PHILOX_BATCH; i++) {
            c0[i] = (uint32_t)(first + done + i);
            c1[i] = (first + done + i) >> 32;
            c2[i] = 2;  // the stream of words
            c3[i] = 0;
        }
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int round = 0; round < 10; round++) {
            for (size_t i = 0; i < CK_PHILOX_BATCH; i++) {
                const uint64_t p0 = (c0[i] & 0xFFFFFFFF) * 0xD2511F53, p1 = (c2[i] & 0xFFFFFFFF) * 0xCD9E8D57;
                c0[i] = (p1 >> 32) ^ c1[i] ^ k0;
                c1[i] = p1 & 0xFFFFFFFF;
                c2[i] = (p0 >> 32) ^ c3[i] ^ k1;
                c3[i] = p0 & 0xFFFFFFFF;
            }
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
        for (size_t i = 0; i < CK_PHILOX_BATCH; i++) {
            words[4 * i] = (uint32_t)c0[i];
            words[4 * i + 1] = (uint32_t)c1[i];
            words[4 * i + 2] = (uint32_t)c2[i];
            words[4 * i + 3] = (uint32_t)c3[i];
        }
    }
}
