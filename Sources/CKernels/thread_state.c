#include "CKernels.h"

_Thread_local void *ck_thread_tape = 0;
_Thread_local void *ck_thread_stack = 0;
_Thread_local uint32_t ck_thread_label = 0;
_Thread_local int ck_thread_planning = 0;
