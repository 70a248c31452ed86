#include "gguf/synthetic_tokenizer.h"

#include "base/check.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::gguf {
namespace {

// In order of rank; both halves and the result of each must be tokens. "Ġ" stands for a blank.
constexpr std::array<std::string_view, 32> kMerges = {
    "Ġ t", "h e", "i n",  "r e", "o n",  "Ġt he", "e r", "Ġ a", "Ġ s",  "a t",  "o r",
    "e n", "n d", "Ġ w",  "Ġ o", "i s",  "i t",   "Ġ c", "a n", "Ġ f",  "n g",  "Ġa nd",
    "o u", "e s", "in g", "Ġ i", "Ġi s", "Ġo f",  "Ġ m", "Ġ p", "Ġt o", "Ġi n",
};
constexpr std::array<std::string_view, 3> kSpecialTokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
constexpr uint64_t kBytes = 256;

// Numbers of token types in the file.
constexpr int64_t kNormalToken = 1, kControlToken = 3;

constexpr std::string_view kChatTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\\n'}}{% endif %}";

// Below U+0800, which is all that the byte alphabet needs.
std::string utf8(uint32_t code_point) {
    if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
    return {static_cast<char>(0xc0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3f))};
}

bool is_printable_latin1(uint32_t byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// GPT-2's alphabet: printable bytes stand for themselves, the others for code points from 256 on.
std::vector<std::string> byte_tokens() {
    std::vector<std::string> tokens;
    tokens.reserve(kBytes);
    uint32_t next_substitute = 256;
    for (uint32_t byte = 0; byte < kBytes; ++byte)
        tokens.push_back(utf8(is_printable_latin1(byte) ? byte : next_substitute++));
    return tokens;
}

std::string merged(std::string_view merge) {
    const size_t blank = merge.find(' ');
    return std::string(merge.substr(0, blank)).append(merge.substr(blank + 1));
}

// " kalo", " mirusa": at least two syllables, different for every number.
std::string pseudo_word(uint64_t number) {
    constexpr std::string_view kConsonants = "bdfgklmnprstvzhj";
    constexpr std::string_view kVowels = "aeiou";
    std::string word = "Ġ";
    for (int syllable = 0; syllable < 2 || number > 0; ++syllable) {
        word += kConsonants[number % kConsonants.size()];
        number /= kConsonants.size();
        word += kVowels[number % kVowels.size()];
        number /= kVowels.size();
    }
    return word;
}

std::vector<std::string> all_tokens(uint64_t vocabulary) {
    std::vector<std::string> tokens = byte_tokens();
    for (std::string_view merge : kMerges) tokens.push_back(merged(merge));
    tokens.insert(tokens.end(), kSpecialTokens.begin(), kSpecialTokens.end());
    for (uint64_t number = 0; tokens.size() < vocabulary; ++number) tokens.push_back(pseudo_word(number));
    return tokens;
}

constexpr uint64_t kFirstSpecial = kBytes + kMerges.size();

std::vector<int64_t> token_types(uint64_t vocabulary) {
    std::vector<int64_t> types(vocabulary, kNormalToken);
    for (size_t i = 0; i < kSpecialTokens.size(); ++i) types[kFirstSpecial + i] = kControlToken;
    return types;
}

}  // namespace

uint64_t smallest_synthetic_vocabulary() { return kFirstSpecial + kSpecialTokens.size(); }

void add_synthetic_tokenizer(Metadata& metadata, uint64_t vocabulary) {
    HYPURA_CHECK(vocabulary >= smallest_synthetic_vocabulary());
    metadata["tokenizer.ggml.model"] = std::string("gpt2");
    metadata["tokenizer.ggml.pre"] = std::string("qwen2");
    metadata["tokenizer.ggml.tokens"] = all_tokens(vocabulary);
    metadata["tokenizer.ggml.token_type"] = token_types(vocabulary);
    metadata["tokenizer.ggml.merges"] = std::vector<std::string>(kMerges.begin(), kMerges.end());
    metadata["tokenizer.ggml.bos_token_id"] = uint64_t{kFirstSpecial};
    metadata["tokenizer.ggml.eos_token_id"] = uint64_t{kFirstSpecial + 2};
    metadata["tokenizer.ggml.padding_token_id"] = uint64_t{kFirstSpecial};
    metadata["tokenizer.ggml.add_bos_token"] = false;
    metadata["tokenizer.chat_template"] = std::string(kChatTemplate);
}

}  // namespace hypura::gguf
