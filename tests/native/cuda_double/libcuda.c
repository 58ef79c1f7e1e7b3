/* A libcuda for tests: devices, primary contexts, streams with deferred work, events, pools, host memory, and faults on
 * command. It is strict where the real one is undefined: a stale handle, a copy outside an allocation, a call without a
 * current context or before cuInit is an error; and a pool gives back only what the host has seen to be unused.
 *
 * Work on a stream runs at once, or, while double_hold(1), when double_hold(0) is called. "Device" memory is the process's.
 * Control: the double_* functions at the end. CUDA_DOUBLE_FAIL="function:k:code[,...]" fails the k-th call of a function.
 */
#include "state.h"

#include "memory.h"
#include "control.h"

EXPORT CUresult cuInit(unsigned flags) {
  BEGIN(cuInit)
  NEED(flags == 0, INVALID)
  initialized = 1;
  return leave(device_count > 0 ? OK : NO_DEVICE);
}
EXPORT CUresult cuDriverGetVersion(int *out) {
  BEGIN(cuDriverGetVersion)
  *out = version;
  return leave(OK);
}
EXPORT CUresult cuGetErrorName(CUresult code, const char **out) {
  *out = "CUDA_DOUBLE";
  return code >= 0 && code < 1000 ? OK : INVALID;
}
EXPORT CUresult cuGetErrorString(CUresult code, const char **out) {
  *out = code == 1234 ? NULL : "text of the double";
  return code >= 0 && code < 1000 ? OK : INVALID;
}
EXPORT CUresult cuDeviceGetCount(int *out) {
  BEGIN(cuDeviceGetCount)
  NEED(initialized, NOT_INIT)
  *out = device_count;
  return leave(OK);
}
EXPORT CUresult cuDeviceGet(CUdevice *out, int ordinal) {
  BEGIN(cuDeviceGet)
  NEED(initialized, NOT_INIT)
  NEED(ordinal >= 0 && ordinal < device_count, BAD_DEVICE)
  *out = ordinal;
  return leave(OK);
}
EXPORT CUresult cuDeviceGetName(char *out, int bytes, CUdevice device) {
  BEGIN(cuDeviceGetName)
  NEED(initialized, NOT_INIT)
  NEED(device >= 0 && device < device_count, BAD_DEVICE)
  snprintf(out, (size_t)bytes, "Double %d", device);
  return leave(OK);
}
EXPORT CUresult cuDeviceGetAttribute(int *out, int which, CUdevice device) {
  BEGIN(cuDeviceGetAttribute)
  NEED(initialized, NOT_INIT)
  NEED(device >= 0 && device < device_count, BAD_DEVICE)
  NEED(which < ATTRIBUTES && attributes[which] >= 0, INVALID) /* -1: a driver that is too old to know it */
  *out = attributes[which] + 0 * device;
  return leave(OK);
}
EXPORT CUresult cuDeviceTotalMem_v2(size_t *out, CUdevice device) {
  BEGIN(cuDeviceTotalMem_v2)
  NEED(initialized, NOT_INIT)
  NEED(device >= 0 && device < device_count, BAD_DEVICE)
  *out = (size_t)memory_limit + 0 * (size_t)device;
  return leave(OK);
}
EXPORT CUresult cuDeviceGetUuid_v2(unsigned char *out, CUdevice device) {
  BEGIN(cuDeviceGetUuid_v2)
  NEED(initialized, NOT_INIT)
  NEED(device >= 0 && device < device_count, BAD_DEVICE)
  memset(out, 0xa0 + device, 16);
  return leave(OK);
}
EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
  BEGIN(cuDevicePrimaryCtxSetFlags_v2)
  NEED(initialized, NOT_INIT)
  NEED(device >= 0 && device < device_count, BAD_DEVICE)
  NEED(retained[device] == 0, ACTIVE)
  last_context_flags = flags;
  return leave(OK);
}
EXPORT CUresult cuDevicePrimaryCtxRetain(void **out, CUdevice device) {
  BEGIN(cuDevicePrimaryCtxRetain)
  NEED(initialized, NOT_INIT)
  NEED(sticky == OK, sticky)
  ++retained[device];
  *out = &context_tag[device];
  return leave(OK);
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  BEGIN(cuDevicePrimaryCtxRelease_v2)
  NEED(retained[device] > 0, NO_CONTEXT)
  if (--retained[device] == 0 && sticky != OK) {
    destroy_all(); /* the driver ends what is on it; a sound context must have been emptied before */
  }
  return leave(OK);
}
EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  BEGIN(cuDevicePrimaryCtxReset_v2)
  retained[device] = 0;
  destroy_all();
  return leave(OK);
}
EXPORT CUresult cuCtxSetCurrent(void *context) {
  BEGIN(cuCtxSetCurrent)
  NEED(initialized, NOT_INIT)
  NEED(context == NULL || retained[(int *)context - context_tag] > 0, NO_CONTEXT)
  current = context;
  return leave(OK);
}
EXPORT CUresult cuCtxGetCurrent(void **out) {
  BEGIN(cuCtxGetCurrent)
  NEED(initialized, NOT_INIT)
  *out = current;
  return leave(OK);
}
EXPORT CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  WORKING(cuCtxGetStreamPriorityRange)
  *least = 0;
  *greatest = -5;
  return leave(OK);
}
EXPORT CUresult cuStreamCreateWithPriority(void **out, unsigned flags, int priority) {
  WORKING(cuStreamCreateWithPriority)
  NEED(flags <= 1, INVALID)
  last_priority = priority;
  *out = make(MAGIC_STREAM);
  return leave(OK);
}
EXPORT CUresult cuStreamDestroy_v2(void *stream) {
  WORKING(cuStreamDestroy_v2)
  NEED(known(stream, MAGIC_STREAM), BAD_HANDLE)
  NEED(((object *)stream)->first == NULL, NOT_READY) /* the real one would go on with it; nobody here should ask that */
  forget(stream);
  return leave(OK);
}
EXPORT CUresult cuStreamQuery(void *stream) {
  WORKING(cuStreamQuery)
  NEED(known(stream, MAGIC_STREAM), BAD_HANDLE)
  NEED(((object *)stream)->first == NULL, NOT_READY)
  see(stream);
  return leave(OK);
}
EXPORT CUresult cuStreamSynchronize(void *stream) {
  object *it;
  WORKING(cuStreamSynchronize)
  NEED(known(stream, MAGIC_STREAM), BAD_HANDLE)
  while (sticky == OK && known(stream, MAGIC_STREAM) && ((object *)stream)->first != NULL) {
    pthread_cond_wait(&moved, &lock);
  }
  see(stream);
  for (it = objects; it != NULL; it = it->next) {
    if (it->magic == MAGIC_POOL) {
      release_above(it, it->keep);
    }
  }
  return leave(sticky);
}
EXPORT CUresult cuEventCreate(void **out, unsigned flags) {
  object *event;
  WORKING(cuEventCreate)
  NEED((flags & ~3u) == 0, INVALID)
  event = make(MAGIC_EVENT);
  event->timing = (flags & 2u) == 0;
  *out = event;
  return leave(OK);
}
EXPORT CUresult cuEventRecord(void *event, void *stream) {
  WORKING(cuEventRecord)
  NEED(known(event, MAGIC_EVENT) && known(stream, MAGIC_STREAM), BAD_HANDLE)
  ((object *)event)->recorded = 1;
  ++((object *)event)->pending;
  enqueue(stream, 2, event, NULL, 0);
  return leave(OK);
}
EXPORT CUresult cuEventQuery(void *event) {
  WORKING(cuEventQuery)
  NEED(known(event, MAGIC_EVENT), BAD_HANDLE)
  return leave(((object *)event)->pending == 0 ? OK : NOT_READY);
}
EXPORT CUresult cuEventElapsedTime(float *out, void *from, void *to) {
  object *a = from, *b = to;
  WORKING(cuEventElapsedTime)
  NEED(known(from, MAGIC_EVENT) && known(to, MAGIC_EVENT), BAD_HANDLE)
  NEED(a->recorded && b->recorded && a->timing && b->timing, BAD_HANDLE)
  NEED(a->pending == 0 && b->pending == 0, NOT_READY)
  *out = (float)(b->done_ms - a->done_ms);
  return leave(OK);
}
EXPORT CUresult cuEventDestroy_v2(void *event) {
  WORKING(cuEventDestroy_v2)
  NEED(known(event, MAGIC_EVENT), BAD_HANDLE)
  forget(event);
  return leave(OK);
}
