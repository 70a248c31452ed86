// Saving and restoring timelines: libllama's own sequence file, whose list of tokens begins with four words of ours.
#include "base/check.h"
#include "engine/kv_cache.h"
#include "engine/llama_library.h"

#include <llama.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>

namespace hypura::engine {
namespace {

constexpr Token kMagic = 0x48595058;  // "HYPX"
constexpr Token kVersion = 1;
constexpr size_t kHeaderWords = 4;  // magic, version, fingerprint of the model (low, high)

std::array<Token, kHeaderWords> header(uint64_t model) {
    return {kMagic, kVersion, static_cast<Token>(model & 0xFFFFFFFF), static_cast<Token>(model >> 32)};
}

// libllama says "failed" for every reason alike; opening the file first finds those that have a name.
Status check_file(const std::string& path, const char* mode, std::string_view action) {
    errno = 0;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), mode), std::fclose);
    if (file == nullptr) return std::unexpected(error_from_errno(errno, action, path));
    return {};
}

Status check_header(std::span<const Token> words, const std::string& path, uint64_t model) {
    const auto expected = header(model);
    if (words.size() <= kHeaderWords || words[0] != kMagic || words[1] != kVersion)
        return fail(ErrorCode::kInvalidArgument, "{}: is not a prefix that this program saved", path);
    if (words[2] != expected[2] || words[3] != expected[3])
        return fail(ErrorCode::kInvalidArgument, "{}: was saved with another model", path);
    return {};
}

// How many tokens the file lists, ours included; 0 where it is not one of libllama's.
size_t listed_tokens(llama_context& context, const std::string& path) {
    size_t count = 0;
    try {
        if (llama_state_seq_load_file(&context, path.c_str(), 0, nullptr, 0, &count) == 0 && count == 0) return 0;
    } catch (const std::exception&) {
        return 0;
    }
    return count;
}

}  // namespace

Result<uint32_t> KvCache::save(std::span<const Token> tokens, const std::string& path, uint64_t model) const {
    const std::optional<SlotId> slot = longest_timeline(tokens);
    if (!slot) return fail(ErrorCode::kNotFound, "the KV cache holds no beginning of these tokens");
    const std::string unfinished = path + ".unfinished";
    HYPURA_TRY(check_file(unfinished, "wb", "write"));
    const auto words = header(model);
    std::vector<Token> listed(words.begin(), words.end());
    const std::vector<Token>& timeline = slots_[*slot].tokens;
    listed.insert(listed.end(), timeline.begin(), timeline.end());
    take_llama_complaints();
    const size_t written =
        llama_state_seq_save_file(&context_, unfinished.c_str(), sequence(*slot), listed.data(), listed.size());
    std::error_code error;
    if (written > 0) std::filesystem::rename(unfinished, path, error);
    if (written > 0 && !error) return static_cast<uint32_t>(timeline.size());
    std::error_code ignored;
    std::filesystem::remove(unfinished, ignored);
    if (error) return std::unexpected(error_from_errno(error.value(), "write", path));
    return fail(ErrorCode::kInternal, "{}: cannot be written: {}", path, take_llama_complaints());
}

Result<std::vector<Token>> KvCache::restore(const std::string& path, uint64_t model) {
    HYPURA_TRY(check_file(path, "rb", "read"));
    const size_t listed = listed_tokens(context_, path);
    if (listed <= kHeaderWords)
        return fail(ErrorCode::kInvalidArgument, "{}: is not a prefix that this program saved", path);
    if (listed - kHeaderWords > cells_.size())
        return fail(ErrorCode::kOutOfMemory, "{}: has {} tokens, and the KV cache room for {}", path,
                    listed - kHeaderWords, cells_.size());
    const std::optional<SlotId> slot = unused_slot(std::nullopt);
    if (!slot || !make_room(listed - kHeaderWords))
        return fail(ErrorCode::kOutOfMemory, "{}: the running sequences leave no room for it", path);
    std::vector<Token> words(listed);
    const bool loaded = load_state(*slot, path, words);
    Status status = check_header(words, path, model);
    if (status && !loaded) status = fail(ErrorCode::kCorruptModel, "{}: is damaged: {}", path, take_llama_complaints());
    if (!status) {
        drop(*slot);
        return std::unexpected(status.error());
    }
    const std::span<const Token> tokens = std::span<const Token>(words).subspan(kHeaderWords);
    append(*slot, tokens);
    end(*slot);
    return std::vector<Token>(tokens.begin(), tokens.end());
}

// False: libllama refuses the file, or it holds another timeline than its tokens say.
bool KvCache::load_state(SlotId slot, const std::string& path, std::vector<Token>& words) {
    size_t count = 0;
    take_llama_complaints();
    try {
        if (llama_state_seq_load_file(&context_, path.c_str(), sequence(slot), words.data(), words.size(), &count) == 0)
            return false;
    } catch (const std::exception&) {
        return false;
    }
    const auto last = static_cast<size_t>(llama_memory_seq_pos_max(llama_get_memory(&context_), sequence(slot)));
    return count == words.size() && last + 1 == count - kHeaderWords;
}

}  // namespace hypura::engine
