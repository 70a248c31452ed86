#include "engine/text_stream.h"

#include <algorithm>
#include <utility>

namespace hypura::engine {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the character that `lead` begins; 0 when no character begins so.
size_t character_bytes(unsigned char lead) {
    if (lead < 0x80) return 1;
    if (lead >= 0xC2 && lead <= 0xDF) return 2;
    if (lead >= 0xE0 && lead <= 0xEF) return 3;
    if (lead >= 0xF0 && lead <= 0xF4) return 4;
    return 0;
}

// The second byte's range is narrower after four lead bytes: no overlong forms, surrogates or code points past U+10FFFF
// (table 3-7 of the Unicode standard).
bool second_byte_fits(unsigned char lead, unsigned char second) {
    switch (lead) {
        case 0xE0:
            return second >= 0xA0 && second <= 0xBF;
        case 0xED:
            return second >= 0x80 && second <= 0x9F;
        case 0xF0:
            return second >= 0x90 && second <= 0xBF;
        case 0xF4:
            return second >= 0x80 && second <= 0x8F;
        default:
            return second >= 0x80 && second <= 0xBF;
    }
}

enum class Found { kCharacter, kUnfinished, kInvalid };

struct Scan {
    Found found;
    size_t bytes;  // of the character, or of what is invalid
};

// Looks at the beginning of `text`, which is not empty.
Scan scan_character(std::string_view text) {
    const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
    const size_t wanted = character_bytes(byte(0));
    if (wanted == 0) return {Found::kInvalid, 1};
    for (size_t i = 1; i < std::min(wanted, text.size()); ++i) {
        const bool fits = i == 1 ? second_byte_fits(byte(0), byte(1)) : (byte(i) & 0xC0) == 0x80;
        if (!fits) return {Found::kInvalid, i};
    }
    return text.size() < wanted ? Scan{Found::kUnfinished, text.size()} : Scan{Found::kCharacter, wanted};
}

// How many of the last bytes of `text` are a beginning of `stop`, but not all of it.
size_t overlap(std::string_view text, std::string_view stop) {
    for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length)
        if (text.ends_with(stop.substr(0, length))) return length;
    return 0;
}

}  // namespace

std::string Utf8Cutter::push(std::string_view bytes) {
    held_ += bytes;
    std::string whole;
    size_t done = 0;
    while (done < held_.size()) {
        const std::string_view rest = std::string_view(held_).substr(done);
        const Scan scan = scan_character(rest);
        if (scan.found == Found::kUnfinished) break;
        whole += scan.found == Found::kCharacter ? rest.substr(0, scan.bytes) : kReplacement;
        done += scan.bytes;
    }
    held_.erase(0, done);
    return whole;
}

std::string Utf8Cutter::flush() {
    const bool unfinished = !std::exchange(held_, {}).empty();
    return unfinished ? std::string(kReplacement) : std::string();
}

// An empty stop string would end every answer before it began.
StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
    std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

size_t StopMatcher::find_first_stop() const {
    size_t first = std::string::npos;
    for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
    return first;
}

size_t StopMatcher::partial_match_length() const {
    size_t longest = 0;
    for (const std::string& stop : stops_) longest = std::max(longest, overlap(held_, stop));
    return longest;
}

StopMatcher::Output StopMatcher::push(std::string_view text) {
    held_ += text;
    const size_t stop = find_first_stop();
    if (stop != std::string::npos) return {std::exchange(held_, {}).substr(0, stop), true};

    const size_t free = held_.size() - partial_match_length();
    Output output{held_.substr(0, free), false};
    held_.erase(0, free);
    return output;
}

std::string StopMatcher::flush() { return std::exchange(held_, {}); }

}  // namespace hypura::engine
