/* The one instance of the counters; see counters.h. */
#include "engine/counters.h"

struct fu_counters fu_counters;
