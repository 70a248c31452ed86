// Which decimal numbers lie between two bounds and are multiples of a step, as an automaton over their digits.
#pragma once

#include "server/text_automaton.h"

#include <optional>
#include <string>

namespace hypura::server {

// A decimal number as its digits, exactly.
struct Decimal {
    bool negative = false;
    std::string whole;     // no leading zeros: empty for 0.5
    std::string fraction;  // no trailing zeros

    bool is_zero() const { return whole.empty() && fraction.empty(); }
};
// `text`: as JSON writes numbers. Empty: its digits would be more than 40.
std::optional<Decimal> decimal_of(std::string_view text);

struct NumberRange {
    std::optional<Decimal> least, most;
    bool least_excluded = false, most_excluded = false;
    std::optional<Decimal> step;  // positive
    bool integer = false;
};

// Numbers are written without exponents, with at most 15 digits (or as many as a bound has), at most 6 of them (or as
// many as a bound or the step has) behind the point: so a double holds each of them exactly enough to pass the same
// bounds. Errors: 400 when no number is left, or the step is too fine for an automaton.
ApiResult<TextAutomaton> numbers_within(const NumberRange& range);

}  // namespace hypura::server
