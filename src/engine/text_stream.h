// From token bytes to text that may be shown: tokens cut UTF-8 characters and stop strings anywhere.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hypura::engine {

// Bytes in, whole characters out. What can never become a character turns into U+FFFD, so that the output is valid
// UTF-8 whatever the model says.
class Utf8Cutter {
public:
    // Returns the characters that `bytes` completed; an unfinished one stays inside.
    std::string push(std::string_view bytes);
    // The end of the text: an unfinished character becomes U+FFFD.
    std::string flush();

private:
    std::string held_;
};

// Watches for strings that end the answer. Text that may turn out to be the beginning of one is held back.
class StopMatcher {
public:
    explicit StopMatcher(std::vector<std::string> stops);

    struct Output {
        std::string text;      // free to be shown
        bool stopped = false;  // a stop string was found; `text` ends before it
    };
    Output push(std::string_view text);
    // The end of the text: returns what was held back.
    std::string flush();

private:
    size_t find_first_stop() const;
    size_t partial_match_length() const;

    std::vector<std::string> stops_;
    std::string held_;
};

}  // namespace hypura::engine
