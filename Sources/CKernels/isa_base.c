// The loops for the instruction set that the target's baseline has (SSE2, NEON).
#define CK_ISA base
#define CK_VECTOR 16
#define CK_TILE_VECTORS 2
#define CK_TILE_ROWS 6
#define CK_EACH_TILE(X) X(1) X(2) X(3) X(4) X(5) X(6)
#include "loops/all.h"
