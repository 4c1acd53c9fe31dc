/* libFuzzer target: register calls, mostly, with requests that use what they register. */
#include "tests/fuzz/world.h"

const uint8_t fuzz_weights[16] = { FUZZ_REGISTER, FUZZ_REGISTER, FUZZ_REGISTER, FUZZ_REGISTER,
	                           FUZZ_REGISTER, FUZZ_REGISTER, FUZZ_POKE,     FUZZ_POKE,
	                           FUZZ_POKE,     FUZZ_POKE,     FUZZ_POKE,     FUZZ_SQE,
	                           FUZZ_SQE,      FUZZ_ENTER,    FUZZ_STIR,     FUZZ_RING_POKE };
