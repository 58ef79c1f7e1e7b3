/* The memory of the double: device blocks, pools, copies, host memory. */
EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  WORKING(cuMemGetInfo_v2)
  *free_bytes = (size_t)(memory_limit - device_used);
  *total = (size_t)memory_limit;
  return leave(OK);
}
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) {
  WORKING(cuMemAlloc_v2)
  NEED(bytes > 0, INVALID)
  NEED((long long)bytes <= memory_limit - device_used, OOM)
  device_used += (long long)bytes;
  *out = (CUdeviceptr)(uintptr_t)aligned(bytes);
  add_chunk(*out, bytes, NULL, 0);
  return leave(OK);
}
EXPORT CUresult cuMemFree_v2(CUdeviceptr at) {
  chunk *it;
  WORKING(cuMemFree_v2)
  it = chunk_at(at, 1, 0);
  NEED(it != NULL && it->at == at && it->pool == NULL, INVALID)
  device_used -= (long long)it->bytes;
  remove_chunk(it);
  return leave(OK);
}
#ifndef DOUBLE_WITHOUT_POOLS
typedef struct {
  int alloc_type, handle_types, location_type, location_id;
  void *security;
  unsigned char reserved[64];
} pool_props;
EXPORT CUresult cuMemPoolCreate(void **out, const pool_props *props) {
  int i;
  WORKING(cuMemPoolCreate)
  for (i = 0; i < 64; ++i) {
    NEED(props->reserved[i] == 0, INVALID)
  }
  NEED(props->alloc_type == 1 && props->location_type == 1 && props->location_id < device_count, INVALID)
  NEED(props->handle_types == 0 && props->security == NULL, INVALID)
  *out = make(MAGIC_POOL);
  return leave(OK);
}
EXPORT CUresult cuMemPoolDestroy(void *pool) {
  WORKING(cuMemPoolDestroy)
  NEED(known(pool, MAGIC_POOL), BAD_HANDLE)
  NEED(((object *)pool)->used == 0, INVALID) /* the real one would wait for the frees */
  ((object *)pool)->unseen = 0;
  release_above(pool, 0);
  forget(pool);
  return leave(OK);
}
EXPORT CUresult cuMemPoolTrimTo(void *pool, size_t keep) {
  WORKING(cuMemPoolTrimTo)
  NEED(known(pool, MAGIC_POOL), BAD_HANDLE)
  release_above(pool, keep);
  return leave(OK);
}
EXPORT CUresult cuMemPoolSetAttribute(void *pool, int which, void *value) {
  WORKING(cuMemPoolSetAttribute)
  NEED(known(pool, MAGIC_POOL), BAD_HANDLE)
  NEED(which == 4, INVALID)
  ((object *)pool)->keep = (size_t) * (uint64_t *)value;
  return leave(OK);
}
EXPORT CUresult cuMemPoolGetAttribute(void *pool, int which, void *value) {
  WORKING(cuMemPoolGetAttribute)
  NEED(known(pool, MAGIC_POOL), BAD_HANDLE)
  NEED(which == 4 || which == 5 || which == 7, INVALID)
  *(uint64_t *)value = which == 4   ? ((object *)pool)->keep
                       : which == 5 ? ((object *)pool)->reserved
                                    : ((object *)pool)->used;
  return leave(OK);
}
EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t bytes, void *pool, void *stream) {
  object *it = pool;
  WORKING(cuMemAllocFromPoolAsync)
  NEED(known(pool, MAGIC_POOL) && known(stream, MAGIC_STREAM), BAD_HANDLE)
  NEED(bytes > 0, INVALID)
  if (it->used + bytes > it->reserved) {
    long long more = (long long)(it->used + bytes - it->reserved);
    NEED(more <= memory_limit - device_used, OOM)
    device_used += more;
    it->reserved = it->used + bytes;
  }
  it->used += bytes;
  *out = (CUdeviceptr)(uintptr_t)aligned(bytes);
  add_chunk(*out, bytes, it, 0);
  return leave(OK);
}
EXPORT CUresult cuMemFreeAsync(CUdeviceptr at, void *stream) {
  chunk *it;
  WORKING(cuMemFreeAsync)
  NEED(known(stream, MAGIC_STREAM), BAD_HANDLE)
  it = chunk_at(at, 1, 0);
  NEED(it != NULL && it->at == at && !it->freed, INVALID)
  it->freed = 1;
  if (it->pool != NULL) {
    it->pool->freed_on = stream;
  }
  enqueue(stream, 1, it, NULL, 0);
  return leave(OK);
}
#endif
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, void *stream) {
  WORKING(cuMemcpyHtoDAsync_v2)
  NEED(known(stream, MAGIC_STREAM), BAD_HANDLE)
  NEED(chunk_at(to, bytes, 0) && !chunk_at(to, bytes, 0)->freed, INVALID)
  enqueue(stream, 0, (void *)(uintptr_t)to, from, bytes);
  return leave(OK);
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, void *stream) {
  WORKING(cuMemcpyDtoHAsync_v2)
  NEED(known(stream, MAGIC_STREAM), BAD_HANDLE)
  NEED(chunk_at(from, bytes, 0) && !chunk_at(from, bytes, 0)->freed, INVALID)
  enqueue(stream, 0, to, (void *)(uintptr_t)from, bytes);
  return leave(OK);
}
EXPORT CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
  WORKING(cuMemHostAlloc)
  NEED((flags & ~7u) == 0 && bytes > 0, INVALID)
  NEED(!(flags & 2u) || attributes[19], UNSUPPORTED)
  NEED((long long)bytes <= host_limit, OOM)
  *out = malloc(bytes);
  add_chunk((uint64_t)(uintptr_t)*out, bytes, NULL, 1)->flags = flags;
  return leave(OK);
}
EXPORT CUresult cuMemFreeHost(void *at) {
  chunk *it;
  WORKING(cuMemFreeHost)
  it = chunk_at((uint64_t)(uintptr_t)at, 1, 1);
  NEED(it != NULL && it->at == (uint64_t)(uintptr_t)at, INVALID)
  remove_chunk(it);
  return leave(OK);
}
EXPORT CUresult cuMemHostRegister_v2(void *at, size_t bytes, unsigned flags) {
  chunk *it;
  uint64_t start = (uint64_t)(uintptr_t)at;
  WORKING(cuMemHostRegister_v2)
  NEED(attributes[99], UNSUPPORTED)
  NEED((flags & ~11u) == 0, INVALID)
  NEED(!(flags & 8u) || attributes[113], UNSUPPORTED)
  NEED(mapped(start, bytes, !(flags & 8u)), INVALID) /* what cannot be written to needs the flag */
  for (it = chunks; it != NULL; it = it->next) {
    NEED(it->kind != 2 || start + bytes <= it->at || it->at + it->bytes <= start, REGISTERED)
  }
  last_register_flags = flags;
  add_chunk(start, bytes, NULL, 2)->flags = flags;
  return leave(OK);
}
EXPORT CUresult cuMemHostUnregister(void *at) {
  chunk *it;
  WORKING(cuMemHostUnregister)
  it = chunk_at((uint64_t)(uintptr_t)at, 1, 2);
  NEED(it != NULL && it->at == (uint64_t)(uintptr_t)at, NOT_REGISTERED)
  remove_chunk(it);
  return leave(OK);
}
EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *out, void *at, unsigned flags) {
  chunk *it;
  WORKING(cuMemHostGetDevicePointer_v2)
  NEED(flags == 0 && attributes[19], INVALID)
  it = chunk_at((uint64_t)(uintptr_t)at, 1, 1);
  it = it != NULL ? it : chunk_at((uint64_t)(uintptr_t)at, 1, 2);
  NEED(it != NULL && (it->flags & 2u), INVALID) /* not mapped for the device */
  *out = (CUdeviceptr)(uintptr_t)at + (attributes[91] ? 0 : 0x100000000000ull); /* another place, as on discrete ones */
  return leave(OK);
}
