// Lines that a person types, or that a file or pipe holds.
#pragma once

#include "cli/command.h"

#include <memory>
#include <optional>
#include <string>

namespace hypura::cli {

class LineInput {
public:
    virtual ~LineInput() = default;
    // Empty at the end of the input (Ctrl-D).
    virtual std::optional<std::string> read() = 0;
};

// On a terminal: line editing with a history kept in the state directory. Otherwise plain lines of stdin.
std::unique_ptr<LineInput> make_line_input(const Environment& environment);

// What a line of the chat asks for.
struct ChatLine {
    enum class Kind { kQuestion, kNothing, kHelp, kExit, kClear, kSystem, kStats, kRegenerate, kUnknown };
    Kind kind = Kind::kNothing;
    std::string text;  // the question, the argument of /system, or the unknown command
};
ChatLine parse_chat_line(std::string_view line);
std::string_view chat_help();

}  // namespace hypura::cli
