// Sets of texts that a finite automaton can tell: patterns, formats, lengths and ranges of numbers in JSON schemas.
// What a schema asks of one text at once is the intersection of its automata, and each state becomes one rule of a
// grammar.
//
// Characters are Unicode code points. Left out everywhere, since JSON would have to write them as \uXXXX: surrogates
// and control characters but \b \t \n \f \r.
//
// Thread contract: plain values and pure functions.
#pragma once

#include "server/api_error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::server {

struct CharRange {
    char32_t first = 0, last = 0;  // both belong to it
    bool operator==(const CharRange&) const = default;
};
using CharClass = std::vector<CharRange>;  // ascending, disjoint

const CharClass& all_characters();
CharClass normalized(CharClass ranges);  // sorted and joined; only characters of all_characters()
CharClass others(const CharClass& ranges);

// Deterministic. State 0 is the start; no states: no text at all. From every state an accepting one can be reached.
struct TextAutomaton {
    struct Edge {
        CharRange range;
        uint32_t to = 0;
        bool operator==(const Edge&) const = default;
    };
    struct State {
        bool accepts = false;
        std::vector<Edge> edges;  // ascending, disjoint
    };
    std::vector<State> states;

    bool accepts(std::string_view utf8) const;
};

// The smallest automaton for the same texts.
TextAutomaton minimized(const TextAutomaton& automaton);

// Errors of these: 400 when the result has more states than kMostAutomatonStates.
inline constexpr size_t kMostAutomatonStates = 20000;
ApiResult<TextAutomaton> intersection(const TextAutomaton& a, const TextAutomaton& b);
ApiResult<TextAutomaton> complement(const TextAutomaton& automaton);
ApiResult<TextAutomaton> texts_of_length(uint64_t least, std::optional<uint64_t> most);
ApiResult<TextAutomaton> exactly(const std::vector<std::string>& texts);
std::unexpected<ApiError> too_complicated();

// GBNF rules named `name`, `name`-1, ... for the automaton's texts. As JSON: what stands between a string's quotes, and
// the closing quote; else the bare characters. The automaton must accept something.
enum class Writing { kPlain, kJsonString };
std::string rules_of(const TextAutomaton& automaton, const std::string& name, Writing writing);

// Code points of UTF-8 text; bytes that are none become U+FFFD.
std::u32string code_points(std::string_view utf8);

}  // namespace hypura::server
