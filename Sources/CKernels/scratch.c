#include "CKernels.h"

#include <pthread.h>
#include <stdlib.h>

static _Thread_local struct {
    void *memory;
    size_t bytes;
    int is_taken;
} scratch;

// The thread's memory once more, so that it is freed at its end.
static pthread_key_t at_end;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int has_key = 0;

static void prepare(void) { has_key = pthread_key_create(&at_end, free) == 0; }

static void *fresh(size_t bytes) {
    void *memory = NULL;
    return posix_memalign(&memory, 512, bytes) == 0 ? memory : NULL;
}

void *ck_take_scratch(size_t bytes) {
    if (bytes == 0) bytes = 1;
    pthread_once(&once, prepare);
    if (scratch.is_taken || !has_key) return fresh(bytes);
    if (scratch.bytes < bytes) {
        free(scratch.memory);
        scratch.memory = fresh(bytes);
        scratch.bytes = scratch.memory ? bytes : 0;
        pthread_setspecific(at_end, scratch.memory);
    }
    scratch.is_taken = scratch.memory != NULL;
    return scratch.memory;
}

void ck_return_scratch(void *memory) {
    if (memory == scratch.memory) {
        scratch.is_taken = 0;
    } else {
        free(memory);
    }
}
