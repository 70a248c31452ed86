#include "gguf/synthetic_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace hypura::gguf {
namespace {

template <class T>
void store(std::byte* where, T value) {
    std::memcpy(where, &value, sizeof(value));
}

template <class T>
T load(const std::byte* where) {
    T value;
    std::memcpy(&value, where, sizeof(value));
    return value;
}

uint16_t half_bits(double value) { return std::bit_cast<uint16_t>(static_cast<_Float16>(value)); }
double half_rounded(double value) { return static_cast<double>(static_cast<_Float16>(value)); }

void fill_random(std::span<std::byte> bytes, Random& random) {
    size_t at = 0;
    for (; at + 8 <= bytes.size(); at += 8) store(&bytes[at], random.next());
    const uint64_t last = random.next();
    std::memcpy(bytes.data() + at, &last, bytes.size() - at);
}

// The deviation of all random blocks below is (scale d) * a constant: the root mean square of the random integers.
double uniform_variance(double count) { return (count * count - 1) / 12; }

// One f16 scale at `scale_at` of each block; its sign is random because signed quants reach one further down than up.
void randomize_with_signed_scale(std::span<std::byte> blocks, size_t block_bytes, size_t scale_at, double scale,
                                 Random& random) {
    fill_random(blocks, random);
    const uint16_t bits = half_bits(scale);
    for (size_t at = 0; at < blocks.size(); at += block_bytes) {
        const auto sign = static_cast<uint16_t>(load<uint16_t>(&blocks[at + scale_at]) & 0x8000);
        store(&blocks[at + scale_at], static_cast<uint16_t>(bits | sign));
    }
}

// 16 values around -0.5.
void randomize_q4_0(std::span<std::byte> blocks, double deviation, Random& random) {
    randomize_with_signed_scale(blocks, 18, 0, deviation / std::sqrt(uniform_variance(16) + 0.25), random);
}

// 256 values around -0.5.
void randomize_q8_0(std::span<std::byte> blocks, double deviation, Random& random) {
    randomize_with_signed_scale(blocks, 34, 0, deviation / std::sqrt(uniform_variance(256) + 0.25), random);
}

// Sub-block scales 32 to 63, and minima equal to the scales, packed as eight pairs of 6-bit numbers. With
// dmin = d * (mean quant), every sub-block then has mean 0.
void store_k_scales(std::byte* scales, uint64_t bits) {
    const uint32_t low = (static_cast<uint32_t>(bits) & 0x1f1f1f1f) | 0x20202020;
    const uint32_t high = (static_cast<uint32_t>(bits >> 32) & 0x1f1f1f1f) | 0x20202020;
    const uint32_t first_four = low | (high >> 4 & 0x03030303) << 6;
    store(scales, first_four);
    store(scales + 4, first_four);
    store(scales + 8, (high & 0x0f0f0f0f) * 0x11);
}

void randomize_k(std::span<std::byte> blocks, size_t block_bytes, double quants, double deviation, Random& random) {
    const double mean_square_scale = 47.5 * 47.5 + uniform_variance(32);
    const double scale = half_rounded(deviation / std::sqrt(mean_square_scale * uniform_variance(quants)));
    const uint32_t scales = half_bits(scale) | static_cast<uint32_t>(half_bits(scale * (quants - 1) / 2)) << 16;
    fill_random(blocks, random);
    for (size_t at = 0; at < blocks.size(); at += block_bytes) {
        const auto bits = load<uint64_t>(&blocks[at + 4]);
        store(&blocks[at], scales);
        store_k_scales(&blocks[at + 4], bits);
    }
}

void randomize_q4_k(std::span<std::byte> blocks, double deviation, Random& random) {
    randomize_k(blocks, 144, 16, deviation, random);
}

void randomize_q5_k(std::span<std::byte> blocks, double deviation, Random& random) {
    randomize_k(blocks, 176, 32, deviation, random);
}

// Sixteen signed sub-block scales, 16 to 31 or -32 to -17: small, so that the f16 scale above them stays exact.
uint64_t signed_scales(uint64_t bits) {
    const uint64_t negative = bits >> 7 & 0x0101010101010101;
    return (bits & 0x0f0f0f0f0f0f0f0f) | (0x1010101010101010 + negative * 0xd0);
}

void randomize_q6_k(std::span<std::byte> blocks, double deviation, Random& random) {
    constexpr size_t kBlockBytes = 210, kScalesAt = 192, kScaleAt = 208;
    const double mean_square_scale = (23.5 * 23.5 + 24.5 * 24.5) / 2 + uniform_variance(16);
    const uint16_t scale = half_bits(deviation / std::sqrt(mean_square_scale * (uniform_variance(64) + 0.25)));
    fill_random(blocks, random);
    for (size_t at = 0; at < blocks.size(); at += kBlockBytes) {
        std::byte* scales = &blocks[at + kScalesAt];
        store(scales, signed_scales(load<uint64_t>(scales)));
        store(scales + 8, signed_scales(load<uint64_t>(scales + 8)));
        store(&blocks[at + kScaleAt], scale);
    }
}

// Quants are the 4-bit floats 0 to 12 in either sign (mean square 34.25); the block scale 2^(e-128) is a power of two,
// so two neighbouring ones are mixed to meet the deviation.
void randomize_mxfp4(std::span<std::byte> blocks, double deviation, Random& random) {
    constexpr size_t kBlockBytes = 17;
    const double wanted = deviation / std::sqrt(34.25);
    const double exponent = std::clamp(std::floor(std::log2(wanted)), -126.0, 100.0);
    const double ratio = wanted / std::exp2(exponent);
    const double larger_share = (ratio * ratio - 1) / 3;
    const auto threshold = static_cast<uint32_t>(std::clamp(larger_share * 65536, 0.0, 65536.0));
    fill_random(blocks, random);
    for (size_t at = 0; at < blocks.size(); at += kBlockBytes) {
        const bool larger = (random.next() & 0xffff) < threshold;
        blocks[at] = static_cast<std::byte>(exponent + 128 + (larger ? 1 : 0));
    }
}

// Conversion to f16 is slow in software, so elements are drawn from a table, with random signs.
void randomize_f16(std::span<std::byte> blocks, double deviation, Random& random) {
    std::array<uint16_t, 1024> table{};
    for (uint16_t& entry : table) entry = half_bits(deviation * static_cast<double>(random.next_noise()));
    fill_random(blocks, random);
    for (size_t at = 0; at < blocks.size(); at += 2) {
        const auto bits = load<uint16_t>(&blocks[at]);
        store(&blocks[at], static_cast<uint16_t>(table[bits & 1023] ^ (bits & 0x8000)));
    }
}

void encode_f32(std::span<const float> elements, std::span<std::byte> blocks) {
    std::memcpy(blocks.data(), elements.data(), blocks.size());
}

void encode_f16(std::span<const float> elements, std::span<std::byte> blocks) {
    for (size_t i = 0; i < elements.size(); ++i)
        store(&blocks[2 * i], std::bit_cast<uint16_t>(static_cast<_Float16>(elements[i])));
}

float largest_magnitude(std::span<const float> elements) {
    float largest = 0;
    for (float element : elements) largest = std::max(largest, std::abs(element));
    return largest;
}

float reciprocal_or_zero(float value) { return value > 0 ? 1 / value : 0; }

// For magnitudes up to 128. Unlike lrintf this compiles to vector instructions.
int rounded(float value) { return static_cast<int>(value + 128.5F) - 128; }

void encode_q8_0(std::span<const float> elements, std::span<std::byte> blocks) {
    for (size_t block = 0; block * 32 < elements.size(); ++block) {
        const auto values = elements.subspan(block * 32, 32);
        std::byte* out = &blocks[block * 34];
        const float scale = largest_magnitude(values) / 127;
        const float inverse = reciprocal_or_zero(scale);
        store(out, half_bits(scale));
        for (size_t i = 0; i < 32; ++i) out[2 + i] = static_cast<std::byte>(rounded(values[i] * inverse));
    }
}

// A half block of 128 quants (0 to 63): 64 bytes hold their low four bits, 32 bytes their high two.
void pack_q6_half(const uint8_t* quants, std::byte* low, std::byte* high) {
    for (size_t i = 0; i < 32; ++i) {
        const unsigned a = quants[i], b = quants[i + 32], c = quants[i + 64], d = quants[i + 96];
        low[i] = static_cast<std::byte>((a & 15) | (c & 15) << 4);
        low[i + 32] = static_cast<std::byte>((b & 15) | (d & 15) << 4);
        high[i] = static_cast<std::byte>(a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6);
    }
}

void encode_q6_k_block(std::span<const float> values, std::byte* out) {
    constexpr int kSubScale = 32;  // one scale for all sub-blocks; again to keep the f16 scale exact
    const float step = largest_magnitude(values) / 31;
    const float inverse = reciprocal_or_zero(step);
    std::array<uint8_t, 256> quants{};
    for (size_t i = 0; i < quants.size(); ++i) quants[i] = static_cast<uint8_t>(32 + rounded(values[i] * inverse));
    pack_q6_half(quants.data(), out, out + 128);
    pack_q6_half(quants.data() + 128, out + 64, out + 160);
    std::memset(out + 192, kSubScale, 16);
    store(out + 208, half_bits(step / kSubScale));
}

void encode_q6_k(std::span<const float> elements, std::span<std::byte> blocks) {
    for (size_t block = 0; block * 256 < elements.size(); ++block)
        encode_q6_k_block(elements.subspan(block * 256, 256), &blocks[block * 210]);
}

struct BlockCodec {
    std::string_view type;
    RandomizeBlocks randomize;
    EncodeBlocks encode;
};

constexpr std::array kCodecs = {
    BlockCodec{"f32", nullptr, encode_f32},          BlockCodec{"f16", randomize_f16, encode_f16},
    BlockCodec{"q4_0", randomize_q4_0, nullptr},     BlockCodec{"q8_0", randomize_q8_0, encode_q8_0},
    BlockCodec{"q4_K", randomize_q4_k, nullptr},     BlockCodec{"q5_K", randomize_q5_k, nullptr},
    BlockCodec{"q6_K", randomize_q6_k, encode_q6_k}, BlockCodec{"mxfp4", randomize_mxfp4, nullptr},
};

BlockCodec codec_for(const ElementType& type) {
    const auto found = std::ranges::find(kCodecs, type.name, &BlockCodec::type);
    return found == kCodecs.end() ? BlockCodec{} : *found;
}

}  // namespace

RandomizeBlocks randomizer_for(const ElementType& type) { return codec_for(type).randomize; }
EncodeBlocks encoder_for(const ElementType& type) { return codec_for(type).encode; }

}  // namespace hypura::gguf
