/* A stand-in for NVIDIA's libcuda.so.1: the driver API as far as sightwire, cuda-python and pycuda call it, on the host.

   Device memory is host memory, each stream is a thread that does its work in order, kernels are host functions. What it
   is strict about is what a program can do wrong: contexts, handles, bounds, what is left behind, what a capture forbids.
   It says nothing about speed, nor about how a kernel behaves on a GPU. Settings and the report: see __init__.py.

   One mutex guards everything; one condition wakes whoever waits. */

#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))

typedef int CUresult;
typedef unsigned long long CUdeviceptr;
typedef int CUdevice;

enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
    INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
    ILLEGAL_ADDRESS = 700, CONTEXT_IS_DESTROYED = 709, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_UNMATCHED = 903, CAPTURE_UNJOINED = 904,
    CAPTURED_EVENT = 907, CAPTURE_WRONG_THREAD = 908,
};

static const struct { CUresult code; const char *name, *text; } ERRORS[] = {
#include "errors.inc"
};

/* -- settings, errors to be injected, counts of calls ------------------------------------------------------------- */

typedef struct { char name[96]; int major, minor, integrated; size_t memory, used; CUresult broken; } Device;
typedef struct { char name[64]; long from; int onwards, sticky; CUresult code; } Fault;
typedef struct { const char *name; long count; } Count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static Device devices[16];
static int device_count, initialised, held;
static Fault faults[32];
static int fault_count;
static Count counts[256];
static int count_count;
static long overruns, unpinned_copies, timed_events, spinning_events, blocking_streams;

/* `cuMemAlloc_v2` and `cuMemAlloc` are one name to whoever sets or reads. */
static int same_name(const char *call, const char *asked) {
    size_t length = strlen(asked);
    return !strncmp(call, asked, length) && (!call[length] || !strncmp(call + length, "_v", 2));
}

/* "cuMemAlloc:3=2,cuMemcpyHtoDAsync:1+=1,kernel:2=700!": at the 3rd call, from the 1st on, for good (the device is lost).
   Calls are counted from the start of the process. */
API int standin_fail(const char *list) {
    pthread_mutex_lock(&lock);
    int taken = 0;
    char copy[2048];
    snprintf(copy, sizeof copy, "%s", list ? list : "");
    char *rest = copy;
    for (char *item; (item = strsep(&rest, ",;"));) {
        Fault fault = {0};
        char plus = 0, mark = 0;
        if (sscanf(item, " %63[A-Za-z0-9_]:%ld=%d%c", fault.name, &fault.from, &fault.code, &mark) < 3 &&
            sscanf(item, " %63[A-Za-z0-9_]:%ld%c=%d%c", fault.name, &fault.from, &plus, &fault.code, &mark) < 4)
            continue;
        fault.onwards = plus == '+';
        fault.sticky = mark == '!';
        if (fault_count < 32) faults[fault_count++] = fault, taken++;
    }
    pthread_mutex_unlock(&lock);
    return taken;
}

static void read_settings(void) {
    const char *given = getenv("STANDIN_CUDA_DEVICES");
    char copy[2048];
    snprintf(copy, sizeof copy, "%s", given ? given : "Stand-in GPU|8.9|8192|0");
    char *rest = copy;
    device_count = 0;
    for (char *item; (item = strsep(&rest, ";"));) {
        Device *d = &devices[device_count];
        size_t mib = 0;
        if (sscanf(item, "%95[^|]|%d.%d|%zu|%d", d->name, &d->major, &d->minor, &mib, &d->integrated) < 5) continue;
        d->memory = mib << 20;
        if (++device_count == 16) break;
    }
}

/* Counts the call; the error that was ordered for it, or 0. Called with the lock held. */
static CUresult ordered(const char *name, int *sticky) {
    Count *count = NULL;
    for (int i = 0; i < count_count; i++)
        if (!strcmp(counts[i].name, name)) count = &counts[i];
    if (!count && count_count < 256) count = &counts[count_count++], count->name = name, count->count = 0;
    if (!count) return OK;
    count->count++;
    for (int i = 0; i < fault_count; i++) {
        Fault *f = &faults[i];
        if (same_name(name, f->name) && (f->onwards ? count->count >= f->from : count->count == f->from)) {
            *sticky = f->sticky;
            return f->code;
        }
    }
    return OK;
}

/* -- things with a handle ----------------------------------------------------------------------------------------- */

typedef enum { CONTEXT, MEMORY, PINNED, STREAM, EVENT, GRAPH, EXEC, MODULE, FUNCTION, KINDS } Kind;
static const char *KIND_NAMES[] = {"contexts", "allocations", "pinned", "streams", "events", "graphs", "graph_execs", "modules", "functions"};

struct Graph;
struct Stream;
typedef struct Context Context;

/* Dead ones are kept, so that a handle used after its end is known for what it is. */
typedef struct Thing {
    Kind kind;
    int alive;
    Context *context;
    struct Thing *next;
} Thing;

struct Context { Thing thing; int device, retained; CUresult broken; };
typedef struct { Thing thing; char *address; size_t size; } Memory;

typedef int (*Kernel)(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, void **arguments);
typedef struct { Thing thing; void *library; char *names; } Module;
typedef struct { Thing thing; Module *module; Kernel kernel; unsigned arguments; } Function;

