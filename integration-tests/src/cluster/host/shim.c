/* Preloaded into the daemon of a host: a disk that is slow, a clock that somebody has set.
 * What is to happen is in a file of two little-endian 64-bit numbers, which is looked at with each call. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct knobs {
    volatile int64_t sync_delay_ms;
    volatile int64_t clock_offset_s;
};

static struct knobs *knobs;

__attribute__((constructor)) static void map_knobs(void)
{
    int file = open("/run/shim.knobs", O_RDONLY | O_CLOEXEC);
    void *address = mmap(NULL, sizeof *knobs, PROT_READ, MAP_SHARED, file, 0);
    if (address != MAP_FAILED)
        knobs = address;
    close(file);
}

static long slow_sync(long number, int file)
{
    int64_t delay_ms = knobs ? knobs->sync_delay_ms : 0;
    struct timespec delay = { delay_ms / 1000, delay_ms % 1000 * 1000000 };
    if (delay_ms > 0)
        nanosleep(&delay, NULL);
    return syscall(number, file);
}

int fsync(int file)
{
    return slow_sync(SYS_fsync, file);
}

int fdatasync(int file)
{
    return slow_sync(SYS_fdatasync, file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && knobs && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += knobs->clock_offset_s;
    return result;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *result, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    result->tv_sec = now.tv_sec;
    result->tv_usec = now.tv_nsec / 1000;
    return 0;
}
