// The loops for x86-64-v3 (AVX2, FMA).
#if defined(__x86_64__)
#define CK_ISA v3
#define CK_TARGET "arch=x86-64-v3"
#define CK_VECTOR 32
#define CK_TILE_VECTORS 2
#define CK_TILE_ROWS 6
#define CK_EACH_TILE(X) X(1) X(2) X(3) X(4) X(5) X(6)
#include "loops/all.h"
#endif
