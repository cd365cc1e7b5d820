// The loops for the instruction set that the target's baseline has (SSE2, NEON).
#define CK_ISA base
#include "loops/all.h"
