/* libFuzzer target: streams of SQEs, mostly, with what they need registered now and then. */
#include "tests/fuzz/world.h"

static const uint8_t weights[16] = { FUZZ_SQE,   FUZZ_SQE,  FUZZ_SQE,      FUZZ_SQE,
	                             FUZZ_SQE,   FUZZ_SQE,  FUZZ_ENTER,    FUZZ_ENTER,
	                             FUZZ_ENTER, FUZZ_SQE,  FUZZ_SQE,      FUZZ_STIR,
	                             FUZZ_POKE,  FUZZ_POKE, FUZZ_REGISTER, FUZZ_RING_POKE };

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
