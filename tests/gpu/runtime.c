/* A CUDA device that computes nothing and watches: preloaded under a CUDA build of PyTorch, whose own host code then
 * runs whole. `build` in tests/gpu/standin.py adds every other function that PyTorch wants, each of which succeeds.
 * Counted: kernels, calls of cuDNN and cuBLAS, copies, fills, waits of the host, while a stream records and otherwise.
 * Kept: what CUDA forbids while a stream records, and work given to another stream meanwhile. Both fail there too. */
#define _GNU_SOURCE
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { KERNEL, LIBRARY, COPY, FILL, FROM_HOST, TO_HOST, WAIT, KINDS };
static const char *NAMES[] = {"a kernel", "a library's call", "a copy", "a fill", "a copy from the host",
                              "a copy to the host"};
static long counts[2][KINDS]; /* otherwise, recorded */
static cudaStream_t recording, library;
static int spoilt;
static char faults[4096];
static __thread enum cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
static __thread cudaError_t last;

long standin_count(int recorded, int kind) { return counts[recorded][kind]; }
const char *standin_faults(void) { return faults; }
void standin_reset(void) { memset(counts, 0, sizeof counts); faults[0] = 0; }

static cudaError_t fault(const char *what, const char *why) {
  size_t used = strlen(faults);
  snprintf(faults + used, sizeof faults - used, "%s %s\n", what, why);
  spoilt = 1;
  return last = cudaErrorStreamCaptureUnsupported;
}
static cudaError_t work(int kind, cudaStream_t stream) {
  counts[recording && stream == recording][kind]++;
  if (recording && stream != recording) fault(NAMES[kind], "beside the recording stream");
  if (recording && stream == recording && kind >= FROM_HOST) fault(NAMES[kind], "in the recording");
  return cudaSuccess;
}
/* What no thread may ask for while a stream records, unless it asked for a relaxed mode. */
static cudaError_t apart(const char *what) {
  return recording && mode != cudaStreamCaptureModeRelaxed ? fault(what, "while a stream records") : cudaSuccess;
}
static cudaError_t waited(const char *what) { counts[recording != 0][WAIT]++; return apart(what); }

/* Memory: pages that cost nothing until somebody writes. */
static struct { char *at; size_t bytes; } blocks[1 << 16];
static int used;
static int find(const void *p) {
  for (int i = used; i--;) if ((char *)p >= blocks[i].at && (char *)p < blocks[i].at + blocks[i].bytes) return i;
  return -1;
}
cudaError_t cudaMalloc(void **p, size_t bytes) {
  if (apart("cudaMalloc")) return last;
  *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  blocks[used].at = *p; blocks[used++].bytes = bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
  if (p && apart("cudaFree")) return last;
  int i = p ? find(p) : -1;
  if (i >= 0) { munmap(p, blocks[i].bytes); blocks[i] = blocks[--used]; }
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags) { *p = malloc(bytes); return apart("cudaHostAlloc"); }
cudaError_t cudaFreeHost(void *p) { free(p); return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *left, size_t *all) { *left = *all = 128ul << 30; return cudaSuccess; }
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
  memset(a, 0, sizeof *a);
  a->type = find(p) >= 0 ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  a->devicePointer = find(p) >= 0 ? (void *)p : NULL;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  int on_to = find(to) >= 0, on_from = find(from) >= 0;
  if (on_from && !on_to && getenv("STANDIN_READS_ONES")) memset(to, 1, bytes); /* true, and finite numbers */
  else memmove(to, from, bytes);
  return work(on_to && on_from ? COPY : on_to ? FROM_HOST : TO_HOST, stream);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
  return waited("cudaMemcpy") ? last : cudaMemcpyAsync(to, from, bytes, kind, 0);
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s) { memset(p, value, bytes); return work(FILL, s); }
cudaError_t cudaGetSymbolAddress(void **p, const void *symbol) { static char there[1 << 16]; *p = there; return cudaSuccess; }

