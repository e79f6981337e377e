/*
 * A host whose wall clock is wrong, and jumps: loaded into one process by LD_PRELOAD. WRONG_CLOCK_SECONDS is how far ahead it is;
 * every twenty seconds it is set back to a little behind the true time, and ahead again. Clocks that only run are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

typedef int (*asks)(clockid_t, struct timespec *);

static asks the_true_clock;
static long seconds_ahead;

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("WRONG_CLOCK_SECONDS");
    seconds_ahead = text ? atol(text) : 0;
    the_true_clock = (asks)dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!the_true_clock) {
        the_true_clock = (asks)dlsym(RTLD_NEXT, "clock_gettime");
    }
    int failed = the_true_clock(clock, time);
    if (!failed && clock == CLOCK_REALTIME) {
        struct timespec up = {0, 0};
        the_true_clock(CLOCK_MONOTONIC, &up);
        time->tv_sec += (up.tv_sec / 20) % 2 ? seconds_ahead : -(seconds_ahead / 24);
    }
    return failed;
}
