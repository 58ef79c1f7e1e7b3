/* A wasi:http component that answers a POST with its body, 1 added to every byte.
 *
 * The same work as edgeagent's own benchmark guest, written straight against the canonical ABI: no libc, no
 * allocator beyond a bump pointer, one pass over the bytes. wasmtime makes a fresh instance for every request, so
 * nothing is ever freed. Built by build.sh. */
#include <stdint.h>

#define IMPORT(mod, fn) __attribute__((import_module(mod), import_name(fn))) extern
#define HTTP "wasi:http/types@0.2.0"
#define STREAMS "wasi:io/streams@0.2.0"

typedef int32_t own; /* handle of an owned resource */

/* Results are written to a return area: a discriminant byte (0 = ok) at 0, the payload at 4 (8 for wide errors). */
typedef struct { uint8_t failed; int32_t a, b; uint8_t rest[64]; } __attribute__((aligned(8))) ret;

IMPORT(HTTP, "[method]incoming-request.consume") void request_consume(own, ret *);
IMPORT(HTTP, "[method]incoming-body.stream") void body_stream(own, ret *);
IMPORT(HTTP, "[static]fields.from-list") void fields_from_list(const void *, uint32_t, ret *);
IMPORT(HTTP, "[constructor]outgoing-response") own response_new(own);
IMPORT(HTTP, "[method]outgoing-response.body") void response_body(own, ret *);
IMPORT(HTTP, "[method]outgoing-body.write") void body_write(own, ret *);
IMPORT(HTTP, "[static]outgoing-body.finish") void body_finish(own, int32_t, own, ret *);
IMPORT(HTTP, "[static]response-outparam.set")
void outparam_set(own, int32_t, int32_t, int32_t, int64_t, int32_t, int32_t, int32_t, int32_t);
IMPORT(STREAMS, "[method]input-stream.blocking-read") void stream_read(own, uint64_t, ret *);
IMPORT(STREAMS, "[method]output-stream.blocking-write-and-flush") void stream_write(own, const void *, uint32_t, ret *);
IMPORT(STREAMS, "[resource-drop]input-stream") void input_drop(own);
IMPORT(STREAMS, "[resource-drop]output-stream") void output_drop(own);
IMPORT(HTTP, "[resource-drop]incoming-body") void body_drop(own);
IMPORT(HTTP, "[resource-drop]incoming-request") void request_drop(own);

extern unsigned char __heap_base;
static uint32_t top;

__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, uint32_t old_size, uint32_t align, uint32_t size)
{
    (void)old, (void)old_size;
    if (!top) top = (uint32_t)&__heap_base;
    uint32_t at = (top + align - 1) & -align;
    uint32_t end = at + size;
    uint32_t have = __builtin_wasm_memory_size(0) << 16;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == (uint32_t)-1) __builtin_trap();
    top = end;
    return (void *)at;
}

static ret area;

static own unwrap(void)
{
    if (area.failed) __builtin_trap();
    return area.a;
}

enum { CHUNK = 65536, CHUNKS_MAX = 1024 };
static struct { uint8_t *at; uint32_t len; } chunks[CHUNKS_MAX];

static uint32_t digits(uint32_t value, char *text)
{
    char backwards[10];
    uint32_t n = 0;
    do backwards[n++] = (char)('0' + value % 10); while (value /= 10);
    for (uint32_t i = 0; i < n; i++) text[i] = backwards[n - 1 - i];
    return n;
}

static own headers_for(uint32_t length)
{
    static char text[10];
    static struct { const char *name; uint32_t name_len; const char *value; uint32_t value_len; } entries[2] = {
        {"content-type", 12, "application/octet-stream", 24},
        {"content-length", 14, text, 0},
    };
    entries[1].value_len = digits(length, text);
    fields_from_list(entries, 2, &area);
    return unwrap();
}

__attribute__((export_name("wasi:http/incoming-handler@0.2.0#handle"))) void handle(own request, own out)
{
    request_consume(request, &area);
    own body = unwrap();
    body_stream(body, &area);
    own input = unwrap();
    uint32_t count = 0, total = 0;
    for (;;) { /* ends with stream-error closed */
        stream_read(input, CHUNK, &area);
        if (area.failed) break;
        if (!area.b) continue;
        if (count == CHUNKS_MAX) __builtin_trap();
        uint8_t *at = (uint8_t *)area.a;
        uint32_t len = (uint32_t)area.b;
        for (uint32_t i = 0; i < len; i++) at[i]++;
        chunks[count].at = at, chunks[count++].len = len;
        total += len;
    }
    input_drop(input);
    body_drop(body);
    request_drop(request);

    own response = response_new(headers_for(total));
    response_body(response, &area);
    own reply = unwrap();
    outparam_set(out, 0, response, 0, 0, 0, 0, 0, 0);
    body_write(reply, &area);
    own output = unwrap();
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t done = 0; done < chunks[i].len; done += 4096) { /* the most that one blocking write takes */
            uint32_t left = chunks[i].len - done;
            stream_write(output, chunks[i].at + done, left < 4096 ? left : 4096, &area);
            if (area.failed) __builtin_trap();
        }
    output_drop(output);
    body_finish(reply, 0, 0, &area);
}
