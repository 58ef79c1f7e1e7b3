// What a thread needs before it runs guests, taken at once: later there may be no mapping left to take it from.
//
// Three things are otherwise made at their first use, and end the process where that fails: the C library's arena of the
// thread, the blocks of thread-local data of libraries loaded by dlopen (glibc aborts), and the stack for signal
// handlers (wasmtime panics; it takes one that is there and large enough).
#pragma once

namespace edgeagent {

// Once for each thread, then about a nanosecond. False: the system has no memory or no mappings left, so that this thread
// must neither run nor drop guests; asked again it tries again.
bool ready_for_guests();

} // namespace edgeagent