typedef struct Event { Thing thing; long recorded, happened; struct Graph *captured; struct Stream *captured_in; } Event;

typedef enum { COPY, FILL, KERNEL, RECORD, WAIT, CALLBACK, GRAPH_LAUNCH } Work;
typedef struct Step {
    Work work;
    void *to;
    const void *from;
    size_t size;
    int value;
    Function *function;
    unsigned grid[3], block[3];
    uint64_t arguments[64];
    Event *event;
    long number;
    void (*callback)(void *);
    struct Exec *exec;
    struct Step *next;
} Step;

typedef struct Graph { Thing thing; Step *first, *last; struct Stream *origin; pthread_t thread; int mode, invalid; } Graph;
typedef struct Exec { Thing thing; Graph *graph; int flying; } Exec;

typedef struct Stream {
    Thing thing;
    pthread_t worker;
    Step *first, *last;
    int busy, ending, started, unjoined;
    Graph *capture;
} Stream;

static Thing *things;
static long leaked[KINDS];
static Context *primary[16];
static __thread Context *stack[32];
static __thread int depth;

static void *born(Kind kind, size_t size, Context *context) {
    Thing *thing = calloc(1, size);
    thing->kind = kind;
    thing->alive = 1;
    thing->context = context;
    thing->next = things;
    things = thing;
    return thing;
}

static void *known(const void *handle, Kind kind) {
    for (Thing *t = things; t; t = t->next)
        if ((const void *)t == handle) return t->alive && t->kind == kind ? t : NULL;
    return NULL;
}

static const size_t GUARD = 256;
static const unsigned char CANARY = 0xA5;

static Memory *memory_at(const void *address, size_t size, int pinned_too) {
    const char *from = address;
    for (Thing *t = things; t; t = t->next) {
        if (!t->alive || (t->kind != MEMORY && !(pinned_too && t->kind == PINNED))) continue;
        Memory *m = (Memory *)t;
        if (from >= m->address && from + size <= m->address + m->size) return m;
    }
    return NULL;
}

static void check_guards(Memory *m) {
    for (size_t i = 0; i < GUARD; i++)
        if ((unsigned char)m->address[m->size + i] != CANARY || (unsigned char)m->address[(ptrdiff_t)i - (ptrdiff_t)GUARD] != CANARY) {
            overruns++;
            return;
        }
}

static void release(Memory *m) {
    check_guards(m);
    m->thing.alive = 0;
    if (m->thing.kind == MEMORY) devices[m->thing.context->device].used -= m->size;
    free(m->address - GUARD);
}

/* -- every call begins here --------------------------------------------------------------------------------------- */

static Context *current(void) { return depth ? stack[depth - 1] : NULL; }

#define ENTER() int sticky_ = 0; pthread_mutex_lock(&lock); \
    { CUresult ordered_ = ordered(__func__, &sticky_); if (ordered_) return leave(ordered_, sticky_); } \
    if (!initialised) return leave(NOT_INITIALIZED, 0)
#define IN_CONTEXT() ENTER(); Context *here = current(); \
    if (!here) return leave(INVALID_CONTEXT, 0); \
    if (!here->thing.alive) return leave(CONTEXT_IS_DESTROYED, 0); \
    if (here->broken) return leave(here->broken, 0)
#define CAPTURE_FORBIDS() do { if (capturing_here()) return leave(CAPTURE_UNSUPPORTED, 0); } while (0)

/* For this process, whatever it does: a new context is of no use. */
static void lose(Context *context, CUresult why) { context->broken = devices[context->device].broken = why; }

static CUresult leave(CUresult result, int sticky) {
    if (sticky && current()) lose(current(), result);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return result;
}

/* A call that could wait or allocate, made by a thread that captures, makes the capture void (thread-local mode). */
static int capturing_here(void) {
    for (Thing *t = things; t; t = t->next) {
        Graph *capture = t->alive && t->kind == STREAM ? ((Stream *)t)->capture : NULL;
        if (capture && capture->mode != 2 && (capture->mode == 0 || pthread_equal(capture->thread, pthread_self())))
            return capture->invalid = 1;
    }
    return 0;
}

/* -- streams ------------------------------------------------------------------------------------------------------ */

static void run_step(Stream *stream, Step *step);

static void run_list(Stream *stream, Step *first) {
    for (Step *s = first; s && !stream->thing.context->broken; s = s->next) run_step(stream, s);
}