/* Kernels. */
cudaError_t cudaLaunchKernel(const void *f, dim3 g, dim3 b, void **a, size_t m, cudaStream_t s) { return work(KERNEL, s); }
cudaError_t cudaLaunchCooperativeKernel(const void *f, dim3 g, dim3 b, void **a, size_t m, cudaStream_t s) { return work(KERNEL, s); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *f, void **a) { return work(KERNEL, c->stream); }
cudaError_t __cudaLaunchKernel(cudaKernel_t f, dim3 g, dim3 b, void **a, size_t m, cudaStream_t s) { return work(KERNEL, s); }
cudaError_t __cudaGetKernel(cudaKernel_t *k, const void *f) { *k = (cudaKernel_t)f; return cudaSuccess; }
void **__cudaRegisterFatBinary(void *f) { static void *one[1]; return one; }
char __cudaInitModule(void **h) { return 1; }
static __thread struct { dim3 g, b; size_t m; void *s; } called[8];
static __thread int depth;
unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t m, void *s) {
  called[depth].g = g; called[depth].b = b; called[depth].m = m; called[depth++].s = s;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *g, dim3 *b, size_t *m, void *s) {
  *g = called[--depth].g; *b = called[depth].b; *m = called[depth].m; *(void **)s = called[depth].s;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *f) {
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024; a->numRegs = 32; a->ptxVersion = a->binaryVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *f, int b, size_t m) { *n = 2; return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int b, size_t m, unsigned x) { *n = 2; return cudaSuccess; }

/* The device. */
cudaError_t cudaGetDeviceCount(int *n) { *n = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *n) { *n = 0; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { *v = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { *v = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *low, int *high) { *low = 0; *high = -5; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "no GPU, a stand-in");
  p->major = 9; p->multiProcessorCount = 132; p->totalGlobalMem = 128ul << 30; p->warpSize = 32;
  p->sharedMemPerBlock = 48 << 10; p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor = 227 << 10;
  p->regsPerBlock = p->regsPerMultiprocessor = 1 << 16; p->maxThreadsPerBlock = 1024; p->maxThreadsPerMultiProcessor = 2048;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024; p->maxThreadsDim[2] = 64; p->l2CacheSize = 50 << 20;
  p->maxGridSize[0] = 2147483647; p->maxGridSize[1] = p->maxGridSize[2] = 65535; p->textureAlignment = 512;
  p->concurrentKernels = p->unifiedAddressing = 1; p->maxBlocksPerMultiProcessor = 32;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr a, int device) {
  *v = a == cudaDevAttrMultiProcessorCount ? 132 : a == cudaDevAttrWarpSize ? 32 : a == cudaDevAttrMaxThreadsPerMultiProcessor ? 2048
     : a == cudaDevAttrMaxSharedMemoryPerBlock ? 48 << 10 : a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 227 << 10
     : a == cudaDevAttrComputeCapabilityMajor ? 9 : a == cudaDevAttrMaxGridDimX ? 2147483647 : a == cudaDevAttrMaxGridDimY ? 65535 : 1;
  return cudaSuccess;
}
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
static int succeeds() { return 0; }
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **f, unsigned v, unsigned long long x, enum cudaDriverEntryPointQueryResult *r) {
  *f = strcmp(name, "cuDevicePrimaryCtxGetState") ? (void *)succeeds : (void *)cuDevicePrimaryCtxGetState;
  if (r) *r = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
cudaError_t cudaGetLastError(void) { cudaError_t found = last; last = 0; return found; }
cudaError_t cudaPeekAtLastError(void) { return last; }
const char *cudaGetErrorString(cudaError_t e) { return "not permitted while a stream records (stand-in)"; }
const char *cudaGetErrorName(cudaError_t e) { return "cudaErrorStreamCapture"; }

/* Streams, events, recordings. */
static cudaError_t numbered(void **made) { static long n = 4096; *made = (void *)(n += 16); return cudaSuccess; }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned f, int p) { return numbered((void **)s); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned f) { return numbered((void **)s); }
cudaError_t cudaEventCreate(cudaEvent_t *e) { return numbered((void **)e); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f) { return numbered((void **)e); }
cudaError_t cudaDeviceSynchronize(void) { return waited("cudaDeviceSynchronize"); }
cudaError_t cudaStreamSynchronize(cudaStream_t s) { return waited("cudaStreamSynchronize"); }
cudaError_t cudaEventSynchronize(cudaEvent_t e) { return waited("cudaEventSynchronize"); }
cudaError_t cudaStreamQuery(cudaStream_t s) { return apart("cudaStreamQuery"); }
cudaError_t cudaEventQuery(cudaEvent_t e) { return apart("cudaEventQuery"); }
cudaError_t cudaEventElapsedTime(float *t, cudaEvent_t a, cudaEvent_t b) { *t = 1; return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *v) {
  *v = !recording || s != recording ? cudaStreamCaptureStatusNone : spoilt ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
static long recordings;
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, enum cudaStreamCaptureStatus *v, unsigned long long *id, cudaGraph_t *g,
                                     const cudaGraphNode_t **d, const cudaGraphEdgeData **e, size_t *n) {
  if (id) *id = recordings;
  if (g) *g = (cudaGraph_t)recordings;
  if (d) *d = NULL;
  if (e) *e = NULL;
  if (n) *n = 0;
  return cudaStreamIsCapturing(s, v);
}
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *m) {
  enum cudaStreamCaptureMode before = mode;
  mode = *m; *m = before;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode m) {
  if (!s) return fault("the default stream", "cannot be recorded");
  recording = s; spoilt = 0; recordings++;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
  recording = NULL;
  *g = spoilt ? NULL : (cudaGraph_t)recordings;
  return spoilt ? last = cudaErrorStreamCaptureInvalidated : cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long f) { *e = (cudaGraphExec_t)g; return cudaSuccess; }
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long f) { *e = (cudaGraphExec_t)g; return cudaSuccess; }
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *n) { *n = counts[1][KERNEL]; return cudaSuccess; }

