/* What the tests say to the double and ask of it. */
EXPORT void double_fail(const char *function, long k, CUresult code, int is_sticky) { /* the k-th call from now */
  int i;
  pthread_mutex_lock(&lock);
  if (fault_count < FAULTS) {
    snprintf(faults[fault_count].function, sizeof faults[0].function, "%s", function);
    faults[fault_count].k = k;
    for (i = 0; i < NAMES && called[i].name != NULL; ++i) {
      if (strcmp(called[i].name, function) == 0) {
        faults[fault_count].k += called[i].calls;
      }
    }
    faults[fault_count].code = code;
    faults[fault_count++].sticky = is_sticky;
  }
  pthread_mutex_unlock(&lock);
}
EXPORT void double_reset(void) {
  const char *wanted = getenv("CUDA_DOUBLE_FAIL");
  char function[48];
  long k;
  int code, used, i;
  pthread_mutex_lock(&lock);
  held = 0;
  destroy_all();
  memset(called, 0, sizeof called);
  memset(retained, 0, sizeof retained);
  fault_count = 0;
  sticky = OK;
  current = NULL;
  initialized = 0;
  device_count = 1;
  version = 12080;
  memory_limit = 1 << 20;
  host_limit = 1 << 20;
  copies = 0;
  clock_ms = 0.0;
  memset(attributes, 0, sizeof attributes);
  attributes[16] = 8;
  attributes[19] = attributes[41] = attributes[99] = attributes[113] = attributes[115] = 1;
  attributes[75] = 8;
  attributes[76] = 7;
  pthread_mutex_unlock(&lock);
  while (wanted != NULL && sscanf(wanted, "%47[^:]:%ld:%d%n", function, &k, &code, &used) == 3) {
    double_fail(function, k, code, 0);
    wanted += used + (wanted[used] == ',');
  }
  for (i = 0; i < 2; ++i) {
    context_tag[i] = i;
  }
}
EXPORT void double_attribute(int which, int value) { attributes[which] = value; }
EXPORT void double_devices(int count) { device_count = count; }
EXPORT void double_memory(long long bytes) { memory_limit = bytes; }
EXPORT void double_host_memory(long long bytes) { host_limit = bytes; }
EXPORT void double_poison(CUresult code) {
  pthread_mutex_lock(&lock);
  sticky = code;
  pthread_cond_broadcast(&moved);
  pthread_mutex_unlock(&lock);
}
EXPORT void double_hold(int on) {
  object *it;
  pthread_mutex_lock(&lock);
  held = on;
  for (it = objects; it != NULL && !held; it = it->next) {
    if (it->magic == MAGIC_STREAM) {
      progress(it);
    }
  }
  pthread_cond_broadcast(&moved);
  pthread_mutex_unlock(&lock);
}
EXPORT long long double_live(const char *what) {
  long long count = 0;
  int i;
  object *it;
  chunk *c;
  pthread_mutex_lock(&lock);
  for (it = objects; it != NULL; it = it->next) {
    count += (strcmp(what, "streams") == 0 && it->magic == MAGIC_STREAM) ||
             (strcmp(what, "events") == 0 && it->magic == MAGIC_EVENT) ||
             (strcmp(what, "pools") == 0 && it->magic == MAGIC_POOL);
  }
  for (c = chunks; c != NULL; c = c->next) {
    count += (strcmp(what, "blocks") == 0 && c->kind == 0) || (strcmp(what, "host") == 0 && c->kind == 1) ||
             (strcmp(what, "registered") == 0 && c->kind == 2);
  }
  for (i = 0; i < DEVICES; ++i) {
    count += strcmp(what, "contexts") == 0 ? retained[i] : 0;
  }
  count += strcmp(what, "bytes") == 0 ? device_used : 0;
  count += strcmp(what, "copies") == 0 ? copies : 0;
  pthread_mutex_unlock(&lock);
  return count;
}
EXPORT long double_calls(const char *function) {
  int i;
  long calls = 0;
  pthread_mutex_lock(&lock);
  for (i = 0; i < NAMES && called[i].name != NULL; ++i) {
    calls += strcmp(called[i].name, function) == 0 ? called[i].calls : 0;
  }
  pthread_mutex_unlock(&lock);
  return calls;
}
EXPORT long double_last(const char *what) {
  return strcmp(what, "register-flags") == 0  ? (long)last_register_flags
         : strcmp(what, "context-flags") == 0 ? (long)last_context_flags
                                              : (long)last_priority;
}
EXPORT void *double_current(void) { return current; }
EXPORT void double_set_current(void *context) { current = context; }

__attribute__((constructor)) static void start(void) { double_reset(); }