/* Called with the lock held; lets go of it while bytes move and kernels run. */
static void run_step(Stream *stream, Step *step) {
    Context *context = stream->thing.context;
    int sticky = 0;
    CUresult result = OK;
    switch (step->work) {
    case COPY:
        pthread_mutex_unlock(&lock);
        memmove(step->to, step->from, step->size);
        pthread_mutex_lock(&lock);
        break;
    case FILL:
        pthread_mutex_unlock(&lock);
        memset(step->to, step->value, step->size);
        pthread_mutex_lock(&lock);
        break;
    case KERNEL:
        result = ordered("kernel", &sticky);
        if (!result) {
            void *arguments[64];
            for (unsigned i = 0; i < step->function->arguments; i++) arguments[i] = &step->arguments[i];
            pthread_mutex_unlock(&lock);
            const unsigned *g = step->grid, *b = step->block;
            if (step->function->kernel(g[0], g[1], g[2], b[0], b[1], b[2], arguments)) result = LAUNCH_FAILED;
            pthread_mutex_lock(&lock);
        }
        break;
    case RECORD:
        if (step->event->happened < step->number) step->event->happened = step->number;
        pthread_cond_broadcast(&changed);
        break;
    case WAIT:
        while (step->event->happened < step->number && !context->broken) pthread_cond_wait(&changed, &lock);
        break;
    case CALLBACK:
        pthread_mutex_unlock(&lock);
        step->callback(step->to);
        pthread_mutex_lock(&lock);
        break;
    case GRAPH_LAUNCH:
        run_list(stream, step->exec->graph->first);
        step->exec->flying--;
        break;
    }
    if (result) lose(context, result); /* what fails on a device while it works is never mended */
}

static void *work(void *given) {
    Stream *stream = given;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!(stream->first && !held) && !(stream->ending && (!stream->first || stream->thing.context->broken)))
            pthread_cond_wait(&changed, &lock);
        Step *step = stream->first;
        if (!step || (stream->ending && stream->thing.context->broken)) break;
        stream->busy = 1;
        if (!stream->thing.context->broken) run_step(stream, step);
        stream->busy = 0;
        stream->first = step->next;
        if (!stream->first) stream->last = NULL;
        free(step);
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static Stream *default_stream(Context *context) {
    for (Thing *t = things; t; t = t->next)
        if (t->alive && t->kind == STREAM && t->context == context && ((Stream *)t)->started == 2) return (Stream *)t;
    Stream *stream = born(STREAM, sizeof *stream, context);
    stream->started = 2;
    pthread_create(&stream->worker, NULL, work, stream);
    return stream;
}

/* The default stream has no handle, 0, 1 or 2. */
static Stream *stream_of(void *handle, Context *context) {
    if ((uintptr_t)handle <= 2) return default_stream(context);
    return known(handle, STREAM);
}

static int idle(Stream *stream) { return !stream->first && !stream->busy; }

static void append(Step **first, Step **last, Step *step) {
    step->next = NULL;
    if (*last) (*last)->next = step;
    else *first = step;
    *last = step;
}

/* Puts a copy of the step into the stream, or notes it where the stream is captured. */
static CUresult put(Stream *stream, const Step *given) {
    if (stream->capture && stream->capture->invalid) return CAPTURE_INVALIDATED;
    Step *step = malloc(sizeof *step);
    *step = *given;
    if (stream->capture) {
        append(&stream->capture->first, &stream->capture->last, step);
        stream->unjoined = stream->capture->origin != stream;
    } else {
        if (step->work == GRAPH_LAUNCH) step->exec->flying++;
        append(&stream->first, &stream->last, step);
    }
    return OK;
}

static CUresult await(Stream *stream) {
    while (!idle(stream) && !stream->thing.context->broken) pthread_cond_wait(&changed, &lock);
    return stream->thing.context->broken;
}

static void end_stream(Stream *stream) {
    stream->ending = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(stream->worker, NULL);
    pthread_mutex_lock(&lock);
    stream->thing.alive = 0;
}

/* -- the library and its devices ---------------------------------------------------------------------------------- */

API CUresult cuInit(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    int sticky = 0;
    CUresult result = ordered(__func__, &sticky);
    if (!result && getenv("STANDIN_CUDA_INIT")) result = atoi(getenv("STANDIN_CUDA_INIT"));
    if (!result && !initialised) {
        read_settings();
        pthread_mutex_unlock(&lock);
        standin_fail(getenv("STANDIN_CUDA_FAIL"));
        pthread_mutex_lock(&lock);
        if (!device_count) result = NO_DEVICE;
        else initialised = 1;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* NVRTC asks for it once it has found a driver, and crashes without one: this has nothing after its size. */
API CUresult cuGetExportTable(const void **table, const void *uuid) {
    static const size_t short_table[1] = {sizeof short_table};
    (void)uuid;
    *table = short_table;
    return OK;
}

API CUresult cuDriverGetVersion(int *version) {
    *version = getenv("STANDIN_CUDA_DRIVER") ? atoi(getenv("STANDIN_CUDA_DRIVER")) : 13000;
    return OK;
}

API CUresult cuGetErrorString(CUresult code, const char **text) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return *text = ERRORS[i].text, OK;
    return *text = NULL, INVALID_VALUE;
}

API CUresult cuGetErrorName(CUresult code, const char **name) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return *name = ERRORS[i].name, OK;
    return *name = NULL, INVALID_VALUE;
}

/* A program asks by the name without a version; of each function there is one version here. */
API CUresult cuGetProcAddress_v2(const char *symbol, void **found, int version, uint64_t flags, int *status) {
    (void)version, (void)flags;
    static const char *const SUFFIXES[] = {"_v3", "_v2", ""};
    Dl_info here;
    void *self = dladdr((void *)cuGetProcAddress_v2, &here) ? dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    *found = NULL;
    for (int i = 0; self && i < 3 && !*found; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s%s", symbol, SUFFIXES[i]);
        *found = dlsym(self, name);
    }
    if (self) dlclose(self);
    if (status) *status = *found ? 0 : 1;
    return *found ? OK : NOT_FOUND;
}

