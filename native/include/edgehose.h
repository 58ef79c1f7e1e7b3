/* edgehose: another process's end of an edgeagent node's hoses. Link with -ledgehose; C11, Linux, no dependencies.
 *
 * A producer borrows a buffer, fills it, and publishes it: the buffer's pages, not its bytes, go to the node, whose
 * functions read them where they are. A consumer takes frames the same way. Nothing is copied on either side.
 *
 *     edgehose *hose;
 *     if (edgehose_attach("/run/edgeagent/hose.sock", "camera", EDGEHOSE_PRODUCER, &hose) == 0) {
 *       void *frame;
 *       if (edgehose_loan(hose, 1 << 20, &frame) == 0) {
 *         fill(frame);
 *         edgehose_publish(hose, frame, 1 << 20, NULL);
 *       }
 *       edgehose_close(hose);
 *     }
 *
 * Every function but two returns 0, or a negative errno value and leaves a sentence in edgehose_error(). What they have
 * in common:
 *
 *   -EINVAL       an argument is wrong: NULL, a closed handle, a pointer that is no buffer of this hose, a wrong role
 *   -EAGAIN       nothing to be had in the time given; nothing has changed
 *   -EINTR        a signal came while waiting; nothing has changed
 *   -ECONNRESET   the node has gone: only edgehose_close() is left to do; frames taken stay readable until then
 *   -EPROTO, -EACCES, -EBUSY, -ENOENT, -EMSGSIZE, -EPROTONOSUPPORT
 *                 the node has refused (protocol; user; a bound; name; frame too large; version); as -ECONNRESET
 *
 * A wrong pointer, a second release, or a handle that was closed is an error, not a crash. Writing to a buffer after it
 * was published, or reading one after its release, is a crash, as with free().
 *
 * A handle may be used by several threads; a call that waits does not keep the others waiting. Not across fork().
 */
#ifndef EDGEHOSE_H
#define EDGEHOSE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef EDGEHOSE_API
#define EDGEHOSE_API
#endif

/* The upper half changes when programs must change, the lower when something is added. */
#define EDGEHOSE_ABI_VERSION 0x00010000u

/* At once: handles of a process; loans and frames taken of one handle. */
#define EDGEHOSE_HANDLES_MAX 64
#define EDGEHOSE_BUFFERS_MAX 64

enum { EDGEHOSE_PRODUCER = 1, EDGEHOSE_CONSUMER = 2 };

typedef struct edgehose edgehose;

/* The EDGEHOSE_ABI_VERSION that the library was built with: compare the upper halves. */
EDGEHOSE_API uint32_t edgehose_abi_version(void);

/* Connects to the node that listens at `socket_path` and attaches to the hose `hose_name` (1 to 63 of a-z, 0-9, '.',
 * '_', '-'). Waits at most 5 s. Also: -ENOMEM; -EMFILE; what socket() and connect() return (-ENOENT, -ECONNREFUSED,
 * ...); -ETIMEDOUT when the node does not answer. `*out` is NULL after a failure. */
EDGEHOSE_API int edgehose_attach(const char *socket_path, const char *hose_name, int role, edgehose **out);

/* Producer: lends a buffer of `bytes` zeros, all of its memory there already, at a page's boundary; from 2 MiB up at a
 * 2 MiB boundary and in 2 MiB pages where the kernel can. Also: -ENOMEM; -ENOBUFS with EDGEHOSE_BUFFERS_MAX lent;
 * -EFBIG for more than the address space. */
EDGEHOSE_API int edgehose_loan(edgehose *h, size_t bytes, void **ptr);

/* Producer: hands the first `bytes` bytes of a loan to the node, for ever immutable. The rest of the buffer goes along:
 * leave nothing there that the node may not see. Waits while as many frames as there are credits are on their way, at
 * most as long as edgehose_set_timeout() says. `*seq`, where seq is not NULL, becomes the frame's number, from 1.
 * After anything but -EINVAL, -EAGAIN and -EINTR the buffer is gone. Also: -EBUSY when this process itself can still
 * write to the pages (mapped a second time, or in a pipe). */
EDGEHOSE_API int edgehose_publish(edgehose *h, void *ptr, size_t bytes, uint64_t *seq);

/* The same without waiting: -EAGAIN when no credit is left. */
EDGEHOSE_API int edgehose_try_publish(edgehose *h, void *ptr, size_t bytes, uint64_t *seq);

/* How long edgehose_publish() waits, in milliseconds; negative: for ever, which is the default. */
EDGEHOSE_API int edgehose_set_timeout(edgehose *h, int timeout_ms);

/* Producer: gives a loan back unpublished. */
EDGEHOSE_API int edgehose_abandon(edgehose *h, void *ptr);

/* Consumer: the next frame, read-only and immutable. Waits at most `timeout_ms` milliseconds; negative: for ever. Also:
 * -ENOBUFS with EDGEHOSE_BUFFERS_MAX taken; -ENOMEM, and the frame is dropped; -EBADMSG when the node sent what is not
 * a sealed memfd of sufficient size. */
EDGEHOSE_API int edgehose_take(edgehose *h, const void **ptr, size_t *bytes, int timeout_ms);

/* Consumer: gives a frame back. The node sends a new one for it. 0 even when the node has gone. */
EDGEHOSE_API int edgehose_release(edgehose *h, const void *ptr);

/* What the calling thread's last failed call complained of, valid until its next call. Never NULL; `h` may be. */
EDGEHOSE_API const char *edgehose_error(const edgehose *h);

/* Leaves the node and gives back every buffer. What was published still arrives. Calls that wait in other threads
 * return -ECONNRESET first. */
EDGEHOSE_API int edgehose_close(edgehose *h);

#ifdef __cplusplus
}
#endif

#endif
