#include "crc32.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace edgeagent {

namespace {

constexpr std::uint32_t kPolynomial = 0xEDB88320; // reflected: the lowest bit is the highest power

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1U) ^ ((value & 1U) != 0 ? kPolynomial : 0);
    }
    table[i] = value;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kTable = make_table();

// The register as it is inside, neither inverted before nor after.
std::uint32_t by_table(std::uint32_t state, const std::uint8_t *data, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) {
    state = (state >> 8U) ^ kTable[(state ^ data[i]) & 0xFFU];
  }
  return state;
}

#if defined(__x86_64__)

// x^n modulo the polynomial, reflected, and shifted once more, for the product of two reflected numbers is one bit short.
constexpr std::uint64_t power(int n) {
  std::uint32_t value = 0x80000000;
  for (int i = 0; i < n; ++i) {
    value = (value >> 1U) ^ ((value & 1U) != 0 ? kPolynomial : 0);
  }
  return static_cast<std::uint64_t>(value) << 1U;
}

// What 128 bits are multiplied with to stand `distance` bits further: the half that was read first, then the other.
template <int distance> constexpr std::uint64_t kFirst = power(distance + 32);
template <int distance> constexpr std::uint64_t kSecond = power(distance - 32);

constexpr std::size_t kWideMin = 512;
constexpr std::size_t kNarrowMin = 64;

__attribute__((target("pclmul,sse4.1"))) inline __m128i ahead(__m128i value, __m128i by) {
  return _mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00), _mm_clmulepi64_si128(value, by, 0x11));
}

__attribute__((target("pclmul,sse4.1"))) inline __m128i load(const std::uint8_t *at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i *>(at));
}

// Folds what is left behind `value`, and ends with the table.
__attribute__((target("pclmul,sse4.1"))) std::uint32_t finish(__m128i value, const std::uint8_t *data,
                                                              std::size_t bytes) {
  const __m128i by = _mm_set_epi64x(static_cast<long long>(kSecond<128>), static_cast<long long>(kFirst<128>));
  for (; bytes >= 16; data += 16, bytes -= 16) {
    value = _mm_xor_si128(ahead(value, by), load(data));
  }
  std::uint8_t last[16];
  std::memcpy(last, &value, sizeof(last));
  return by_table(by_table(0, last, sizeof(last)), data, bytes);
}

__attribute__((target("pclmul,sse4.1"))) std::uint32_t narrow(std::uint32_t state, const std::uint8_t *data,
                                                              std::size_t bytes) {
  const __m128i by = _mm_set_epi64x(static_cast<long long>(kSecond<512>), static_cast<long long>(kFirst<512>));
  const __m128i one = _mm_set_epi64x(static_cast<long long>(kSecond<128>), static_cast<long long>(kFirst<128>));
  __m128i value[4] = {load(data), load(data + 16), load(data + 32), load(data + 48)};
  value[0] = _mm_xor_si128(value[0], _mm_cvtsi32_si128(static_cast<int>(state)));
  for (data += 64, bytes -= 64; bytes >= 64; data += 64, bytes -= 64) {
    for (int i = 0; i < 4; ++i) {
      value[i] = _mm_xor_si128(ahead(value[i], by), load(data + 16 * i));
    }
  }
  for (int i = 1; i < 4; ++i) {
    value[0] = _mm_xor_si128(ahead(value[0], one), value[i]);
  }
  return finish(value[0], data, bytes);
}

__attribute__((target("avx512f,avx512dq,vpclmulqdq,pclmul"))) std::uint32_t wide(std::uint32_t state,
                                                                                 const std::uint8_t *data,
                                                                                 std::size_t bytes) {
  const __m512i by = _mm512_set4_epi32(static_cast<int>(kSecond<2048> >> 32U), static_cast<int>(kSecond<2048>),
                                       static_cast<int>(kFirst<2048> >> 32U), static_cast<int>(kFirst<2048>));
  const __m128i one = _mm_set_epi64x(static_cast<long long>(kSecond<128>), static_cast<long long>(kFirst<128>));
  __m512i value[4];
  for (int i = 0; i < 4; ++i) {
    value[i] = _mm512_loadu_si512(data + 64 * i);
  }
  value[0] = _mm512_xor_si512(value[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  for (data += 256, bytes -= 256; bytes >= 256; data += 256, bytes -= 256) {
    for (int i = 0; i < 4; ++i) {
      const __m512i first = _mm512_clmulepi64_epi128(value[i], by, 0x00);
      const __m512i second = _mm512_clmulepi64_epi128(value[i], by, 0x11);
      value[i] = _mm512_ternarylogic_epi64(first, second, _mm512_loadu_si512(data + 64 * i), 0x96);
    }
  }
  alignas(64) std::uint8_t lanes[256];
  for (int i = 0; i < 4; ++i) {
    _mm512_store_si512(lanes + 64 * i, value[i]);
  }
  __m128i whole = load(lanes);
  for (int i = 1; i < 16; ++i) {
    whole = _mm_xor_si128(ahead(whole, one), load(lanes + 16 * i));
  }
  return finish(whole, data, bytes);
}

bool has_narrow() {
  static const bool has = __builtin_cpu_supports("pclmul") != 0 && __builtin_cpu_supports("sse4.1") != 0;
  return has;
}

bool has_wide() {
  static const bool has = has_narrow() && __builtin_cpu_supports("avx512f") != 0 &&
                          __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("vpclmulqdq") != 0;
  return has;
}

#endif

} // namespace

std::uint32_t crc32(std::uint32_t crc, const std::uint8_t *data, std::size_t bytes) {
#if defined(__x86_64__)
  if (bytes >= kWideMin && has_wide()) {
    return ~wide(~crc, data, bytes);
  }
  if (bytes >= kNarrowMin && has_narrow()) {
    return ~narrow(~crc, data, bytes);
  }
#endif
  return ~by_table(~crc, data, bytes);
}

bool crc32_is_fast() {
#if defined(__x86_64__)
  return has_narrow();
#else
  return false;
#endif
}

} // namespace edgeagent
