// The loops for x86-64-v4 (AVX-512).
#if defined(__x86_64__)
#define CK_ISA v4
#define CK_TARGET "arch=x86-64-v4"
#define CK_VECTOR 64
#define CK_TILE_VECTORS 4
#include "loops/all.h"
#endif
