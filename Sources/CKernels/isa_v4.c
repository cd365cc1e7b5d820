// The loops for x86-64-v4 (AVX-512). Tuned for a core that takes all 512 bits at once: the level's own tuning keeps to
// 256, which costs loops with an exponential in each element a third of their speed.
#if defined(__x86_64__)
#define CK_ISA v4
#define CK_TARGET "arch=x86-64-v4,tune=znver4"
#define CK_VECTOR 64
#define CK_TILE_VECTORS 4
#define CK_TILE_ROWS 14
#define CK_EACH_TILE(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#include "loops/all.h"
#endif
