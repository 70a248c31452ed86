// A fast reproducible generator: xoshiro256++ by Blackman and Vigna (https://prng.di.unimi.it), seeded by splitmix64.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace hypura::gguf {

constexpr uint64_t splitmix64(uint64_t& state) {
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

class Random {
public:
    // Independent streams for different (seed, stream, substream).
    Random(uint64_t seed, uint64_t stream, uint64_t substream) {
        uint64_t mixed = seed;
        mixed = splitmix64(mixed) ^ stream;
        mixed = splitmix64(mixed) ^ substream;
        for (uint64_t& word : state_) word = splitmix64(mixed);
    }

    uint64_t next() {
        const uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
        const uint64_t shifted = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

    // Nearly normal with mean 0 and variance 1, within +-3.5: a sum of four 16-bit uniform numbers.
    float next_noise() {
        const uint64_t word = next();
        const auto sum =
            static_cast<float>((word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48));
        constexpr float kMean = 2 * 65535.0F;
        constexpr float kDeviation = 37837.2F;  // 65536 * sqrt(4 / 12)
        return (sum - kMean) / kDeviation;
    }

private:
    std::array<uint64_t, 4> state_{};
};

}  // namespace hypura::gguf
