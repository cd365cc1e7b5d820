#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

void ck_store_past_caches(void *y_, const void *x_, size_t bytes) {
    char *y = y_;
    const char *x = x_;
    const size_t before = -(uintptr_t)y & 63, head = before < bytes ? before : bytes;  // whole lines alone need not be read
    memcpy(y, x, head);
    size_t i = head;
    for (; i + 64 <= bytes; i += 64) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(x + i)), b = _mm_loadu_si128((const __m128i *)(x + i + 16));
        const __m128i c = _mm_loadu_si128((const __m128i *)(x + i + 32)), d = _mm_loadu_si128((const __m128i *)(x + i + 48));
        _mm_stream_si128((__m128i *)(y + i), a);
        _mm_stream_si128((__m128i *)(y + i + 16), b);
        _mm_stream_si128((__m128i *)(y + i + 32), c);
        _mm_stream_si128((__m128i *)(y + i + 48), d);
    }
    memcpy(y + i, x + i, bytes - i);
}

void ck_finish_stores(void) { _mm_sfence(); }

#else

void ck_store_past_caches(void *y, const void *x, size_t bytes) { memcpy(y, x, bytes); }
void ck_finish_stores(void) {}

#endif

size_t ck_last_cache(void) {
    size_t kibibytes = 0;
#if defined(__linux__)
    // The C library's own answer adds up the caches of a processor of which each core has but one.
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (file) {
        if (fscanf(file, "%zuK", &kibibytes) != 1) kibibytes = 0;
        fclose(file);
    }
#endif
    return kibibytes > 0 ? kibibytes * 1024 : SIZE_MAX;
}
