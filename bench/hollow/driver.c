// A CUDA driver without a device, for machines that have none: memory is memory of the processor, a launch does nothing, and
// whatever is read back is 0. What a program tells the driver goes to the file $HOLLOW_LOG, a line each.
//
// It is built as libnvcuda.so, the second name by which the driver is looked for: NVRTC looks for the first one itself, and
// wants more of it. Functions that are not here are not asked for by CubeCL 0.10.

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef int Result;
typedef uint64_t Pointer;

enum { OK = 0, OUT_OF_MEMORY = 2 };

static FILE* told;
static long n_modules;
static size_t n_bytes;

#define TELL(...) (told ? fprintf(told, __VA_ARGS__) : 0)

Result cuInit(unsigned flags) {
    const char* file = getenv("HOLLOW_LOG");
    if (file && !told) told = fopen(file, "w");
    return OK;
}

// A Hopper of 132 multiprocessors and 140 GiB.
Result cuDeviceGetCount(int* n) { return *n = 1, OK; }
Result cuDeviceGet(int* device, int number) { return *device = number, OK; }
Result cuDeviceGetName(char* name, int size, int device) { return snprintf(name, size, "hollow"), OK; }
Result cuDeviceTotalMem_v2(size_t* bytes, int device) { return *bytes = 140ull << 30, OK; }
Result cuDeviceGetAttribute(int* value, int attribute, int device) {
    switch (attribute) {
        case 1: case 2: case 3: *value = 1024; break;  // threads of a block, and its first two axes
        case 4: *value = 64; break;                    // its third
        case 5: *value = 2147483647; break;            // blocks along the first axis of a launch
        case 6: case 7: *value = 65535; break;         // and along the others
        case 10: *value = 32; break;                   // threads of a warp
        case 16: *value = 132; break;                  // multiprocessors
        case 75: *value = 9; break;                    // compute capability 9.0
        case 76: *value = 0; break;
        case 97: *value = 232448; break;               // bytes that a block may share
        default: *value = 1;
    }
    return OK;
}

Result cuDevicePrimaryCtxRetain(void** context, int device) { return *context = &told, OK; }
Result cuCtxSetCurrent(void* context) { return OK; }
Result cuStreamCreate(void** stream, unsigned flags) { return *stream = &told, OK; }
Result cuStreamSynchronize(void* stream) { return OK; }
Result cuStreamWaitEvent(void* stream, void* event, unsigned flags) { return OK; }
Result cuEventCreate(void** event, unsigned flags) { return *event = &told, OK; }
Result cuEventDestroy_v2(void* event) { return OK; }
Result cuEventRecord(void* event, void* stream) { return OK; }
Result cuEventSynchronize(void* event) { return OK; }
Result cuGetErrorName(Result result, const char** name) { return *name = "an error", OK; }
Result cuGetErrorString(Result result, const char** text) { return *text = "an error", OK; }

// Pages that nobody writes cost nothing, and no kernel writes any. A program gets $HOLLOW_BYTES of them, if that is set. Each
// piece has a page in front of it that says how long it is.
enum { PAGE = 4096 };

Result cuMemAllocAsync(Pointer* pointer, size_t bytes, void* stream) {
    const char* limit = getenv("HOLLOW_BYTES");
    if (limit && n_bytes + bytes > strtoull(limit, 0, 10)) return OUT_OF_MEMORY;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char* memory = mmap(0, bytes + PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) return OUT_OF_MEMORY;
    n_bytes += *(size_t*)memory = bytes;
    TELL("alloc %zu\n", bytes);
    return *pointer = (Pointer)(memory + PAGE), OK;
}
Result cuMemAlloc_v2(Pointer* pointer, size_t bytes) { return cuMemAllocAsync(pointer, bytes, 0); }
Result cuMemFreeAsync(Pointer pointer, void* stream) {
    char* memory = (char*)pointer - PAGE;
    n_bytes -= *(size_t*)memory;
    TELL("free %zu\n", *(size_t*)memory);
    return munmap(memory, *(size_t*)memory + PAGE), OK;
}
Result cuMemFree_v2(Pointer pointer) { return cuMemFreeAsync(pointer, 0); }
Result cuMemAllocHost_v2(void** pointer, size_t bytes) {
    *pointer = calloc(1, bytes ? bytes : 1);
    return *pointer ? OK : OUT_OF_MEMORY;
}
Result cuMemFreeHost(void* pointer) { return free(pointer), OK; }

Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void* stream) {
    TELL("to-device %zu\n", bytes);
    return memcpy((void*)to, from, bytes), OK;
}
Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void* stream) {
    TELL("to-host %zu\n", bytes);
    return memset(to, 0, bytes), OK;
}

// CUDA_MEMCPY2D.
typedef struct {
    size_t from_x, from_y;
    int from_type;
    const char* from_host;
    Pointer from_device;
    void* from_array;
    size_t from_pitch, to_x, to_y;
    int to_type;
    char* to_host;
    Pointer to_device;
    void* to_array;
    size_t to_pitch, bytes, n_rows;
} Copy;

Result cuMemcpy2DAsync_v2(const Copy* c, void* stream) {
    enum { HOST = 1 };
    const char* from = c->from_type == HOST ? c->from_host : (const char*)c->from_device;
    char* to = c->to_type == HOST ? c->to_host : (char*)c->to_device;
    TELL("%s %zu\n", c->to_type == HOST ? "to-host" : "to-device", c->bytes * c->n_rows);
    for (size_t i = 0; i < c->n_rows; i++) {
        char* row = to + c->to_x + (c->to_y + i) * c->to_pitch;
        if (c->to_type == HOST)
            memset(row, 0, c->bytes);
        else
            memcpy(row, from + c->from_x + (c->from_y + i) * c->from_pitch, c->bytes);
    }
    return OK;
}

// A module is its number, and a function its name.
Result cuModuleLoadData(void** module, const char* ptx) {
    const char* folder = getenv("HOLLOW_PTX");
    char file[4096];
    *module = (void*)++n_modules;
    if (folder && snprintf(file, sizeof file, "%s/%ld.ptx", folder, n_modules) > 0) {
        FILE* out = fopen(file, "w");
        if (out) fputs(ptx, out), fclose(out);
    }
    return OK;
}
Result cuModuleGetFunction(void** function, void* module, const char* name) {
    char* text = malloc(strlen(name) + 32);
    sprintf(text, "%s#%ld", name, (long)module);
    TELL("compiled %s\n", text);
    return *function = text, OK;
}
Result cuFuncSetAttribute(void* function, int attribute, int value) { return OK; }
Result cuLaunchKernel(const char* function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y,
                      unsigned block_z, unsigned shared_bytes, void* stream, void** arguments, void** extra) {
    TELL("launch %s %llu %u\n", function, (unsigned long long)x * y * z, block_x * block_y * block_z);
    return OK;
}
Result cuTensorMapEncodeTiled(void* map, ...) { return memset(map, 0, 128), OK; }
