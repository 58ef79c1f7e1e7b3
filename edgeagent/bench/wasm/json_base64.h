/* Bytes as base64 in a JSON document, the way functions hand them over by HTTP; for the baseline `http-json`.
 *
 *   {"encoding":"base64","read":true,"bytes":3,"data":"YWJj"}
 *
 * The codec is the table-driven one of fast portable libraries: two characters for each 12 bits, and four lookups for each
 * three bytes. Decoding happens in place, so that it costs no page. RFC 8259 and RFC 4648 section 4.
 */
#ifndef EDGE_BENCH_JSON_BASE64_H
#define EDGE_BENCH_JSON_BASE64_H

#include "edge.h"

#define BASE64_BAD 0x01000000u
#define VECTORS __attribute__((target("simd128")))

static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* -- encoding ------------------------------------------------------------------------------------------------------ */

static inline size_t base64_length(size_t bytes) { return (bytes + 2) / 3 * 4; }

static char *base64_encode(char *out, const uint8_t *in, size_t bytes) {
  static uint16_t pair_of[4096];
  for (unsigned i = 0; i < 4096; ++i) {
    pair_of[i] = (uint16_t)((unsigned char)base64_alphabet[i >> 6] | (unsigned char)base64_alphabet[i & 63] << 8);
  }
  size_t whole = bytes / 3 * 3;
  for (size_t at = 0; at < whole; at += 3, out += 4) {
    uint32_t bits = (uint32_t)in[at] << 16 | (uint32_t)in[at + 1] << 8 | in[at + 2];
    uint32_t four = pair_of[bits >> 12] | (uint32_t)pair_of[bits & 4095] << 16;
    __builtin_memcpy(out, &four, 4);
  }
  if (whole < bytes) {
    int two = bytes - whole == 2;
    uint32_t bits = (uint32_t)in[whole] << 16 | (two ? (uint32_t)in[whole + 1] << 8 : 0);
    *out++ = base64_alphabet[bits >> 18];
    *out++ = base64_alphabet[bits >> 12 & 63];
    *out++ = two ? base64_alphabet[bits >> 6 & 63] : '=';
    *out++ = '=';
  }
  return out;
}

static char *json_text(char *out, const char *text) {
  while (*text != 0) {
    *out++ = *text++;
  }
  return out;
}