/* cuBLAS and cuDNN: what they are asked to compute is one call, in the stream that they were given last. */
int standin_library(void) { return work(LIBRARY, library); }
int cublasCreate_v2(void **h) { return numbered(h); }
int cublasLtCreate(void **h) { return numbered(h); }
int cudnnCreate(void **h) { return numbered(h); }
int cublasSetStream_v2(void *h, cudaStream_t s) { library = s; return 0; }
int cudnnSetStream(void *h, cudaStream_t s) { library = s; return 0; }
int cudnnGetStream(void *h, cudaStream_t *s) { *s = library; return 0; }
int cublasGetMathMode(void *h, int *v) { *v = 0; return 0; }
int cublasGetPointerMode_v2(void *h, int *v) { *v = 0; return 0; }
int cublasLtMatmulAlgoGetHeuristic(void *h, void *o, void *a, void *b, void *c, void *d, void *p, int most, char *found, int *n) {
  memset(found, 0, 96); *n = 1; return 0;
}
int cublasLtMatmul(void *h, void *o, void *al, void *a, void *da, void *b, void *db, void *be, void *c, void *dc, void *d, void *dd,
                   void *algorithm, void *w, size_t bytes, cudaStream_t s) { return work(LIBRARY, s); }
/* Room for cuDNN's batch norm, and what its newer interface asks of a plan (numbers from cudnn_graph.h): one engine,
 * without knobs, for whatever is wanted. */
int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void *h, int m, int o, void *x, void *z, void *y, void *b, void *a, size_t *n) { *n = 1024; return 0; }
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void *h, int m, int o, void *x, void *y, void *g, void *z, void *d, void *b, void *a, size_t *n) { *n = 1024; return 0; }
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void *h, int m, int o, void *a, void *x, size_t *n) { *n = 1024; return 0; }
enum { INT64 = 3, DESCRIPTOR = 15, KNOBS = 302, WORKSPACE = 402, ENGINES = 802, ENGINE = 1301 };
int cudnnBackendCreateDescriptor(int type, void **d) { *d = calloc(1, 16); return 0; }
int cudnnBackendDestroyDescriptor(void *d) { free(d); return 0; }
int cudnnBackendGetAttribute(void *d, int name, int type, long room, long *n, long *v) {
  if (n) *n = type == INT64 || (type == DESCRIPTOR && name != KNOBS);
  if (type == INT64 && v) *v = name == ENGINES || name == ENGINE ? 1 : name == WORKSPACE ? 1024 : 0;
  return 0;
}
