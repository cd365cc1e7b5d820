// How long a message takes from one core to another and back: cc -O2 -pthread Benchmarks/round_trip.c -o round_trip && ./round_trip
//
// A virtual machine is not told where its host puts its cores. Side by side, under one last cache, a round trip takes some 70 ns
// on the machine of docs/performance.md; under two caches it takes 340, and small training steps half as long again. Measure
// before and after a benchmark: figures of one state say nothing about the other.

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { trips = 200000 };

static _Alignas(128) int turn;

static void stay_on(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) == 0) return;
    fprintf(stderr, "round_trip: core %d cannot be used; two cores, 0 and 1, are needed\n", core);
    exit(1);
}

static void wait_for(int value) {
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != value) continue;
}

static void *answer(void *unused) {
    stay_on(1);
    for (int i = 0; i < trips; i++) {
        wait_for(2 * i + 1);
        __atomic_store_n(&turn, 2 * i + 2, __ATOMIC_RELEASE);
    }
    return unused;
}

static double nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

int main(void) {
    pthread_t other;
    stay_on(0);
    if (pthread_create(&other, NULL, answer, NULL) != 0) return 1;
    const double start = nanoseconds();
    for (int i = 0; i < trips; i++) {
        __atomic_store_n(&turn, 2 * i + 1, __ATOMIC_RELEASE);
        wait_for(2 * i + 2);
    }
    printf("%.0f ns from core 0 to core 1 and back\n", (nanoseconds() - start) / trips);
    return pthread_join(other, NULL);
}
