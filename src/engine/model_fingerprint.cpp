#include "engine/model_fingerprint.h"

#include <array>
#include <bit>
#include <cstdint>
#include <fstream>
#include <span>

namespace hypura::engine {
namespace {

// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv).
class Fingerprint {
public:
    void add(std::span<const char> bytes) {
        for (const char byte : bytes) value_ = (value_ ^ static_cast<uint8_t>(byte)) * 0x100000001B3ULL;
    }
    void add(uint64_t number) {
        const auto bytes = std::bit_cast<std::array<char, sizeof number>>(number);
        add(std::span<const char>(bytes));
    }
    uint64_t value() const { return value_; }

private:
    uint64_t value_ = 0xCBF29CE484222325ULL;
};

Status add_samples(const gguf::Part& part, Fingerprint& fingerprint) {
    constexpr uint64_t kSamples = 32;
    std::ifstream file(part.path, std::ios::binary);
    std::array<char, 256> bytes{};
    for (uint64_t i = 0; i < kSamples && part.size_bytes >= bytes.size(); ++i) {
        file.seekg(static_cast<std::streamoff>((part.size_bytes - bytes.size()) / (kSamples - 1) * i));
        if (!file.read(bytes.data(), bytes.size()))
            return fail(ErrorCode::kReadFailed, "{}: cannot be read to tell the model from others", part.path);
        fingerprint.add(std::span<const char>(bytes));
    }
    return {};
}

}  // namespace

Result<uint64_t> fingerprint(const gguf::ModelFile& model) {
    Fingerprint fingerprint;
    for (const gguf::TensorInfo& tensor : model.tensors) {
        fingerprint.add(std::span<const char>(tensor.name));
        fingerprint.add(tensor.size_bytes);
    }
    for (const gguf::Part& part : model.parts) HYPURA_TRY(add_samples(part, fingerprint));
    return fingerprint.value();
}

}  // namespace hypura::engine
