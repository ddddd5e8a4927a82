#include "textflag.h"

// stepped is what the runtime calls for the time, in C's convention: the clock's number
// in DI, where to put seconds and nanoseconds in SI. It asks the kernel's function, and
// adds the step to the wall clock, number 0.
TEXT ·stepped(SB), NOSPLIT|NOFRAME, $0
	PUSHQ DI
	PUSHQ SI
	SUBQ  $8, SP // the stack is aligned to 16 bytes at a call
	MOVQ  ·kernels(SB), AX
	CALL  AX
	ADDQ  $8, SP
	POPQ  SI
	POPQ  DI
	TESTL DI, DI
	JNE   done
	MOVQ  ·step(SB), CX
	MOVQ  (CX), CX
	ADDQ  CX, (SI)
done:
	RET

// steppedAt is the address of stepped.
DATA ·steppedAt+0(SB)/8, $·stepped(SB)
GLOBL ·steppedAt(SB), NOPTR|RODATA, $8
