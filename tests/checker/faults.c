/* Loaded into a broker (LD_PRELOAD): moves its wall clock and slows its disk, as a mapped file says at each call.
 *
 * The file holds three 64-bit integers: nanoseconds added to the wall clock (the monotonic clock is not touched),
 * microseconds before each write to a file, microseconds before each sync. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none[3];
static volatile int64_t *faults = none;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void load(void) {
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("CHECKER_FAULTS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) faults = mapped;
    close(file);
}

static void wait_us(int64_t us) {
    if (us > 0) usleep((useconds_t)us);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime) real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_sec * 1000000000LL + now->tv_nsec + faults[0];
        now->tv_sec = ns / 1000000000LL;
        now->tv_nsec = ns % 1000000000LL;
    }
    return result;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off_t at) {
    wait_us(faults[1]);
    return real_pwrite(file, bytes, count, at);
}

int fsync(int file) {
    wait_us(faults[2]);
    return real_fsync(file);
}

int fdatasync(int file) {
    wait_us(faults[2]);
    return real_fdatasync(file);
}