static char *json_number(char *out, size_t value) {
  char digits[20];
  int count = 0;
  do {
    digits[count++] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (count > 0) {
    *out++ = digits[--count];
  }
  return out;
}

/* The whole document as the reply of a function. */
static inline uint64_t json_reply(const uint8_t *in, size_t bytes, int read) {
  char *document = edge_take(base64_length(bytes) + 128);
  char *out = json_text(document, "{\"encoding\":\"base64\",\"read\":");
  out = json_text(out, read ? "true" : "false");
  out = json_text(out, ",\"bytes\":");
  out = json_number(out, bytes);
  out = json_text(out, ",\"data\":\"");
  out = base64_encode(out, in, bytes);
  out = json_text(out, "\"}");
  return edge_reply(document, (size_t)(out - document));
}

/* -- decoding ------------------------------------------------------------------------------------------------------ */

struct json_cursor {
  uint8_t *at, *end;
};

struct json_document {
  uint8_t *data; /* where the decoded bytes lie: inside the document */
  size_t bytes;
  int read;
};

static uint32_t base64_first[256], base64_second[256], base64_third[256], base64_fourth[256];

static void base64_prepare(void) {
  for (unsigned i = 0; i < 256; ++i) {
    base64_first[i] = base64_second[i] = base64_third[i] = base64_fourth[i] = BASE64_BAD;
  }
  for (unsigned value = 0; value < 64; ++value) {
    unsigned symbol = (unsigned char)base64_alphabet[value];
    base64_first[symbol] = value << 2;
    base64_second[symbol] = value >> 4 | (value & 15) << 12;
    base64_third[symbol] = value >> 2 << 8 | (value & 3) << 22;
    base64_fourth[symbol] = value << 16;
  }
}

static uint8_t json_next(struct json_cursor *c) {
  if (c->at == c->end) {
    edge_fail("the document ends early");
  }
  return *c->at++;
}

/* The next character of a string of base64, where the slash may be escaped; `*is_end` is set by the closing quote. */
static uint8_t json_symbol(struct json_cursor *c, int *is_end) {
  uint8_t symbol = json_next(c);
  *is_end = symbol == '"';
  if (symbol == '\\' && (symbol = json_next(c)) != '/') {
    edge_fail("an escape that base64 does not need");
  }
  return symbol;
}

/* From behind the opening quote to behind the closing one; returns the number of bytes, which lie at `out`. */
static size_t base64_decode(struct json_cursor *c, uint8_t *out) {
  uint8_t *begin = out;
  for (;;) {
    while (c->end - c->at >= 4) {
      uint32_t three = base64_first[c->at[0]] | base64_second[c->at[1]] | base64_third[c->at[2]] | base64_fourth[c->at[3]];
      if (three >= BASE64_BAD) {
        break;
      }
      __builtin_memcpy(out, &three, 4); /* the fourth byte is one that was read already */
      out += 3;
      c->at += 4;
    }
    uint32_t bits = 0;
    int symbols = 0, pads = 0, is_end = 0;
    while (symbols + pads < 4) {
      uint8_t symbol = json_symbol(c, &is_end);
      if (is_end) {
        if (symbols + pads != 0) {
          edge_fail("base64 that is cut off");
        }
        return (size_t)(out - begin);
      }
      if (symbol == '=' && symbols >= 2) {
        ++pads;
        continue;
      }
      if (pads != 0 || base64_first[symbol] == BASE64_BAD) {
        edge_fail("not base64");
      }
      bits |= base64_first[symbol] >> 2 << (18 - 6 * symbols++);
    }
    for (int i = 0; i + 1 < symbols; ++i) {
      *out++ = (uint8_t)(bits >> (16 - 8 * i));
    }
    if (pads != 0) {
      if (json_next(c) != '"') {
        edge_fail("base64 that goes on behind its padding");
      }
      return (size_t)(out - begin);
    }
  }
}

static uint8_t json_token(struct json_cursor *c) {
  uint8_t token;
  do {
    token = json_next(c);
  } while (token == ' ' || token == '\t' || token == '\n' || token == '\r');
  return token;
}

static int json_same(const uint8_t *text, size_t length, const char *other) {
  size_t i = 0;
  while (i < length && other[i] != 0 && text[i] == (uint8_t)other[i]) {
    ++i;
  }
  return i == length && other[i] == 0;
}

/* Behind an opening quote: to behind the closing one; the length of what lies between, escapes as they are. */
static size_t json_skip_string(struct json_cursor *c) {
  uint8_t *begin = c->at;
  for (uint8_t next; (next = json_next(c)) != '"';) {
    if (next == '\\') {
      json_next(c);
    }
  }
  return (size_t)(c->at - begin - 1);
}

/* A number, true, false or null that begins with `first`, which is behind the cursor. */
static size_t json_skip_word(struct json_cursor *c) {
  uint8_t *begin = c->at - 1;
  while (c->at < c->end && *c->at != ',' && *c->at != '}' && *c->at > ' ') {
    ++c->at;
  }
  return (size_t)(c->at - begin);
}

static void json_member(struct json_cursor *c, struct json_document *found) {
  if (json_token(c) != '"') {
    edge_fail("a key is no string");
  }
  uint8_t *key = c->at;
  size_t key_length = json_skip_string(c);
  if (json_token(c) != ':') {
    edge_fail("no colon behind a key");
  }
  uint8_t first = json_token(c);
  uint8_t *value = c->at;
  if (first == '"' && json_same(key, key_length, "data")) {
    found->data = value;
    found->bytes = base64_decode(c, value);
  } else if (first == '"') {
    json_skip_string(c);
  } else if (first == '{' || first == '[') {
    edge_fail("the document is not flat");
  } else {
    size_t length = json_skip_word(c);
    if (json_same(key, key_length, "read")) {
      found->read = json_same(value - 1, length, "true");
    }
  }
}

/* A flat object with the member "data"; traps with a line in the log on any other. */
static inline struct json_document json_parse(uint8_t *input, size_t length) {
  struct json_cursor c = {input, input + length};
  struct json_document found = {0, 0, 0};
  base64_prepare();
  uint8_t next = json_token(&c);
  if (next != '{') {
    edge_fail("no JSON object");
  }
  do {
    json_member(&c, &found);
    next = json_token(&c);
  } while (next == ',');
  if (next != '}') {
    edge_fail("no comma between members");
  }
  if (found.data == 0) {
    edge_fail("no member data");
  }
  return found;
}

/* -- what the functions work on ------------------------------------------------------------------------------------ */

VECTORS static inline void fill(uint8_t *out, size_t bytes) {
  uint64_t *words = (uint64_t *)out;
  for (size_t i = 0; i < bytes / 8; ++i) {
    words[i] = 0x0101010101010101u;
  }
}

VECTORS static inline uint64_t sum_of(const uint8_t *in, size_t bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes / 8; ++i) {
    uint64_t word;
    __builtin_memcpy(&word, in + 8 * i, 8);
    sum += word;
  }
  return sum;
}

#endif