API CUresult cuGetProcAddress(const char *symbol, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, found, version, flags, NULL);
}

API CUresult cuDeviceGetCount(int *count) { ENTER(); *count = device_count; return leave(OK, 0); }

API CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER();
    if (ordinal < 0 || ordinal >= device_count) return leave(INVALID_DEVICE, 0);
    *device = ordinal;
    return leave(OK, 0);
}

#define KNOWN_DEVICE() if (device < 0 || device >= device_count) return leave(INVALID_DEVICE, 0)

API CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    ENTER();
    KNOWN_DEVICE();
    snprintf(name, length, "%s", devices[device].name);
    return leave(OK, 0);
}

API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    ENTER();
    KNOWN_DEVICE();
    switch (attribute) {
    case 1: *value = 1024; break;                         /* threads a block */
    case 16: *value = 8; break;                           /* multiprocessors */
    case 18: *value = devices[device].integrated; break;
    case 75: *value = devices[device].major; break;
    case 76: *value = devices[device].minor; break;
    default: *value = 0;
    }
    return leave(OK, 0);
}

API CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    ENTER();
    KNOWN_DEVICE();
    *major = devices[device].major, *minor = devices[device].minor;
    return leave(OK, 0);
}

API CUresult cuDeviceTotalMem_v2(size_t *size, CUdevice device) {
    ENTER();
    KNOWN_DEVICE();
    *size = devices[device].memory;
    return leave(OK, 0);
}

/* -- contexts ----------------------------------------------------------------------------------------------------- */

API CUresult cuDevicePrimaryCtxRetain(Context **context, CUdevice device) {
    ENTER();
    KNOWN_DEVICE();
    if (devices[device].broken) return leave(devices[device].broken, 0);
    if (!primary[device] || !primary[device]->thing.alive) {
        primary[device] = born(CONTEXT, sizeof(Context), NULL);
        primary[device]->device = device;
    }
    primary[device]->retained++;
    *context = primary[device];
    return leave(OK, 0);
}

/* With the last release all that is left in the context goes, and is told. */
API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    ENTER();
    KNOWN_DEVICE();
    Context *context = primary[device];
    if (!context || !context->thing.alive) return leave(INVALID_CONTEXT, 0);
    if (--context->retained) return leave(OK, 0);
    for (Thing *t = things; t; t = t->next) {
        if (!t->alive || t->context != context || t->kind == FUNCTION) continue;
        if (!(t->kind == STREAM && ((Stream *)t)->started == 2)) leaked[t->kind]++;
        if (t->kind == STREAM) end_stream((Stream *)t);
        t->alive = t->kind == MEMORY || t->kind == PINNED;
    }
    for (Thing *t = things; t; t = t->next)
        if (t->alive && t->context == context && (t->kind == MEMORY || t->kind == PINNED)) release((Memory *)t);
    context->thing.alive = 0;
    return leave(OK, 0);
}

API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    ENTER();
    KNOWN_DEVICE();
    *flags = 0;
    *active = primary[device] && primary[device]->thing.alive;
    return leave(OK, 0);
}

API CUresult cuCtxSetCurrent(Context *context) {
    ENTER();
    if (context && !known(context, CONTEXT)) return leave(INVALID_CONTEXT, 0);
    if (depth) depth--;
    if (context) stack[depth++] = context;
    return leave(OK, 0);
}

API CUresult cuCtxGetCurrent(Context **context) { ENTER(); *context = current(); return leave(OK, 0); }

API CUresult cuCtxPushCurrent_v2(Context *context) {
    ENTER();
    if (!known(context, CONTEXT) || depth == 32) return leave(INVALID_CONTEXT, 0);
    stack[depth++] = context;
    return leave(OK, 0);
}

API CUresult cuCtxPopCurrent_v2(Context **context) {
    ENTER();
    if (!depth) return leave(INVALID_CONTEXT, 0);
    Context *popped = stack[--depth];
    if (context) *context = popped;
    return leave(OK, 0);
}

API CUresult cuCtxGetDevice(CUdevice *device) { IN_CONTEXT(); *device = here->device; return leave(OK, 0); }
API CUresult cuCtxGetApiVersion(Context *context, unsigned *version) { ENTER(); (void)context; *version = 3020; return leave(OK, 0); }

API CUresult cuCtxSynchronize(void) {
    IN_CONTEXT();
    CAPTURE_FORBIDS();
    for (Thing *t = things; t; t = t->next)
        if (t->alive && t->kind == STREAM && t->context == here) await((Stream *)t);
    return leave(here->broken, 0);
}

/* -- memory ------------------------------------------------------------------------------------------------------- */

static CUresult allocate(Kind kind, size_t size, Context *here, void **address) {
    Device *device = &devices[here->device];
    if (!size) return INVALID_VALUE;
    if (kind == MEMORY && size > device->memory - device->used) return OUT_OF_MEMORY;
    size_t whole = (size + 2 * GUARD + 255) / 256 * 256;
    char *block = aligned_alloc(256, whole);
    if (!block) return OUT_OF_MEMORY;
    memset(block, CANARY, GUARD);
    memset(block + GUARD + size, CANARY, whole - GUARD - size);
    Memory *memory = born(kind, sizeof *memory, here);
    memory->address = block + GUARD;
    memory->size = size;
    if (kind == MEMORY) device->used += size;
    *address = memory->address;
    return OK;
}

