/* A libnvidia-ml.so.1 of three GPUs, of which the last tells nothing but its memory: see test_gauges.py. */
#include <string.h>
#include <stdlib.h>

typedef struct { unsigned gpu, memory; } utilisation;
typedef struct { unsigned long long total, free, used; } memory;

static int opened = 0;
static int cards[3] = {0, 1, 2};

int nvmlInit_v2(void) { opened++; return getenv("NVML_REFUSES") ? 9 : 0; }
int nvmlShutdown(void) { opened--; return 0; }
int times_open(void) { return opened; }

int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **card) { *card = &cards[i]; return i < 3 ? 0 : 2; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **card) {
    if (strcmp(uuid, "GPU-aaaa-0")) return 6;
    *card = &cards[0];
    return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **card) {
    if (strcmp(bus, "00000000:41:00.0")) return 6;
    *card = &cards[1];
    return 0;
}
int nvmlDeviceGetTemperature(void *card, unsigned sensor, unsigned *degrees) {
    if (*(int *)card == 2 || sensor != 0) return 3;
    *degrees = 61 + *(int *)card;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *card, utilisation *busy) {
    if (*(int *)card == 2) return 3;
    busy->gpu = 94, busy->memory = 40;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *card, unsigned *milliwatts) {
    if (*(int *)card == 2) return 3;
    *milliwatts = 312400;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *card, memory *held) {
    held->total = 80ull << 30, held->used = 12ull << 30, held->free = held->total - held->used;
    return 0;
}
