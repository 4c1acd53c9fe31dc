/* libFuzzer target: streams of SQEs, mostly, with what they need registered now and then. */
#include "tests/fuzz/world.h"

const uint8_t fuzz_weights[16] = { FUZZ_SQE,   FUZZ_SQE,  FUZZ_SQE,      FUZZ_SQE,
	                           FUZZ_SQE,   FUZZ_SQE,  FUZZ_ENTER,    FUZZ_ENTER,
	                           FUZZ_ENTER, FUZZ_SQE,  FUZZ_SQE,      FUZZ_STIR,
	                           FUZZ_POKE,  FUZZ_POKE, FUZZ_REGISTER, FUZZ_RING_POKE };