static CUresult give_back(Kind kind, void *address) {
    for (Thing *t = things; t; t = t->next) {
        Memory *m = (Memory *)t;
        if (!t->alive || t->kind != kind || m->address != address) continue;
        /* As CUDA does: memory that a stream may still use is freed when it is done. */
        for (Thing *s = things; s; s = s->next)
            if (s->alive && s->kind == STREAM && s->context == t->context) await((Stream *)s);
        release(m);
        return OK;
    }
    return INVALID_VALUE;
}

API CUresult cuMemGetInfo_v2(size_t *unused, size_t *all) {
    IN_CONTEXT();
    *all = devices[here->device].memory;
    *unused = *all - devices[here->device].used;
    return leave(OK, 0);
}

API CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    IN_CONTEXT();
    CAPTURE_FORBIDS();
    void *found = NULL;
    CUresult result = allocate(MEMORY, size, here, &found);
    *address = (CUdeviceptr)(uintptr_t)found;
    return leave(result, 0);
}

API CUresult cuMemFree_v2(CUdeviceptr address) {
    IN_CONTEXT();
    CAPTURE_FORBIDS();
    return leave(give_back(MEMORY, (void *)(uintptr_t)address), 0);
}

API CUresult cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    IN_CONTEXT();
    (void)flags;
    CAPTURE_FORBIDS();
    return leave(allocate(PINNED, size, here, address), 0);
}

API CUresult cuMemAllocHost_v2(void **address, size_t size) { return cuMemHostAlloc(address, size, 0); }

API CUresult cuMemFreeHost(void *address) {
    IN_CONTEXT();
    CAPTURE_FORBIDS();
    return leave(give_back(PINNED, address), 0);
}

API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *host, unsigned flags) {
    IN_CONTEXT();
    (void)flags;
    *address = (CUdeviceptr)(uintptr_t)host;
    return leave(memory_at(host, 1, 1) ? OK : INVALID_VALUE, 0);
}

API CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr address) {
    IN_CONTEXT();
    Memory *memory = memory_at((void *)(uintptr_t)address, 1, 1);
    if (!memory) return leave(NOT_FOUND, 0);
    if (base) *base = (CUdeviceptr)(uintptr_t)memory->address;
    if (size) *size = memory->size;
    return leave(OK, 0);
}

/* `device_to`, `device_from`: which ends are on the device and so must lie in an allocation. */
static CUresult copy(void *to, const void *from, size_t size, int device_to, int device_from, void *handle, Context *here, int waits) {
    Stream *stream = stream_of(handle, here);
    if (!stream) return INVALID_HANDLE;
    if (!size) return OK;
    if ((device_to && !memory_at(to, size, 1)) || (device_from && !memory_at(from, size, 1))) return INVALID_VALUE;
    if ((!device_to && !memory_at(to, size, 1)) || (!device_from && !memory_at(from, size, 1))) {
        unpinned_copies++;
        if (!stream->capture) waits = 1;
    }
    Step step = {.work = COPY, .to = to, .from = from, .size = size};
    CUresult result = put(stream, &step);
    pthread_cond_broadcast(&changed);
    return result || !waits ? result : await(stream);
}

#define AT(address) ((void *)(uintptr_t)(address))
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, void *s) { IN_CONTEXT(); return leave(copy(AT(to), from, size, 1, 0, s, here, 0), 0); }
API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, void *s) { IN_CONTEXT(); return leave(copy(to, AT(from), size, 0, 1, s, here, 0), 0); }
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, void *s) { IN_CONTEXT(); return leave(copy(AT(to), AT(from), size, 1, 1, s, here, 0), 0); }
API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) { IN_CONTEXT(); CAPTURE_FORBIDS(); return leave(copy(AT(to), from, size, 1, 0, NULL, here, 1), 0); }
API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size) { IN_CONTEXT(); CAPTURE_FORBIDS(); return leave(copy(to, AT(from), size, 0, 1, NULL, here, 1), 0); }

API CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, void *s) { IN_CONTEXT(); return leave(copy(AT(to), AT(from), size, 0, 0, s, here, 0), 0); }

API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, void *handle) {
    IN_CONTEXT();
    Stream *stream = stream_of(handle, here);
    if (!stream) return leave(INVALID_HANDLE, 0);
    if (!memory_at(AT(to), size, 1)) return leave(INVALID_VALUE, 0);
    Step step = {.work = FILL, .to = AT(to), .value = value, .size = size};
    return leave(put(stream, &step), 0);
}

/* -- streams and events ------------------------------------------------------------------------------------------- */

API CUresult cuStreamCreate(Stream **handle, unsigned flags) {
    IN_CONTEXT();
    Stream *stream = born(STREAM, sizeof *stream, here);
    if (!(flags & 1)) blocking_streams++;
    stream->started = 1;
    pthread_create(&stream->worker, NULL, work, stream);
    *handle = stream;
    return leave(OK, 0);
}

API CUresult cuStreamCreateWithPriority(Stream **handle, unsigned flags, int priority) { (void)priority; return cuStreamCreate(handle, flags); }

