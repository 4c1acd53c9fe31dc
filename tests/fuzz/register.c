/* libFuzzer target: register calls, mostly, with requests that use what they register. */
#include "tests/fuzz/world.h"

static const uint8_t weights[16] = { FUZZ_REGISTER, FUZZ_REGISTER, FUZZ_REGISTER, FUZZ_REGISTER,
	                             FUZZ_REGISTER, FUZZ_REGISTER, FUZZ_POKE,     FUZZ_POKE,
	                             FUZZ_POKE,     FUZZ_POKE,     FUZZ_POKE,     FUZZ_SQE,
	                             FUZZ_SQE,      FUZZ_ENTER,    FUZZ_STIR,     FUZZ_RING_POKE };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	world_init();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	world_run(data, bytes, weights);
	return 0;
}
