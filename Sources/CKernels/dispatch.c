#include <stdlib.h>
#include <string.h>

#include "CKernels.h"

extern const struct ck_table ck_table_base;
#if defined(__x86_64__)
extern const struct ck_table ck_table_v3;
extern const struct ck_table ck_table_v4;
const struct ck_table *ck_table_amx(void);  // v4 with other products; NULL where there are no tiles

static int has_v3(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

static int has_v4(void) {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

const struct ck_table *ck_table_named(const char *name) {
    if (strcmp(name, "base") == 0) return &ck_table_base;
#if defined(__x86_64__)
    if (strcmp(name, "v3") == 0) return has_v3() ? &ck_table_v3 : 0;
    if (strcmp(name, "v4") == 0) return has_v4() ? &ck_table_v4 : 0;
    if (strcmp(name, "amx") == 0) return ck_table_amx();
#endif
    return 0;
}

const struct ck_table *ck_table(void) {
    static const char *const widest_first[] = {"amx", "v4", "v3", "base"};
    const char *ceiling = getenv("FOVEA_ISA");
    int below = ceiling == 0;
    for (size_t i = 0; i < sizeof widest_first / sizeof *widest_first; i++) {
        below = below || strcmp(widest_first[i], ceiling) == 0;
        const struct ck_table *table = ck_table_named(widest_first[i]);
        if (below && table) return table;
    }
    return &ck_table_base;
}