API CUresult cuStreamDestroy_v2(void *handle) {
    IN_CONTEXT();
    Stream *stream = known(handle, STREAM);
    if (!stream) return leave(INVALID_HANDLE, 0);
    end_stream(stream);
    return leave(OK, 0);
}

API CUresult cuStreamSynchronize(void *handle) {
    IN_CONTEXT();
    Stream *stream = stream_of(handle, here);
    if (!stream) return leave(INVALID_HANDLE, 0);
    if (stream->capture) { stream->capture->invalid = 1; return leave(CAPTURE_UNSUPPORTED, 0); }
    return leave(await(stream), 0);
}

API CUresult cuStreamQuery(void *handle) {
    IN_CONTEXT();
    Stream *stream = stream_of(handle, here);
    if (!stream) return leave(INVALID_HANDLE, 0);
    if (stream->capture) { stream->capture->invalid = 1; return leave(CAPTURE_UNSUPPORTED, 0); }
    return leave(idle(stream) ? OK : NOT_READY, 0);
}

API CUresult cuLaunchHostFunc(void *handle, void (*callback)(void *), void *given) {
    IN_CONTEXT();
    Stream *stream = stream_of(handle, here);
    if (!stream) return leave(INVALID_HANDLE, 0);
    Step step = {.work = CALLBACK, .callback = callback, .to = given};
    return leave(put(stream, &step), 0);
}

API CUresult cuEventCreate(Event **handle, unsigned flags) {
    IN_CONTEXT();
    if (!(flags & 1)) spinning_events++;
    if (!(flags & 2)) timed_events++;
    *handle = born(EVENT, sizeof(Event), here);
    return leave(OK, 0);
}

API CUresult cuEventDestroy_v2(void *handle) {
    IN_CONTEXT();
    Event *event = known(handle, EVENT);
    if (!event) return leave(INVALID_HANDLE, 0);
    event->thing.alive = 0;
    return leave(OK, 0);
}

API CUresult cuEventRecord(void *handle, void *in) {
    IN_CONTEXT();
    Event *event = known(handle, EVENT);
    Stream *stream = stream_of(in, here);
    if (!event || !stream) return leave(INVALID_HANDLE, 0);
    event->captured = stream->capture;
    if (stream->capture) {
        event->captured_in = stream;
        return leave(stream->capture->invalid ? CAPTURE_INVALIDATED : OK, 0);
    }
    Step step = {.work = RECORD, .event = event, .number = ++event->recorded};
    return leave(put(stream, &step), 0);
}

API CUresult cuEventRecordWithFlags(void *handle, void *in, unsigned flags) { (void)flags; return cuEventRecord(handle, in); }

API CUresult cuStreamWaitEvent(void *handle, void *waited, unsigned flags) {
    IN_CONTEXT();
    (void)flags;
    Stream *stream = stream_of(handle, here);
    Event *event = known(waited, EVENT);
    if (!event || !stream) return leave(INVALID_HANDLE, 0);
    if (event->captured) { /* the stream joins the capture, or takes back who did */
        if (stream->capture && stream->capture != event->captured) return leave(CAPTURE_INVALIDATED, 0);
        stream->capture = event->captured;
        if (event->captured_in != stream) event->captured_in->unjoined = 0;
        return leave(OK, 0);
    }
    Step step = {.work = WAIT, .event = event, .number = event->recorded};
    return leave(put(stream, &step), 0);
}

API CUresult cuEventQuery(void *handle) {
    IN_CONTEXT();
    Event *event = known(handle, EVENT);
    if (!event) return leave(INVALID_HANDLE, 0);
    if (event->captured) return leave(CAPTURED_EVENT, 0);
    return leave(event->happened >= event->recorded ? OK : NOT_READY, 0);
}

API CUresult cuEventSynchronize(void *handle) {
    IN_CONTEXT();
    Event *event = known(handle, EVENT);
    if (!event) return leave(INVALID_HANDLE, 0);
    if (event->captured) return leave(CAPTURED_EVENT, 0);
    long number = event->recorded;
    while (event->happened < number && !here->broken) pthread_cond_wait(&changed, &lock);
    return leave(event->happened >= number ? OK : here->broken, 0);
}

/* -- graphs ------------------------------------------------------------------------------------------------------- */

API CUresult cuStreamBeginCapture_v2(void *handle, int mode) {
    IN_CONTEXT();
    Stream *stream = known(handle, STREAM);
    if (!stream) return leave(INVALID_HANDLE, 0);
    if (stream->capture) return leave(CAPTURE_INVALIDATED, 0);
    Graph *graph = born(GRAPH, sizeof *graph, here);
    graph->origin = stream;
    graph->thread = pthread_self();
    graph->mode = mode;
    stream->capture = graph;
    return leave(OK, 0);
}

API CUresult cuStreamIsCapturing(void *handle, int *status) {
    IN_CONTEXT();
    Stream *stream = stream_of(handle, here);
    if (!stream) return leave(INVALID_HANDLE, 0);
    *status = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
    return leave(OK, 0);
}

static void end_graph(Graph *graph) {
    for (Step *step = graph->first, *next; step; step = next) next = step->next, free(step);
    graph->first = graph->last = NULL;
    graph->thing.alive = 0;
}

API CUresult cuStreamEndCapture(void *handle, Graph **result) {
    IN_CONTEXT();
    Stream *stream = known(handle, STREAM);
    *result = NULL;
    if (!stream) return leave(INVALID_HANDLE, 0);
    Graph *graph = stream->capture;
    if (!graph || graph->origin != stream) return leave(CAPTURE_UNMATCHED, 0);
    if (graph->mode != 2 && !pthread_equal(graph->thread, pthread_self())) return leave(CAPTURE_WRONG_THREAD, 0);
    CUresult verdict = graph->invalid ? CAPTURE_INVALIDATED : OK;
    for (Thing *t = things; t; t = t->next) {
        Stream *other = (Stream *)t;
        if (t->kind != STREAM || other->capture != graph) continue;
        if (other->unjoined && !verdict) verdict = CAPTURE_UNJOINED;
        other->unjoined = 0;
        other->capture = NULL;
    }
    if (verdict) end_graph(graph);
    else *result = graph;
    return leave(verdict, 0);
}

API CUresult cuGraphDestroy(void *handle) {
    IN_CONTEXT();
    Graph *graph = known(handle, GRAPH);
    if (!graph) return leave(INVALID_HANDLE, 0);
    end_graph(graph);
    return leave(OK, 0);
}

static CUresult instantiate(Exec **handle, void *from, Context *here) {
    Graph *graph = known(from, GRAPH);
    if (!graph) return INVALID_HANDLE;
    Exec *exec = born(EXEC, sizeof *exec, here);
    exec->graph = calloc(1, sizeof *exec->graph);
    for (Step *step = graph->first; step; step = step->next) {
        Step *same = malloc(sizeof *same);
        *same = *step;
        append(&exec->graph->first, &exec->graph->last, same);
    }
    *handle = exec;
    return OK;
}

API CUresult cuGraphInstantiateWithFlags(Exec **handle, void *from, unsigned long long flags) {
    IN_CONTEXT();
    (void)flags;
    return leave(instantiate(handle, from, here), 0);
}

API CUresult cuGraphExecDestroy(void *handle) {
    IN_CONTEXT();
    Exec *exec = known(handle, EXEC);
    if (!exec) return leave(INVALID_HANDLE, 0);
    while (exec->flying && !here->broken) pthread_cond_wait(&changed, &lock);
    exec->thing.alive = 0;
    if (!exec->flying) end_graph(exec->graph), free(exec->graph);
    return leave(OK, 0);
}

API CUresult cuGraphUpload(void *handle, void *in) {
    IN_CONTEXT();
    return leave(known(handle, EXEC) && stream_of(in, here) ? OK : INVALID_HANDLE, 0);
}

API CUresult cuGraphLaunch(void *handle, void *in) {
    IN_CONTEXT();
    Exec *exec = known(handle, EXEC);
    Stream *stream = stream_of(in, here);
    if (!exec || !stream) return leave(INVALID_HANDLE, 0);
    Step step = {.work = GRAPH_LAUNCH, .exec = exec};
    return leave(put(stream, &step), 0);
}

/* -- kernels ------------------------------------------------------------------------------------------------------ */

static const char MAGIC[] = "stand-in cubin\n";

/* An image of ours: MAGIC, a line with the path of a host library, a line for each kernel with the number of its arguments. */
static CUresult load_module(Module **handle, const char *image, Context *here) {
    if (!image || strncmp(image, MAGIC, sizeof MAGIC - 1)) return INVALID_IMAGE;
    const char *path = image + sizeof MAGIC - 1, *end = strchr(path, '\n');
    char name[4096];
    if (!end || end - path >= (ptrdiff_t)sizeof name) return INVALID_IMAGE;
    snprintf(name, sizeof name, "%.*s", (int)(end - path), path);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "stand-in libcuda: %s\n", dlerror());
        return INVALID_IMAGE;
    }
    Module *module = born(MODULE, sizeof *module, here);
    module->library = library;
    module->names = strdup(end);
    *handle = module;
    return OK;
}

API CUresult cuModuleLoadData(Module **handle, const void *image) { IN_CONTEXT(); CAPTURE_FORBIDS(); return leave(load_module(handle, image, here), 0); }

API CUresult cuModuleLoadDataEx(Module **handle, const void *image, unsigned count, const int *options, void **values) {
    IN_CONTEXT();
    CAPTURE_FORBIDS();
    for (unsigned i = 0; i < count; i++)
        if (options[i] == 4 || options[i] == 6) values[i] = NULL; /* both logs are empty */
    return leave(load_module(handle, image, here), 0);
}

API CUresult cuModuleUnload(void *handle) {
    IN_CONTEXT();
    Module *module = known(handle, MODULE);
    if (!module) return leave(INVALID_HANDLE, 0);
    for (Thing *t = things; t; t = t->next)
        if (t->kind == FUNCTION && ((Function *)t)->module == module) t->alive = 0;
    module->thing.alive = 0;
    dlclose(module->library);
    return leave(OK, 0);
}

/* Kernel NAME is the host library's host_launch_NAME, if the image lists it. */
API CUresult cuModuleGetFunction(Function **handle, void *of, const char *name) {
    IN_CONTEXT();
    Module *module = known(of, MODULE);
    if (!module) return leave(INVALID_HANDLE, 0);
    char text[256];
    unsigned arguments = 0;
    int length = snprintf(text, sizeof text, "\n%s ", name);
    const char *line = strstr(module->names, text);
    snprintf(text, sizeof text, "host_launch_%s", name);
    void *kernel = dlsym(module->library, text);
    if (!kernel || !line || sscanf(line + length, "%u", &arguments) != 1 || arguments > 64) return leave(NOT_FOUND, 0);
    Function *function = born(FUNCTION, sizeof *function, here);
    function->module = module;
    function->kernel = (Kernel)kernel;
    function->arguments = arguments;
    *handle = function;
    return leave(OK, 0);
}

API CUresult cuFuncGetAttribute(int *value, int attribute, void *handle) {
    IN_CONTEXT();
    *value = attribute == 0 ? 1024 : 0;
    return leave(known(handle, FUNCTION) ? OK : INVALID_HANDLE, 0);
}

/* Deprecated and of no effect on cuLaunchKernel; pycuda calls it all the same. */
API CUresult cuFuncSetBlockShape(void *handle, int x, int y, int z) {
    IN_CONTEXT();
    (void)x, (void)y, (void)z;
    return leave(known(handle, FUNCTION) ? OK : INVALID_HANDLE, 0);
}

/* Arguments come as pointers to each, or packed into one buffer (`extra`: 1, buffer, 2, pointer to its size, 0). */
API CUresult cuLaunchKernel(void *handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                            unsigned shared, void *in, void **arguments, void **extra) {
    IN_CONTEXT();
    (void)shared;
    Function *function = known(handle, FUNCTION);
    Stream *stream = stream_of(in, here);
    if (!function || !stream) return leave(INVALID_HANDLE, 0);
    if (!gx || !gy || !gz || !bx || !by || !bz || gy > 65535 || gz > 65535 || bz > 64 || (uint64_t)bx * by * bz > 1024)
        return leave(INVALID_VALUE, 0);
    Step step = {.work = KERNEL, .function = function, .grid = {gx, gy, gz}, .block = {bx, by, bz}};
    const uint64_t *packed = NULL;
    size_t size = 0;
    for (int i = 0; extra && extra[i]; i += 2) {
        if ((uintptr_t)extra[i] == 1) packed = extra[i + 1];
        if ((uintptr_t)extra[i] == 2) size = *(size_t *)extra[i + 1];
    }
    if (function->arguments && !arguments && size != 8 * function->arguments) return leave(INVALID_VALUE, 0);
    for (unsigned i = 0; i < function->arguments; i++) step.arguments[i] = arguments ? *(uint64_t *)arguments[i] : packed[i];
    return leave(put(stream, &step), 0);
}

/* -- for tests ---------------------------------------------------------------------------------------------------- */

/* Until `standin_release` no stream begins anything: what is put into one is under way for as long as a test likes. */
API void standin_hold(void) { pthread_mutex_lock(&lock); held = 1; pthread_mutex_unlock(&lock); }
API void standin_release(void) { pthread_mutex_lock(&lock); held = 0; pthread_cond_broadcast(&changed); pthread_mutex_unlock(&lock); }

static int tell(char *text, size_t size, size_t used, const char *format, ...) {
    va_list given;
    va_start(given, format);
    int wrote = used < size ? vsnprintf(text + used, size - used, format, given) : 0;
    va_end(given);
    return wrote;
}

/* JSON: what lives, what was left behind when its context ended, what was done wrongly or slowly, calls by name. */
API int standin_report(char *text, size_t size) {
    pthread_mutex_lock(&lock);
    long alive[KINDS] = {0};
    for (Thing *t = things; t; t = t->next) {
        if (!t->alive) continue;
        alive[t->kind] += !(t->kind == STREAM && ((Stream *)t)->started == 2);
        if (t->kind == MEMORY || t->kind == PINNED) check_guards((Memory *)t);
    }
    size_t used = 0;
    for (int part = 0; part < 2; part++) {
        used += tell(text, size, used, part ? "}, \"leaked\": {" : "{\"alive\": {");
        for (int kind = 0; kind < FUNCTION; kind++)
            used += tell(text, size, used, "%s\"%s\": %ld", kind ? ", " : "", KIND_NAMES[kind], part ? leaked[kind] : alive[kind]);
    }
    used += tell(text, size, used, "}, \"overruns\": %ld, \"unpinned_copies\": %ld, \"timed_events\": %ld, \"spinning_events\": %ld, "
                 "\"blocking_streams\": %ld, \"calls\": {", overruns, unpinned_copies, timed_events, spinning_events, blocking_streams);
    for (int i = 0; i < count_count; i++) used += tell(text, size, used, "%s\"%s\": %ld", i ? ", " : "", counts[i].name, counts[i].count);
    used += tell(text, size, used, "}}");
    pthread_mutex_unlock(&lock);
    return (int)used;
}

static void __attribute__((destructor)) report_at_exit(void) {
    const char *path = getenv("STANDIN_CUDA_REPORT");
    static char text[65536];
    FILE *file = path && initialised ? fopen(path, "w") : NULL;
    if (!file) return;
    standin_report(text, sizeof text);
    fputs(text, file);
    fclose(file);
}

#define UNSUPPORTED(name) API CUresult name(void) { return NOT_SUPPORTED; }
#include "unsupported.inc"
